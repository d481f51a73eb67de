r"""JSON's numbers within exact bounds, as terminals of llguidance's Lark.

Bounds are compared digit by digit, in regular expressions of any length, so that none is rounded: neither 2**64 - 1 nor
1e300. A number of more digits than a bound is larger; of two numbers of the same length, the first digit that differs
decides. `multiples.py` has `multipleOf`.

A plain number may have an exponent, one with bounds is in decimal notation. Zero is not written as -0 within bounds.
"""

from __future__ import annotations

import json
import math
from decimal import Decimal, localcontext
from typing import NamedTuple, TypeAlias

from pyinfer.guides.grammar.multiples import few_multiples, multiples
from pyinfer.guides.grammar.outcomes import TooComplex, Unsatisfiable

Number: TypeAlias = int | Decimal

MAX_DIGITS = 1000  # of a bound, before or after the point; JSON's usual doubles have at most 309 and 1074
CHUNK = 16  # digits of a bound that are compared in one group: each later group is nested in it
MAX_COUNTED = 10_000  # remainders that llguidance counts, in 0.2 s
LARGEST_EXACT = 10**15  # which a double, and 64 bits, hold with its neighbours
INTEGER = r"-?(?:0|[1-9][0-9]*)"
FRACTION = r"\.[0-9]+"
EXPONENT = r"(?:[eE][+-]?[0-9]+)?"
LONGEST_PLAIN = 21  # digits before or after the point that are written without an exponent, as JavaScript does


def integer_terminal(
    minimum: Number | None = None,
    maximum: Number | None = None,
    exclusive_minimum: bool = False,
    exclusive_maximum: bool = False,
    multiple: Number | None = None,
) -> str:
    """The right side of a terminal that matches the integers within bounds that are multiples of a number.

    Raises Unsatisfiable if there are none, TooComplex for very long bounds and for multiples of many remainders.
    """
    low = None if minimum is None else _ceil(minimum, exclusive_minimum)
    high = None if maximum is None else _floor(maximum, exclusive_maximum)
    if low is not None and high is not None and low > high:
        raise Unsatisfiable(f"no integer lies between {_quoted(low)} and {_quoted(high)}")
    if multiple is None:
        return f"/{_integers(low, high)}/"
    _check_size(Decimal(multiple))
    step = Decimal(multiple).as_integer_ratio()[0]  # an integer is a multiple of p/q if it is one of p
    few = few_multiples(low, high, step)
    if few is not None:
        return f"/{_either(list(map(str, few)))}/"
    parts = [] if low is None and high is None else [f"/{_integers(low, high)}/"]
    return " & ".join([*parts, *multiples(step)])


def number_terminal(
    minimum: Number | None = None,
    maximum: Number | None = None,
    exclusive_minimum: bool = False,
    exclusive_maximum: bool = False,
    multiple: Number | None = None,
) -> str:
    """The right side of a terminal that matches the numbers within bounds that are multiples of a number.

    Raises Unsatisfiable if there are none, TooComplex for very long bounds and for multiples of many remainders.
    """
    low = None if minimum is None else _Bound.of(minimum, exclusive_minimum)
    high = None if maximum is None else _Bound.of(maximum, exclusive_maximum)
    if low and high and (low.value > high.value or (low.value == high.value and (low.exclusive or high.exclusive))):
        raise Unsatisfiable(f"no number lies between {_quoted(low.value)} and {_quoted(high.value)}")
    if multiple is not None:
        _check_size(Decimal(multiple))
        with localcontext() as context:
            context.prec = 4 * MAX_DIGITS  # nothing is rounded
            places = max(0, -int(Decimal(multiple).normalize().as_tuple().exponent))
            step = int(Decimal(multiple).scaleb(places))
            least = None if low is None else _ceil(low.value.scaleb(places), low.exclusive)
            most = None if high is None else _floor(high.value.scaleb(places), high.exclusive)
        few = few_multiples(least, most, step)
        if few is not None:
            return f"/{_either([_with_point(value, places) for value in few])}/"
        parts = [] if low is None and high is None else [f"/{_numbers(low, high)}/"]
        return " & ".join([*parts, *multiples(step, places)])
    if high is None and (low is None or (low.value == 0 and not low.exclusive)):
        return f"/{'-?' if low is None else ''}(?:0|[1-9][0-9]*)(?:{FRACTION})?{EXPONENT}/"
    return f"/{_numbers(low, high)}/"


def multiple_rule(
    kind: str,
    multiple: Number,
    minimum: Number | None = None,
    maximum: Number | None = None,
    exclusive_minimum: bool = False,
    exclusive_maximum: bool = False,
) -> str:
    """The right side of a rule, not of a terminal, for multiples that no terminal has: llguidance counts them.

    - `kind`: "integer" or "number". For the other arguments, see `integer_terminal`.

    Raises TooComplex for fractions and many remainders, and for bounds that are no whole numbers of at most 15 digits.
    """
    _check_size(Decimal(multiple))
    if multiple != int(multiple) or int(multiple) > MAX_COUNTED:
        raise TooComplex(f"multiples of {multiple} have too many remainders")
    schema: dict[str, object] = {"type": kind, "x-guidance": {"whitespace_flexible": False}}
    bounds: tuple[tuple[str, Number | None, bool], ...] = (
        ("inimum", minimum, exclusive_minimum),
        ("aximum", maximum, exclusive_maximum),
    )
    for name, bound, exclusive in bounds:
        if bound is not None:
            if not -LARGEST_EXACT < bound < LARGEST_EXACT or bound != int(bound):
                raise TooComplex("multiples between bounds that are no whole numbers of at most 15 digits")
            schema[f"exclusiveM{name}" if exclusive else f"m{name}"] = int(bound)
    text = json.dumps(schema)
    return f'%json {text[:-1]}, "multipleOf": {int(multiple)}}}'


def number_text(value: Number | float) -> str:
    """How JSON writes a number: whole ones without a point, very long and very small ones with an exponent."""
    if isinstance(value, int):
        return str(int(value))
    value = value if isinstance(value, Decimal) else Decimal(repr(value))
    if value == 0:
        return "0"
    digits, sign = "".join(map(str, value.as_tuple().digits)).rstrip("0"), "-" if value < 0 else ""
    power = value.adjusted()
    if abs(power) < LONGEST_PLAIN:
        text = f"{value:f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return f"{sign}{digits[0]}{'.' if digits[1:] else ''}{digits[1:]}e{power:+d}"


class _Bound(NamedTuple):
    value: Decimal
    exclusive: bool

    @classmethod
    def of(cls, value: Number, exclusive: bool) -> _Bound:
        value = Decimal(value)
        _check_size(value)
        return cls(value, exclusive)

    def digits(self) -> tuple[str, str]:
        """The digits of its magnitude before the point, and those after it without zeros at their end."""
        whole, _, fraction = f"{self.value.copy_abs():f}".partition(".")
        return whole.lstrip("0") or "0", fraction.rstrip("0")


def _check_size(value: Decimal) -> None:
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int):
        raise Unsatisfiable(f"{value} is no number")
    if value.adjusted() >= MAX_DIGITS or -exponent > MAX_DIGITS:
        raise TooComplex(f"a number of more than {MAX_DIGITS} digits before or after the point")


def _ceil(value: Number, exclusive: bool) -> int:
    """The least integer that is at least, or if exclusive greater than, a value."""
    _check_size(Decimal(value))
    return math.floor(value) + 1 if exclusive else math.ceil(value)


def _floor(value: Number, exclusive: bool) -> int:
    """The greatest integer that is at most, or if exclusive less than, a value."""
    _check_size(Decimal(value))
    return math.ceil(value) - 1 if exclusive else math.floor(value)


def _quoted(value: Number) -> str:
    return number_text(value)[:40]


def _with_point(value: int, places: int) -> str:
    """A multiple of 10**-places in decimal notation, with zeros at its end, as many as you like."""
    digits = f"{abs(value):0{places + 1}d}"
    whole, fraction = (digits[:-places], digits[-places:].rstrip("0")) if places else (digits, "")
    sign = "-" if value < 0 else ""
    return f"{sign}{whole}" + (rf"\.{fraction}0*" if fraction else r"(?:\.0+)?")


# Integers: the digits of those from one to another, both included.


def _integers(low: int | None, high: int | None) -> str:
    if low is None and high is None:
        return INTEGER
    parts = []
    if low is None or low < 0:
        parts.append("-" + _whole(1 if high is None or high >= 0 else -high, None if low is None else -low))
    if high is None or high >= 0:
        parts.append(_whole(max(low or 0, 0), high))
    return _either(parts)


def _whole(low: int, high: int | None) -> str:
    """The digits of the integers from `low`, which is not negative, to `high`."""
    if low == 0:
        return "0" if high == 0 else _either(["0", _whole(1, high)])
    first, last = str(low), None if high is None else str(high)
    if last is None:
        return "[1-9][0-9]*" if low == 1 else _either([_compared(first, True), "[1-9][0-9]" + _times(len(first), None)])
    if len(first) == len(last):
        return _between(first, last)
    parts = [_compared(first, True)]
    if len(last) - len(first) > 1:
        parts.append("[1-9][0-9]" + _times(len(first), len(last) - 2))
    return _either([*parts, _compared(last, False)])


def _between(first: str, last: str) -> str:
    """The digits from one number to another of the same length."""
    same = _shared(first, last)
    if same == len(first):
        return first
    head, after_first, after_last = first[:same], first[same + 1 :], last[same + 1 :]
    low, high = int(first[same]), int(last[same])
    parts = []
    if after_first.strip("0"):
        parts.append(f"{low}{_compared(after_first, True, zeros=True)}")
        low += 1
    at_end = []
    if after_last.strip("9"):
        at_end.append(f"{high}{_compared(after_last, False, zeros=True)}")
        high -= 1
    if low <= high:
        parts.append(_digit(low, high) + _any(len(after_first)))
    return head + _either(parts + at_end)


def _compared(digits: str, up: bool, zeros: bool = False) -> str:
    """As many digits that are at least (`up`) or at most these; zeros: they may begin with zeros."""
    core = digits.rstrip("0" if up else "9")  # what follows it may be anything
    free = len(digits) - len(core)
    if not core:
        return _any(free) if zeros else "[1-9]" + _any(free - 1)
    parts = []
    for i, digit in enumerate(map(int, core[:CHUNK])):
        differs = i < len(core) - 1
        low, high = (digit + differs, 9) if up else (0 if zeros or i else 1, digit - differs)
        if low <= high:
            parts.append(core[:i] + _digit(low, high) + _any(len(digits) - i - 1))
    if len(core) > CHUNK:
        parts.append(core[:CHUNK] + _compared(digits[CHUNK:], up, zeros=True))
    return _either(parts)


# Numbers: a tail is what may follow the point; nothing at all is a tail of its own, which needs no point.


class _Tails(NamedTuple):
    """Digits after the point. empty: there may be none. some: regular expressions of those that are not empty."""

    empty: bool
    some: list[str]

    def after(self, digits: str) -> list[str]:
        """Regular expressions of these digits, followed by any of the tails."""
        return ([digits] if self.empty else []) + ([digits + _either(self.some)] if self.some else [])

    def fraction(self) -> str | None:
        """A point and a tail, or nothing; None if there is no tail."""
        if not self.some:
            return "" if self.empty else None
        return rf"(?:\.{_either(self.some)})" + ("?" if self.empty else "")


ANY_TAIL = _Tails(True, ["[0-9]+"])
ZERO_TAIL = _Tails(True, ["0+"])
NO_TAIL = _Tails(False, [])
NONZERO_TAIL = _Tails(False, ["0*[1-9][0-9]*"])


def _numbers(low: _Bound | None, high: _Bound | None) -> str:
    parts = []
    if low is None or low.value < 0:
        near = high if high is not None and high.value < 0 else _Bound(Decimal(0), True)
        parts += ["-" + part for part in _magnitudes(near, low)]
    if high is None or high.value >= 0:
        near = low if low is not None and low.value >= 0 else _Bound(Decimal(0), False)
        if not (high is not None and high.value == 0 and high.exclusive):
            parts += _magnitudes(near, high)
    return _either(parts)


def _magnitudes(near: _Bound, far: _Bound | None) -> list[str]:
    """Regular expressions of the magnitudes between those of two bounds."""
    first, low = near.digits()
    if far is None:
        last, high = None, ""
    else:
        last, high = far.digits()
    if first == last:
        found = [first, _tails_between(low, near.exclusive, high, far is not None and far.exclusive).fraction()]
        return ["".join(filter(None, found))] if found[1] is not None else []
    parts = []
    if (fraction := _tails_up(low, near.exclusive).fraction()) is not None:
        parts.append(first + fraction)
    below = None if last is None else int(last) - 1
    if below is None or int(first) + 1 <= below:
        parts.append(f"{_whole(int(first) + 1, below)}(?:{FRACTION})?")
    if far is not None and last is not None and (fraction := _tails_down(high, far.exclusive).fraction()) is not None:
        parts.append(last + fraction)
    return parts


def _tails_up(low: str, exclusive: bool) -> _Tails:
    """Tails of at least, or if exclusive more than, digits that do not end with zero."""
    if not low:
        return NONZERO_TAIL if exclusive else ANY_TAIL
    some = [low[:i] + _digit(int(digit) + 1, 9) + "[0-9]*" for i, digit in enumerate(low[:CHUNK]) if digit < "9"]
    return _Tails(False, some + _tails_up(low[CHUNK:], exclusive).after(low[:CHUNK]))


def _tails_down(high: str, exclusive: bool) -> _Tails:
    """Tails of at most, or if exclusive less than, digits that do not end with zero."""
    if not high:
        return NO_TAIL if exclusive else ZERO_TAIL
    some = [high[:i] for i in range(1, len(high[:CHUNK]))]
    some += [high[:i] + _digit(0, int(digit) - 1) + "[0-9]*" for i, digit in enumerate(high[:CHUNK]) if digit > "0"]
    return _Tails(True, some + _tails_down(high[CHUNK:], exclusive).after(high[:CHUNK]))


def _tails_between(low: str, low_exclusive: bool, high: str, high_exclusive: bool) -> _Tails:
    """Tails between two that do not end with zeros, of which the first is less, or is the same as the other."""
    if low == high:
        return _Tails(not low, ([low] if low else []) + ZERO_TAIL.after(low)[1:])
    n = max(len(low), len(high))
    same = _shared(low.ljust(n, "0"), high.ljust(n, "0"))
    head, after_low, after_high = high[:same], low[same + 1 :], high[same + 1 :]
    first, last = int(low[same : same + 1] or "0"), int(high[same])
    some = []
    if not low_exclusive:  # zeros at the end of `low` that `high` has not
        some += [high[:i] for i in range(max(len(low), 1), same + 1)]
    some += _tails_up(after_low, low_exclusive).after(f"{head}{first}")
    if first + 1 < last:
        some.append(head + _digit(first + 1, last - 1) + "[0-9]*")
    some += _tails_down(after_high, high_exclusive).after(f"{head}{last}")
    return _Tails(not low and not low_exclusive, some)


# Pieces of regular expressions.


def _either(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"(?:{'|'.join(parts)})"


def _digit(low: int, high: int) -> str:
    return str(low) if low == high else f"[{low}-{high}]"


def _any(count: int) -> str:
    return "" if count == 0 else "[0-9]" + _times(count, count)


def _times(least: int, most: int | None) -> str:
    if most is None:
        return {0: "*", 1: "+"}.get(least, f"{{{least},}}")
    if least == most:
        return "" if least == 1 else f"{{{least}}}"
    return f"{{{least},{most}}}"


def _shared(one: str, other: str) -> int:
    """The number of digits that two texts of the same length share at their beginning."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=True)) if a != b), len(one))
