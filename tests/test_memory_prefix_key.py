"""Keys of prefixes: equal exactly where ids, embedded content, adapter and salt are."""

import time

import numpy as np
import pytest

from pyinfer.memory.manager import Memory
from pyinfer.memory.prefix_key import Embedded, EmbeddedRow, PrefixKey, n_common, n_items
from pyinfer.memory.spec import PAGE, AttentionSpec

RNG = np.random.default_rng(0)
IDS = RNG.integers(0, 100_000, 3 * PAGE + 10).tolist()
ONE, OTHER = (Embedded(np.zeros((8, 4), np.float32), bytes([i]) * 32) for i in (1, 2))


def rows_of(content):
    return [EmbeddedRow(content, row) for row in range(8)]


def shared(one, other):
    """By the keys, and by what a memory finds."""
    n = one.n_shared(other, 1 << 20)
    memory = Memory([AttentionSpec(1, 32, 32)], 1, 8 * PAGE)
    memory.begin(0, one, 0)
    assert memory.reserve(0, 0, len(one))
    memory.publish(0, one, len(one))
    memory.release(0)
    assert memory.begin(0, other, len(other)) == n
    return n


def test_common_items_are_whole_ids():
    def page(*ids):
        return PrefixKey(list(ids)).page(0, len(ids))

    assert n_common(page(1, 256, 3), page(1, 257, 3)) == 1
    assert n_common(page(1, 2), page(1, 2, 3)) == 2
    assert n_common(b"", page(1)) == 0


@pytest.mark.parametrize("n", [0, 1, 5, PAGE, PAGE + 1, 3 * PAGE, len(IDS)])
def test_ids_are_shared_up_to_the_first_that_differs(n):
    assert shared(PrefixKey(IDS), PrefixKey([*IDS[:n], -1, *IDS[n:]])) == n


@pytest.mark.parametrize("n", [3, PAGE - 4, PAGE, 2 * PAGE + 60])
def test_embedded_rows_are_equal_by_content_and_row(n):
    items = [*IDS[:n], *rows_of(ONE), *IDS[n:]]
    assert shared(PrefixKey(items), PrefixKey(list(items))) == len(items)
    assert shared(PrefixKey(items), PrefixKey([*IDS[:n], *rows_of(OTHER), *IDS[n:]])) == n
    assert shared(PrefixKey(items), PrefixKey([*IDS[:n], *rows_of(ONE)[:5], *rows_of(ONE)])) == n + 5
    assert shared(PrefixKey(items), PrefixKey(IDS)) == n  # what is before it is shared with bare text


@pytest.mark.parametrize(
    "options", [{"adapter": "a"}, {"adapter": "b"}, {"salt": b"a"}, {"adapter": "a", "salt": b"b"}]
)
def test_another_adapter_or_salt_shares_nothing(options):
    assert shared(PrefixKey(IDS), PrefixKey(IDS, **options)) == 0
    assert shared(PrefixKey(IDS, adapter="ab"), PrefixKey(IDS, **options)) == 0
    assert shared(PrefixKey(IDS, **options), PrefixKey(IDS, **options)) == len(IDS)


def test_a_key_follows_a_list_that_grows():
    items = IDS[:70]
    key = PrefixKey(items)
    before = key.page(0, 70), key.page(1, 70)
    items += IDS[70:]
    assert key.page(0, 200) == before[0] and key.page(1, 200)[: len(before[1])] == before[1]
    assert [n_items(key.page(i, 200)) for i in range(4)] == [PAGE, PAGE, PAGE, 8]


def test_a_digest_of_another_size_is_refused():
    with pytest.raises(ValueError, match="3 bytes; expected 32"):
        Embedded(np.zeros((1, 4), np.float32), b"abc")


def test_the_key_of_a_long_prompt_takes_well_under_a_millisecond():
    tokens = RNG.integers(0, 100_000, 4096).tolist()

    def seconds():
        started = time.perf_counter()
        key = PrefixKey(tokens)
        for i in range(4096 // PAGE):
            key.page(i, 4096)
        return time.perf_counter() - started

    assert min(seconds() for _ in range(30)) < 0.5e-3
