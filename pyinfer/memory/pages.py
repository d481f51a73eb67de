"""A pool of pages: which are free, how many sequences reference each, and which are published.

A published page that nothing references is idle: it keeps its content, to be found again, until it is evicted. Idle
pages are in the order in which they were released, so that the least recently used is the first.
"""

from __future__ import annotations

from collections import OrderedDict


class PagePool:
    """The accounts of n_pages pages; what is in them is their owner's business."""

    def __init__(self, n_pages: int) -> None:
        self.n_pages = n_pages
        self.ref_counts = [0] * n_pages
        self._free = list(range(n_pages - 1, -1, -1))
        self._published: set[int] = set()
        self._idle: OrderedDict[int, None] = OrderedDict()

    @property
    def n_available(self) -> int:
        """Pages that nothing references, free or idle."""
        return len(self._free) + len(self._idle)

    @property
    def n_referenced(self) -> int:
        return self.n_pages - self.n_available

    @property
    def least_recent(self) -> int | None:
        """The idle page that is to be evicted first."""
        return next(iter(self._idle), None)

    def allocate(self) -> int | None:
        """A free page, referenced once; None if there is none."""
        if not self._free:
            return None
        page = self._free.pop()
        self.ref_counts[page] = 1
        return page

    def acquire(self, page: int) -> None:
        """Reference a page that is published or referenced already."""
        self.ref_counts[page] += 1
        self._idle.pop(page, None)

    def release(self, page: int) -> None:
        """Reference it no longer; without references it is idle if it is published, else free."""
        self.ref_counts[page] -= 1
        if self.ref_counts[page] == 0:
            if page in self._published:
                self._idle[page] = None
            else:
                self._free.append(page)

    def publish(self, page: int) -> None:
        """Keep a referenced page once nothing references it any more."""
        self._published.add(page)

    def unpublish(self, page: int) -> None:
        """Do so no longer: it is free now if nothing references it."""
        self._published.remove(page)
        if self.ref_counts[page] == 0:
            del self._idle[page]
            self._free.append(page)
