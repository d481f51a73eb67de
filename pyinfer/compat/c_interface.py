"""`llama_cpp.llama_cpp`: the names of llama.cpp's C interface, from the files that have them.

Where llama.cpp has pointers to models and contexts, these functions take the objects that they return.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from pyinfer.compat import low_level, startup
from pyinfer.compat.absent import absent_class, absent_function
from pyinfer.compat.constants import CONSTANTS
from pyinfer.compat.internals import LlamaContext, LlamaModel

__all__ = ["ctypes"]

SIZES = ("n_ctx_train", "n_embd", "n_layer", "n_head", "n_head_kv", "n_swa")
# Functions of a model or of a vocabulary, and the method of `Llama._model` that answers
QUESTIONS = {
    **{f"{prefix}_{name}": name for prefix in ("llama_model", "llama") for name in SIZES},
    **{f"llama_model_{name}": name for name in ("size", "n_params")},
    **{
        f"{prefix}_{name}": f"token_{name}"
        for prefix in ("llama_vocab", "llama_token")
        for name in ("bos", "eos", "nl", "cls", "sep", "pad", "eot", "get_score", "get_attr")
    },
    "llama_n_vocab": "n_vocab",
    "llama_vocab_type": "vocab_type",
    "llama_vocab_n_tokens": "n_vocab",
    "llama_model_rope_freq_scale_train": "rope_freq_scale_train",
    "llama_vocab_get_add_bos": "add_bos_token",
    "llama_vocab_get_add_eos": "add_eos_token",
    "llama_add_bos_token": "add_bos_token",
    "llama_add_eos_token": "add_eos_token",
    **{
        f"{prefix}_fim_{name}": f"token_{method}"
        for prefix in ("llama_vocab", "llama_token")
        for name, method in (("pre", "prefix"), ("mid", "middle"), ("suf", "suffix"))
    },
}
# Functions that read or write memory of llama.cpp, or that pyinfer has nothing for
ABSENT_NAMES = (
    "adapter_get_alora_invocation_tokens adapter_get_alora_n_invocation_tokens adapter_lora_free "
    "adapter_lora_init adapter_meta_count adapter_meta_key_by_index adapter_meta_val_str "
    "adapter_meta_val_str_by_index apply_adapter_cvec batch_get_one chat_apply_template chat_builtin_templates "
    "copy_state_data detokenize encode flash_attn_type_name ftype_name get_embeddings get_embeddings_ith "
    "get_embeddings_seq get_state_size load_session_file log_get memory_can_shift memory_seq_add memory_seq_cp "
    "memory_seq_div memory_seq_pos_max memory_seq_pos_min model_chat_template model_decoder_start_token "
    "model_desc model_ftype model_load_from_splits model_meta_count model_meta_key_by_index model_meta_val_str "
    "model_meta_val_str_by_index model_quantize model_quantize_default_params model_rope_type model_save_to_file "
    "opt_epoch opt_init opt_param_filter_all perf_context perf_sampler sampler_accept sampler_apply "
    "sampler_chain_add sampler_chain_get sampler_chain_init sampler_chain_n sampler_chain_remove sampler_clone "
    "sampler_free sampler_get_seed sampler_init sampler_init_dist sampler_init_dry sampler_init_grammar "
    "sampler_init_grammar_lazy sampler_init_grammar_lazy_patterns sampler_init_greedy sampler_init_infill "
    "sampler_init_logit_bias sampler_init_min_p sampler_init_mirostat sampler_init_mirostat_v2 "
    "sampler_init_penalties sampler_init_temp sampler_init_temp_ext sampler_init_top_k sampler_init_top_n_sigma "
    "sampler_init_top_p sampler_init_typical sampler_init_xtc sampler_name sampler_reset sampler_sample "
    "save_session_file set_abort_callback set_adapter_cvec set_adapter_lora set_adapters_lora set_causal_attn "
    "set_embeddings set_state_data set_warmup split_path split_prefix state_get_data state_get_size "
    "state_load_file state_save_file state_seq_get_data state_seq_get_size state_seq_load_file "
    "state_seq_save_file state_seq_set_data state_set_data vocab_get_text token_get_text "
    "adapter_lora_init_from_file_ptr batch_ext_add batch_ext_add_embd batch_ext_add_seq batch_ext_add_token "
    "batch_ext_clear batch_ext_free batch_ext_init batch_ext_set_embd_state batch_ext_set_embd_token "
    "batch_ext_set_output_embd batch_ext_set_output_logits batch_ext_set_pos get_causal_attn "
    "get_sampled_candidates_count_ith get_sampled_candidates_ith get_sampled_logits_count_ith "
    "get_sampled_logits_ith get_sampled_probs_count_ith get_sampled_probs_ith get_sampled_token_ith "
    "load_mode_from_str load_mode_name max_tensor_buft_overrides model_cls_label model_init_from_user "
    "model_is_diffusion model_load_from_file_ptr model_meta_key_str model_n_cls_out model_n_embd_inp "
    "model_n_embd_out model_n_layer_nextn n_ctx_seq n_rs_seq n_seq_max perf_sampler_print perf_sampler_reset "
    "process sampler_copy sampler_init_adaptive_p set_sampler state_seq_get_data_ext state_seq_get_size_ext "
    "state_seq_set_data_ext vocab_get_suppress_tokens vocab_get_add_sep vocab_mask vocab_fim_pad vocab_fim_rep "
    "vocab_fim_sep token_fim_pad token_fim_rep token_fim_sep"
)
ABSENT = frozenset(f"llama_{name}" for name in ABSENT_NAMES.split())
STRUCTURES = (
    "batch chat_message context_params logit_bias model_imatrix_data model_kv_override model_kv_override_value "
    "model_params model_quantize_params model_tensor_override opt_params perf_context_data perf_sampler_data "
    "sampler sampler_chain_params sampler_data sampler_i sampler_seq_config"
)
POINTERS = (
    "adapter_lora_p adapter_lora_p_ctypes batch_ext_p batch_ext_p_ctypes context_p_ctypes kv_cache_p "
    "kv_cache_p_ctypes logit_bias_p memory_t_ctypes model_p_ctypes sampler_context_t sampler_p_ctypes "
    "state_seq_flags vocab_p_ctypes model_set_tensor_data_t opt_param_filter embd"
)
STRUCTURE_TYPES = frozenset(f"llama_{name}" for name in STRUCTURES.split())
POINTER_TYPES = frozenset(f"llama_{name}" for name in POINTERS.split())


def llama_model_load_from_file(path_model: bytes, params: Any = None) -> Any:
    """Open a model file; its weights are loaded with llama_init_from_model. Raises what Llama raises."""
    model = LlamaModel(path_model=path_model.decode("utf-8"), params=params)
    model.model._handle = model
    return model.model


def llama_init_from_model(model: Any, params: Any) -> Any:
    """Return a context of a model, ready for llama_decode. Raises what Llama raises."""
    return LlamaContext(model=model._handle, params=params).ctx


def llama_free(ctx: Any) -> None:
    """Release a context's memory."""
    ctx.close()


llama_model_free = llama_free_model = llama_free
llama_load_model_from_file, llama_new_context_with_model = llama_model_load_from_file, llama_init_from_model


def llama_n_ctx(ctx: Any) -> int:
    return int(ctx.n_ctx())


def llama_n_batch(ctx: Any) -> int:
    return int(ctx.n_batch)


def llama_n_threads(ctx: Any) -> int:
    return int(ctx.n_threads)


llama_n_ubatch, llama_n_threads_batch = llama_n_batch, llama_n_threads


def llama_get_model(ctx: Any) -> Any:
    return ctx


def llama_memory_clear(mem: Any, data: bool = True) -> None:
    """Begin an empty sequence."""
    mem.reset()


def llama_kv_self_clear(ctx: Any) -> None:
    """Begin an empty sequence."""
    ctx.reset()


llama_kv_cache_clear = llama_kv_self_clear


def llama_memory_seq_keep(mem: Any, seq_id: int) -> None:
    """Do nothing: there is one sequence."""


def llama_vocab_is_eog(vocab: int, token: int) -> bool:
    """Whether a token ends texts."""
    return token in low_level.model_of(vocab)._tokenizer.eog_ids


def llama_vocab_is_control(vocab: int, token: int) -> bool:
    return low_level.llama_token_get_attr(vocab, token) == low_level.LLAMA_TOKEN_ATTR_CONTROL


llama_token_is_eog, llama_token_is_control = llama_vocab_is_eog, llama_vocab_is_control


def llama_model_is_recurrent(model: Any) -> bool:
    return bool(model._is_recurrent)


def llama_model_is_hybrid(model: Any) -> bool:
    return bool(model._is_hybrid)


def llama_model_has_encoder(model: Any) -> bool:
    return False


def llama_model_has_decoder(model: Any) -> bool:
    return True


def llama_pooling_type(ctx: Any) -> int:
    return int(ctx.pooling_type())


def llama_set_n_threads(ctx: Any, n_threads: int, n_threads_batch: int) -> None:
    """Do nothing: the threads are those of the context's parameters."""


def llama_synchronize(ctx: Any) -> None:
    """Do nothing: calls return when they are done."""


llama_perf_context_print = llama_perf_context_reset = llama_print_timings = llama_reset_timings = llama_synchronize


def _question(method: str) -> Callable[..., Any]:
    def ask(of: Any, *arguments: Any) -> Any:
        model = low_level.model_of(of) if isinstance(of, int) else of
        return getattr(model._model, method)(*arguments)  # type: ignore[union-attr]

    return ask


def __getattr__(name: str) -> Any:
    if name in CONSTANTS:
        return CONSTANTS[name]
    for module in (low_level, startup):
        if name in vars(module):
            return vars(module)[name]
    if name in QUESTIONS:
        value: Any = _question(QUESTIONS[name])
    elif name in ABSENT:
        value = absent_function(name, "pyinfer does not have this function of llama.cpp's C interface")
    elif name in STRUCTURE_TYPES:
        value = absent_class(name, "pyinfer has no structures of llama.cpp's C interface")
    elif name in POINTER_TYPES:
        value = object  # as in annotations of types
    else:
        raise AttributeError(f"module 'pyinfer.compat.c_interface' has no attribute {name!r}")
    globals()[name] = value
    return value


def names() -> list[str]:
    """Return every name of the interface."""
    own = {name for module in (globals(), vars(low_level), vars(startup)) for name in module}
    others = {*CONSTANTS, *QUESTIONS, *ABSENT, *STRUCTURE_TYPES, *POINTER_TYPES}
    return sorted({name for name in own if name.startswith(("llama_", "ggml_"))} | others)
