"""The tokenizer of a GGUF file, with or without weights."""

from collections.abc import Callable, Mapping
from os import PathLike, fspath
from typing import Any

from pyinfer.errors import TokenizerError
from pyinfer.gguf import GGUFFile
from pyinfer.tokenizer.base import Tokenizer
from pyinfer.tokenizer.bpe import BPETokenizer
from pyinfer.tokenizer.ids_only import IdsOnlyTokenizer
from pyinfer.tokenizer.spm import SPMTokenizer
from pyinfer.tokenizer.unigram import UnigramTokenizer
from pyinfer.tokenizer.vocabulary import KEY, read_text
from pyinfer.tokenizer.wordpiece import WordPieceTokenizer

TOKENIZERS: dict[str, Callable[[Mapping[str, Any]], Tokenizer]] = {
    "gpt2": BPETokenizer,
    "gemma4": BPETokenizer,
    "llama": SPMTokenizer,
    "bert": WordPieceTokenizer,
    "t5": UnigramTokenizer,
    "none": IdsOnlyTokenizer,
    "no_vocab": IdsOnlyTokenizer,
    "test": IdsOnlyTokenizer,
}


def load_tokenizer(file: str | PathLike[str] | GGUFFile) -> Tokenizer:
    """Load the tokenizer of a GGUF file.

    - `file`: the path of a file, or one that is open. It needs no weights.

    Returns the tokenizer, which does not need the file any more. Raises GGUFError if the file cannot be read,
    TokenizerError if its vocabulary is of an unknown kind or inconsistent.

        load_tokenizer("model.gguf").encode("Hello world")
    """
    if not isinstance(file, (str, PathLike)):
        return tokenizer_from_metadata(file.metadata)
    with GGUFFile(fspath(file)) as opened:
        try:
            return tokenizer_from_metadata(opened.metadata)
        except TokenizerError as error:
            raise TokenizerError(f"{fspath(file)}: {error}") from None


def tokenizer_from_metadata(metadata: Mapping[str, Any]) -> Tokenizer:
    """Make the tokenizer that a GGUF file's metadata describes. Raises TokenizerError."""
    model = read_text(metadata, KEY + "model")
    if model not in TOKENIZERS:
        known = ", ".join(TOKENIZERS)
        found = "missing" if model is None else f"{model!r:.60}, which is not known"
        raise TokenizerError(f"{KEY}model is {found}; known are {known}")
    return TOKENIZERS[model](metadata)
