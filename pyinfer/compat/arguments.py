"""The other arguments of llama-cpp-python's constructor: which are accepted, warned of or refused."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from pyinfer.compat.rope import DEFAULTS as ROPE
from pyinfer.errors import ParameterError
from pyinfer.system import usable_memory

# Arguments of older versions, which today's llama-cpp-python takes and ignores, too
OLD = ("f16_kv", "n_parts", "mul_mat_q", "rpc_servers", "n_gqa", "rms_norm_eps", "low_vram")
SILENT = ("verbose", "device", "no_perf", "last_n_tokens_size", "lora_scale", *ROPE, *OLD)

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
    "attention_type": (-1,),
}
WHY_REFUSED = {
    "lora_path": "adapters are not supported yet",
    "attention_type": "the model attends as its file says",
}
# Arguments that a Llama has as attributes, with their defaults
RECORDED: Mapping[str, Any] = {
    "numa": False,
    "tensor_split": None,
    "lora_base": None,
    "lora_scale": 1.0,
    "lora_path": None,
}
# By ggml's numbers, the types of cached keys and values that hold a type's values exactly, the smallest first
KV_TYPES = {
    None: ("f16", "f32"),
    0: ("f32",),
    1: ("f16", "f32"),
    8: ("q8_0", "f16", "f32"),
    30: ("bf16", "f32"),
}
COARSER = (2, 3, 6, 7, 20, 39)  # types with fewer bits, for which q8_0 is exact enough
LARGEST_COPY = 0.75  # of the memory; the rest is for keys and values
POOLINGS = {-1: None, 1: "mean", 2: "cls", 3: "last"}


def check_arguments(arguments: Mapping[str, Any]) -> None:
    """Warn of arguments that have no use here. Raises ParameterError for refused values and unknown names."""
    unknown = [name for name in arguments if name not in (*SILENT, *WITHOUT_USE, *REFUSED)]
    if unknown:
        raise ParameterError(f"unknown: {', '.join(unknown)}; expected arguments of llama-cpp-python's Llama")
    for name, allowed in REFUSED.items():
        if name in arguments and arguments[name] not in allowed:
            raise ParameterError(f"{name} is {arguments[name]!r:.60}; expected {allowed[0]!r}: {WHY_REFUSED[name]}")
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
    """Return LLM's `kv_type` for ggml's numbers: keys and values have one type here, no coarser than both.

    A warning says so where that is another than was asked for. Raises ParameterError for types of no cache.
    """
    wanted = [KV_TYPES[8] if number in COARSER else KV_TYPES.get(number) for number in (type_k, type_v)]
    if wanted[0] is None or wanted[1] is None:
        raise ParameterError(
            f"type_k is {type_k!r:.60}, type_v {type_v!r:.60}; expected the number of a type of keys and values, "
            "such as 0 (f32), 1 (f16), 8 (q8_0) or 30 (bf16)"
        )
    chosen = next(name for name in wanted[0] if name in wanted[1])
    if {wanted[0][0], wanted[1][0]} != {chosen} or {type_k, type_v} & {*COARSER}:
        warnings.warn(f"type_k is {type_k}, type_v {type_v}; keys and values are kept as {chosen}", stacklevel=3)
    return chosen


def pooling_of(pooling_type: int) -> str | None:
    """Return the name of llama.cpp's number; None: as the file says. Raises ParameterError for other numbers."""
    if pooling_type not in POOLINGS:
        raise ParameterError(
            f"pooling_type is {pooling_type!r}; expected -1 (the file's), 1 (mean), 2 (cls) or 3 (last): "
            "vectors of single tokens are not given"
        )
    return POOLINGS[pooling_type]
