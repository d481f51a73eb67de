"""Bounds of time and memory for grammars: large ones are compiled in a process of their own first.

llguidance has bounds of its own, which hold for most grammars; but its parser calls itself for each reference of a
chain, until the stack ends, and takes quadratic time for long rows of optional parts and for long fixed texts. Neither
can be stopped in this process. So a grammar that may be such a one, by its size, is tried in a child process that the
system ends after a second of computing; ordinary grammars pay nothing.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from pyinfer.errors import ParameterError
from pyinfer.guides.spec import GuideSpec

SECONDS = 0.9  # of computing; after that, this process does the same again
PATIENCE = 30  # seconds that the child may take on a machine that is busy with other things
BYTES = 1 << 30  # of memory, the interpreter's included
CHILD = Path(__file__).with_name("trial_child.py")

# llguidance's bounds: of compiling, of a step, and of the memory of all steps of a text.
LIMITS = {
    "initial_lexer_fuel": 1_000_000,
    "step_lexer_fuel": 200_000,
    "step_max_items": 50_000,
    "max_items_in_row": 2000,
    "max_lexer_states": 250_000,  # some 2 kB each; all texts of a guide share them
    "max_grammar_size": 500_000,
}

# Below all of these, no grammar that was tried takes more than a fifth of a second.
MAX_SIZE = 32_000  # characters
MAX_REPEATS = 800  # repetitions in one terminal, with those that it refers to
MAX_TERMINAL = 16_000  # characters of one terminal, with those that it refers to
MAX_CHAIN = 100  # names, each of which refers to the next
MAX_LENGTH = 20_000  # characters that a text has at least
MAX_PRODUCT = 2_000_000  # of the sizes of what & and ~ join: their states may multiply

DEFINITION = re.compile(r"^[ \t]*[!?_]*([A-Za-z_][\w-]*)[^:\n]*:", re.MULTILINE)
LITERAL = re.compile(r'"(?:[^"\\\n]|\\.)*"|/(?:[^/\\\n]|\\.)+/|(?://|#)[^\n]*')
NAME = re.compile(r"[A-Za-z_][\w-]*")
REPEAT = re.compile(r"[*+]|(?<!\()\?|(?<!\\x)\{")
COUNT = re.compile(r"(?<!\\x)\{([0-9]*)(?:,([0-9]*))?\}")
PIECE = re.compile(r"\\x\{[^}]*\}|\\.|\[(?:\\.|[^\]\\])*\]|\{[0-9,]*\}|\(\?[^:)>]*[:)>]|.", re.DOTALL)  # of expressions
WORD = re.compile(r"\0[0-9]+\0|[A-Za-z_][\w-]*|\{[0-9,]*\}|[^\s]")  # of definitions


def try_grammar(guide: GuideSpec, grammar: str) -> None:
    """Compile a large grammar in a child process. Raises ParameterError if it takes too much time, memory or stack.

    Where the interpreter can't be started again, as in an embedded one, nothing is tried.
    """
    if is_small(grammar):
        return
    reason = _tried(grammar)
    if reason:
        raise ParameterError(f"{guide}: {reason}")


def is_small(grammar: str) -> bool:
    """Whether a grammar in Lark surely compiles in bounded time."""
    if len(grammar) > MAX_SIZE:
        return False
    found = list(DEFINITION.finditer(grammar))
    if not found:  # no grammar in Lark
        return True
    ends = [match.start() for match in found[1:]] + [len(grammar)]
    bodies = {match[1]: grammar[match.end() : end] for match, end in zip(found, ends, strict=True)}
    names = {name: NAME.findall(LITERAL.sub(" ", body)) for name, body in bodies.items()}
    uses = {name: [ref for ref in refs if ref in bodies] for name, refs in names.items()}
    sizes: dict[str, _Size] = {}
    todo, opened = list(bodies), set[str]()
    while todo:  # names after those that they refer to
        name = todo[-1]
        missing = [ref for ref in uses[name] if ref not in opened]
        opened.update([name, *missing])
        if missing:
            todo += missing
            continue
        todo.pop()
        if name not in sizes:
            sizes[name] = _size_of(name, bodies[name], {ref: sizes[ref] for ref in uses[name] if ref in sizes})
            if not sizes[name].is_small:
                return False
    return True


class _Size(NamedTuple):
    """How large the terminals of a definition are, those that they refer to included."""

    characters: int
    repeats: int
    length: int  # of the shortest text
    states: int  # an estimate, with all counts, and multiplied where & and ~ join terminals
    chain: int

    @property
    def is_small(self) -> bool:
        return (
            self.characters <= MAX_TERMINAL
            and self.repeats <= MAX_REPEATS
            and self.length <= MAX_LENGTH
            and self.states <= MAX_PRODUCT
            and self.chain <= MAX_CHAIN
        )


def _size_of(name: str, body: str, used: dict[str, _Size]) -> _Size:
    """The size of a definition. A terminal is as large as all of its parts, a rule as its largest terminal."""
    inner = [size for ref, size in used.items() if ref.isupper()]
    literals: list[str] = LITERAL.findall(body)
    together = sum if name.isupper() else max
    marked = LITERAL.sub(lambda match: f"\0{_states(match[0])}\0", body)
    states = 1
    if name.isupper() or "&" in marked or "~" in marked:
        for operand in re.split("[&~]", marked):
            parts = [int(part) for part in re.findall("\0([0-9]+)\0", operand)]
            parts += [used[ref].states for ref in NAME.findall(operand) if ref in used and ref.isupper()]
            states *= max(1, sum(parts))
    words = WORD.findall(LITERAL.sub(lambda match: f"\0{_shortest(match[0])}\0", body))
    return _Size(
        characters=together([0, *map(len, literals), *(size.characters for size in inner)]),
        repeats=together([0, *(len(REPEAT.findall(text)) for text in literals), *(size.repeats for size in inner)]),
        length=_least([int(x[1:-1]) if x[0] == "\0" else used[x].length if x in used else x for x in words]),
        states=states,
        chain=1 + max((size.chain for size in used.values()), default=0),
    )


def _states(literal: str) -> int:
    """About how many states an expression has that can go on in several ways; few for one that only lists texts."""
    counts = sum(int((match[2] or match[1] or "0")[:9]) for match in COUNT.finditer(literal))
    return len(literal) + counts if REPEAT.search(literal) else 16


def _shortest(literal: str) -> int:
    """The length of the shortest text of a literal or an expression; 0 for a comment."""
    if literal[0] == '"':
        return len(literal) - 2
    if literal[0] == "#" or literal[1] == "/":
        return 0
    pieces = PIECE.findall(literal[1:-1])
    return _least(["(" if x[:2] == "(?" and x[-1] != ")" else x if x[0] in "()|*+?{" else 1 for x in pieces])


def _least(parts: Sequence[int | str]) -> int:
    """The length of the shortest text of a row of lengths, parentheses, bars and repetitions."""
    row, last = 0, 0
    outer: list[tuple[list[int], int]] = []
    choices: list[int] = []
    for part in parts:
        if isinstance(part, int):
            last, row = part, row + part
        elif part in ("(", "["):
            outer.append((choices, row))
            choices, row = [], 0
        elif part in (")", "]") and outer:
            last = min([*choices, row]) if part == ")" else 0
            choices, row = outer.pop()
            row += last
        elif part == "|":
            choices.append(row)
            row = last = 0
        elif part in ("*", "?"):
            row, last = row - last, 0
        elif match := COUNT.fullmatch(part):
            added = last * (int(match[1][:9] or 0) - 1)
            row, last = row + added, last + added
    return min([*choices, row])


@lru_cache(maxsize=64)
def _tried(grammar: str) -> str | None:
    """Why a grammar can't be compiled; None if it can, or if nobody can say."""
    if not sys.executable or "python" not in Path(sys.executable).name.lower():
        return None
    import llguidance

    path = os.fspath(Path(llguidance.__file__).parent.parent)
    order = {"grammar": grammar, "limits": LIMITS, "seconds": SECONDS, "bytes": BYTES, "path": path}
    try:
        child = subprocess.run(
            [sys.executable, "-I", "-S", os.fspath(CHILD)],
            input=json.dumps(order).encode(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=PATIENCE,
        )
    except subprocess.TimeoutExpired:
        return f"it takes more than {SECONDS} s to compile"
    except OSError:  # no process can be started, or the file is not there
        return None
    if child.returncode == 0:
        return None
    return f"it takes more than {SECONDS} s, {BYTES >> 20} MB or the stack to compile"
