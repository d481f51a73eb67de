"""Turns the shares of a step into a forward pass, and its result into the rows of each share."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as List
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from pyinfer.engine.inputs import Pass, Rows
from pyinfer.memory.prefix_key import EmbeddedRow
from pyinfer.scheduling.sequence import Sequence


class Part(NamedTuple):
    """A sequence's share of a step: its items and draft tokens from n_computed on."""

    sequence: Sequence
    n_tokens: int
    n_draft: int  # draft tokens among them, at the end
    first_row: int  # the first token whose row is wanted
    n_rows: int


def share(
    sequence: Sequence, budget: int, max_rows: int, n_ctx: int, stops: Callable[[int, int, bool], int] | None
) -> Part:
    """What a sequence computes of a pass in which there is room for so many tokens and rows of logits.

    stops(start, stop, prompt): where it should end at the latest, for its memory's sake.
    """
    start, n_items = sequence.n_computed, len(sequence.items)
    stop = min(n_items + len(sequence.draft), start + budget, n_ctx)
    first = max(start, sequence.next_wanted)
    if sequence.task.output == "logits":
        stop = min(stop, first + max_rows)
    if stops is not None:
        stop = stops(start, stop, start < sequence.n_prefill)
    end = sequence.task.end_wanted
    n_rows = max(0, (stop if end is None else min(stop, end)) - first)
    return Part(sequence, stop - start, max(0, stop - n_items), first - start, n_rows)


def without_draft(part: Part) -> Part:
    """Return the same share without its draft tokens, for which the memory has no room."""
    return part._replace(n_tokens=part.n_tokens - part.n_draft, n_draft=0, n_rows=part.n_rows - part.n_draft)


class Batch:
    """Arrays for the rows of a forward pass, which every pass uses again."""

    def __init__(self, n_batch: int) -> None:
        self._tokens, self._positions, self._slots = np.zeros((3, n_batch), np.int32)
        self._rows: dict[str, NDArray[np.int32]] = {
            "logits": np.zeros(n_batch, np.int32),
            "hidden": np.zeros(n_batch, np.int32),
        }

    def lay_out(self, parts: List[Part]) -> Pass:
        """Return the forward pass of these parts, one after the other. It is valid until the next call."""
        row = 0
        n_rows = {"logits": 0, "hidden": 0}
        embedded: list[NDArray[np.float32]] = []
        for sequence, n, n_draft, first_row, n_wanted in parts:
            start, end = sequence.n_computed, row + n
            items = sequence.items[start : start + n - n_draft]
            ids = cast(list[int], items)
            if sequence.task.has_embedded:
                embedded += [item.content.vectors[item.row] for item in items if isinstance(item, EmbeddedRow)]
                ids = [item if isinstance(item, int) else -1 for item in items]
            assert sequence.slot is not None
            if n == 1:
                self._tokens[row] = ids[0]
                self._positions[row] = start
            else:
                self._tokens[row:end] = [*ids, *sequence.draft[:n_draft]]
                self._positions[row:end] = np.arange(start, start + n)
            self._slots[row:end] = sequence.slot
            output = sequence.task.output
            first, room = n_rows[output], self._rows[output]
            first_row += row
            room[first : first + n_wanted] = first_row if n_wanted == 1 else np.arange(first_row, first_row + n_wanted)
            n_rows[output] += n_wanted
            row = end
        return Pass(
            self._tokens[:row],
            self._positions[:row],
            self._slots[:row],
            self._rows["logits"][: n_rows["logits"]],
            self._rows["hidden"][: n_rows["hidden"]],
            np.stack(embedded) if embedded else None,
        )


def rows_of(parts: List[Part], rows: Rows) -> list[NDArray[np.float32]]:
    """Return the rows of each part, from those of the forward pass."""
    found = []
    n = {"logits": 0, "hidden": 0}
    for part in parts:
        output = part.sequence.task.output
        own = rows.logits if output == "logits" else rows.hidden
        found.append(own[n[output] : n[output] + part.n_rows])
        n[output] += part.n_rows
    return found
