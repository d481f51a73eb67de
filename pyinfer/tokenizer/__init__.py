"""Text to token ids and back, and chat templates."""

from .base import Tokenizer
from .load import load_tokenizer, tokenizer_from_metadata
from .stream import StreamDecoder

__all__ = ["StreamDecoder", "Tokenizer", "load_tokenizer", "tokenizer_from_metadata"]
