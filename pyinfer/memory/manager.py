"""What the scheduler sees of a model's memory: sequences in slots, and prefixes that they share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyinfer.memory.attention import KVCache
from pyinfer.memory.prefix_index import PAGE, id_bytes


class Embedded:
    """Content that is no token: vectors float32 [n, n_embd], and the digest of what they were made of."""

    def __init__(self, vectors: NDArray[np.float32], digest: bytes) -> None:
        self.vectors = vectors
        self.digest = digest


class EmbeddedRow(NamedTuple):
    content: Embedded
    row: int


class PrefixKey:
    """What must be equal for pages to be shared: the items, the adapter and the salt. items may grow at its end."""

    def __init__(self, items: list[int | EmbeddedRow], adapter: str = "", salt: bytes = b"") -> None:
        self.items = items
        self.root = adapter.encode() + b"\0" + salt

    def page(self, i: int, stop: int) -> bytes:
        """Items i * PAGE to (i + 1) * PAGE, of those before `stop`."""
        return self.first(min((i + 1) * PAGE, stop), i * PAGE)

    def first(self, n: int, start: int = 0) -> bytes:
        return id_bytes(self.items[start:n])  # type: ignore[arg-type]


class Memory:
    """All of a model's memory of its sequences."""

    def __init__(self, cache: KVCache) -> None:
        self._cache = cache
        self.n_ctx = cache.n_ctx
        self.n_pages = cache.n_pages
        self.page_bytes = cache.page_bytes
        self.kv_type = cache.kv_type

    @property
    def n_available(self) -> int:
        return self._cache.n_available

    def match(self, key: PrefixKey, n: int) -> int:
        return self._cache.n_known(key.first(n))

    def begin(self, slot: int, key: PrefixKey, n: int) -> int:
        return self._cache.begin(slot, key.first(n))

    def fits(self, key: PrefixKey, n: int, n_positions: int, n_spare: int = 0) -> bool:
        return self._cache.fits(key.first(n), n_positions + n_spare * PAGE)

    def stop(self, start: int, stop: int) -> int:
        return stop

    def reserve(self, slot: int, start: int, stop: int) -> bool:
        return self._cache.reserve(slot, start, stop)

    def publish(self, slot: int, key: PrefixKey, n: int) -> None:
        self._cache.publish(slot, key.items, n)  # type: ignore[arg-type]

    def n_published(self, slot: int) -> int:
        return self._cache.n_published(slot)

    def mark(self, slot: int, n: int) -> bool:
        return True

    def rewind(self, slot: int, n: int) -> int:
        self._cache.truncate(slot, n)
        return n

    def release(self, slot: int) -> None:
        self._cache.release(slot)

    def snapshot(self, key: PrefixKey, n: int) -> tuple[int, NDArray[np.uint8]]:
        return self._cache.snapshot(key.items[:n])  # type: ignore[arg-type]

    def restore(self, key: PrefixKey, pages: NDArray[np.uint8]) -> None:
        self._cache.restore(key.items, pages)  # type: ignore[arg-type]


def tokens_of(items: Sequence[int | EmbeddedRow]) -> list[int]:
    """Ids of items; -1 for what is embedded."""
    return [item if isinstance(item, int) else -1 for item in items]
