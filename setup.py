"""Build the compiled parts: Cython front ends, and the kernels once for every instruction set.

One wheel holds every variant; the right one is chosen from CPUID when the package is imported.
"""

import os
import runpy
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

sys.path.insert(0, str(Path(__file__).parent))  # builds in isolation do not have it
from build_flags import COMMON, ISA_FLAGS, KERNELS, OPENMP, X86

# PYINFER_BUILD_ISAS=avx2,scalar builds those only, which is what one needs while changing kernels.
WANTED = os.environ.get("PYINFER_BUILD_ISAS", ",".join(ISA_FLAGS)).split(",")
NATIVE = X86 and os.environ.get("PYINFER_SCALAR_ONLY") != "1"
ISAS = [isa for isa in ISA_FLAGS if isa in WANTED] if NATIVE else ["scalar"]


def isa_sources() -> list[str]:
    return sorted(str(p) for isa in ISAS for p in Path("csrc/units").glob(f"{isa}_*.cpp"))


def headers() -> list[str]:
    return sorted(str(p) for p in Path("csrc").rglob("*.h*"))


class BuildExt(build_ext):
    """Compiles the sources of an extension in parallel, each with the flags of its instruction set."""

    def build_extension(self, ext: Extension) -> None:
        compiler: Any = self.compiler
        compile_all = compiler.compile

        def compile_one(source: str, kwargs: dict[str, Any]) -> list[str]:
            isa = Path(source).name.split("_")[0]
            flags = KERNELS + ISA_FLAGS[isa] if Path(source).parent.name == "units" else []
            (target,) = compiler.object_filenames([source], output_dir=kwargs.get("output_dir") or "")
            newest = max(Path(p).stat().st_mtime for p in [source, "setup.py", "build_flags.py", *headers()])
            if Path(target).exists() and Path(target).stat().st_mtime > newest:
                return [target]
            extra = [*(kwargs.get("extra_postargs") or []), *flags]
            objects: list[str] = compile_all([source], **{**kwargs, "extra_postargs": extra})
            return objects

        def compile_parallel(sources: list[str], **kwargs: Any) -> list[str]:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                return [o for objects in pool.map(lambda s: compile_one(s, kwargs), sources) for o in objects]

        compiler.compile = compile_parallel
        try:
            super().build_extension(ext)
        finally:
            compiler.compile = compile_all


def extension(front_end: Path) -> Extension:
    """csrc/NAME.pyx becomes pyinfer._NAME; the kernels also take the units of every instruction set."""
    kernels = front_end.stem == "kernels"
    return Extension(
        f"pyinfer._{front_end.stem}",
        [str(front_end), *(isa_sources() if kernels else [])],
        include_dirs=["csrc"],
        depends=headers(),
        define_macros=[(f"PYINFER_HAVE_{isa.upper()}", "1") for isa in ISAS],
        language="c++",
        extra_compile_args=COMMON,
        extra_link_args=OPENMP,
    )


runpy.run_path("csrc/structs.py", run_name="__main__")  # declares the headers' structs for Cython
setup(
    ext_modules=cythonize(
        [extension(front_end) for front_end in sorted(Path("csrc").glob("*.pyx"))],
        include_path=["csrc"],
        compiler_directives={"language_level": "3", "boundscheck": False, "wraparound": False, "cdivision": True},
    ),
    cmdclass={"build_ext": BuildExt},
)
