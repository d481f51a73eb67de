"""How an LLM shows itself: its file and the model in it."""

from __future__ import annotations

from pyinfer.arguments import shortened
from pyinfer.gguf import GGUFFile

UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def description_of(file: GGUFFile, n_ctx: int) -> str:
    """Return the file's name, the model's name and architecture, the size of the weights, and the context.

    model.gguf, name='SmolLM2 135M Instruct', architecture='llama', size='98 MB', n_ctx=2048
    """
    name, architecture = (file.metadata.get(f"general.{key}") for key in ("name", "architecture"))
    shown = f", name={shortened(name)}" if isinstance(name, str) else ""
    n_bytes = sum(tensor.n_bytes for tensor in file.tensors.values())
    size = size_of(n_bytes)
    return f"{shortened(file.path.name)}{shown}, architecture={architecture!r}, size={size!r}, n_ctx={n_ctx}"


def size_of(n_bytes: int) -> str:
    """Return bytes as people read them: three digits and a unit."""
    for unit, name in UNITS:
        if n_bytes >= unit:
            return f"{n_bytes / unit:.3g} {name}"
    return f"{n_bytes} bytes"
