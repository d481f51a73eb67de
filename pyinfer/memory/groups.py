"""Forms groups of a model's layers, and divides the memory among them.

Layers that attend to all positions are a group (the "full group"), layers of the same window another, and recurrent
layers the last one. A group has one page table; the sizes of heads may differ within it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from pyinfer.errors import ParameterError
from pyinfer.memory.attention import KV_TYPES, AttentionGroup, Reach, group_page_bytes
from pyinfer.memory.recurrent import RecurrentGroup, row_bytes
from pyinfer.memory.spec import PAGE, AttentionSpec, LatentSpec, LayerSpec, StateSpec
from pyinfer.system import usable_memory

SHARE_OF_MEMORY = 4  # by default, at most one part in so many is used
N_CHECKPOINTS = 4  # a sequence: at the end of its prompt, at its own end, for draft tokens, and one more


class Need(NamedTuple):
    """What a group needs of its units (pages or rows), of so many bytes each."""

    unit_bytes: int
    n_one: int  # for one sequence
    n_all: int  # for all of them
    n_least: int  # the least with which anything can be computed


class Groups(NamedTuple):
    """A model's groups: `attention` has the full group first. `layer_tables`: for each layer, its group's number."""

    attention: list[AttentionGroup]
    states: RecurrentGroup | None
    layer_tables: list[int]

    @property
    def all(self) -> list[AttentionGroup | RecurrentGroup]:
        return [*self.attention, *([self.states] if self.states else [])]

    @property
    def layers(self) -> list[Any]:
        """Each layer's part, for the operations of a plan."""
        parts = [iter(group.layers) for group in self.all]
        return [next(parts[table]) for table in self.layer_tables]


def make_groups(
    layers: Sequence[LayerSpec], n_seqs: int, n_ctx: int, kv_type: str, n_bytes: int | None, causal: bool,
    n_batch: int, n_keep: int,
) -> Groups:  # fmt: skip
    """Make the groups of a model's layers, with their memory. Arguments and errors are Memory's."""
    if not isinstance(kv_type, str) or kv_type not in KV_TYPES:
        raise ParameterError(f"kv_type is {kv_type!r}; expected one of {', '.join(KV_TYPES)}")
    by_window: dict[int, list[AttentionSpec | LatentSpec]] = {}
    recurrent: list[StateSpec] = []
    for spec in layers:
        if isinstance(spec, StateSpec):
            recurrent.append(spec)
        else:
            by_window.setdefault(window_of(spec, causal), []).append(spec)
    windows = sorted(by_window)
    reaches = [Reach(window, n_keep) for window in windows]
    needs = []
    for reach in reaches:
        n_one = reach.most_pages(n_ctx, n_batch)
        needs.append(Need(group_page_bytes(kv_type, by_window[reach.window], not causal), n_one, n_seqs * n_one, 1))
    if recurrent:
        n_all = n_seqs * (1 + N_CHECKPOINTS)
        needs.append(Need(row_bytes(recurrent), n_seqs + N_CHECKPOINTS, n_all, n_seqs + 1))
    sizes = divide(needs, n_bytes)
    try:
        attention = [
            AttentionGroup(i, reach, by_window[reach.window], kv_type, sizes[i], n_seqs + 1, n_ctx, not causal)
            for i, reach in enumerate(reaches)
        ]
        states = RecurrentGroup(len(windows), recurrent, n_seqs, sizes[-1] - n_seqs) if recurrent else None
    except MemoryError as error:
        what = f"n_ctx is {n_ctx}" if n_bytes is None else f"kv_cache_memory is {n_bytes}"
        raise ParameterError(f"{what}; expected less: {error}, for keys and values") from None
    tables = [
        len(windows) if isinstance(spec, StateSpec) else windows.index(window_of(spec, causal)) for spec in layers
    ]
    return Groups(attention, states, tables)


def window_of(spec: AttentionSpec | LatentSpec, causal: bool) -> int:
    """Return the window of a layer; 0: it needs all positions, as every layer without causal attention does."""
    return spec.window if causal and isinstance(spec, AttentionSpec) else 0


def divide(needs: Sequence[Need], n_bytes: int | None) -> list[int]:
    """Return the number of units (pages or rows) of each group.

    `n_bytes` is divided among the groups in proportion to their needs. None: what all sequences need, at most a quarter
    of the memory that the process may use, but enough for one sequence. Raises ParameterError if a group would get less
    than its least number of units.
    """
    whole = sum(need.unit_bytes * need.n_all for need in needs)
    if n_bytes is None:
        budget = usable_memory() // SHARE_OF_MEMORY
        return [max(need.n_one, min(need.n_all, need.n_all * budget // whole)) for need in needs]
    least = sum(need.unit_bytes * need.n_least for need in needs)
    if n_bytes < least:
        of_each = "" if len(needs) == 1 else " of each kind of layer"
        raise ParameterError(
            f"kv_cache_memory is {n_bytes}; expected at least {least} bytes, a page of {PAGE} positions{of_each}"
        )
    return [need.n_least + need.n_all * (n_bytes - least) // whole for need in needs]
