"""What becomes of models when their process forks.

Before a fork the calling thread's idle workers are ended. In the child only the thread that forked lives on: whatever
another one was in the middle of stays half done. So each object that has locks is asked to make new ones, and refuses
to work where one was held: an error instead of a wait for ever.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol

from pyinfer import _kernels

TORN = (
    "this process was forked while another thread was using the model; fork when no thread does, or load the model "
    "in the child"
)


class Inherited(Protocol):
    def after_fork(self) -> None: ...


_inherited: weakref.WeakSet[Inherited] = weakref.WeakSet()


def watch(thing: Inherited) -> None:
    """Call thing.after_fork() in children forked from now on, as long as it lives."""
    _inherited.add(thing)


def _in_child() -> None:
    for thing in list(_inherited):
        thing.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_kernels.end_threads, after_in_child=_in_child)
