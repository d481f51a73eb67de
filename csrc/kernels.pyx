"""The compiled kernels: checks of shapes and types, then calls without the GIL.

`Matrix` holds a weight in row groups, `Value` the activations between operations, `Counts` rows that are chosen within a
pass, `Cache` keys and values, `State` what recurrent layers keep, `Plan` the recorded operations: each in a file that is
included here, so that all are one module. A program uses them through the engine; the tests also call single operations.
"""

import os
import threading
import time
from typing import NamedTuple

import numpy as np

cimport cython
from libc.stdint cimport int32_t, int64_t, int8_t, uint8_t, uint64_t, uintptr_t
from libc.stdint cimport INT32_MAX
from libc.string cimport memset
from libcpp cimport bool as bool_t
from libcpp.vector cimport vector
from cython.parallel cimport prange

from ops cimport *

from pyinfer.errors import ParameterError, PassStopped

PAGE = kPage
SPLIT = kSplit

cdef Kernels kernels


def available_isas() -> list:
    """The instruction sets that this build has and this processor can run, best first."""
    return [kVariants[i].name.decode() for i in range(kNumVariants) if cpu_supports(kVariants[i].name)]


def select_isa(name=None) -> str:
    """Use the kernels of one instruction set (default: the best) for whatever is built from now on; returns its name."""
    global kernels
    names = available_isas()
    if name and name not in names:
        raise ParameterError(f"instruction set {name!r} (PYINFER_ISA) is not available here; there are: {', '.join(names)}")
    chosen = name or names[0]
    for i in range(kNumVariants):
        if kVariants[i].name.decode() == chosen:
            kernels = kVariants[i].make()
    return chosen


def current_isa() -> str:
    """The name of the instruction set in use."""
    return kernels.name.decode()


select_isa(os.environ.get("PYINFER_ISA"))


include "matrices.pxi"
include "values.pxi"
include "cache.pxi"
include "plan.pxi"
include "limits.pxi"


def end_threads() -> None:
    """End the idle threads of past passes (before a fork)."""
    release_threads()
