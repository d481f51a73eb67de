"""The GGUF file format: reading, writing, types. This package knows nothing of models."""

from pyinfer.gguf.reader import GGUFFile, TensorInfo
from pyinfer.gguf.strings import StringArray
from pyinfer.gguf.types import TensorType, ValueType
from pyinfer.gguf.writer import GGUFWriter

__all__ = ["GGUFFile", "GGUFWriter", "StringArray", "TensorInfo", "TensorType", "ValueType"]
