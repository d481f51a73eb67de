"""Runs every linter that CI runs: `python lint.py`, or `python lint.py --fix` to let them mend what they can."""

import subprocess
import sys
from pathlib import Path

CPP = sorted(str(p) for pattern in ("*.hpp", "units/*.cpp") for p in Path("csrc").rglob(pattern))
PYTHON = ["pyinfer", "tests", "benchmarks", "csrc", "setup.py", "lint.py"]
CHECK = [
    ["ruff", "check", *PYTHON],
    ["ruff", "format", "--check", *PYTHON],
    ["mypy"],
    ["clang-format", "--dry-run", "-Werror", *CPP],
]
FIX = [["ruff", "check", "--fix", *PYTHON], ["ruff", "format", *PYTHON], ["clang-format", "-i", *CPP]]


def main() -> int:
    failed = 0
    for command in (FIX if "--fix" in sys.argv else []) + CHECK:
        print("$", *command[:4], "…" if len(command) > 4 else "", flush=True)
        # the tools of this environment, whatever PATH says
        tool = Path(sys.executable).parent / command[0]
        failed |= subprocess.run([str(tool), *command[1:]]).returncode
    return failed


if __name__ == "__main__":
    sys.exit(main())
