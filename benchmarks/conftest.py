"""What the benchmarks share: the instruction set as a parameter."""

from collections.abc import Iterator

import pytest

from pyinfer import _kernels


@pytest.fixture(params=[isa for isa in _kernels.available_isas() if isa != "scalar"])
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each instruction set with vectors that this machine has, in use during the test."""
    yield _kernels.select_isa(request.param)
    _kernels.select_isa()
