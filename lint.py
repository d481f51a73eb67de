"""Every linter of the project in one command: `python lint.py`; with `--fix`, what they can mend is mended first."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent


def cpp_sources() -> list[str]:
    """The C++ that people write: not what Cython makes of a .pyx."""
    files = (p for suffix in ("*.hpp", "*.h", "*.cpp") for p in (ROOT / "csrc").rglob(suffix))
    return sorted(str(p.relative_to(ROOT)) for p in files if not p.with_suffix(".pyx").exists())


def tool(name: str) -> str:
    """The tool of this Python's environment, or the one on the path."""
    return shutil.which(name, path=sysconfig.get_path("scripts")) or name


def commands(fix: bool) -> list[list[str]]:
    cpp = cpp_sources()
    clang_format = ["clang-format", "-i"] if fix else ["clang-format", "--dry-run", "-Werror"]
    return [
        ["ruff", "check", *(["--fix"] if fix else []), "."],
        ["ruff", "format", *([] if fix else ["--check"]), "."],
        *([[*clang_format, *cpp]] if cpp else []),
        ["mypy"],
    ]


def main() -> int:
    failed = []
    for command in commands("--fix" in sys.argv[1:]):
        print("$", *command[:3], flush=True)
        try:
            status = subprocess.run([tool(command[0]), *command[1:]], cwd=ROOT).returncode
        except FileNotFoundError:
            print(f"{command[0]} is not installed; pip install -e '.[lint]'")
            status = 1
        if status != 0:
            failed.append(command[0])
    print("lint: " + (f"{', '.join(failed)} failed" if failed else "all clean"))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
