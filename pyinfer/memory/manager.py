"""What a model keeps of its sequences: all groups of its layers, the only thing that scheduler and engine see of them.

A sequence lives in a slot. `begin` starts it with the longest prefix that is published; before each pass `reserve` sees
that what the pass writes has pages of its own; `publish` lets later sequences find what was computed; `rewind` goes
back, and `release` ends it. What is published stays after that until its memory is needed.

The rule: `begin` and `rewind` return the position that was really reached, since the state of a recurrent layer exists
at checkpoints only and a window's pages are gone once it has moved on. The caller computes again from there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyinfer.errors import ContextError, ParameterError
from pyinfer.memory.groups import make_groups
from pyinfer.memory.matching import Match, longest_match
from pyinfer.memory.pages import PagePool
from pyinfer.memory.prefix_index import NO_PAGE, Node, PrefixIndex
from pyinfer.memory.prefix_key import PrefixKey
from pyinfer.memory.sharing import Sharing
from pyinfer.memory.spec import PAGE, LayerSpec, n_pages_for


class Mark(NamedTuple):
    """A position that a slot may go back to, and the row of the state there, if that is needed."""

    n: int
    row: int | None


class Snapshot(NamedTuple):
    """What is kept of the first n items of a key: of each group pages [k, page_bytes], and the states of all layers."""

    n: int
    pages: list[NDArray[np.uint8]]
    states: NDArray[np.uint8]


class Memory:
    """Memory of n_seqs sequences of up to n_ctx positions, taken from the system as it is first written.

    layers: what each layer keeps. kv_type: of keys and values, "f16", "bf16", "f32" or "q8_0". n_bytes: of all of it
    (default: what n_seqs whole sequences need, at most a quarter of the process's memory, at least one of them).
    causal: whether tokens see those before them only; else nothing is kept after a pass. n_batch: most positions of a
    pass. n_keep: positions at the beginning of a sequence that no context shift drops.
    Raises ParameterError for an unknown kv_type, and for less than a page or more than there is of n_bytes or n_ctx.
    """

    def __init__(
        self, layers: Sequence[LayerSpec], n_seqs: int, n_ctx: int, kv_type: str = "f16", n_bytes: int | None = None,
        causal: bool = True, n_batch: int = 512, n_keep: int = 0,
    ) -> None:  # fmt: skip
        made = make_groups(layers, n_seqs, n_ctx, kv_type, n_bytes, causal, n_batch, n_keep)
        self.kv_type = kv_type
        self.groups = made.attention
        self.states = made.states
        self.layers: list[Any] = made.layers
        self.layer_tables: list[int] = made.layer_tables
        self.tables: tuple[NDArray[np.int32], ...] = tuple(group.table[:n_seqs] for group in made.all)
        self.n_ctx = min([n_ctx, *(group.n_positions for group in self.groups)])
        rows = self.states.pool if self.states else PagePool(0)
        full = any(group.reach.window == 0 for group in self.groups)
        self._index = PrefixIndex([group.pool for group in self.groups], rows, full)
        for group in made.all:
            group.index = self._index
        self._sharing = Sharing(self.groups, self._index, n_seqs + 1)
        self._causal = causal
        self._n_batch = n_batch
        self._spare_slot = n_seqs  # for what comes from elsewhere
        self._length = [0] * (n_seqs + 1)  # positions that are computed, once the pass they are reserved for has run
        self._start = [0] * (n_seqs + 1)  # where that pass starts
        self._first = [0] * (n_seqs + 1)  # positions that a shift has left, which no rewind goes back into
        self._marks: list[Mark | None] = [None] * (n_seqs + 1)

    @property
    def n_pages(self) -> int:
        """Pages of all groups."""
        return sum(group.pool.n_pages for group in self.groups)

    @property
    def n_available(self) -> int:
        """Those of them that no sequence references."""
        return sum(group.pool.n_available for group in self.groups)

    @property
    def page_bytes(self) -> int:
        """Bytes of a page of each group, together."""
        return sum(group.page_bytes for group in self.groups)

    @property
    def group_sizes(self) -> tuple[tuple[int, int, int], ...]:
        """Of each group its window, the pages at the beginning that it keeps, and the bytes of a page."""
        return tuple((group.reach.window, group.reach.n_first, group.page_bytes) for group in self.groups)

    @property
    def state_bytes(self) -> int:
        """Bytes of the states of a sequence."""
        return self.states.row_bytes if self.states else 0

    @property
    def n_referenced_bytes(self) -> int:
        """Bytes of the pages that sequences reference."""
        return sum(group.pool.n_referenced * group.page_bytes for group in self.groups)

    def match(self, key: PrefixKey, n: int) -> int:
        """How many positions `begin` would give now for a key's first n items."""
        return self._match(key, n).n

    def begin(self, slot: int, key: PrefixKey, n: int) -> int:
        """Start a slot's sequence with the longest prefix of a key's first n items that all groups have; its length."""
        self.release(slot)
        match = self._match(key, n)
        if not self._start_with(slot, match):
            self.release(slot)
            match = self._match(key, n, whole=True)
            self._start_with(slot, match)
        self._start[slot] = self._length[slot] = match.n
        return match.n

    def _start_with(self, slot: int, match: Match) -> bool:
        if self.states and match.checkpoint is not None:
            self.states.load(slot, match.checkpoint)
        return self._sharing.start(slot, match)

    def fits(self, key: PrefixKey, n: int, n_positions: int, n_spare: int = 0) -> bool:
        """Whether there are pages for a sequence of n_positions that begins with a key's first n items.

        n_spare: pages that shall be left in each group.
        """
        match = self._match(key, n)
        for group in self.groups:
            pool = group.pool
            found = [match.path[i].pages[group.number] for i in group.reach.pages(len(match.path) * PAGE)]
            n_held = sum(page != NO_PAGE and pool.ref_counts[page] > 0 for page in found)
            n_needed = min(group.reach.most_pages(n_positions, self._n_batch), pool.n_pages)
            if n_needed - n_held + n_spare > pool.n_available:
                return False
        return True

    def stop(self, start: int, stop: int, prompt: bool = True) -> int:
        """Where a pass over positions from start on, which would go to `stop`, should end at the latest.

        That is as far as a window's pages can reach and, with states, in a prompt the last end of a page, where the
        prompts that share it will look for a checkpoint.
        """
        for group in self.groups:
            if group.reach.window:
                first = group.reach.first(start)
                n_before = first - min(first, group.reach.n_first)  # pages that are released
                stop = min(stop, (group.pool.n_pages + n_before) * PAGE)
        last = stop // PAGE * PAGE
        return last if self.states and prompt and last > start else stop

    def reserve(self, slot: int, start: int, stop: int) -> bool:
        """See that a pass may write positions start to stop of a slot; False if there are not enough pages for it.

        Pages that no position from start on sees are released, but for those that `mark` keeps. The pass must run then,
        or the slot be rewound. Raises ContextError beyond n_ctx, ParameterError if a state is not that of `start`.
        """
        if stop > self.n_ctx:
            raise ContextError(f"sequence {slot} needs {stop} positions; the context has {self.n_ctx}")
        if self.states and start not in (0, self._length[slot]):
            raise ParameterError(f"sequence {slot} has the state of {self._length[slot]} positions, not of {start}")
        mark = self._marks[slot]
        if mark is not None and stop - mark.n > self._n_batch:  # draft tokens are never so many
            self._unmark(slot)
        done = self._reserve(slot, start, stop)
        if not done and self._marks[slot] is not None:
            self._unmark(slot)
            done = self._reserve(slot, start, stop)
        if done:
            self._start[slot], self._length[slot] = start, stop
        return done

    def _reserve(self, slot: int, start: int, stop: int) -> bool:
        mark = self._marks[slot]
        for group in self.groups:
            group.leave(slot, start if mark is None else min(start, mark.n))
        for i in range(start // PAGE, min(self._n_held(slot), n_pages_for(stop))):
            if not self._sharing.make_writable(slot, i, max(0, start - i * PAGE)):
                return False
        for group in self.groups:
            while len(group.held[slot]) * PAGE < stop:
                if not group.extend(slot, len(group.held[slot])):
                    return False
        return True

    def _n_held(self, slot: int) -> int:
        """Pages of a slot, those included that left a window."""
        return max([len(group.held[slot]) for group in self.groups], default=0)

    def publish(self, slot: int, key: PrefixKey, n: int) -> None:
        """Let later sequences find the first n positions of a slot as those of a key's first n items.

        With states, n should be the position that they are at, or nothing can be started from it.
        """
        n_before = self.n_published(slot)
        if not self._causal or n < n_before:
            return
        nodes = self._sharing.nodes[slot]
        for i in range(n_before // PAGE, n_pages_for(n)):
            parent = nodes[i - 1] if i else self._index.root(key)
            if not self._sharing.publish_page(slot, i, key.page(i, n), parent):
                self._index.prune(parent)  # a root may be new
                return
        if self.states and n and n == self._length[slot] and slot != self._spare_slot:
            self._add_checkpoint(slot, nodes[-1], n)

    def _add_checkpoint(self, slot: int, node: Node, n: int) -> None:
        """Keep a slot's state, which is that after n positions, in the last of its published nodes."""
        assert self.states is not None
        offset = n - (n_pages_for(n) - 1) * PAGE
        row = node.checkpoints.get(offset)
        if row is not None:
            self.states.touch(row)
        elif (row := self.states.allocate()) is not None:
            self.states.save(slot, row)
            self._index.add_checkpoint(node, offset, row)
            self.states.pool.release(row)

    def n_published(self, slot: int) -> int:
        """Positions of a slot that later sequences can find."""
        return self._sharing.n_published(slot)

    def mark(self, slot: int, n: int) -> bool:
        """Keep what `rewind(slot, n)` needs, while n positions are computed and draft tokens are to be the next.

        The pass with the draft tokens may be reserved already, but must not have run.
        It lasts until the next mark or rewind, or until the sequence is a whole pass further. False if there is no room
        for the state: there should be no draft tokens then.
        """
        row = None
        if self.states and n:
            if n not in (self._length[slot], self._start[slot]):
                return False
            before = self._marks[slot]
            row = before.row if before is not None else None
            row = self.states.allocate() if row is None else row
            if row is None:
                return False
            self.states.save(slot, row)
        else:
            self._unmark(slot)
        self._marks[slot] = Mark(n, row)
        return True

    def _unmark(self, slot: int) -> None:
        mark, self._marks[slot] = self._marks[slot], None
        if self.states and mark is not None and mark.row is not None:
            self.states.pool.release(mark.row)

    def rewind(self, slot: int, n: int) -> int:
        """Go back to n positions or, where that can't be, to the last before that can; returns where to go on from.

        After a `drop` that is a position which was computed since then, or 0: what is before it was computed after
        tokens that are gone.
        """
        n = min(n, self._length[slot])
        n = next((i for i in self._stages(slot, n) if self._can_rewind(slot, i)), 0)
        if self.states and 0 < n < self._length[slot]:
            row = self._row_at(slot, n)
            assert row is not None
            self.states.load(slot, row)
        self._unmark(slot)
        nodes = self._sharing.nodes[slot]
        for group in self.groups:
            group.truncate(slot, n_pages_for(n))
            for i in group.reach.pages(n):
                if group.page(slot, i) == NO_PAGE:  # it had left the window, but is still there
                    group.hold(slot, i, nodes[i].pages[group.number])
        self._sharing.cut(slot, n_pages_for(n))
        self._start[slot] = self._length[slot] = n
        if n == 0:
            self._first[slot] = 0
        return n

    def _stages(self, slot: int, n: int) -> Iterable[int]:
        """Positions up to n that a slot may go back to, the last first."""
        first = self._first[slot]
        if self.states is None:
            return [i for i in (n, *range((n - 1) // PAGE * PAGE, 0, -PAGE)) if i >= first]
        stages = {n} if n == self._length[slot] else set()
        for i, node in enumerate([] if first else self._sharing.nodes[slot]):  # after a shift nothing is published
            stages.update(i * PAGE + offset for offset in node.checkpoints)
        if (mark := self._marks[slot]) is not None:
            stages.add(mark.n)
        return sorted((stage for stage in stages if stage <= n), reverse=True)

    def _can_rewind(self, slot: int, n: int) -> bool:
        """Whether a slot has, or can reference again, the pages that it needs after n positions."""
        nodes = self._sharing.nodes[slot]
        return all(
            group.page(slot, i) != NO_PAGE or (i < len(nodes) and nodes[i].pages[group.number] != NO_PAGE)
            for group in self.groups
            for i in group.reach.pages(n)
        )

    def _row_at(self, slot: int, n: int) -> int | None:
        """The row of a slot's state after n positions, if there is one."""
        mark, nodes, i = self._marks[slot], self._sharing.nodes[slot], (n - 1) // PAGE
        if mark is not None and mark.n == n:
            return mark.row
        return nodes[i].checkpoints.get(n - i * PAGE) if i < len(nodes) else None

    def release(self, slot: int) -> None:
        """End a slot's sequence; what is published of it stays until its memory is needed."""
        self._unmark(slot)
        for group in self.groups:
            group.truncate(slot, 0)
        self._sharing.cut(slot, 0)
        self._start[slot] = self._length[slot] = self._first[slot] = 0

    def drop(self, slot: int, first: int, n: int) -> list[list[int]] | None:
        """Take n pages out of a slot's sequence, from its page `first` on, and move those after them up.

        Returns of each table the moved pages, whose keys are still those of their old positions and are no one else's;
        None, with nothing moved, if there are not enough pages to copy shared ones. A window's group moves what it
        still has. States stay as they are: they have seen the tokens that are dropped, so that what follows is not what
        would be computed without them. Raises ParameterError if a window then reaches pages that are gone, which are
        those before `first` without n_keep.
        """
        left = self._length[slot] - n * PAGE
        for group in self.groups:
            for i in group.reach.pages(left):
                if group.page(slot, i if i < first else i + n) == NO_PAGE:
                    raise ParameterError(
                        f"page {i} left the window of {group.reach.window}; expected n_keep to keep it"
                    )
        for i in range(self._n_held(slot) - 1, first + n - 1, -1):  # a node's children before it
            if not self._sharing.make_movable(slot, i):
                return None
        self._unmark(slot)
        moved = [group.cut_out(slot, first, n) for group in self.groups]
        self._sharing.cut(slot, first)
        self._start[slot] = self._length[slot] = self._first[slot] = left
        return [*moved, []] if self.states else moved

    def snapshot(self, key: PrefixKey, n: int) -> Snapshot:
        """A copy of what is kept of the longest prefix of a key's first n items."""
        match = self._match(key, n)
        pages = []
        for group in self.groups:
            found = [match.nodes[i].pages[group.number] for i in group.reach.pages(match.n)]
            pages.append(group.pages[np.array(found, np.intp)])
        row = match.checkpoint
        states = np.zeros(0, np.uint8) if self.states is None or row is None else self.states.read(row)
        return Snapshot(match.n, pages, states)

    def restore(self, key: PrefixKey, snapshot: Snapshot) -> None:
        """Publish a snapshot as that of a key's first items.

        Raises ContextError, with nothing changed, if there is no room for it.
        """
        slot, n = self._spare_slot, snapshot.n
        for group, pages in zip(self.groups, snapshot.pages, strict=True):
            available = group.pool.n_available
            if len(pages) > available:
                raise ContextError(f"{len(pages)} pages are needed; the cache has {available} that are not in use")
        row = self.states.allocate() if self.states else None
        if self.states and row is None:
            raise ContextError("a state's checkpoint is needed; the cache has none that is not in use")
        for group, pages in zip(self.groups, snapshot.pages, strict=True):
            for i, page in zip(group.reach.pages(n), pages, strict=True):
                group.extend(slot, i)
                group.pages[group.page(slot, i)] = page
        self.publish(slot, key, n)
        if self.states and row is not None:
            node, offset = self._index.find(key, n), n - (n_pages_for(n) - 1) * PAGE
            if node is not None and offset not in node.checkpoints:
                self.states.write(row, snapshot.states)
                self._index.add_checkpoint(node, offset, row)
            self.states.pool.release(row)
        self.release(slot)

    def _match(self, key: PrefixKey, n: int, whole: bool = False) -> Match:
        if not self._causal:
            return Match(0, [], None)
        return longest_match(self._index, self.groups, self.states is not None, key, n, whole)
