"""A pool of pages: which pages are free, the reference count of each, and which are published.

A published page without references is idle: it keeps its content, which can be found again, until it is evicted. Idle
pages are kept in the order in which they were released, so that the least recently used one is evicted first.
"""

from __future__ import annotations

from collections import OrderedDict


class PagePool:
    """The state of n_pages pages. Their content belongs to the pool's owner."""

    def __init__(self, n_pages: int) -> None:
        self.n_pages = n_pages
        self.ref_counts = [0] * n_pages
        self._free = list(range(n_pages - 1, -1, -1))
        self._published: set[int] = set()
        self._idle: OrderedDict[int, None] = OrderedDict()

    @property
    def n_available(self) -> int:
        """The number of pages without references, free or idle."""
        return len(self._free) + len(self._idle)

    @property
    def n_referenced(self) -> int:
        return self.n_pages - self.n_available

    @property
    def least_recent(self) -> int | None:
        """The idle page to evict first."""
        return next(iter(self._idle), None)

    def allocate(self) -> int | None:
        """Return a free page, with one reference; None if there is none."""
        if not self._free:
            return None
        page = self._free.pop()
        self.ref_counts[page] = 1
        return page

    def acquire(self, page: int) -> None:
        """Add a reference to a page that is published or has one already."""
        self.ref_counts[page] += 1
        self._idle.pop(page, None)

    def release(self, page: int) -> None:
        """Remove a reference. A page without references becomes idle if it is published, otherwise free."""
        self.ref_counts[page] -= 1
        if self.ref_counts[page] == 0:
            if page in self._published:
                self._idle[page] = None
            else:
                self._free.append(page)

    def publish(self, page: int) -> None:
        """Make a referenced page idle, and not free, once it has no references any more."""
        self._published.add(page)

    def unpublish(self, page: int) -> None:
        """Undo `publish`. The page becomes free now if it has no references."""
        self._published.remove(page)
        if self.ref_counts[page] == 0:
            del self._idle[page]
            self._free.append(page)
