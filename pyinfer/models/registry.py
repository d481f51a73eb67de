"""Maps names of architectures to the files that define them. A file is imported when it is first needed."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib import import_module

from pyinfer.errors import ModelError
from pyinfer.models.decoder import Decoder
from pyinfer.models.keys import MAX_SHOWN, Keys, ModelFile
from pyinfer.models.model import Architecture, Model

ADDING = "docs/extending.md"
# The modules of this package, and the architectures (general.architecture) that each has in its ARCHITECTURES.
MODULES: Mapping[str, tuple[str, ...]] = {
    "bert": ("bert", "nomic-bert", "jina-bert-v2", "jina-bert-v3", "modern-bert"),
    "cohere": ("command-r", "cohere2"),
    "gemma": ("gemma", "gemma2", "gemma3", "gemma4", "gemma-embedding"),
    "glm": ("chatglm", "glm4", "phi3", "hunyuan-dense", "hunyuan_vl"),
    "gpt": (
        *("gpt2", "starcoder", "starcoder2", "codeshell", "gptneox", "falcon", "phi2", "bloom", "mpt", "jais", "jais2"),
        *("nemotron", "stablelm"),
    ),
    "granite": ("granite", "granitemoe", "granite_swa", "minicpm"),
    "llama": (
        *("llama", "llama-embed", "arcee", "deci", "ernie4_5", "paddleocr", "internlm2", "xverse", "maincoder"),
        *("mistral3", "baichuan", "refact", "llada", "smollm3", "cogvlm", "nanbeige", "apertus", "bitnet", "orion"),
        *("pangu-embedded", "seed_oss", "pockettts", "plamo", "openelm", "spark2_5", "muse-glimmer", "plamo3"),
        *("talkie", "neo-bert", "eurobert"),
    ),
    "olmo": ("olmo", "olmo2", "exaone", "exaone4"),
    "qwen": ("qwen", "qwen2", "qwen2vl", "qwen3", "qwen3vl", "dream"),
}
FILES: Mapping[str, str] = {name: module for module, names in MODULES.items() for name in names}


def find_architecture(name: str) -> Architecture:
    """Return the architecture of a name in FILES."""
    declared: Architecture | Decoder = import_module(f"{__package__}.{FILES[name]}").ARCHITECTURES[name]
    return declared if isinstance(declared, Architecture) else declared.architecture()


def read_model(file: ModelFile) -> Model:
    """Read a file's hyper-parameters, and return its model.

    Raises ModelError for an unknown architecture and for values that are missing, absurd or contradictory.
    """
    if "general.architecture" not in file.metadata:
        raise ModelError(f"{file.path}: the key general.architecture is missing")
    name = file.get_str("general.architecture")
    if name not in FILES:
        nearest = difflib.get_close_matches(name[:MAX_SHOWN], FILES, n=1, cutoff=0.0)[0]
        raise ModelError(
            f"{file.path}: the architecture {name[:MAX_SHOWN]!r} is not known (the nearest one is {nearest!r}); "
            f"expected one of {len(FILES)}, which docs/models.md lists; {ADDING} says how to add one"
        )
    architecture = find_architecture(name)
    config = architecture.read(Keys(file, name))
    return Model(config, tuple(architecture.memory(config)), architecture)
