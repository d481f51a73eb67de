"""Other programs' interfaces, so that they run on pyinfer.

    from pyinfer.compat import Llama  # was: from llama_cpp import Llama

`Llama` has llama-cpp-python's methods and results. For libraries that import `llama_cpp` themselves, such as LangChain:

    import pyinfer.compat
    pyinfer.compat.install()
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

from pyinfer.version import __version__

if TYPE_CHECKING:
    from pyinfer.compat.cache import LlamaCache, LlamaDiskCache, LlamaRAMCache
    from pyinfer.compat.context import LlamaState
    from pyinfer.compat.grammar import LlamaGrammar
    from pyinfer.compat.llama import Llama
    from pyinfer.compat.sampling import LogitsProcessorList, StoppingCriteriaList
    from pyinfer.compat.speculative import LlamaPromptLookupDecoding
    from pyinfer.compat.vocabulary import LlamaTokenizer

__all__ = [
    "Llama",
    "LlamaCache",
    "LlamaDiskCache",
    "LlamaGrammar",
    "LlamaPromptLookupDecoding",
    "LlamaRAMCache",
    "LlamaState",
    "LlamaTokenizer",
    "LogitsProcessorList",
    "StoppingCriteriaList",
    "__version__",
    "install",
]

_FILES = {  # public names, and the files of this folder that define them
    "Llama": "llama",
    "LlamaCache": "cache",
    "LlamaDiskCache": "cache",
    "LlamaGrammar": "grammar",
    "LlamaPromptLookupDecoding": "speculative",
    "LlamaRAMCache": "cache",
    "LlamaState": "context",
    "LlamaTokenizer": "vocabulary",
    "LogitsProcessorList": "sampling",
    "StoppingCriteriaList": "sampling",
}
# llama_cpp's modules, and the modules that take their names
_MODULES = {
    "llama_cpp": "pyinfer.compat",
    "llama_cpp.llama": "pyinfer.compat",
    "llama_cpp.llama_cpp": "pyinfer.compat.low_level",
    "llama_cpp.llama_cache": "pyinfer.compat.cache",
    "llama_cpp.llama_chat_format": "pyinfer.compat.chat_format",
    "llama_cpp.llama_grammar": "pyinfer.compat.grammar",
    "llama_cpp.llama_speculative": "pyinfer.compat.speculative",
    "llama_cpp.llama_tokenizer": "pyinfer.compat.vocabulary",
    "llama_cpp.llama_types": "pyinfer.compat.types",
}


def install() -> None:
    """Make `import llama_cpp` import this package, until the process ends.

    Raises ParameterError if llama-cpp-python has been imported already.
    """
    from pyinfer.errors import ParameterError

    there = sys.modules.get("llama_cpp")
    if there is not None and there is not sys.modules[__name__]:
        raise ParameterError("llama_cpp has been imported already; expected install() to be called before")
    for name, replacement in _MODULES.items():
        sys.modules[name] = importlib.import_module(replacement)


def __getattr__(name: str) -> object:
    if (module := f"llama_cpp.{name}") in _MODULES and name != "llama":
        value: object = importlib.import_module(_MODULES[module])
    elif name.lower().startswith("llama_"):  # C functions, which `llama_cpp` itself has, too
        value = getattr(importlib.import_module("pyinfer.compat.low_level"), name)
    elif name in _FILES:
        value = getattr(importlib.import_module(f"pyinfer.compat.{_FILES[name]}"), name)
    else:
        raise AttributeError(f"module 'pyinfer.compat' has no attribute {name!r}")
    globals()[name] = value
    return value
