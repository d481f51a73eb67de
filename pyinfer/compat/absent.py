"""Names of llama-cpp-python that pyinfer has nothing for: programs can import them; calling them is an error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from pyinfer.errors import PyinferError


class AbsentError(PyinferError, NotImplementedError):
    """A program called something of llama-cpp-python that pyinfer does not have."""


def absent_class(name: str, why: str) -> type:
    """Return a class of this name that can be imported and subclassed. Making an instance raises AbsentError."""

    def fail(*_: Any, **__: Any) -> NoReturn:
        raise AbsentError(f"{name}: {why}")

    return type(name, (), {"__doc__": f"Can only be imported: {why}.", "__init__": fail, "from_pretrained": fail})


def absent_function(name: str, why: str) -> Callable[..., NoReturn]:
    """Return a function of this name. Calling it raises AbsentError."""

    def fail(*_: Any, **__: Any) -> NoReturn:
        raise AbsentError(f"{name}: {why}")

    fail.__name__ = fail.__qualname__ = name
    return fail
