"""JSON's numbers within bounds: exactly those that Python's integers and decimals find there, however long they are."""

import re
from decimal import Decimal

import hypothesis.strategies as st
import pytest
from hypothesis import example, given, settings

from pyinfer.guides.grammar.numbers import integer_terminal, multiple_rule, number_terminal, number_text
from pyinfer.guides.grammar.outcomes import TooComplex, Unsatisfiable

JSON_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?")
EDGES = [0, 1, -1, 9, 10, 99, 100, 2**31, 2**53, 2**53 + 1, 2**63 - 1, -(2**63), 2**64 - 1, 2**64, 10**300, -(10**300)]

integers = st.one_of(st.integers(-1000, 1000), st.sampled_from(EDGES).flatmap(lambda x: st.integers(x - 3, x + 3)))
decimals = st.one_of(
    st.decimals(-200, 200, allow_nan=False, places=2),
    st.decimals(-1, 1, allow_nan=False, places=4),
    st.sampled_from(["1e-300", "-1e-7", "0.5", "0.50", "99.99", "-0.1"]).map(Decimal),
    integers.map(Decimal),
)


def accepts(terminal: str, text: str) -> bool:
    """Whether all expressions of a terminal, `/a/ & /b/`, match a text."""
    return all(re.fullmatch(regex, text) for regex in re.findall(r"/((?:[^/\\]|\\.)*)/", terminal))


@settings(max_examples=300, deadline=None)
@given(st.none() | integers, st.none() | integers, st.lists(integers, min_size=10, max_size=20))
@example(-(2**63), 2**64 - 1, [-(2**63) - 1, -(2**63), 2**64 - 1, 2**64])
def test_integers_between_two_bounds_are_those_of_python(low, high, values):
    if low is not None and high is not None and low > high:
        low, high = high, low
    terminal = integer_terminal(low, high)
    near = [bound + step for bound in (low, high) if bound is not None for step in (-1, 0, 1)]

    for value in [*values, *near]:
        inside = (low is None or value >= low) and (high is None or value <= high)
        assert accepts(terminal, str(value)) == inside, value
    assert not accepts(terminal, "007")


@settings(max_examples=400, deadline=None)
@given(
    st.none() | decimals,
    st.none() | decimals,
    st.booleans(),
    st.booleans(),
    st.lists(st.tuples(decimals, st.sampled_from(["", "0", "1", "9", "05"])), min_size=10, max_size=20),
)
def test_numbers_between_two_bounds_are_those_of_decimals(low, high, above, below, values):
    if low is not None and high is not None and low > high:
        low, high = high, low
    if low is not None and low == high and (above or below):
        with pytest.raises(Unsatisfiable):
            number_terminal(low, high, above, below)
        return
    terminal = number_terminal(low, high, above, below)

    for value, more in [*values, *((bound, more) for bound in (low, high) if bound is not None for more in "019")]:
        text = f"{value:f}" + (more if "." in f"{value:f}" else f".{more}" if more else "")
        number = Decimal(text)
        if not JSON_NUMBER.fullmatch(text) or (number == 0 and text.startswith("-")):
            continue
        inside = (low is None or number >= low) and not (above and number == low)
        inside = inside and (high is None or number <= high) and not (below and number == high)
        assert accepts(terminal, text) == inside, text


@pytest.mark.parametrize("step", [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 25, 30, 60, 64, 100, 125, 250, 1000, 10**9, 3125])
def test_multiples_are_those_of_python(step):
    terminal = integer_terminal(multiple=step)

    for value in [*range(-200, 2000), *(step * k + d for k in (1, 7, 1234567, 10**20) for d in (-1, 0, 1))]:
        assert accepts(terminal, str(value)) == (value % step == 0), value


@pytest.mark.parametrize("step", ["0.01", "0.5", "0.25", "0.1", "0.05", "2.5", "1.5", "0.3", "12.5", "1e-8", "5"])
def test_multiples_of_fractions_are_those_of_decimals(step):
    terminal, step = number_terminal(multiple=Decimal(step)), Decimal(step)

    texts = [f"{step * k:f}{zeros}" for k in range(300) for zeros in ("", "0")]
    texts += [
        f"{k}.{rest}" for k in (0, 1, 7, 10, 123) for rest in ("0", "5", "25", "3", "01", "125", "99", "50", "333")
    ]
    for text in filter(JSON_NUMBER.fullmatch, texts):
        assert accepts(terminal, text) == (Decimal(text) % step == 0), text


def test_multiples_between_bounds_are_listed_or_joined_with_the_bounds():
    assert integer_terminal(0, 20, multiple=7) == "/(?:0|7|14)/"
    assert accepts(integer_terminal(0, 10**9, multiple=3), "999999999")
    assert not accepts(integer_terminal(0, 10**9, multiple=3), "1000000002")
    assert accepts(number_terminal(0, 1, multiple=Decimal("0.25")), "0.750")


@pytest.mark.parametrize("step", [2**24, 2**30, 10**9 + 7, 3**9, 1021])
def test_what_takes_too_many_states_is_refused_fast(step):
    with pytest.raises(TooComplex):
        integer_terminal(multiple=step)
    with pytest.raises(TooComplex):
        number_terminal(Decimal("1e999999999"))


def test_rules_have_the_multiples_that_no_terminal_has():
    assert multiple_rule("integer", 97, 0).endswith('"minimum": 0, "multipleOf": 97}')
    with pytest.raises(TooComplex):
        multiple_rule("integer", 2**24)


@pytest.mark.parametrize(
    "call",
    [
        lambda: integer_terminal(2, 1),
        lambda: integer_terminal(Decimal("1.2"), Decimal("1.8")),
        lambda: integer_terminal(5, 6, exclusive_minimum=True, exclusive_maximum=True),
        lambda: integer_terminal(1, 6, multiple=7),
        lambda: number_terminal(1, 1, exclusive_minimum=True),
        lambda: number_terminal(Decimal("0.1"), Decimal("0.2"), multiple=1),
    ],
)
def test_bounds_that_nothing_lies_between_are_an_error(call):
    with pytest.raises(Unsatisfiable):
        call()


def test_plain_numbers_have_exponents_and_bounded_ones_have_not():
    assert accepts(number_terminal(), "-1.5e+300")
    assert accepts(number_terminal(0), "1e3")
    assert not accepts(number_terminal(0, 10), "1e1")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2**64, "18446744073709551616"),
        (Decimal("1.0"), "1"),
        (Decimal("0.10"), "0.1"),
        (1e300, "1e+300"),
        (Decimal("-1.50E-30"), "-1.5e-30"),
        (-0.0, "0"),
        (0.1, "0.1"),
    ],
)
def test_constants_are_written_with_all_of_their_digits(value, text):
    assert number_text(value) == text
