"""The paged cache: whatever sequences share, copy, give back and find again, each sees its own tokens only."""

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pyinfer.errors import ContextError, ParameterError
from pyinfer.memory.manager import Memory
from pyinfer.memory.prefix_key import PrefixKey
from pyinfer.memory.spec import PAGE, AttentionSpec

N_SEQS, N_CTX, N_PAGES = 3, 4 * PAGE, 7
LAYERS = [AttentionSpec(1, 32, 32), AttentionSpec(2, 32, 32)]
RNG = np.random.default_rng(0)
TEXTS = RNG.integers(0, 1000, (2, N_CTX)).tolist()


def small_cache(n_pages=N_PAGES):
    size = Memory(LAYERS, 1, PAGE).page_bytes
    return Memory(LAYERS, N_SEQS, N_CTX, n_bytes=n_pages * size)


def n_known(cache, tokens):
    return cache.match(PrefixKey(tokens), len(tokens))


class Sequences:
    """What an engine does to the cache, with a hash of all tokens up to a position for its keys and values."""

    def __init__(self, cache):
        self.cache = cache
        self.tokens = {}  # slot: those that are passed

    def marks(self, slot):
        pages = self.cache.groups[0].pages[self.cache.tables[0][slot]].view(np.int64)[:, :PAGE]
        return pages.ravel()[: len(self.tokens[slot])].tolist()

    @staticmethod
    def expected(tokens):
        return [hash(tuple(tokens[: i + 1])) for i in range(len(tokens))]

    def begin(self, slot, tokens):
        self.tokens[slot] = tokens[: self.cache.begin(slot, PrefixKey(tokens), len(tokens))]

    def add(self, slot, tokens):
        """Pass further tokens, if there are pages for them."""
        start = len(self.tokens[slot])
        stop = start + len(tokens)
        if not self.cache.reserve(slot, start, stop):
            return False
        whole = self.tokens[slot] + tokens
        for i in range(start, stop):
            page = self.cache.tables[0][slot, i // PAGE]
            self.cache.groups[0].pages[page].view(np.int64)[i % PAGE] = hash(tuple(whole[: i + 1]))
        self.tokens[slot] = whole
        return True

    def publish(self, slot):
        self.cache.publish(slot, PrefixKey(self.tokens[slot]), len(self.tokens[slot]))

    def check(self):
        for slot, tokens in self.tokens.items():
            assert self.marks(slot) == self.expected(tokens), slot


class CacheMachine(RuleBasedStateMachine):
    slots = st.integers(0, N_SEQS - 1)

    def __init__(self):
        super().__init__()
        self.sequences = Sequences(small_cache())
        self.cache = self.sequences.cache

    @rule(slot=slots, text=st.sampled_from(TEXTS), n=st.integers(1, N_CTX), other_end=st.integers(0, 3))
    def begin(self, slot, text, n, other_end):
        self.cache.release(slot)
        self.sequences.begin(slot, [*text[:n], *range(other_end)][:N_CTX])

    @precondition(lambda self: self.sequences.tokens)
    @rule(data=st.data(), text=st.sampled_from(TEXTS), n=st.integers(1, 150))
    def add(self, data, text, n):
        slot = data.draw(st.sampled_from(sorted(self.sequences.tokens)))
        start = len(self.sequences.tokens[slot])
        if tokens := text[start : start + n]:
            self.sequences.add(slot, tokens)

    @precondition(lambda self: self.sequences.tokens)
    @rule(data=st.data())
    def publish(self, data):
        self.sequences.publish(data.draw(st.sampled_from(sorted(self.sequences.tokens))))

    @precondition(lambda self: self.sequences.tokens)
    @rule(data=st.data(), kept=st.floats(0, 1))
    def truncate(self, data, kept):
        slot = data.draw(st.sampled_from(sorted(self.sequences.tokens)))
        tokens = self.sequences.tokens[slot]
        n = int(kept * len(tokens))
        assert self.cache.rewind(slot, n) == n
        self.sequences.tokens[slot] = tokens[:n]

    @precondition(lambda self: self.sequences.tokens)
    @rule(data=st.data())
    def end(self, data):
        slot = data.draw(st.sampled_from(sorted(self.sequences.tokens)))
        self.sequences.publish(slot)
        self.cache.release(slot)
        del self.sequences.tokens[slot]

    @invariant()
    def every_sequence_sees_its_own_tokens(self):
        self.sequences.check()

    @invariant()
    def no_page_is_lost(self):
        held = {page for pages in self.cache.groups[0].held for page in pages}
        assert len(held) + self.cache.n_available == N_PAGES


CacheMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
test_sequences_see_their_own_tokens_whatever_they_share = CacheMachine.TestCase


@pytest.fixture
def sequences():
    return Sequences(small_cache())


def passed(sequences, slot, tokens):
    """Begin, pass what is not there, publish; how many tokens were there."""
    sequences.begin(slot, tokens[:-1])
    n = len(sequences.tokens[slot])
    assert sequences.add(slot, tokens[n:])
    sequences.publish(slot)
    return n


def test_an_ended_sequence_is_continued_without_passing_it_again(sequences):
    text = TEXTS[0]
    assert passed(sequences, 0, text[:100]) == 0
    sequences.cache.release(0)
    page = sequences.cache.tables[0][0, 1]
    assert passed(sequences, 1, text[:130]) == 100
    assert sequences.cache.tables[0][1, 1] == page  # its last page was not even copied
    sequences.check()


def test_running_sequences_share_whole_pages_and_copy_the_last(sequences):
    text = TEXTS[0]
    passed(sequences, 0, text[:100])
    assert passed(sequences, 1, [*text[:100], 1, 2]) == 100
    assert passed(sequences, 2, text[:90]) == 89
    tables = sequences.cache.tables[0]
    assert len(set(tables[:3, 0])) == 1 and len(set(tables[:3, 1])) == 3
    sequences.check()


def test_equal_pages_that_were_made_side_by_side_become_one(sequences):
    text = TEXTS[0][:PAGE]
    for slot in (0, 1):
        sequences.begin(slot, text)
        sequences.add(slot, text)
    for slot in (0, 1):
        sequences.publish(slot)
    assert sequences.cache.tables[0][0, 0] == sequences.cache.tables[0][1, 0]
    assert sequences.cache.n_available == N_PAGES - 1


def test_the_least_recently_used_goes_first_and_the_beginning_of_a_text_last(sequences):
    cache = sequences.cache
    one, other = TEXTS[0][: 3 * PAGE], TEXTS[1][: 3 * PAGE]
    for text in (one, other):
        passed(sequences, 0, text)
        cache.release(0)
    sequences.tokens.clear()
    assert n_known(cache, one) == n_known(cache, other) == 3 * PAGE
    assert cache.reserve(1, 0, 3 * PAGE)  # the free page and two more
    assert n_known(cache, one) == PAGE and n_known(cache, other) == 3 * PAGE


def test_a_cache_without_pages_says_so_and_keeps_what_is_there(sequences):
    passed(sequences, 0, TEXTS[0])
    passed(sequences, 1, TEXTS[1][: 3 * PAGE])
    sequences.begin(2, [5])
    assert not sequences.add(2, [5])
    assert sequences.cache.n_available == 0
    del sequences.tokens[2]
    sequences.check()


def test_the_last_page_of_all_is_taken_over_instead_of_copied():
    sequences = Sequences(small_cache(n_pages=1))
    passed(sequences, 0, TEXTS[0][:50])
    sequences.cache.release(0)
    sequences.tokens.clear()
    assert passed(sequences, 1, [*TEXTS[0][:30], 7]) == 30
    sequences.check()


def test_more_positions_than_the_context_are_an_error_with_both_numbers(sequences):
    with pytest.raises(ContextError, match=rf"{N_CTX + 1} positions.*{N_CTX}"):
        sequences.cache.reserve(0, 0, N_CTX + 1)


def test_memory_for_less_than_a_page_is_refused():
    with pytest.raises(ParameterError, match="kv_cache_memory is 100"):
        Memory(LAYERS, 1, N_CTX, n_bytes=100)


@pytest.mark.parametrize(
    ("n_ctx", "memory", "message"),
    [
        (1 << 40, None, "n_ctx is 1099511627776; expected less"),
        (N_CTX, 1 << 60, "kv_cache_memory is 1152921504606846976"),
    ],
)
def test_more_memory_than_there_can_be_is_refused_by_name(n_ctx, memory, message):
    with pytest.raises(ParameterError, match=f"{message}.*the system does not have .* bytes of memory"):
        Memory(LAYERS, 1, n_ctx, n_bytes=memory)


def test_pages_taken_out_of_a_sequence_move_up_what_is_behind_them(sequences):
    text, cache = TEXTS[0], sequences.cache
    passed(sequences, 0, text)
    passed(sequences, 1, text[: 2 * PAGE + 10])
    before = cache.tables[0][:, :4].copy()
    (moved,) = cache.drop(0, 1, 1)
    assert len(moved) == 2 and cache.tables[0][0, :3].tolist() == [before[0, 0], *moved]
    assert moved[0] != before[0, 2] or before[1, 2] != before[0, 2]  # not the page that slot 1 sees
    sequences.tokens[0] = text[:PAGE]
    sequences.check()  # slot 1 is as it was
    assert n_known(cache, text) == 2 * PAGE + 10  # the moved pages are no one's beginning any more
