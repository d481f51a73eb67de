"""Compiler flags of csrc/: setup.py builds with them, lint.py looks for warnings with them."""

import platform
import sys

X86 = platform.machine().lower() in ("x86_64", "amd64")

OPENMP = [] if sys.platform == "darwin" else ["-fopenmp"]
LANGUAGE = ["-std=c++17", "-ffp-contract=off"]
COMMON = [*LANGUAGE, "-O3", "-g0", "-fvisibility=hidden", *OPENMP]
# of front ends, by name; those that have no loops of their own need not be compiled for speed
FRONT_ENDS = {"gguf_index": ["-O1"], "kernels": ["-O1"], "bpe": ["-O2"]}
# of csrc/units; GCC takes what an unrolled loop sets for maybe not set, and clang does not know that warning
KERNELS = ["-fno-exceptions", "-fno-rtti", "-Wno-unknown-warning-option", "-Wno-maybe-uninitialized"]

# Flags of the translation units that are compiled for one instruction set; every other file is baseline code.
ISA_FLAGS = {
    "scalar": ["-O2", "-DPYINFER_SMALL_CODE"],
    "avx2": ["-mavx2", "-mfma", "-mf16c", "-mbmi2"],
    "avxvnni": ["-mavx2", "-mfma", "-mf16c", "-mbmi2", "-mavxvnni"],
    "avx512": [f"-m{f}" for f in ("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vnni")]
    + ["-mfma", "-mf16c", "-mbmi2", "-mprefer-vector-width=512"],
}
