"""Saved sessions: the cached keys and values of a token sequence in a file.

All numbers are little-endian:
    8 bytes   magic
    uint32    version
    uint32    bytes of the header
    header    JSON: fingerprint of the model, type of the cache, n_tokens, page (positions), page_bytes
    int32     ids [n_tokens]
    bytes     pages [ceil(n_tokens / page), page_bytes], as they lie in the cache
    32 bytes  SHA-256 of all before
A file takes its name only when it is whole and on the disk. Nothing of it is used before all of it was checked.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyinfer.arguments import quoted
from pyinfer.errors import ContextError, StateError
from pyinfer.files import atomic_write
from pyinfer.gguf import GGUFFile
from pyinfer.memory.attention import n_pages_for
from pyinfer.memory.prefix_index import PAGE

MAGIC = b"pyinfer\x1a"
VERSION = 1
START = struct.Struct("<8sII")
MAX_HEADER = 1 << 16  # bytes; far more than it has
DIGEST_BYTES = 32
SAMPLED_TENSORS, SAMPLE_BYTES = 16, 512


class Layout(NamedTuple):
    """What a file must agree on with a model and its cache."""

    fingerprint: str
    kv_type: str
    page_bytes: int


def fingerprint(file: GGUFFile, config: object) -> str:
    """A digest of what a model computes: its hyper-parameters, its tensors' names, types and shapes, some weights."""
    digest = hashlib.sha256(repr(config).encode())
    tensors = sorted(file.tensors.values(), key=lambda info: info.name)
    for info in tensors:
        digest.update(repr((info.name, info.type.name, info.shape)).encode())
    for info in tensors[:: -(-len(tensors) // SAMPLED_TENSORS)]:
        rows = info.rows()
        digest.update(rows[len(rows) // 2][:SAMPLE_BYTES].tobytes())
    return digest.hexdigest()


def write_state(path: Path, layout: Layout, tokens: list[int], pages: NDArray[np.uint8]) -> None:
    """Write a session. pages: uint8 [n_pages, page_bytes]. Raises OSError; `path` is then as it was."""
    header = json.dumps({**layout._asdict(), "n_tokens": len(tokens), "page": PAGE}).encode()
    parts: list[Any] = [  # buffers
        START.pack(MAGIC, VERSION, len(header)) + header + np.array(tokens, "<i4").tobytes(),
        np.ascontiguousarray(pages).reshape(-1),
    ]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    with atomic_write(path, 0o600) as file:  # what was said is its owner's business
        for part in [*parts, digest.digest()]:
            file.write(part)
        file.flush()
        os.fsync(file.fileno())
    _sync_folder(path.parent)


def read_state(path: Path, layout: Layout, n_ctx: int, n_vocab: int) -> tuple[list[int], NDArray[np.uint8]]:
    """The tokens and pages of a session, uint8 [n_pages, page_bytes], of at most n_ctx tokens.

    Raises StateError for files that are no session, damaged, cut short, or of another version, model or kind of cache;
    ContextError for more than n_ctx tokens; OSError for what can't be read. Whatever a file says of itself, no more is
    read than a session of n_ctx tokens has.
    """
    with path.open("rb") as file:
        head = file.read(START.size + MAX_HEADER)
        header, start = _header(path, head)
        n_tokens = header["n_tokens"]
        pages_at = start + 4 * n_tokens
        end = pages_at + n_pages_for(n_tokens) * header["page_bytes"]
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
    return tokens, data[pages_at:end].reshape(-1, layout.page_bytes)


def _header(path: Path, data: bytes) -> tuple[dict[str, Any], int]:
    """The header of a file that begins with these bytes, and where what follows it begins."""
    if len(data) < START.size or not data.startswith(MAGIC):
        raise StateError(f"{path}: this is not a saved session, which begins with {MAGIC!r}")
    _, version, size = START.unpack_from(data)
    if version != VERSION:
        raise StateError(f"{path}: the session is of version {version}; this pyinfer reads version {VERSION}")
    try:
        header = json.loads(data[START.size : START.size + min(size, MAX_HEADER)])
        numbers = [header[name] for name in ("n_tokens", "page", "page_bytes")]
        known = all(isinstance(header[name], str) for name in ("fingerprint", "kv_type"))
        valid = known and all(isinstance(n, int) and 0 < n < 1 << 40 for n in numbers)
    except (ValueError, KeyError, TypeError, RecursionError):
        valid = False
    if not valid:
        raise StateError(f"{path}: the header is damaged")
    return header, START.size + size


def _sync_folder(folder: Path) -> None:
    """Have a folder's new entry on the disk, where the system can."""
    with contextlib.suppress(OSError, AttributeError):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
