"""What happens to models when their process forks.

In the child process only the thread that forked exists; what other threads were doing stays half done. So before a fork
each model is asked to rest between two steps, for which it may take FORK_TIMEOUT_S, and the idle worker threads of the
calling thread end. In the child each object makes new locks and, when there is work, a new thread. If a step was under
way in spite of this, the model raises an error in the child, where it would otherwise wait for ever.
"""

from __future__ import annotations

import itertools
import os
import weakref
from typing import Protocol

from pyinfer import _kernels

FORK_TIMEOUT_S = 5.0  # seconds that a fork waits for the end of a step
BROKEN_BY_FORK = (
    "this process was forked while another thread was using the model; fork when no thread does, or load the model "
    "in the child"
)


class Inherited(Protocol):
    def before_fork(self) -> None: ...
    def after_fork(self, in_child: bool) -> None: ...


_serials = itertools.count()
_inherited: weakref.WeakKeyDictionary[Inherited, int] = weakref.WeakKeyDictionary()


def register(model: Inherited) -> None:
    """Call the model's methods at each fork, as long as the model exists."""
    _inherited[model] = next(_serials)


def _models() -> list[Inherited]:
    """Return the models in the order in which they were made, so that two threads that fork can't deadlock."""
    return [model for model, _ in sorted(_inherited.items(), key=lambda item: item[1])]


def _before() -> None:
    for model in _models():
        model.before_fork()
    _kernels.end_threads()


def _after(in_child: bool) -> None:
    for model in _models():
        model.after_fork(in_child)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before, after_in_parent=lambda: _after(in_child=False), after_in_child=lambda: _after(in_child=True)
    )
