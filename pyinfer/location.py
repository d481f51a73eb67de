"""Where the compiled parts are: beside the Python files, or in another folder where pip has installed pyinfer.

In a clone of the repository after `pip install .`, Python finds the source folder first, which has no compiled parts.
Then the installed package takes its place as a whole, so that Python files and compiled parts are of one version.
"""

from __future__ import annotations

import sys
import warnings
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec, PathFinder
from importlib.util import module_from_spec
from pathlib import Path

from pyinfer.version import DISTRIBUTION

PACKAGE = "pyinfer"
STUB = ".pyi"


def is_built(folder: str) -> bool:
    """Whether a folder has the compiled module of each stub `_NAME.pyi` for this Python; True if it can't be listed."""
    try:
        names = [path.name for path in Path(folder).iterdir()]
    except OSError:  # the package is in an archive
        return True
    parts = [name.partition(".") for name in names]
    compiled = {stem for stem, _, ending in parts if f".{ending}" in EXTENSION_SUFFIXES}
    return compiled >= {name.removesuffix(STUB) for name in names if name.startswith("_") and name.endswith(STUB)}


def use_installed_package(folder: str) -> None:
    """Import the installed package in the place of the one in `folder`, which is not built.

    Warns if the Python files of the two differ. Raises ImportError, which says what to run, if none is installed.
    """
    found = find_installed(folder)
    if found is None:
        raise ImportError(how_to_build(Path(folder)), name=PACKAGE)
    spec, installed = found
    if python_files(installed) != python_files(Path(folder)):
        warnings.warn(
            f"{folder} is not built, and differs from the pyinfer that is installed in {installed}, which is used. "
            f"To use the former, run: {sys.executable} -m pip install -e {Path(folder).parent}",
            stacklevel=3,
        )
    for name in [name for name in sys.modules if name.startswith(f"{PACKAGE}.")]:
        del sys.modules[name]  # this module, and what it imports
    package = module_from_spec(spec)
    sys.modules[PACKAGE] = package
    assert spec.loader is not None
    spec.loader.exec_module(package)


def find_installed(folder: str) -> tuple[ModuleSpec, Path] | None:
    """The first pyinfer on sys.path, but for the one in `folder`, that is built for this Python, and where it is."""
    for path in sys.path:
        spec = PathFinder.find_spec(PACKAGE, [path])
        if spec is None or spec.origin is None:
            continue
        found = Path(spec.origin).parent
        # another project of this name has no such stub
        if (found / f"_kernels{STUB}").is_file() and not found.samefile(folder) and is_built(str(found)):
            return spec, found
    return None


def python_files(folder: Path) -> dict[str, bytes]:
    """The contents of a package's Python files, by path."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.py")}


def how_to_build(folder: Path) -> str:
    """What to run where no compiled parts are found."""
    python = f"Python {sys.version_info.major}.{sys.version_info.minor}"
    pip = f"{sys.executable} -m pip install"
    clone = folder.parent
    if (clone / "setup.py").is_file() and (clone / "csrc").is_dir():
        return (
            f"{folder} is source code that is not built for {python}, where no pyinfer is installed. Run: {pip} {clone}"
        )
    return f"{folder} lacks its compiled parts for {python}. Run: {pip} --force-reinstall {DISTRIBUTION}"
