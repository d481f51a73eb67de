"""Memory is never read outside a tensor: buffers end at, and begin after, pages that may not be touched.

A stray read ends the process, so the work is done in another one.
"""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from plans import FORMATS

from pyinfer import _kernels

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs mprotect")

PROGRAM = """
    import ctypes, mmap, sys
    import numpy as np
    from plans import *
    from pyinfer import _kernels
    from pyinfer.gguf import TensorType
    from pyinfer.quants import dequantize

    libc = ctypes.CDLL(None, use_errno=True)
    kept = []

    def guarded(n_bytes, at_end):
        '''uint8 [n_bytes] between two pages without access, flush with one of them'''
        inner = -(-n_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        region = mmap.mmap(-1, inner + 2 * mmap.PAGESIZE)
        kept.append(region)
        whole = np.frombuffer(region, np.uint8)
        for start in (0, mmap.PAGESIZE + inner):
            address = ctypes.c_void_p(whole.ctypes.data + start)
            assert libc.mprotect(address, ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
        skip = mmap.PAGESIZE + (inner - n_bytes if at_end else 0)
        return whole[skip : skip + n_bytes]

    def copy_of(rows, at_end):
        out = guarded(rows.nbytes, at_end).reshape(rows.shape)
        out[:] = rows
        return out

    rng = np.random.default_rng(0)
    for name in sys.argv[1:]:
        k = max(TensorType[name].block_size, 32)
        for at_end in (True, False):
            for n_rows in (16, 21):
                rows = copy_of(random_rows(rng, name, n_rows, k), at_end)
                assert np.array_equal(dequantize(rows, TensorType[name], k), dequantized(name, rows, k))
                memory = guarded(_kernels.Matrix.size(TensorType[name], n_rows, k), at_end)
                m = matrix(name, rows, k, memory)
                for m in (m, _kernels.Matrix.of_rows(TensorType[name], rows, k)):
                    for n in (1, 2, 8, 9, 40):
                        multiply([m], rng.standard_normal((n, k)).astype(np.float32), 2)
                    out = _kernels.Value("out", k, 3).want("rows")
                    plan = _kernels.Plan(3, 64, 1, 1)
                    plan.embed("embed", m, out)
                    run(plan, 3, tokens=[0, n_rows - 1, 15])
    print("done")
"""


@pytest.mark.parametrize("isa", _kernels.available_isas())
def test_no_format_reads_outside_its_tensor(isa):
    paths = [Path(__file__).parent, Path(_kernels.__file__).parent.parent]
    program = textwrap.dedent(PROGRAM)
    done = subprocess.run(
        [sys.executable, "-c", program, *FORMATS],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": ":".join(map(str, paths)), "PYINFER_ISA": isa},
    )
    assert (done.returncode, done.stdout.strip()) == (0, "done"), done.stderr


def test_the_guards_work():
    program = textwrap.dedent(PROGRAM).split("rng =")[0] + "guarded(64, True).ctypes.data; "
    program += "a = guarded(64, True); ctypes.string_at(a.ctypes.data, 65)"
    paths = [Path(__file__).parent, Path(_kernels.__file__).parent.parent]
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, env={"PYTHONPATH": ":".join(map(str, paths))}
    )
    assert done.returncode < 0  # ended by a signal
