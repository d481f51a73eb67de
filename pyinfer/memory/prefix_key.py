"""What must be equal for two sequences to share pages: their items, their adapter and their salt.

An item is a token id, or a row of embedded content (a picture, say), which is equal to another if the content's digest
and the row are. Pages are compared as bytes: int32 ids one after the other where a page has nothing else; where it has
embedded rows, a tag and then the wider `digest, number` for each item, an id having the digest zero.
"""

from __future__ import annotations

from array import array
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from pyinfer.memory.spec import PAGE

ID_BYTES = 4
DIGEST_BYTES = 32
WIDE_BYTES = DIGEST_BYTES + ID_BYTES
WIDE_TAG = b"\xff"  # makes the length of such pages no multiple of four, so that no other page is equal to them


class Embedded:
    """Content that goes into a model as rows of its embedding space.

    vectors: float32 [n, n_embd]. digest: 32 bytes that say what the content is and how it was embedded (SHA-256).
    """

    def __init__(self, vectors: NDArray[np.float32], digest: bytes) -> None:
        if len(digest) != DIGEST_BYTES:
            raise ValueError(f"a digest has {len(digest)} bytes; expected {DIGEST_BYTES}")
        self.vectors = vectors
        self.digest = digest


class EmbeddedRow(NamedTuple):
    """One row of embedded content, as an item of a sequence."""

    content: Embedded
    row: int


class PrefixKey:
    """The items of a sequence, as the prefix index compares them.

    - `items`: a list that may grow at its end later. It may also be cut at its end (where draft tokens were not
      accepted), if no call has had a `stop` after the cut. If other items change, make another key.
    - `adapter` (""): the name of the adapter that computes the items; "": none.
    - `salt` (b""): sequences with different salts share no pages.

        key = PrefixKey(tokens)
        n = memory.begin(slot, key, len(tokens) - 1)
    """

    def __init__(self, items: list[int | EmbeddedRow] | list[int], adapter: str = "", salt: bytes = b"") -> None:
        self.items = items
        name = adapter.encode()
        self.root: bytes = len(name).to_bytes(4, "little") + name + salt
        self._whole: list[bytes] = []  # whole pages, from the first on

    def __len__(self) -> int:
        return len(self.items)

    def page(self, i: int, stop: int) -> bytes:
        """The items of page i that stand before `stop`."""
        if (i + 1) * PAGE > stop:
            return page_bytes(self.items[i * PAGE : stop])
        if len(self._whole) <= i:
            self._add_whole_pages(stop)
        return self._whole[i]

    def _add_whole_pages(self, stop: int) -> None:
        """Add all whole pages before `stop` at once, since a prompt may have hundreds."""
        first, last = len(self._whole) * PAGE, stop // PAGE * PAGE
        data = page_bytes(self.items[first:last])
        if len(data) % ID_BYTES:  # of which only some pages may have embedded rows
            self._whole += [page_bytes(self.items[i : i + PAGE]) for i in range(first, last, PAGE)]
        else:
            size = PAGE * ID_BYTES
            self._whole += [data[i : i + size] for i in range(0, len(data), size)]

    def n_shared(self, other: PrefixKey, stop: int) -> int:
        """Return the length of the prefix that both keys share, at most `stop` items."""
        if self.root != other.root:
            return 0
        stop = min(stop, len(self.items), len(other.items))
        for i in range(-(-stop // PAGE)):
            one, two = self.page(i, stop), other.page(i, stop)
            if one != two:
                return i * PAGE + n_common(one, two)
        return stop


def page_bytes(items: list[int | EmbeddedRow] | list[int]) -> bytes:
    """Return items as the bytes that are compared."""
    try:
        return array("i", cast("list[int]", items)).tobytes()
    except TypeError:
        return WIDE_TAG + b"".join([_wide(item) for item in items])


def _wide(item: int | EmbeddedRow) -> bytes:
    if isinstance(item, EmbeddedRow):
        return item.content.digest + item.row.to_bytes(ID_BYTES, "little")
    return bytes(DIGEST_BYTES) + item.to_bytes(ID_BYTES, "little", signed=True)


def n_items(page: bytes) -> int:
    """Return the number of items in a page's bytes."""
    return (len(page) - 1) // WIDE_BYTES if len(page) % ID_BYTES else len(page) // ID_BYTES


def n_common(one: bytes, other: bytes) -> int:
    """Return the length of the prefix that two pages share, in items."""
    if len(one) % ID_BYTES or len(other) % ID_BYTES:
        rows = [_widened(page) for page in (one, other)]
        n = min(len(rows[0]), len(rows[1]))
        differ = (rows[0][:n] != rows[1][:n]).any(axis=1)
    else:
        n = min(len(one), len(other)) // ID_BYTES
        if one[: n * ID_BYTES] == other[: n * ID_BYTES]:
            return n
        differ = np.frombuffer(one, np.int32, n) != np.frombuffer(other, np.int32, n)
    return int(differ.argmax()) if differ.any() else n


def _widened(page: bytes) -> NDArray[np.int32]:
    """Return a page of either form as int32 [n_items, 9]."""
    n = n_items(page)
    if len(page) % ID_BYTES:
        return np.frombuffer(page[1:], np.int32).reshape(n, -1)
    rows = np.zeros((n, WIDE_BYTES // ID_BYTES), np.int32)
    rows[:, -1] = np.frombuffer(page, np.int32)
    return rows
