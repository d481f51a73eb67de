"""Quantized GGUF language models on ordinary CPUs."""

from pyinfer.version import __version__

__all__ = ["__version__"]
