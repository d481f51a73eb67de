r"""Multiples of a number in decimal notation, as terminals of llguidance's Lark.

A number is a multiple of q * r, if it is one of both; q has the factors 2 and 5, r the others. The last digits alone
show multiples of q, and a tree of them becomes a regular expression. Multiples of r need a state for each remainder;
states are removed one by one, until an expression is left (Brzozowski and McCluskey). Both grow fast, so that they are
used while they are small.
"""

from __future__ import annotations

import math
from functools import cache

from pyinfer.guides.grammar.outcomes import TooComplex, Unsatisfiable

MAX_FEW = 1000  # multiples between two bounds that are listed
MAX_LENGTH = 24_000  # characters of a regular expression, which then takes up to 0.1 s to compile
MAX_PARTS = 3000  # of a tree of last digits
MAX_STATES = 32  # remainders; expressions of more are too long long before
WHOLE = "(?:0|[1-9][0-9]*)"


def few_multiples(low: int | None, high: int | None, step: int) -> list[int] | None:
    """All multiples of `step` from `low` to `high`; None if there are many. Raises Unsatisfiable if there are none."""
    if step <= 0:
        raise Unsatisfiable("multipleOf is not greater than 0")
    if low is None or high is None:
        return None
    first, last = -(-low // step), high // step
    if first > last:
        raise Unsatisfiable(f"there is no multiple of {step} between the bounds")
    return [step * i for i in range(first, last + 1)] if last - first < MAX_FEW else None


def multiples(step: int, places: int | None = None) -> list[str]:
    """Terminals that together match the multiples of `step`.

    places: None for integers; else numbers may have a fraction, and `step` is in units of 10**-places.

    Raises TooComplex.
    """
    rest = step
    for factor in (2, 5):
        while rest % factor == 0:
            rest //= factor
    terminals = [f"/-?{_by_last_digits(step // rest, places)}/"]
    return terminals if rest == 1 else [*terminals, f"/-?{_by_remainders(rest)}/"]


def _by_last_digits(q: int, places: int | None) -> str:
    """Numbers whose digits, the last `places` of them after the point, are a multiple of q (of 2s and 5s only)."""
    n = 0  # the last digits that matter
    while pow(10, n, q):
        n += 1
        if n > 64:
            raise TooComplex(f"multiples of {q} are seen in too many digits")
    n_parts = 0
    n_fraction = places or 0
    n_whole = max(0, n - n_fraction)
    n = n_whole + n_fraction

    def count() -> None:
        nonlocal n_parts
        n_parts += 1
        if n_parts > MAX_PARTS:
            raise TooComplex("the last digits of its multiples are too many")

    def grouped(i: int, value: int, low: int) -> str:
        """The i-th digit, at least `low`, and what follows it: digits that go on alike share a group. "" for none."""
        groups: dict[str, list[int]] = {}
        for digit in range(low, 10):
            after = (value * 10 + digit) % q * pow(10, n - i - 1, q) % q
            if -after % q >= 10 ** (n - i - 1):
                continue  # whatever digits follow
            rest = tail(i + 1, after)
            if rest is not None:
                groups.setdefault(rest, []).append(digit)
        texts = [_digits(digits) + rest for rest, digits in groups.items()]
        return _checked(texts[0] if len(texts) == 1 else f"(?:{'|'.join(texts)})" if texts else "")

    @cache
    def tail(i: int, scaled: int) -> str | None:
        """What may follow the first i of the n digits; scaled: their value times 10**(n - i), mod q. None: nothing."""
        count()
        value = _unscaled(scaled, n - i, q)
        if i < n_whole:
            return grouped(i, value, 0) or None
        if i == n and places is None:
            return "" if scaled == 0 else None
        if i == n_whole:
            digits = "0+" if i == n else fraction(i, scaled)
            point = rf"(?:\.{digits})" if digits else ""
            return (point + "?" if point else "") if scaled == 0 else point or None
        return None

    @cache
    def fraction(i: int, scaled: int) -> str:
        """At least one digit of the fraction, from the i-th on, and zeros without end. "" for none."""
        count()
        value = _unscaled(scaled, n - i, q)
        groups: dict[str, list[int]] = {}
        for digit in range(10):
            after = (value * 10 + digit) % q * pow(10, n - i - 1, q) % q
            if -after % q >= 10 ** (n - i - 1):
                continue
            more = fraction(i + 1, after) if i + 1 < n else ""
            if after == 0:
                rest = f"(?:{more}|0*)" if more else "0*"
            elif more:
                rest = more
            else:
                continue
            groups.setdefault(rest, []).append(digit)
        texts = [_digits(digits) + rest for rest, digits in groups.items()]
        return _checked(texts[0] if len(texts) == 1 else f"(?:{'|'.join(texts)})" if texts else "")

    parts = []
    if n_whole == 0:
        parts.append(WHOLE + (tail(0, 0) or ""))
    else:
        parts.append("0" + (tail(n_whole, 0) or ""))
        parts += [grouped(n_whole - length, 0, 1) for length in range(1, n_whole + 1)]
        parts.append("[1-9][0-9]*" + (tail(0, 0) or ""))
    return _checked(f"(?:{'|'.join(filter(None, parts))})")


def _unscaled(scaled: int, power: int, q: int) -> int:
    """A value whose product with 10**power is `scaled`, mod q."""
    factor = pow(10, power, q)
    common = math.gcd(factor, q)
    return scaled // common * pow(factor // common, -1, q // common) % (q // common) if q > common else 0


def _by_remainders(r: int) -> str:
    """Digits, and points that count for nothing, of multiples of r (without 2s and 5s)."""
    if r > MAX_STATES:
        raise TooComplex(f"multiples of {r} have {r} remainders")
    edges: dict[tuple[int, int], str] = {}
    for state in range(r):
        targets: dict[int, list[int]] = {}
        for digit in range(10):
            targets.setdefault((state * 10 + digit) % r, []).append(digit)
        for target, digits in targets.items():
            edges[state, target] = _digits(digits, r"." if target == state else "")
        edges.setdefault((state, state), r"\.")
    left = set(range(1, r))
    while left:
        state = min(left, key=lambda state: _weight(edges, state))
        left.remove(state)
        loop = edges.pop((state, state), None)
        into = {a: text for (a, b), text in edges.items() if b == state}
        out = {b: text for (a, b), text in edges.items() if a == state}
        edges = {pair: text for pair, text in edges.items() if state not in pair}
        around = f"(?:{loop})*" if loop else ""
        for a, before in into.items():
            for b, after in out.items():
                through = f"{_grouped(before)}{around}{_grouped(after)}"
                edges[a, b] = f"{edges[a, b]}|{through}" if (a, b) in edges else through
        if sum(map(len, edges.values())) > MAX_LENGTH:
            raise TooComplex(f"multiples of {r} have {r} remainders")
    return f"(?:{edges[0, 0]})+"


def _weight(edges: dict[tuple[int, int], str], state: int) -> int:
    """How much longer expressions get without a state."""
    into = [len(text) for (a, b), text in edges.items() if b == state != a]
    out = [len(text) for (a, b), text in edges.items() if a == state != b]
    loop = len(edges.get((state, state), ""))
    return sum(into) * (len(out) - 1) + sum(out) * (len(into) - 1) + loop * (len(into) * len(out) - 1)


def _grouped(text: str) -> str:
    return f"(?:{text})" if "|" in text else text


def _digits(digits: list[int], other: str = "") -> str:
    if len(digits) == 10:
        return f"[0-9{other}]"
    found = "".join(map(str, digits)) + other
    return found if len(found) == 1 and not other else f"[{found}]"


def _checked(text: str) -> str:
    if len(text) > MAX_LENGTH:
        raise TooComplex("the last digits of its multiples are too many")
    return text
