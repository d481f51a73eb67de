"""The tree of pages: what is found, what is forgotten with what."""

from pyinfer.memory.pages import PagePool
from pyinfer.memory.prefix_index import NO_PAGE, PrefixIndex
from pyinfer.memory.prefix_key import PrefixKey
from pyinfer.memory.spec import PAGE

TEXT = list(range(5000 * PAGE))


def filled(n_pages, full=True, n_groups=1):
    """An index of a text of n pages, which nothing references: pools, index, key, nodes."""
    pools = [PagePool(n_pages) for _ in range(n_groups)]
    index, key, nodes = PrefixIndex(pools, PagePool(1), full), PrefixKey(TEXT), []
    for i in range(n_pages):
        parent = nodes[-1] if nodes else index.root(key)
        nodes.append(index.add(parent, key.page(i, len(TEXT)), [pool.allocate() for pool in pools]))
    for node in reversed(nodes):
        for pool, page in zip(pools, node.pages, strict=True):
            pool.release(page)
    return pools, index, key, nodes


def test_the_end_of_a_text_is_evicted_before_its_beginning():
    (pool,), index, key, _ = filled(4)
    for n in (4, 3, 2, 1):
        assert len(index.walk(key, len(TEXT))) == n
        assert index.evict(0)
    assert index.walk(key, len(TEXT)) == [] and not index.evict(0)
    assert pool.n_available == 4 and pool.allocate() is not None


def test_a_node_without_its_page_in_the_full_group_goes_with_all_below_it_however_deep():
    pools, index, key, nodes = filled(5000, n_groups=2)
    index.drop_page(nodes[1], 0)
    assert index.walk(key, len(TEXT)) == nodes[:1]
    for pool in pools:
        assert sum(pool.allocate() is not None for _ in range(5000)) == 4999


def test_a_node_of_windows_stays_while_anything_is_left_of_it():
    _, index, key, nodes = filled(3, full=False, n_groups=2)
    index.drop_page(nodes[2], 0)
    assert index.walk(key, len(TEXT)) == nodes and nodes[2].pages[0] == NO_PAGE
    index.drop_page(nodes[1], 0)
    index.drop_page(nodes[1], 1)
    assert index.walk(key, len(TEXT)) == nodes  # it is the way to the last
    index.drop_page(nodes[2], 1)
    assert index.walk(key, len(TEXT)) == nodes[:1]
    index.drop_page(nodes[0], 0)
    index.drop_page(nodes[0], 1)
    assert index.walk(key, len(TEXT)) == []


def test_checkpoints_keep_a_node_and_are_evicted():
    rows = PagePool(1)
    index, key = PrefixIndex([], rows, False), PrefixKey(TEXT)
    node = index.add(index.root(key), key.page(0, PAGE), [])
    row = rows.allocate()
    index.add_checkpoint(node, PAGE, row)
    rows.release(row)
    assert index.walk(key, PAGE) == [node] and node.checkpoints == {PAGE: row}
    assert index.evict_checkpoint() and not index.evict_checkpoint()
    assert index.walk(key, PAGE) == [] and rows.allocate() == row


def test_of_several_ends_the_one_that_shares_most_is_found():
    pool = PagePool(3)
    index = PrefixIndex([pool], PagePool(0), True)
    keys = [PrefixKey([*TEXT[:n], -n]) for n in (10, 30, 20)]
    for key in keys:
        index.add(index.root(key), key.page(0, len(key)), [pool.allocate()])
    node, n = index.best_end(PrefixKey(TEXT), [], 40, lambda node, n_shared: n_shared)
    assert (node.n, n) == (31, 30)
    node, n = index.best_end(PrefixKey(TEXT), [], 40, lambda node, n_shared: n_shared if node.n != 31 else 0)
    assert (node.n, n) == (21, 20)
