"""Runs every linter that CI runs: `python lint.py`, or `python lint.py --fix` to let them mend what they can.

C++ is compiled for warnings, without making code, with GCC and with clang, whichever are on the PATH.
"""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, "csrc")
from build_flags import ISA_FLAGS, KERNELS, LANGUAGE, OPENMP, X86

CPP = sorted(str(p) for pattern in ("*.hpp", "units/*.cpp") for p in Path("csrc").rglob(pattern))
PYTHON = ["pyinfer", "tests", "benchmarks", "csrc", "docs/scripts", "setup.py", "lint.py"]
STUBS = ["pyinfer._bpe", "pyinfer._gguf_index", "pyinfer._kernels", "pyinfer._sampling"]
CHECK = [
    ["ruff", "check", *PYTHON],
    ["ruff", "format", "--check", *PYTHON],
    ["mypy"],
    ["stubtest", "--concise", "--allowlist", ".ci/stubtest_allowlist.txt", *STUBS],
    ["clang-format", "--dry-run", "-Werror", *CPP],
]
FIX = [["ruff", "check", "--fix", *PYTHON], ["ruff", "format", *PYTHON], ["clang-format", "-i", *CPP]]

WARNINGS = ["-Wall", "-Wextra", "-Werror", "-fsyntax-only"]


def compilers() -> list[str]:
    """GCC and clang, of which the newest is taken where none has the plain name."""
    names = {"g++": ["g++"], "clang++": ["clang++", *(f"clang++-{version}" for version in range(30, 13, -1))]}
    found = {kind: next(filter(shutil.which, names[kind]), None) for kind in names}
    for kind in names:
        if found[kind] is None:
            print(f"{kind} is not on the PATH: its warnings are not looked for")
    return [name for name in found.values() if name]


def compiled(compiler: str, source: Path | None, flags: list[str]) -> str:
    """What a compiler has to say about a source; None: about the headers of the Cython front ends."""
    headers = "" if source else "".join(f'#include "{p.name}"\n' for p in sorted(Path("csrc").glob("*.hpp")))
    command = [compiler, *LANGUAGE, "-Icsrc", *flags, *WARNINGS, "-x", "c++", str(source) if source else "-"]
    done = subprocess.run(command, input=headers, capture_output=True, text=True)
    return done.stderr if done.returncode else ""


def check_warnings() -> bool:
    """Compiles the units of all instruction sets and the front ends' headers; True if there were warnings."""
    isas = ISA_FLAGS if X86 else {"scalar": ISA_FLAGS["scalar"]}
    sources = [(Path("csrc/units") / f"{isa}_kernels.cpp", [*KERNELS, *flags]) for isa, flags in isas.items()]
    jobs: list[tuple[str, Path | None, list[str]]] = []
    for compiler in compilers():
        print("$", compiler, *WARNINGS, "…", flush=True)
        jobs += [(compiler, *source) for source in sources]
        # clang's <omp.h> is in a package of its own
        jobs.append((compiler, None, OPENMP if compiler == "g++" else []))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        said = list(pool.map(lambda job: compiled(*job), jobs))
    print("".join(said), end="")
    return any(said)


def main() -> int:
    failed = 0
    for command in (FIX if "--fix" in sys.argv else []) + CHECK:
        print("$", *command[:4], "…" if len(command) > 4 else "", flush=True)
        # the tools of this environment, whatever PATH says
        tool = Path(sys.executable).parent / command[0]
        failed |= subprocess.run([str(tool), *command[1:]]).returncode
    return failed | check_warnings()


if __name__ == "__main__":
    sys.exit(main())
