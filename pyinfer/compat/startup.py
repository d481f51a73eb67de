"""What programs of llama.cpp's C interface call before they load a model: set-up, questions, parameters.

There is no library to set up: these functions do nothing, or say what holds for pyinfer.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from pyinfer import _kernels
from pyinfer.compat.constants import CONSTANTS
from pyinfer.engine.engine import MAX_SEQS
from pyinfer.system import default_threads

llama_token = llama_pos = llama_seq_id = c_int = ctypes.c_int32
llama_token_p = ctypes.POINTER(llama_token)
llama_model_p = llama_context_p = llama_vocab_p = llama_memory_t = object
llama_log_callback = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
llama_progress_callback = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_float, ctypes.c_void_p)
ggml_abort_callback = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_void_p)
ggml_backend_sched_eval_callback = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_void_p, ctypes.c_bool, ctypes.c_void_p)


class llama_token_data(ctypes.Structure):
    _fields_ = (("id", llama_token), ("logit", ctypes.c_float), ("p", ctypes.c_float))


llama_token_data_p = ctypes.POINTER(llama_token_data)


class llama_token_data_array(ctypes.Structure):
    _fields_ = (
        ("data", llama_token_data_p),
        ("size", ctypes.c_size_t),
        ("selected", ctypes.c_int64),
        ("sorted", ctypes.c_bool),
    )


llama_token_data_array_p = ctypes.POINTER(llama_token_data_array)

MODEL_PARAMS: Mapping[str, Any] = {
    "n_gpu_layers": 0,
    "split_mode": CONSTANTS["LLAMA_SPLIT_MODE_LAYER"],
    "main_gpu": 0,
    "tensor_split": None,
    "progress_callback": None,
    "kv_overrides": None,
    "load_mode": CONSTANTS["LLAMA_LOAD_MODE_AUTO"],
    "vocab_only": False,
    "use_mmap": True,
    "use_mlock": False,
    "check_tensors": False,
}
CONTEXT_PARAMS: Mapping[str, Any] = {
    "n_ctx": 512,
    "n_batch": 2048,
    "n_ubatch": 512,
    "n_seq_max": 1,
    "rope_scaling_type": -1,
    "pooling_type": -1,
    "attention_type": -1,
    "flash_attn_type": CONSTANTS["LLAMA_FLASH_ATTN_TYPE_AUTO"],
    "rope_freq_base": 0.0,
    "rope_freq_scale": 0.0,
    "yarn_ext_factor": -1.0,
    "yarn_attn_factor": 1.0,
    "yarn_beta_fast": 32.0,
    "yarn_beta_slow": 1.0,
    "yarn_orig_ctx": 0,
    "type_k": CONSTANTS["GGML_TYPE_F16"],
    "type_v": CONSTANTS["GGML_TYPE_F16"],
    "logits_all": False,
    "embeddings": False,
    "offload_kqv": True,
    "flash_attn": False,
    "no_perf": True,
    "op_offload": True,
    "swa_full": True,
    "kv_unified": False,
    "n_threads": default_threads(),
    "n_threads_batch": default_threads(),
}


def parameters(usual: Mapping[str, Any], given: Mapping[str, Any]) -> SimpleNamespace:
    """Return parameters with llama.cpp's defaults, and the values that are given of those that are no None."""
    known = {name: value for name, value in given.items() if name in usual and value is not None}
    return SimpleNamespace(**{**usual, **known})


def llama_model_default_params() -> SimpleNamespace:
    """Return the parameters of a model with llama.cpp's defaults; they have the names of its structure's fields."""
    return parameters(MODEL_PARAMS, {})


def llama_context_default_params() -> SimpleNamespace:
    """Return the parameters of a context with llama.cpp's defaults."""
    return parameters(CONTEXT_PARAMS, {})


def llama_sampler_chain_default_params() -> SimpleNamespace:
    return SimpleNamespace(no_perf=True)


def llama_backend_init(numa: object = False) -> None:
    """Do nothing: there is no library to set up."""


def llama_backend_free() -> None:
    """Do nothing."""


def llama_numa_init(numa: int) -> None:
    """Do nothing."""


def llama_log_set(log_callback: object, user_data: object = None) -> None:
    """Do nothing: pyinfer writes no log."""


def llama_supports_mmap() -> bool:
    """Whether weights can stay in the mapped file."""
    return True


def llama_supports_mlock() -> bool:
    """Whether weights can be locked in memory."""
    return False


def llama_supports_gpu_offload() -> bool:
    return False


def llama_supports_rpc() -> bool:
    return False


def llama_max_devices() -> int:
    return CONSTANTS["LLAMA_MAX_DEVICES"]


def llama_max_parallel_sequences() -> int:
    return MAX_SEQS


def llama_time_us() -> int:
    """Return a clock's time in microseconds."""
    return time.monotonic_ns() // 1000


def llama_print_system_info() -> bytes:
    """Return the instruction sets that the machine has, those in use first."""
    used = _kernels.current_isa()
    others = [isa for isa in _kernels.available_isas() if isa != used]
    return f"pyinfer: {used} = 1 | {' | '.join(f'{isa} = 0' for isa in others)} | ".encode()


def llama_version() -> bytes:
    return b"pyinfer"
