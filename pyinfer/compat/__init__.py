"""Other programs' interfaces, so that they run on pyinfer.

    from pyinfer.compat import Llama  # was: from llama_cpp import Llama

`Llama` has llama-cpp-python's methods and results. For libraries that import `llama_cpp` themselves, such as LangChain:

    import pyinfer.compat
    pyinfer.compat.install()

This module has every public name of `llama_cpp`: its types, the constants and the functions of llama.cpp's C interface.
A name is imported when it is first used.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyinfer.compat.cache import BaseLlamaCache, LlamaCache, LlamaDiskCache, LlamaRAMCache
    from pyinfer.compat.context import LlamaState
    from pyinfer.compat.grammar import LlamaGrammar
    from pyinfer.compat.llama import Llama
    from pyinfer.compat.sampling import (
        LogitsProcessor,
        LogitsProcessorList,
        MinTokensLogitsProcessor,
        StoppingCriteria,
        StoppingCriteriaList,
    )
    from pyinfer.compat.speculative import LlamaDraftModel, LlamaPromptLookupDecoding
    from pyinfer.compat.tokenizers import BaseLlamaTokenizer, LlamaHFTokenizer
    from pyinfer.compat.vocabulary import LlamaTokenizer

    __all__ = [
        "BaseLlamaCache",
        "BaseLlamaTokenizer",
        "Llama",
        "LlamaCache",
        "LlamaDiskCache",
        "LlamaDraftModel",
        "LlamaGrammar",
        "LlamaHFTokenizer",
        "LlamaPromptLookupDecoding",
        "LlamaRAMCache",
        "LlamaState",
        "LlamaTokenizer",
        "LogitsProcessor",
        "LogitsProcessorList",
        "MinTokensLogitsProcessor",
        "StoppingCriteria",
        "StoppingCriteriaList",
        "install",
    ]

__version__ = "0.3.36"  # of llama-cpp-python, whose names these are: programs compare it before they use newer ones

_FILES = {  # public names, and the files of this folder that define them
    "BaseLlamaCache": "cache",
    "BaseLlamaTokenizer": "tokenizers",
    "Llama": "llama",
    "LlamaCache": "cache",
    "LlamaDiskCache": "cache",
    "LlamaDraftModel": "speculative",
    "LlamaGrammar": "grammar",
    "LlamaHFTokenizer": "tokenizers",
    "LlamaPromptLookupDecoding": "speculative",
    "LlamaRAMCache": "cache",
    "LlamaState": "context",
    "LlamaTokenizer": "vocabulary",
    "LogitsProcessor": "sampling",
    "LogitsProcessorList": "sampling",
    "MinTokensLogitsProcessor": "sampling",
    "StoppingCriteria": "sampling",
    "StoppingCriteriaList": "sampling",
}
# llama_cpp's modules, and the modules that take their names
_MODULES = {
    "llama_cpp": "pyinfer.compat",
    "llama_cpp.llama": "pyinfer.compat",
    "llama_cpp._internals": "pyinfer.compat.internals",
    "llama_cpp._logger": "pyinfer.compat.utilities",
    "llama_cpp._utils": "pyinfer.compat.utilities",
    "llama_cpp.llama_cpp": "pyinfer.compat.c_interface",
    "llama_cpp.llama_cache": "pyinfer.compat.cache",
    "llama_cpp.llama_chat_format": "pyinfer.compat.chat_format",
    "llama_cpp.llama_grammar": "pyinfer.compat.grammar",
    "llama_cpp.llama_speculative": "pyinfer.compat.speculative",
    "llama_cpp.llama_tokenizer": "pyinfer.compat.vocabulary",
    "llama_cpp.llama_types": "pyinfer.compat.types",
    "llama_cpp.llava_cpp": "pyinfer.compat.images",
    "llama_cpp.mtmd_cpp": "pyinfer.compat.images",
}


def install() -> None:
    """Make `import llama_cpp` import this package, until the process ends.

    `import llama_cpp.server` finds llama-cpp-python's own server, where its folder is on the path. Raises
    ParameterError if llama-cpp-python has been imported already.
    """
    from pyinfer.compat.server_finder import FINDER
    from pyinfer.errors import ParameterError

    there = sys.modules.get("llama_cpp")
    if there is not None and there is not sys.modules[__name__]:
        raise ParameterError("llama_cpp has been imported already; expected install() to be called before")
    for name, replacement in _MODULES.items():
        sys.modules[name] = importlib.import_module(replacement)
    if FINDER not in sys.meta_path:
        sys.meta_path.append(FINDER)


def __getattr__(name: str) -> object:
    if name == "__all__":  # of `from llama_cpp import *`
        return sorted({*_FILES, *_module("types").TYPES, *_module("c_interface").names()})
    if (module := f"llama_cpp.{name}") in _MODULES and name != "llama":
        value: object = importlib.import_module(_MODULES[module])
    elif name in _FILES:
        value = getattr(_module(_FILES[name]), name)
    elif name.lower().startswith(("llama_", "ggml_")):
        value = getattr(_module("c_interface"), name)
    elif name in _module("types").TYPES:
        value = getattr(_module("types"), name)
    else:
        raise AttributeError(f"module 'pyinfer.compat' has no attribute {name!r}")
    globals()[name] = value
    return value


def _module(name: str) -> Any:
    return importlib.import_module(f"pyinfer.compat.{name}")
