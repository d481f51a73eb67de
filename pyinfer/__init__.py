"""Quantized GGUF language models on ordinary CPUs.

    import pyinfer

    with pyinfer.LLM("model.gguf") as llm:
        print(llm.generate("The capital of France is").text)

A name is imported when it is first used, so that `import pyinfer` takes milliseconds.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from pyinfer import location
from pyinfer.version import __version__

if not location.is_built(__path__[0]):
    location.use_installed_package(__path__[0])

if TYPE_CHECKING:
    from pyinfer.api.async_llm import AsyncLLM
    from pyinfer.api.llm import LLM
    from pyinfer.chat.calls import ChatCompletion
    from pyinfer.errors import (
        BusyError,
        ContextError,
        DownloadError,
        GGUFError,
        ModelError,
        ParameterError,
        PyinferError,
        StateError,
        TemplateError,
        TokenizerError,
    )
    from pyinfer.guides.guide import Guide
    from pyinfer.sampling.params import SamplingParams
    from pyinfer.tasks.results import Completion, Piece
    from pyinfer.tokenizer import load_tokenizer

__all__ = [
    "LLM",
    "AsyncLLM",
    "BusyError",
    "ChatCompletion",
    "Completion",
    "ContextError",
    "DownloadError",
    "GGUFError",
    "Guide",
    "ModelError",
    "ParameterError",
    "Piece",
    "PyinferError",
    "SamplingParams",
    "StateError",
    "TemplateError",
    "TokenizerError",
    "__version__",
    "load_tokenizer",
]

_MODULES = {
    "LLM": "pyinfer.api.llm",
    "AsyncLLM": "pyinfer.api.async_llm",
    "ChatCompletion": "pyinfer.chat.calls",
    "Completion": "pyinfer.tasks.results",
    "Guide": "pyinfer.guides.guide",
    "Piece": "pyinfer.tasks.results",
    "SamplingParams": "pyinfer.sampling.params",
    "load_tokenizer": "pyinfer.tokenizer",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'pyinfer' has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULES.get(name, "pyinfer.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
