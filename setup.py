"""Build the compiled parts: Cython front ends, and the kernels for one or several instruction sets.

PYINFER_BUILD_ISAS says which: "native" (the default) is the best that this machine has, "all" is what wheels for other
machines need, and "avx2,avx512" are those two. The scalar kernels are always there. When the package is imported, the
best of them for the processor is chosen from CPUID.
"""

import json
import os
import runpy
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from Cython.Build import cythonize
from setuptools import Extension, __version__, setup
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext

sys.path.insert(0, str(Path(__file__).parent / "csrc"))
from build_checks import MissingError, check_build_tools, chosen_isas
from build_flags import COMMON, FRONT_ENDS, ISA_FLAGS, KERNELS, OPENMP
from build_progress import Progress

WANTED = os.environ.get("PYINFER_BUILD_ISAS", "native")
CYTHON = {
    "include_path": ["csrc"],
    "compiler_directives": {"language_level": "3", "boundscheck": False, "wraparound": False, "cdivision": True},
}
# setuptools knows license expressions since its version 77
LICENSE = {"license_expression" if int(__version__.split(".")[0]) >= 77 else "license": "Apache-2.0"}


def headers() -> list[str]:
    return sorted(str(p) for p in Path("csrc").rglob("*.h*"))


class Build(build):
    """Compiles before it copies Python files, so that what is missing for it is said first."""

    sub_commands = sorted(build.sub_commands, key=lambda command: command[0] != "build_ext")


class BuildExt(build_ext):
    """Compiles all sources of all extensions in parallel, each with the flags of its kind, and says how far it is."""

    def build_extensions(self) -> None:
        isas = self._instruction_sets()
        self._add_sources(isas)
        self.force = True  # the choice of instruction sets may have changed; objects that have not are kept
        self.parallel = len(self.extensions)
        n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        self._progress = Progress(sum(len(ext.sources) for ext in self.extensions))
        self._compile_all = self.compiler.compile
        try:
            with ThreadPoolExecutor(n_cores) as self._pool:
                self.compiler.compile = self._compile
                super().build_extensions()
        finally:
            self.compiler.compile = self._compile_all
            self._progress.close()

    def _instruction_sets(self) -> list[str]:
        """Check that the machine has what the build needs, and choose."""
        if self.compiler.compiler_type != "unix":
            return list(ISA_FLAGS)
        command = getattr(self.compiler, "compiler_so_cxx", self.compiler.compiler_so)
        command = [*command, *COMMON, *(f"-I{path}" for path in self.compiler.include_dirs)]
        try:
            check_build_tools(command)
            return chosen_isas(WANTED, command)
        except MissingError as error:
            raise SystemExit(f"error: {error}") from None

    def _add_sources(self, isas: list[str]) -> None:
        """Translate the front ends, and give the kernels the units of the instruction sets."""
        print(f"instruction sets: {', '.join(isas)} (PYINFER_BUILD_ISAS chooses others)", flush=True)
        runpy.run_path("csrc/structs.py", run_name="__main__")  # declares the headers' structs for Cython
        translated = {ext.name: ext.sources for ext in cythonize(self.extensions, **CYTHON)}
        for ext in self.extensions:
            ext.sources = translated[ext.name]
            if ext.name == "pyinfer._kernels":
                ext.sources = [*(f"csrc/units/{isa}_kernels.cpp" for isa in isas), *ext.sources]
                ext.define_macros = [(f"PYINFER_HAVE_{isa.upper()}", "1") for isa in isas]

    def _compile(self, sources: list[str], **kwargs: Any) -> list[str]:
        return [o for objects in self._pool.map(lambda s: self._compile_one(s, kwargs), sources) for o in objects]

    def _compile_one(self, source: str, kwargs: dict[str, Any]) -> list[str]:
        """Compile a source, unless there is a newer object that was made with the same options."""
        path = Path(source)
        unit = path.parent.name == "units"
        isa = path.name.partition("_")[0]
        kwargs = {
            **kwargs,
            "extra_postargs": [*COMMON, *(KERNELS + ISA_FLAGS[isa] if unit else FRONT_ENDS.get(path.stem, []))],
        }
        (target,) = self.compiler.object_filenames([source], output_dir=kwargs.get("output_dir") or "")
        options, record = json.dumps([self.compiler.executables, kwargs], default=str), Path(f"{target}.options")
        newest = max(Path(p).stat().st_mtime for p in [source, *headers()])
        objects = [target]
        if not (
            Path(target).exists()
            and Path(target).stat().st_mtime > newest
            and record.exists()
            and record.read_text() == options
        ):
            objects = self._compile_all([source], **kwargs)
            record.write_text(options)
        self._progress.done(f"{isa} kernels" if unit else path.stem)
        return objects


setup(
    ext_modules=[
        # csrc/NAME.pyx becomes pyinfer._NAME
        Extension(
            f"pyinfer._{front_end.stem}",
            [str(front_end)],
            include_dirs=["csrc"],
            depends=headers(),
            language="c++",
            extra_link_args=OPENMP,
        )
        for front_end in sorted(Path("csrc").glob("*.pyx"))
    ],
    cmdclass={"build": Build, "build_ext": BuildExt},
    **LICENSE,
)
