"""`llama_cpp.llava_cpp` and `llama_cpp.mtmd_cpp`: modules that can be imported, and whose functions raise."""

from __future__ import annotations

from typing import Any

from pyinfer.compat.absent import absent_function


def __getattr__(name: str) -> Any:
    if not name.startswith(("llava_", "mtmd_", "clip_")):
        raise AttributeError(f"module 'pyinfer.compat.images' has no attribute {name!r}")
    return absent_function(name, "pyinfer reads texts, no images and no sounds")
