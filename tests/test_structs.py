"""The headers' structs, as csrc/structs.py declares them for Cython."""

import re
import runpy
from pathlib import Path

import pytest

CSRC = Path(__file__).parents[1] / "csrc"
STRUCTS = runpy.run_path(str(CSRC / "structs.py"))

HEADER = """
constexpr int kMost = 3;
enum Kind : int32_t { kOne, kTwo };

struct Part {                // comments; of fields
    const uint8_t *keys, *values;  // two pointers
    int64_t n, sizes[kMost];
    bool whole;
    void (*run)(const Part& p, bool really);
};
"""


def test_every_field_is_declared_with_its_type_in_its_order():
    constants = {}
    assert STRUCTS["declarations"]("part.hpp", HEADER, constants).splitlines() == [
        'cdef extern from "part.hpp" namespace "pyinfer" nogil:',
        "    const int kMost",
        "",
        "    ctypedef enum Kind:",
        "        kOne, kTwo",
        "",
        "    ctypedef struct Part:",
        "        const uint8_t* keys",
        "        const uint8_t* values",
        "        int64_t n",
        "        int64_t sizes[3]",
        "        bool_t whole",
        "        void (*run)(const Part& p, bool_t really) noexcept nogil",
    ]
    assert constants == {"kMost": 3}


@pytest.mark.parametrize(
    "field", ["std::vector<int> x", "int x[kUnknown]", "int f() const { return 1", "unsigned long x"]
)
def test_a_field_that_is_not_understood_is_refused(field):
    with pytest.raises(ValueError, match=r"struct Part: .* is not understood"):
        STRUCTS["declarations"]("part.hpp", f"\nstruct Part {{\n    {field};\n}};\n", {})


def test_every_operation_has_a_struct_a_kernel_a_method_and_its_place():
    declared = STRUCTS["generated"]()
    members = re.findall(r"X\((\w+), (\w+)\)", (CSRC / "ops/all.hpp").read_text())
    kernels = "".join(p.read_text() for folder in ("ops", "kernels") for p in (CSRC / folder).glob("*.hpp"))
    methods = "".join(p.read_text() for p in (CSRC / "ops").glob("*.pxi"))
    assert len(members) >= 13
    for struct, member in members:
        assert declared.count(f"    ctypedef struct {struct}:\n") == 1
        assert f"        {struct} {member}\n" in declared
        assert f"struct KernelOf<{struct}>" in kernels
        assert f"new_op(k{struct})" in methods


def test_what_the_build_used_are_todays_headers():
    if not (CSRC / "structs.pxi").exists():
        pytest.skip("no build in this tree")
    assert (CSRC / "structs.pxi").read_text() == STRUCTS["generated"]()
