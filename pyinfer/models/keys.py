"""Reads the metadata keys of an architecture with checks. Errors name the file, the key, what was found and expected.

Invariant: a value that a getter returns is within the given bounds, so that model code need not check it again.
Defaults are llama.cpp's. Keys that an architecture does not define are ignored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any, NoReturn, Protocol

from pyinfer.errors import ModelError

# Far above any published model: a larger value means damage, and a product of two of these fits 64 bits.
MAX_LAYERS = 4096
MAX_WIDTH = 1 << 20
MAX_HEADS = 1 << 14
MAX_VOCAB = 1 << 24
MAX_CONTEXT = (1 << 31) - 1

MAX_SHOWN = 80  # characters of a bad value in an error: a malicious file's may have megabytes


class TensorShape(Protocol):
    """What is read of a tensor: its shape, row-major."""

    @property
    def shape(self) -> tuple[int, ...]: ...


class ModelFile(Protocol):
    """What is read of a file; pyinfer.gguf.GGUFFile is one. The typed getters raise on values of another type."""

    @property
    def path(self) -> Any: ...
    @property
    def metadata(self) -> Mapping[str, Any]: ...
    @property
    def tensors(self) -> Mapping[str, TensorShape]: ...
    def get_int(self, key: str) -> int: ...
    def get_float(self, key: str) -> float: ...
    def get_str(self, key: str) -> str: ...
    def get_bool(self, key: str) -> bool: ...


class Keys:
    """The keys `ARCHITECTURE.*` of a file, with errors that name file and key."""

    def __init__(self, file: ModelFile, architecture: str) -> None:
        self.file = file
        self.prefix = architecture

    @cached_property
    def n_layers(self) -> int:
        return self.get_int("block_count", MAX_LAYERS)

    @cached_property
    def n_embd(self) -> int:
        return self.get_int("embedding_length", MAX_WIDTH)

    @cached_property
    def n_ctx_train(self) -> int:
        return self.get_int("context_length", MAX_CONTEXT)

    @cached_property
    def n_vocab(self) -> int:
        """Rows of the embedding (columns, where the file has it transposed).

        There may be more than the tokenizer has tokens (padding), but not fewer.
        """
        path, tensors, n_embd = self.file.path, self.file.tensors, self.n_embd
        if "token_embd.weight" not in tensors:
            raise ModelError(f"{path}: the tensor token_embd.weight is missing")
        found = tuple(tensors["token_embd.weight"].shape)
        shape = found[::-1] if len(found) == 2 and found[1] != n_embd else found
        if len(shape) != 2 or shape[1] != n_embd or not 1 <= shape[0] <= MAX_VOCAB:
            raise ModelError(f"{path}: token_embd.weight has shape {found}, expected (1 to {MAX_VOCAB}, {n_embd})")
        tokens = self.file.metadata.get("tokenizer.ggml.tokens", ())
        n_tokens = len(tokens) if hasattr(tokens, "__len__") and not isinstance(tokens, str | bytes) else 0
        if n_tokens > shape[0]:
            raise ModelError(
                f"{path}: tokenizer.ggml.tokens has {n_tokens} tokens, expected at most {shape[0]}, "
                "the rows of token_embd.weight"
            )
        return shape[0]

    def has(self, key: str) -> bool:
        return f"{self.prefix}.{key}" in self.file.metadata

    def fail(self, key: str, found: object, expected: str) -> NoReturn:
        shown = str(found) if len(str(found)) <= MAX_SHOWN else f"{str(found)[:MAX_SHOWN]}…"
        raise ModelError(f"{self.file.path}: {self.prefix}.{key} is {shown}, expected {expected}")

    def _present(self, key: str, default: object) -> bool:
        """Whether the file has the key. Raises ModelError if it has neither the key nor a default."""
        if self.has(key):
            return True
        if default is None:
            raise ModelError(f"{self.file.path}: the key {self.prefix}.{key} is missing")
        return False

    def get_int(self, key: str, maximum: int, default: int | None = None, minimum: int = 1) -> int:
        value = self.file.get_int(f"{self.prefix}.{key}") if self._present(key, default) else default
        assert value is not None
        if not minimum <= value <= maximum:
            self.fail(key, value, f"{minimum} to {maximum}")
        return value

    def get_float(self, key: str, default: float | None = None, minimum: float = 0.0) -> float:
        value = self.file.get_float(f"{self.prefix}.{key}") if self._present(key, default) else default
        assert value is not None
        if not (math.isfinite(value) and value >= minimum):
            self.fail(key, value, f"a finite number of at least {minimum:g}")
        return value

    def get_positive_float(self, key: str, default: float | None) -> float:
        value = self.get_float(key, default)
        if value == 0:
            self.fail(key, value, "more than 0")
        return value

    def get_bool(self, key: str, default: bool | None) -> bool:
        return self.file.get_bool(f"{self.prefix}.{key}") if self._present(key, default) else bool(default)

    def get_choice(self, key: str, default: str, known: tuple[str, ...]) -> str:
        value = self.file.get_str(f"{self.prefix}.{key}") if self.has(key) else default
        if value not in known:
            self.fail(key, repr(value), f"one of {', '.join(known)}")
        return value

    def check_equal(self, key: str, expected: int, why: str) -> None:
        """Raise ModelError if the key is there with another value than the only possible one."""
        if self.has(key) and (found := self.get_int(key, MAX_WIDTH)) != expected:
            self.fail(key, found, f"{expected}, {why}")

    def get_per_layer(
        self, key: str, maximum: int, default: tuple[int, ...] | None = None, minimum: int = 1
    ) -> tuple[int, ...]:
        """Return a number for each layer. The file has one for all layers, or an array of them."""
        n_layers = self.n_layers
        values = self.get_array(key)
        if values is None:
            if default is not None and not self.has(key):
                return default
            return (self.get_int(key, maximum, minimum=minimum),) * n_layers
        if len(values) != n_layers:
            self.fail(key, f"an array of {len(values)}", f"{n_layers}, one a layer")
        for value in values:
            if not minimum <= value <= maximum:
                self.fail(key, value, f"{minimum} to {maximum}")
        return values

    def get_root_floats(self, key: str) -> tuple[float, ...]:
        """Return a float for each layer of a key without the architecture's prefix: one for all layers, or an array."""
        value = self.file.metadata.get(key)
        if value is None:
            raise ModelError(f"{self.file.path}: the key {key} is missing")
        values = [value] * self.n_layers if isinstance(value, float | int) else list(value)
        if len(values) != self.n_layers or not all(math.isfinite(v) for v in values):
            raise ModelError(f"{self.file.path}: {key} is {values!s:.80}, expected {self.n_layers} finite numbers")
        return tuple(float(v) for v in values)

    def get_array(self, key: str) -> tuple[int, ...] | None:
        """Return the integers or booleans of an array; None where the key is absent or has a scalar."""
        value = self.file.metadata.get(f"{self.prefix}.{key}")
        if value is None or isinstance(value, bool | int | float | str | bytes) or not hasattr(value, "__len__"):
            return None
        if len(value) > MAX_LAYERS:
            self.fail(key, f"an array of {len(value)}", f"at most {MAX_LAYERS} values")
        values = [v.item() if hasattr(v, "item") else v for v in value]
        if not all(isinstance(v, int) for v in values):
            self.fail(key, values, "integers")
        return tuple(values)
