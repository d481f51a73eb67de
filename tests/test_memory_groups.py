"""Groups of layers: windows, recurrent states, and how they share sequences, pages and memory."""

from math import ceil

import numpy as np
import pytest

from pyinfer.errors import ContextError, ParameterError
from pyinfer.memory.groups import N_CHECKPOINTS
from pyinfer.memory.manager import Memory
from pyinfer.memory.prefix_key import PrefixKey
from pyinfer.memory.spec import PAGE, AttentionSpec, LatentSpec, StateSpec

FULL, WINDOW, STATE = AttentionSpec(1, 32, 32), AttentionSpec(1, 32, 32, window=2 * PAGE), StateSpec((2, 16))
RNG = np.random.default_rng(0)
TEXT = RNG.integers(0, 1000, 64 * PAGE).tolist()
KEY = PrefixKey(TEXT)


def passed(memory, slot, n, key=KEY, start=None, n_batch=PAGE, publish=True):
    """Compute a key's items up to n in passes of n_batch, writing states of which each number is the position."""
    start = memory.begin(slot, key, n - 1) if start is None else start
    at = start
    while at < n:
        stop = memory.stop(at, min(n, at + n_batch))
        assert memory.reserve(slot, at, stop)
        at = stop
        if memory.states:
            for rows in memory.states.rows:
                rows[slot] = at
        if publish:
            memory.publish(slot, key, at)
    return start


def state(memory, slot):
    (value,) = {float(x) for rows in memory.states.rows for x in rows[slot]}
    return value


def test_layers_of_one_window_are_a_group_and_take_one_table():
    layers = [WINDOW, FULL, STATE, WINDOW, LatentSpec(32, 32), AttentionSpec(2, 32, 32)]
    memory = Memory(layers, 2, 8 * PAGE)
    assert memory.layer_tables == [1, 0, 2, 1, 0, 0] and len(memory.layers) == 6
    assert [table.shape for table in memory.tables] == [(2, 8), (2, 8), (2, 1)]
    sizes = [Memory([spec], 1, PAGE).page_bytes for spec in (FULL, layers[4], layers[5])]
    assert memory.groups[0].page_bytes == sum(sizes)


def test_gemma_3_keeps_a_fifth_of_a_long_sequence():
    n = 32 * 1024
    for window in (512, 1024):
        slides = [(i + 1) % 6 != 0 for i in range(36)]
        memory = Memory([AttentionSpec(1, 32, 32, window if s else 0) for s in slides], 1, n)
        everything = Memory([AttentionSpec(1, 32, 32)] * 36, 1, n)
        for m in (memory, everything):
            assert m.begin(0, KEY, 0) == 0
            for start in [*range(0, n - 512, 512), *range(n - 512, n)]:  # prefill, then decode
                assert m.reserve(0, start, min(start + 512, n) if start < n - 512 else start + 1)
        assert memory.n_referenced_bytes < 0.22 * everything.n_referenced_bytes
        assert memory.n_referenced_bytes == pytest.approx(
            everything.n_referenced_bytes * (1 / 6 + 5 / 6 * (window / PAGE) / (n / PAGE)), rel=0.03
        )


def test_pages_that_left_a_window_are_found_until_they_are_evicted():
    memory = Memory([WINDOW], 2, 32 * PAGE, n_bytes=20 * Memory([WINDOW], 1, PAGE).page_bytes)
    passed(memory, 0, 10 * PAGE)
    assert memory.n_available == 20 - 3  # the window's two pages, and the one that it leaves
    for n in (PAGE, 5 * PAGE + 7, 10 * PAGE):
        assert memory.match(KEY, n) == n
    passed(memory, 1, 16 * PAGE, PrefixKey(TEXT[::-1]))
    assert memory.match(KEY, 5 * PAGE) == 0  # needs pages 3 and 4, which are evicted
    assert memory.match(KEY, 10 * PAGE) == 10 * PAGE  # needs those that slot 0 has


def test_a_match_is_the_longest_that_all_groups_can_start_from():
    size = Memory([FULL, WINDOW], 1, PAGE)
    memory = Memory([FULL, WINDOW], 2, 32 * PAGE, n_bytes=16 * size.page_bytes, n_batch=PAGE)
    n_pages = [group.pool.n_pages for group in memory.groups]
    assert n_pages[0] > 12 > n_pages[1] > 4
    passed(memory, 0, 10 * PAGE)
    memory.release(0)
    assert memory.match(KEY, 10 * PAGE) == 10 * PAGE
    assert memory.match(KEY, 4 * PAGE) == 0  # the window's pages there made place for later ones
    assert memory.begin(1, KEY, 10 * PAGE) == 10 * PAGE
    assert len(set(memory.tables[0][1, :10])) == 10
    assert memory.groups[1].pool.n_referenced == 2


def test_states_start_from_checkpoints_only():
    memory = Memory([FULL, STATE], 2, 16 * PAGE)
    assert passed(memory, 0, 3 * PAGE + 10, n_batch=2 * PAGE) == 0
    assert [memory.match(KEY, n) for n in (2 * PAGE - 1, 2 * PAGE, 3 * PAGE, 3 * PAGE + 9, 3 * PAGE + 10)] == [
        0, 2 * PAGE, 3 * PAGE, 3 * PAGE, 3 * PAGE + 10,
    ]  # fmt: skip
    assert memory.begin(1, KEY, 3 * PAGE + 9) == 3 * PAGE and state(memory, 1) == 3 * PAGE
    memory.release(0)
    other = PrefixKey([*TEXT[: 3 * PAGE + 10], 7])
    assert memory.begin(1, other, 3 * PAGE + 11) == 3 * PAGE + 10 and state(memory, 1) == 3 * PAGE + 10


def test_checkpoints_are_evicted_least_recently_used_first():
    n_rows = 1 + N_CHECKPOINTS
    memory = Memory([STATE], 1, 64 * PAGE)
    passed(memory, 0, n_rows * PAGE)
    found = [n for n in range(0, n_rows * PAGE + 1, PAGE) if memory.match(KEY, n) == n]
    assert found == [0, *range(2 * PAGE, n_rows * PAGE + 1, PAGE)]
    assert memory.begin(0, KEY, 2 * PAGE) == 2 * PAGE  # used: it is the last to go now
    passed(memory, 0, 3 * PAGE, PrefixKey([*TEXT[: 2 * PAGE], *TEXT[:PAGE]]), start=2 * PAGE)
    assert memory.match(KEY, 2 * PAGE) == 2 * PAGE and memory.match(KEY, 3 * PAGE) == 2 * PAGE


def test_a_rewind_with_states_goes_to_the_mark_or_the_checkpoint_before():
    memory = Memory([FULL, WINDOW, STATE], 1, 16 * PAGE)
    n = 2 * PAGE + 5
    passed(memory, 0, n)
    assert memory.mark(0, n)
    passed(memory, 0, n + 4, start=n, publish=False)
    assert memory.rewind(0, n + 2) == n and state(memory, 0) == n
    passed(memory, 0, n + 4, start=n, publish=False)
    assert memory.rewind(0, n + 4) == n + 4 and state(memory, 0) == n + 4
    assert memory.rewind(0, n + 3) == n and state(memory, 0) == n  # published at the prompt's end
    assert memory.rewind(0, n - 1) == 2 * PAGE and state(memory, 0) == 2 * PAGE
    assert memory.rewind(0, 5) == 0
    assert memory.reserve(0, 0, 5)


def test_a_state_is_not_written_from_another_position():
    memory = Memory([STATE], 1, 4 * PAGE)
    assert memory.reserve(0, 0, 10)
    with pytest.raises(ParameterError, match="the state of 10 positions, not of 8"):
        memory.reserve(0, 8, 12)
    assert memory.rewind(0, 8) == 0  # as after a pass that was interrupted


def test_a_mark_may_follow_the_reservation_of_its_pass():
    memory = Memory([FULL, WINDOW, STATE], 1, 16 * PAGE)
    n = 2 * PAGE + 5
    passed(memory, 0, n, publish=False)
    assert memory.reserve(0, n, n + 4) and memory.mark(0, n)
    memory.states.rows[0][0] = n + 4
    assert memory.rewind(0, n + 2) == n and state(memory, 0) == n
    assert not memory.mark(0, n - 1)


def test_marks_without_room_are_refused():
    size = Memory([STATE], 1, PAGE).state_bytes
    memory = Memory([STATE], 2, 4 * PAGE, n_bytes=3 * size)
    for slot in (0, 1):
        memory.begin(slot, KEY, 0)
        assert memory.reserve(slot, 0, 10)
    assert memory.mark(0, 10) and not memory.mark(1, 10)
    assert memory.mark(0, 10)
    memory.release(0)
    assert memory.mark(1, 10)


def test_a_mark_keeps_the_pages_of_its_window_for_a_pass_at_most():
    memory = Memory([WINDOW], 1, 32 * PAGE, n_batch=PAGE)
    n = 5 * PAGE
    passed(memory, 0, n, publish=False)
    assert memory.mark(0, n)
    for start in range(n, n + PAGE):
        assert memory.reserve(0, start, start + 1)
    assert memory.rewind(0, n) == n
    assert memory.mark(0, n)
    passed(memory, 0, 20 * PAGE, start=n, publish=False)
    assert memory.groups[0].pool.n_referenced == 3
    assert memory.rewind(0, n) == 0  # gone, and nothing of it was published


def test_a_window_can_be_rewound_to_what_is_published():
    memory = Memory([WINDOW], 1, 32 * PAGE)
    passed(memory, 0, 10 * PAGE)
    assert memory.rewind(0, 5 * PAGE + 3) == 5 * PAGE + 3
    assert memory.groups[0].pool.n_referenced == 3


@pytest.mark.parametrize("n_pages", [1, 2, 3, 4, 8])
def test_however_small_a_window_pool_is_a_sequence_alone_gets_on(n_pages):
    memory = Memory([WINDOW], 2, 32 * PAGE, n_bytes=n_pages * Memory([WINDOW], 1, PAGE).page_bytes)
    assert memory.n_ctx == (32 * PAGE if n_pages > 2 else n_pages * PAGE)
    for slot, n in ((0, memory.n_ctx), (1, memory.n_ctx - 1)):  # the second finds what the first published
        passed(memory, slot, n, n_batch=512)
        memory.release(slot)
    assert memory.n_available == n_pages


def test_two_sequences_in_a_window_pool_for_one_take_turns():
    memory = Memory([WINDOW], 2, 32 * PAGE, n_bytes=4 * Memory([WINDOW], 1, PAGE).page_bytes)
    passed(memory, 0, 8 * PAGE)
    memory.begin(1, PrefixKey(TEXT[::-1]), 0)
    assert memory.reserve(1, 0, PAGE) and not memory.reserve(1, PAGE, 2 * PAGE)
    memory.release(0)
    assert memory.reserve(1, PAGE, 2 * PAGE)


def test_memory_is_divided_by_what_each_group_needs():
    n_ctx, n_batch = 64 * PAGE, 2 * PAGE
    free = Memory([FULL, WINDOW, STATE], 3, n_ctx, n_batch=n_batch)
    assert [group.pool.n_pages for group in free.groups] == [3 * 64, 3 * 6]
    assert free.states.pool.n_pages == 3 * N_CHECKPOINTS
    page, row = free.groups[0].page_bytes, free.state_bytes
    n_bytes = (3 * 64 * page + 3 * 6 * page + 3 * (1 + N_CHECKPOINTS) * row) // 2
    half = Memory([FULL, WINDOW, STATE], 3, n_ctx, n_bytes=n_bytes, n_batch=n_batch)
    assert half.groups[0].pool.n_pages == pytest.approx(3 * 32, abs=1) and half.n_ctx == n_ctx
    assert half.groups[1].pool.n_pages == pytest.approx(3 * 3, abs=1)
    assert sum(g.pages.nbytes for g in half.groups) + sum(r.nbytes for r in half.states.rows) <= n_bytes


def test_less_than_a_page_of_each_group_is_refused_with_the_least():
    size = Memory([FULL, WINDOW], 1, PAGE).page_bytes
    with pytest.raises(ParameterError, match=rf"kv_cache_memory is {size - 1}; expected at least {size} bytes"):
        Memory([FULL, WINDOW], 4, 8 * PAGE, n_bytes=size - 1)
    least = Memory([FULL, WINDOW], 4, 8 * PAGE, n_bytes=size)
    assert (least.n_ctx, least.n_pages) == (PAGE, 2)


def test_a_sequence_fits_where_every_group_has_pages_for_it():
    page = Memory([WINDOW], 1, PAGE).page_bytes
    memory = Memory([WINDOW], 4, 64 * PAGE, n_bytes=8 * page, n_batch=PAGE)  # of which a sequence has at most five
    assert memory.fits(KEY, 0, 64 * PAGE, 3) and not memory.fits(KEY, 0, 64 * PAGE, 4)
    passed(memory, 0, 10 * PAGE)
    assert memory.fits(KEY, 0, 64 * PAGE) and not memory.fits(KEY, 0, 64 * PAGE, 1)
    assert memory.fits(KEY, 10 * PAGE, 64 * PAGE, 2)  # two of them are those of slot 0


def test_encoders_share_one_layers_memory_and_keep_nothing():
    memory = Memory([FULL, AttentionSpec(2, 32, 32), WINDOW], 2, 4 * PAGE, causal=False)
    assert len(memory.groups) == 1
    assert memory.page_bytes == Memory([AttentionSpec(2, 32, 32)], 1, PAGE).page_bytes
    assert memory.begin(0, KEY, 100) == 0 and memory.reserve(0, 0, 100)
    memory.publish(0, KEY, 100)
    assert (memory.n_published(0), memory.match(KEY, 100)) == (0, 0)
    memory.release(0)
    assert memory.n_available == memory.n_pages


def test_pages_dropped_for_a_shift_leave_each_group_what_it_still_needs():
    n_keep, n = PAGE + 1, 12 * PAGE
    memory = Memory([FULL, WINDOW, STATE], 1, n, n_keep=n_keep, n_batch=PAGE)
    passed(memory, 0, n)
    before = [table[0].tolist() for table in memory.tables]
    moved = memory.drop(0, 2, 9)
    assert moved == [before[0][11:12], before[1][11:12], []]
    assert memory.tables[0][0, :3].tolist() == [*before[0][:2], before[0][11]]
    assert memory.tables[1][0, :3].tolist() == [*before[1][:2], before[1][11]]  # the window is back at the beginning
    assert state(memory, 0) == n
    passed(memory, 0, 3 * PAGE + 5, start=3 * PAGE, publish=False)
    memory.release(0)
    assert memory.n_available == memory.n_pages


def test_a_shift_that_needs_what_left_the_window_is_refused_before_anything_changed():
    memory = Memory([FULL, WINDOW], 1, 12 * PAGE)
    passed(memory, 0, 12 * PAGE)
    with pytest.raises(ParameterError, match="page 1 left the window of 128; expected n_keep to keep it"):
        memory.drop(0, 2, 9)
    assert memory.drop(0, 0, 6) is not None  # nothing before it is kept


def test_a_snapshot_brings_back_what_is_needed_to_go_on():
    layers = [FULL, WINDOW, STATE]
    memory, fresh = Memory(layers, 1, 16 * PAGE), Memory(layers, 1, 16 * PAGE)
    n = 9 * PAGE + 20
    passed(memory, 0, n)
    for i, group in enumerate(memory.groups):
        for j in group.reach.pages(n):
            group.pages[memory.tables[i][0, j]] = 16 * i + j
    snapshot = memory.snapshot(KEY, n + 5)
    assert (snapshot.n, [len(pages) for pages in snapshot.pages]) == (n, [10, 3])
    fresh.restore(KEY, snapshot)
    assert fresh.begin(0, KEY, n + 5) == n and state(fresh, 0) == n
    for i, group in enumerate(fresh.groups):
        for j in group.reach.pages(n):
            assert (group.pages[fresh.tables[i][0, j]] == 16 * i + j).all()
    fresh.release(0)
    assert fresh.n_available == fresh.n_pages


def test_a_snapshot_without_room_changes_nothing():
    layers = [FULL, WINDOW]
    memory = Memory(layers, 1, 16 * PAGE)
    passed(memory, 0, 4 * PAGE)
    snapshot = memory.snapshot(KEY, 4 * PAGE)
    small = Memory(layers, 1, 16 * PAGE, n_bytes=3 * memory.page_bytes)
    with pytest.raises(ContextError, match=rf"4 pages are needed; the cache has {small.groups[0].pool.n_pages} "):
        small.restore(KEY, snapshot)
    assert small.match(KEY, 4 * PAGE) == 0 and small.n_available == small.n_pages


def test_the_need_of_a_window_is_what_a_pass_of_it_takes():
    for n_batch in (1, 63, 64, 65, 512):
        memory = Memory([AttentionSpec(1, 32, 32, window=100)], 1, 64 * PAGE, n_batch=n_batch)
        assert memory.n_pages == ceil((100 + n_batch) / PAGE) + 2
        for start in range(0, 1500, n_batch):
            assert memory.stop(start, start + n_batch) == start + n_batch  # no pass is cut
            assert memory.reserve(0, start, start + n_batch)


def test_no_rewind_goes_back_to_what_was_computed_before_a_shift():
    memory = Memory([FULL, STATE], 1, 3 * PAGE, n_batch=PAGE, n_keep=PAGE)
    passed(memory, 0, 3 * PAGE)
    assert memory.drop(0, 1, 2) is not None  # the state after PAGE positions is of other tokens than the first PAGE
    assert memory.rewind(0, PAGE) == PAGE and state(memory, 0) == 3 * PAGE
    assert memory.mark(0, PAGE) and memory.reserve(0, PAGE, PAGE + 5)
    assert memory.rewind(0, PAGE + 3) == PAGE and state(memory, 0) == 3 * PAGE
    assert memory.reserve(0, PAGE, PAGE + 5)
    assert memory.rewind(0, PAGE) == 0
    passed(memory, 0, 2 * PAGE, start=0)
    assert memory.reserve(0, 2 * PAGE, 2 * PAGE + 1) and memory.rewind(0, 2 * PAGE) == 2 * PAGE


def test_the_end_of_a_text_that_goes_on_is_no_one_elses():
    memory = Memory([STATE], 2, 4 * PAGE, n_batch=PAGE)
    passed(memory, 0, 20)
    other = PrefixKey([*TEXT[:20], *RNG.integers(0, 1000, 40).tolist()])
    assert memory.begin(1, other, 30) == 20
    passed(memory, 0, 30, start=20)
    passed(memory, 1, 40, other, start=20)
    assert (memory.match(KEY, 60), memory.match(other, 60)) == (30, 40)


@pytest.mark.parametrize("n", [20, PAGE, PAGE + 20])
def test_a_snapshot_is_restored_where_it_is_already(n):
    memory = Memory([FULL, STATE], 1, 4 * PAGE, n_batch=PAGE)
    passed(memory, 0, n)
    memory.release(0)
    snapshot = memory.snapshot(KEY, n)
    memory.restore(KEY, snapshot)
    assert memory.n_available == memory.n_pages and memory.begin(0, KEY, n) == n == state(memory, 0)
