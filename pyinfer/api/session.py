"""Session files: the cached keys and values of a sequence, saved to disk and loaded again."""

from __future__ import annotations

from pathlib import Path

from pyinfer.engine.engine import Engine
from pyinfer.errors import ParameterError, StateError
from pyinfer.files import user_path
from pyinfer.gguf import GGUFFile
from pyinfer.memory.manager import Memory
from pyinfer.memory.prefix_key import PrefixKey
from pyinfer.memory.session_file import Layout, fingerprint, read_state, write_state
from pyinfer.scheduling.scheduler import Scheduler


def layout_of(file: GGUFFile, engine: Engine) -> Layout:
    """Return what a session file must have in common with a model to be read."""
    memory = engine.memory
    config = engine.config
    of_model = fingerprint(file, (config, config.rotates_by(engine.n_ctx)))
    return Layout(of_model, memory.kv_type, memory.group_sizes, memory.state_bytes)


def save_session(path: str | Path, ids: list[int], layout: Layout | None, memory: Memory, scheduler: Scheduler) -> int:
    """Write the longest prefix of `ids` that is cached; return its length.

    Raises StateError if there is none, and ParameterError without a layout, which a model without prefix cache has not.
    """
    layout = required(layout)
    snapshot = scheduler.call(lambda: memory.snapshot(PrefixKey(list(ids)), len(ids)))
    if snapshot.n == 0:
        raise StateError(f"none of these {len(ids)} tokens is in the cache; generate with them first")
    write_state(user_path(path), layout, ids[: snapshot.n], snapshot)
    return snapshot.n


def load_session(
    path: str | Path, layout: Layout | None, n_ctx: int, engine: Engine, scheduler: Scheduler
) -> list[int]:
    """Read a session file into the cache; return its tokens. Raises ParameterError without a layout."""
    tokens, snapshot = read_state(user_path(path), required(layout), n_ctx, engine.n_vocab)
    scheduler.call(lambda: engine.memory.restore(PrefixKey(list(tokens)), snapshot))
    return tokens


def required(layout: Layout | None) -> Layout:
    if layout is None:
        raise ParameterError("prefix_cache is False; sessions are saved from and loaded into it")
    return layout
