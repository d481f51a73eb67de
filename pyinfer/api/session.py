"""Session files: the cached keys and values of a sequence, saved to disk and loaded again."""

from __future__ import annotations

from pathlib import Path

from pyinfer.engine.engine import Engine
from pyinfer.errors import StateError
from pyinfer.memory.manager import Memory
from pyinfer.memory.prefix_key import PrefixKey
from pyinfer.memory.session_file import Layout, read_state, write_state
from pyinfer.scheduling.scheduler import Scheduler


def save_session(path: str | Path, ids: list[int], layout: Layout, memory: Memory, scheduler: Scheduler) -> int:
    """Write the longest prefix of `ids` that is cached; return its length. Raises StateError if there is none."""
    snapshot = scheduler.call(lambda: memory.snapshot(PrefixKey(list(ids)), len(ids)))
    if snapshot.n == 0:
        raise StateError(f"none of these {len(ids)} tokens is in the cache; generate with them first")
    write_state(Path(path), layout, ids[: snapshot.n], snapshot)
    return snapshot.n


def load_session(path: str | Path, layout: Layout, n_ctx: int, engine: Engine, scheduler: Scheduler) -> list[int]:
    """Read a session file into the cache; return its tokens."""
    tokens, snapshot = read_state(Path(path), layout, n_ctx, engine.n_vocab)
    scheduler.call(lambda: engine.memory.restore(PrefixKey(list(tokens)), snapshot))
    return tokens
