"""Session files: the cached keys, values and states of a sequence.

All numbers are little-endian:
    8 bytes   magic
    uint32    version
    uint32    bytes of the header
    header    JSON: fingerprint of the model, type of the cache, n_tokens, page (positions), state_bytes, and
              groups, of each [window, pages at the beginning that are kept whatever the window, page_bytes]
    int32     ids [n_tokens]
    bytes     for each group the pages [n, page_bytes] that are needed to go on, as they are in the cache
    bytes     states of recurrent layers [state_bytes]
    32 bytes  SHA-256 of all before
A file gets its name only when it is complete and on the disk. Nothing of it is used before all of it was checked.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pyinfer.arguments import quoted
from pyinfer.errors import ContextError, StateError
from pyinfer.files import atomic_write
from pyinfer.gguf import GGUFFile
from pyinfer.memory.attention import Reach
from pyinfer.memory.manager import Snapshot
from pyinfer.memory.spec import PAGE

MAGIC = b"pyinfer\x1a"
VERSION = 2  # 1 had one group, whose page_bytes stood in the header
START = struct.Struct("<8sII")
MAX_HEADER = 1 << 16  # bytes; far more than it has
DIGEST_BYTES = 32
MAX_GROUPS, MAX_SIZE = 256, 1 << 40  # that a header may name
SAMPLED_TENSORS, SAMPLE_BYTES = 16, 512


class Layout(NamedTuple):
    """What must be equal in a file, the model (`fingerprint`) and its memory (the other fields)."""

    fingerprint: str
    kv_type: str
    groups: tuple[tuple[int, int, int], ...]  # Memory.group_sizes
    state_bytes: int


def fingerprint(file: GGUFFile, config: object) -> str:
    """Return a digest of a model: its hyper-parameters, its tensors' names, types and shapes, and some weights.

    `config`: the hyper-parameters, all of which its repr must show.
    """
    digest = hashlib.sha256(repr(config).encode())
    tensors = sorted(file.tensors.values(), key=lambda info: info.name)
    for info in tensors:
        digest.update(repr((info.name, info.type.name, info.shape)).encode())
    for info in tensors[:: -(-len(tensors) // SAMPLED_TENSORS)]:
        rows = info.rows()
        digest.update(rows[len(rows) // 2][:SAMPLE_BYTES].tobytes())
    return digest.hexdigest()


def write_state(path: Path, layout: Layout, tokens: list[int], snapshot: Snapshot) -> None:
    """Write a session, the snapshot of these tokens. Raises OSError, and then leaves `path` as it was."""
    header = json.dumps({**layout._asdict(), "n_tokens": len(tokens), "page": PAGE}).encode()
    parts: list[Any] = [  # buffers
        START.pack(MAGIC, VERSION, len(header)) + header + np.array(tokens, "<i4").tobytes(),
        *[np.ascontiguousarray(pages).reshape(-1) for pages in snapshot.pages],
        snapshot.states,
    ]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    with atomic_write(path, 0o600) as file:  # only its owner may read a conversation
        for part in [*parts, digest.digest()]:
            file.write(part)
        file.flush()
        os.fsync(file.fileno())
    _sync_folder(path.parent)


def read_state(path: Path, layout: Layout, n_ctx: int, n_vocab: int) -> tuple[list[int], Snapshot]:
    """Return the tokens of a session, at most n_ctx, and the snapshot of their memory.

    Raises StateError for a file that is no session, damaged, cut short, or of another version, model or kind of cache;
    ContextError for more than n_ctx tokens; OSError for a file that can't be read. Whatever the header says, no more
    bytes are read than a session of n_ctx tokens has.
    """
    with path.open("rb") as file:
        head = file.read(START.size + MAX_HEADER)
        header, start = _header(path, head)
        n_tokens = header["n_tokens"]
        pages_at = start + 4 * n_tokens
        end = pages_at + sum(_group_bytes(n_tokens, group) for group in header["groups"]) + header["state_bytes"]
        size = os.fstat(file.fileno()).st_size
        if size != end + DIGEST_BYTES:
            raise StateError(f"{path}: the file has {size} bytes, expected {end + DIGEST_BYTES}: it is cut or damaged")
        for name, expected in {**layout._asdict(), "page": PAGE}.items():
            if header[name] != expected:
                what = "another model" if name == "fingerprint" else f"a cache with {name} {quoted(header[name])}"
                raise StateError(f"{path}: the session is of {what}; expected {quoted(expected)}")
        if n_tokens > n_ctx:
            raise ContextError(f"{path}: the session has {n_tokens} tokens; the context has {n_ctx} (n_ctx)")
        file.seek(0)
        data = np.empty(size, np.uint8)
        n_read = file.readinto(data.data)
    if n_read != size or hashlib.sha256(data[:end].data).digest() != data[end:].tobytes():
        raise StateError(f"{path}: the checksum does not fit: the file is damaged")
    tokens: list[int] = data[start:pages_at].view("<i4").tolist()
    if not all(0 <= token < n_vocab for token in tokens):
        raise StateError(f"{path}: the session has tokens that are none of 0 to {n_vocab - 1}: the file is damaged")
    pages, at = [], pages_at
    for group in layout.groups:
        size = _group_bytes(n_tokens, group)
        pages.append(data[at : at + size].reshape(-1, group[2]))
        at += size
    return tokens, Snapshot(n_tokens, pages, data[at:end])


def _group_bytes(n_tokens: int, group: Sequence[int]) -> int:
    """Return the bytes that a group keeps of so many tokens."""
    window, n_first, page_bytes = group
    return Reach(window, n_first * PAGE).n_pages(n_tokens) * page_bytes


def _header(path: Path, data: bytes) -> tuple[dict[str, Any], int]:
    """Return the header of a file that begins with these bytes, and the offset after it."""
    if len(data) < START.size or not data.startswith(MAGIC):
        raise StateError(f"{path}: this is not a saved session, which begins with {MAGIC!r}")
    _, version, size = START.unpack_from(data)
    if version != VERSION:
        raise StateError(f"{path}: the session is of version {version}; this pyinfer reads version {VERSION}")
    try:
        header = json.loads(data[START.size : START.size + min(size, MAX_HEADER)])
        known = all(isinstance(header[name], str) for name in ("fingerprint", "kv_type"))
        groups = header["groups"] = tuple(tuple(group) for group in header["groups"])
        known = known and len(groups) <= MAX_GROUPS and all(len(group) == 3 for group in groups)
        positive = [header["n_tokens"], header["page"], *(group[2] for group in groups)]
        numbers = [header["state_bytes"], *(n for group in groups for n in group), *positive]
        valid = known and all(type(n) is int and 0 <= n < MAX_SIZE for n in numbers) and all(positive)
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        valid = False
    if not valid:
        raise StateError(f"{path}: the header is damaged")
    return header, START.size + size


def _sync_folder(folder: Path) -> None:
    """Write a folder's new entry to the disk, where the system can do that."""
    with contextlib.suppress(OSError, AttributeError):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
