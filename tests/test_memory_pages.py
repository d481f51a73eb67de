"""A pool's accounts: free, referenced, published, idle."""

from pyinfer.memory.pages import PagePool


def test_a_page_is_free_again_once_nothing_references_it():
    pool = PagePool(2)
    page = pool.allocate()
    pool.acquire(page)
    pool.release(page)
    assert (pool.n_available, pool.n_referenced) == (1, 1)
    pool.release(page)
    assert pool.n_available == 2 and {pool.allocate(), pool.allocate()} == {0, 1} and pool.allocate() is None


def test_a_published_page_is_idle_then_and_the_first_released_is_the_first_to_go():
    pool = PagePool(3)
    pages = [pool.allocate() for _ in range(3)]
    for page in pages:
        pool.publish(page)
    for page in (pages[1], pages[2], pages[0]):
        pool.release(page)
    assert pool.n_available == 3 and pool.allocate() is None
    assert pool.least_recent == pages[1]
    pool.acquire(pages[1])
    assert pool.least_recent == pages[2]
    pool.release(pages[1])
    pool.unpublish(pages[2])
    assert pool.least_recent == pages[0] and pool.allocate() == pages[2]


def test_a_page_that_is_unpublished_stays_with_who_references_it():
    pool = PagePool(1)
    page = pool.allocate()
    pool.publish(page)
    pool.unpublish(page)
    assert pool.n_referenced == 1
    pool.release(page)
    assert pool.allocate() == page
