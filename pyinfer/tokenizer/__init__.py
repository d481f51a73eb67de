"""Text to token ids and back."""

from pyinfer.tokenizer.base import Tokenizer
from pyinfer.tokenizer.load import load_tokenizer, tokenizer_from_metadata
from pyinfer.tokenizer.stream import StreamDecoder

__all__ = ["StreamDecoder", "Tokenizer", "load_tokenizer", "tokenizer_from_metadata"]
