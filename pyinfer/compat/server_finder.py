"""Finds `llama_cpp.server`: llama-cpp-python's own server where its files are on the path, else a placeholder.

The server is a package of Python alone that uses `llama_cpp` as any program does, and runs on pyinfer.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from pyinfer.compat.absent import absent_class

SERVER = "llama_cpp.server"
WHY = "the server is llama-cpp-python's; expected its folder llama_cpp/server in a folder of sys.path"


class Placeholder(Loader):
    """Makes modules of which every name can be imported; calling one raises AbsentError."""

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        def missing(name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            return absent_class(name, WHY)

        module.__getattr__ = missing  # type: ignore[method-assign]


class ServerFinder(MetaPathFinder):
    """Finds `llama_cpp.server` while `llama_cpp` is pyinfer.compat."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != SERVER and not fullname.startswith(f"{SERVER}."):
            return None
        if getattr(sys.modules.get("llama_cpp"), "__name__", "") != "pyinfer.compat":
            return None
        for folder in sys.path if fullname == SERVER else ():
            own = Path(folder, "llama_cpp", "server", "__init__.py")
            if own.is_file():
                return spec_from_file_location(fullname, own, submodule_search_locations=[str(own.parent)])
        parent = sys.modules.get(SERVER)
        if parent is not None and not isinstance(getattr(parent.__spec__, "loader", None), Placeholder):
            return None  # a module that the real server does not have
        return ModuleSpec(fullname, Placeholder(), is_package=fullname == SERVER)


FINDER = ServerFinder()
