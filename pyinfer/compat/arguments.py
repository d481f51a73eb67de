"""The other arguments of llama-cpp-python's constructor: which are accepted, warned of or refused."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from pyinfer.errors import ParameterError
from pyinfer.system import usable_memory

SILENT = ("verbose", "f16_kv", "device", "n_parts", "no_perf", "last_n_tokens_size", "lora_scale")

# Arguments without use here, each with the values that ask for nothing; other values are warned of.
WITHOUT_USE: Mapping[str, tuple[Any, ...]] = {
    "n_gpu_layers": (0, None),
    "split_mode": (1,),
    "main_gpu": (0,),
    "tensor_split": (None,),
    "offload_kqv": (True,),
    "op_offload": (None,),
    "flash_attn": (False,),
    "swa_full": (None,),
    "numa": (False,),
    "n_ubatch": (512,),
    "n_threads_batch": (None,),
    "lora_base": (None,),
}
# Arguments that would change what the model computes: values other than these are errors.
REFUSED: Mapping[str, tuple[Any, ...]] = {
    "lora_path": (None,),
    "kv_overrides": (None, {}),
    "tokenizer": (None,),
    "attention_type": (-1,),
    "rope_scaling_type": (-1, None),
    "rope_freq_base": (0.0, 10000.0),  # LangChain's classes give 10000 and 1 whatever the model
    "rope_freq_scale": (0.0, 1.0),
    "yarn_ext_factor": (-1.0,),
    "yarn_attn_factor": (1.0,),
    "yarn_beta_fast": (32.0,),
    "yarn_beta_slow": (1.0,),
    "yarn_orig_ctx": (0,),
}
# Arguments that a Llama has as attributes, with their defaults
RECORDED: Mapping[str, Any] = {
    "numa": False,
    "tensor_split": None,
    "kv_overrides": None,
    "lora_base": None,
    "lora_scale": 1.0,
    "lora_path": None,
}
KV_TYPES = {None: "f16", 0: "f32", 1: "f16", 8: "q8_0", 30: "bf16"}  # by ggml's numbers
LARGEST_COPY = 0.75  # of the memory; the rest is for keys and values
POOLINGS = {-1: None, 1: "mean", 2: "cls", 3: "last"}


def check_arguments(arguments: Mapping[str, Any]) -> None:
    """Warn of arguments that have no use here. Raises ParameterError for refused values and unknown names."""
    unknown = [name for name in arguments if name not in (*SILENT, *WITHOUT_USE, *REFUSED)]
    if unknown:
        raise ParameterError(f"unknown: {', '.join(unknown)}; expected arguments of llama-cpp-python's Llama")
    for name, allowed in REFUSED.items():
        if name in arguments and arguments[name] not in allowed:
            raise ParameterError(
                f"{name} is {arguments[name]!r:.60}; expected {allowed[0]!r}: the model runs as its file says"
            )
    useless = [name for name, nothing in WITHOUT_USE.items() if arguments.get(name, nothing[0]) not in nothing]
    if useless:
        warnings.warn(f"ignored, of no use to pyinfer on a CPU: {', '.join(useless)}", stacklevel=3)


def weights_of(use_mmap: bool, use_mlock: bool, n_bytes: int) -> str:
    """Return LLM's `weights`: "copy", which is faster, or "mmap" where memory has no room for n_bytes of weights.

    use_mmap=False forbids "mmap". use_mlock asks for weights in memory, too; a warning says that they are not locked.
    """
    if use_mlock:
        warnings.warn("use_mlock is True; weights are copied into memory, and not locked there", stacklevel=3)
        return "copy"
    return "mmap" if use_mmap and n_bytes > LARGEST_COPY * usable_memory() else "copy"


def kv_type_of(type_k: int | None, type_v: int | None) -> str:
    """Return LLM's `kv_type` for ggml's numbers. Raises ParameterError for others, and where the two differ."""
    if type_k not in KV_TYPES or type_v not in KV_TYPES:
        raise ParameterError(
            f"type_k is {type_k!r}, type_v {type_v!r}; expected 0 (f32), 1 (f16), 8 (q8_0) or 30 (bf16)"
        )
    if KV_TYPES[type_k] != KV_TYPES[type_v]:
        raise ParameterError(f"type_k is {type_k!r}, type_v {type_v!r}; expected the same for both")
    return KV_TYPES[type_k]


def pooling_of(pooling_type: int) -> str | None:
    """Return the name of llama.cpp's number; None: as the file says. Raises ParameterError for other numbers."""
    if pooling_type not in POOLINGS:
        raise ParameterError(
            f"pooling_type is {pooling_type!r}; expected -1 (the file's), 1 (mean), 2 (cls) or 3 (last): "
            "vectors of single tokens are not given"
        )
    return POOLINGS[pooling_type]
