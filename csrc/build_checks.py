"""What this machine has to build with, asked before anything is compiled: a compiler, Python's headers, OpenMP.

The processor's instruction sets are those that platform.hpp finds, which also chooses among them at run time: a program
that includes it is compiled and run.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from build_flags import ISA_FLAGS, OPENMP, X86

PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
COMPILER = "a C++ compiler (g++ 9 or later, or clang++). Debian, Ubuntu: apt install g++. Fedora: dnf install gcc-c++"
HEADERS = (
    f"the headers of this Python ({sys.executable}). Debian, Ubuntu: apt install python3-dev, or {PYTHON}-dev where "
    "there are several. Fedora: dnf install python3-devel"
)
OMP = "the headers of OpenMP for clang. Debian, Ubuntu: apt install libomp-dev. Fedora: dnf install libomp-devel"
# lines that compile only where what they need is there, in the order of asking -> what to install where it is missing
NEEDED = {"#include <optional>": COMPILER, "#include <Python.h>": HEADERS}
if OPENMP:
    NEEDED["#include <omp.h>"] = OMP
PROBE = """#include <cstdio>
#include "platform.hpp"
int main() {
    const char* isas[] = {%s};
    for (const char* isa : isas)
        if (pyinfer::cpu_supports(isa)) std::puts(isa);
}
"""


class MissingError(Exception):
    """The machine lacks what the build needs; the message says what, and how to install it."""


def check_build_tools(compiler: Sequence[str]) -> None:
    """Raise MissingError if a compiler can't compile what all sources include.

    compiler: the command with its flags and the folders of headers.
    """
    log = compiled(compiler, "\n".join([*NEEDED, "int main() {}"]), ["-fsyntax-only"])
    if log is not None:
        raise MissingError(missing(compiler, log))


def best_isa(compiler: Sequence[str]) -> str | None:
    """The best instruction set that the compiler knows and this processor has; None if a program can't be run."""
    program = PROBE % ", ".join(f'"{isa}"' for isa in ISA_FLAGS)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "probe"
        try:
            if compiled([*compiler, "-Icsrc"], program, ["-o", str(target)]) is not None:
                return None
            names = subprocess.run([str(target)], capture_output=True, text=True).stdout.split()
        except OSError:  # a program for another processor, or a folder from which nothing may be run
            return None
    known = [isa for isa in names if compiled([*compiler, *ISA_FLAGS[isa]], "", ["-fsyntax-only"]) is None]
    return known[-1] if known else None


def compiled(command: Sequence[str], program: str, ending: Sequence[str]) -> str | None:
    """Compile a program from standard input. Returns None, or what the compiler says if it can't."""
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(
            [*command, "-x", "c++", "-", *ending], input=program, capture_output=True, text=True, env=environment
        )
    except OSError as error:
        return f"{command[0]}: {error.strerror}"
    return None if done.returncode == 0 else done.stderr


def missing(command: Sequence[str], log: str) -> str:
    """One sentence: what has to be installed; where that is not known, the compiler's first error."""
    for line, what in NEEDED.items():
        if compiled(command, f"{line}\nint main() {{}}", ["-fsyntax-only"]) is not None:
            return f"to build pyinfer, install {what}."
    errors = [line for line in log.splitlines() if "error" in line] or log.splitlines()
    return f"{command[0]} can't build a program: {errors[0] if errors else 'it does not say why'}"


def chosen_isas(wanted: str, compiler: Sequence[str]) -> list[str]:
    """The instruction sets to build; "scalar" is always one.

    wanted: "native" for the best that this machine has, "all", or names with commas between. Raises MissingError for an
    unknown name.
    """
    names = {name.strip() for name in wanted.split(",")} | {"scalar"}
    if unknown := names - {"native", "all", *ISA_FLAGS}:
        found, known = ", ".join(sorted(unknown)), ", ".join(ISA_FLAGS)
        raise MissingError(f"PYINFER_BUILD_ISAS names {found}; expected native, all, or some of {known}")
    if not X86:
        return ["scalar"]
    if "native" in names:
        names.add(best_isa(compiler) or "all")
    return [isa for isa in ISA_FLAGS if isa in names or "all" in names]
