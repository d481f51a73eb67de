"""Whatever sequences share, copy, leave, rewind and find again: each sees what a copy of its own would show it.

The naive model gives every sequence a private list of what is at its positions. In the pages there is a hash of the
items up to a position, and in the states that of the last one.
"""

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from pyinfer.memory.manager import Memory
from pyinfer.memory.prefix_index import NO_PAGE
from pyinfer.memory.prefix_key import PrefixKey
from pyinfer.memory.spec import PAGE, AttentionSpec, StateSpec, n_pages_for

N_SEQS, N_CTX, N_BATCH, N_KEEP = 3, 12 * PAGE, 80, 10
FULL, STATE = AttentionSpec(1, 32, 32), StateSpec((3,))
SHORT, LONG = (AttentionSpec(1, 32, 32, window) for window in (30, 130))
MODELS = {
    "full": [FULL],
    "window": [SHORT],
    "windows": [LONG, SHORT],
    "full, window": [FULL, LONG],
    "full, windows": [FULL, LONG, SHORT],
    "state": [STATE],
    "full, state": [FULL, STATE],
    "window, state": [LONG, STATE],
    "full, window, state": [LONG, FULL, STATE],
}
TEXTS = np.random.default_rng(0).integers(0, 1000, (2, N_CTX)).tolist()
UNDEFINED = -1.0


def contents_of(tokens):
    """Of each position what tells all tokens up to it."""
    contents = []
    for token in tokens:
        contents.append(hash((contents[-1] if contents else 0, token)))
    return contents


def state_of(content):
    return float(content % (1 << 24))  # exact in float32


class Sequence:
    """What a slot has computed, and what it would see in memory of its own."""

    def __init__(self, tokens):
        self.tokens = tokens
        self.contents = contents_of(tokens)
        self.states = [state_of(content) for content in self.contents]
        self.shifted = False

    def cut(self, first, stop=None):
        for part in (self.tokens, self.contents, self.states):
            del part[first:stop]


class MemoryMachine(RuleBasedStateMachine):
    layers: list

    def __init__(self):
        super().__init__()
        self.sequences = {}
        self.published = set()

    def sequence(self, data):
        slot = data.draw(st.sampled_from(sorted(self.sequences)))
        return slot, self.sequences[slot]

    @precondition(lambda self: not hasattr(self, "memory"))
    @rule(room=st.floats(0, 1.2))
    def make(self, room):
        whole = Memory(self.layers, N_SEQS, N_CTX, n_batch=N_BATCH, n_keep=N_KEEP)
        n_bytes = sum(group.pages.nbytes for group in whole.groups) + sum(
            rows.nbytes for rows in (whole.states.rows if whole.states else [])
        )
        least = whole.page_bytes + (N_SEQS + 1) * whole.state_bytes
        n_bytes = max(least, int(room * n_bytes))
        self.memory = Memory(self.layers, N_SEQS, N_CTX, n_bytes=n_bytes, n_batch=N_BATCH, n_keep=N_KEEP)

    def shared(self, tokens):
        """How many of these tokens a published sequence begins with."""
        return sum(content in self.published for content in contents_of(tokens))

    def begin_slot(self, slot, tokens):
        key = PrefixKey(tokens)
        self.memory.release(slot)
        match = self.memory.match(key, len(tokens))
        n = self.memory.begin(slot, key, len(tokens))
        assert n <= match <= self.shared(tokens)
        self.sequences[slot] = Sequence(tokens[:n])

    @precondition(lambda self: hasattr(self, "memory"))
    @rule(slot=st.integers(0, N_SEQS - 1), text=st.sampled_from(TEXTS), n=st.integers(1, N_CTX), tail=st.integers(0, 3))
    def begin(self, slot, text, n, tail):
        self.begin_slot(slot, [*text[:n], *range(tail)][:N_CTX])

    @precondition(lambda self: hasattr(self, "memory"))
    @rule(slot=st.integers(0, N_SEQS - 1), text=st.sampled_from(TEXTS), n=st.integers(1, N_CTX), tail=st.integers(0, 3))
    def request(self, slot, text, n, tail):
        """A prompt from its beginning to its end."""
        tokens = [*text[:n], *range(tail)][:N_CTX]
        self.begin_slot(slot, tokens)
        self.check(slot, len(self.sequences[slot].tokens))
        while self.write(slot, tokens[len(self.sequences[slot].tokens) :][:N_BATCH]):
            self.publish_slot(slot)

    def write(self, slot, tokens):
        """Compute tokens, as far as a pass goes and if there are pages; how many that are."""
        sequence, memory = self.sequences[slot], self.memory
        start = len(sequence.tokens)
        stop = min(start + len(tokens), memory.n_ctx)
        if stop > start:
            stop = memory.stop(start, stop)
        if stop <= start or not memory.reserve(slot, start, stop):
            return 0
        self.check(slot, start)
        for token in tokens[: stop - start]:
            i = len(sequence.tokens)
            sequence.tokens.append(token)
            sequence.contents.append(hash((sequence.contents[-1] if i else 0, token)))
            for group, table in zip(memory.groups, memory.tables, strict=False):
                page = int(table[slot, i // PAGE])
                assert group.pool.ref_counts[page] == 1
                group.pages[page].view(np.int64)[i % PAGE] = sequence.contents[-1]
            sequence.states.append(state_of(sequence.contents[-1]))
        for rows in memory.states.rows if memory.states else []:
            rows[slot] = sequence.states[-1]
        return stop - start

    @precondition(lambda self: self.sequences)
    @rule(data=st.data(), text=st.sampled_from(TEXTS), n=st.integers(1, N_BATCH))
    def compute(self, data, text, n):
        slot, sequence = self.sequence(data)
        self.write(slot, text[len(sequence.tokens) :][:n])

    @precondition(lambda self: self.sequences)
    @rule(data=st.data(), n=st.integers(1, N_BATCH))
    def interrupt(self, data, n):
        """A pass does not run to its end: what it wrote is undefined."""
        slot, sequence = self.sequence(data)
        start, memory = len(sequence.tokens), self.memory
        stop = min(start + n, memory.n_ctx)
        if stop > start and memory.reserve(slot, start, stop):
            for rows in memory.states.rows if memory.states else []:
                rows[slot] = UNDEFINED
            self.rewound(slot, start)

    def rewound(self, slot, n):
        n = self.memory.rewind(slot, n)
        self.sequences[slot].cut(n)
        return n

    @precondition(lambda self: self.sequences)
    @rule(data=st.data(), n=st.integers(1, 8), kept=st.integers(0, 8))
    def draft(self, data, n, kept):
        slot, sequence = self.sequence(data)
        start = len(sequence.tokens)
        if not self.memory.mark(slot, start):
            return
        n = self.write(slot, list(range(5000, 5000 + n)))
        assert self.rewound(slot, start + min(n, kept)) <= start + min(n, kept)

    @precondition(lambda self: any(not s.shifted for s in self.sequences.values()))
    @rule(data=st.data(), kept=st.floats(0, 1))
    def rewind(self, data, kept):
        slot = data.draw(st.sampled_from(sorted(slot for slot, s in self.sequences.items() if not s.shifted)))
        n = int(kept * len(self.sequences[slot].tokens))
        reached = self.rewound(slot, n)
        assert reached <= n
        if self.layers == [FULL]:
            assert reached == n

    @precondition(lambda self: any(not s.shifted for s in self.sequences.values()))
    @rule(data=st.data(), n_back=st.integers(1, 100), n=st.integers(1, N_BATCH), again=st.booleans())
    def branch(self, data, n_back, n, again):
        """Go back and on with other tokens; what was published before is still found."""
        slot = data.draw(st.sampled_from(sorted(slot for slot, s in self.sequences.items() if not s.shifted)))
        before = self.sequences[slot].tokens[:]
        self.rewound(slot, max(0, len(before) - n_back))
        self.write(slot, [7] * n)
        if again:
            self.begin_slot(slot, before)

    @precondition(lambda self: self.sequences)
    @rule(data=st.data(), n=st.integers(1, 3))
    def shift(self, data, n):
        slot, sequence = self.sequence(data)
        first = n_pages_for(N_KEEP)
        n_left = len(sequence.tokens) - n * PAGE
        if n_left <= first * PAGE:
            return
        moved = self.memory.drop(slot, first, n)
        if moved is None:
            return
        sequence.cut(first * PAGE, (first + n) * PAGE)
        sequence.shifted = True
        for pages, group in zip(moved, self.memory.groups, strict=False):
            for page in pages:
                group.pages[page].view(np.int64)[:PAGE] ^= 1  # keys are rotated in place
        sequence.contents[first * PAGE :] = [c ^ 1 for c in sequence.contents[first * PAGE :]]

    def publish_slot(self, slot):
        sequence = self.sequences[slot]
        if not sequence.shifted:
            self.memory.publish(slot, PrefixKey(sequence.tokens), len(sequence.tokens))
            self.published |= set(sequence.contents)

    @precondition(lambda self: self.sequences)
    @rule(data=st.data())
    def publish(self, data):
        self.publish_slot(self.sequence(data)[0])

    @precondition(lambda self: self.sequences)
    @rule(data=st.data(), publish=st.booleans())
    def end(self, data, publish):
        slot, _ = self.sequence(data)
        if publish:
            self.publish_slot(slot)
        self.memory.release(slot)
        del self.sequences[slot]

    def check(self, slot, n):
        """That a slot sees its own contents, where it goes on after n positions."""
        sequence = self.sequences[slot]
        for group, table in zip(self.memory.groups, self.memory.tables, strict=False):
            first = max(0, n - group.reach.window + 1) if group.reach.window else 0
            for i in range(first, n):
                page = int(table[slot, i // PAGE])
                assert page != NO_PAGE and group.pages[page].view(np.int64)[i % PAGE] == sequence.contents[i]
        for rows in self.memory.states.rows if self.memory.states and n else []:
            assert (rows[slot] == sequence.states[-1]).all()

    @invariant()
    def every_sequence_sees_what_is_its_own(self):
        for slot, sequence in self.sequences.items():
            self.check(slot, len(sequence.tokens))

    @invariant()
    def references_are_counted(self):
        for group in self.memory.groups if hasattr(self, "memory") else []:
            held = [page for pages in group.held for page in pages if page != NO_PAGE]
            assert [held.count(page) for page in range(group.pool.n_pages)] == group.pool.ref_counts
            assert group.pool.n_referenced == len(set(held))

    def teardown(self):
        if hasattr(self, "memory"):
            for slot in range(N_SEQS):
                self.memory.release(slot)
            assert self.memory.n_available == self.memory.n_pages
            if self.memory.states:
                assert self.memory.states.pool.n_referenced == 0


@pytest.mark.parametrize("name", MODELS)
def test_every_sequence_sees_what_a_copy_of_its_own_would_show(name):
    machine = type("Machine", (MemoryMachine,), {"layers": MODELS[name]})
    run_state_machine_as_test(machine, settings=settings(max_examples=30, stateful_step_count=40, deadline=None))
