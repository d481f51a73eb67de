"""Guides that are made to take for ever: each compiles or is refused in bounded time and memory, and no process ends.

Each is tried in a process of its own, with three gigabytes, so that a fault here ends that process only.
"""

import os
import subprocess
import sys
import time

import pytest
from conftest import ROOT
from guided_texts import ARITHMETIC, JSON

from pyinfer.guides.compiler import grammar_of
from pyinfer.guides.grammar.formats import FORMATS
from pyinfer.guides.grammar.strings import string_terminal
from pyinfer.guides.guide import Guide
from pyinfer.guides.trial import is_small

# Seconds of computing of a whole process, with the interpreter's and the tiny vocabulary's one or two.
SECONDS = 8
ATTACKS = {  # which took more than 20 s, or ended the process, before there was a trial
    "a long row of optional parts": "Guide.regex('a?' * 10000 + 'a' * 10000)",
    "optional characters": "Guide.regex('.?' * 5000)",
    "a text of a megabyte": "Guide.regex('ab' * 500000)",
    "a string of a megabyte": "Guide.lark('start: \"' + 'a' * 900000 + '\"')",
    "alternatives": "Guide.lark('start: ' + ' | '.join(f'\"w{i}\"' for i in range(80000)))",
    "a chain of rules": "Guide.lark('start: r0\\n' + ''.join(f'r{i}: \"a\" r{i + 1} | \"b\"\\n' for i in range(20000))"
    " + 'r20000: \"x\"')",
    "doubled terminals": "Guide.lark('start: T0\\n' + ''.join(f'T{i}: T{i + 1} T{i + 1}\\n' for i in range(60))"
    " + 'T60: \"x\"')",
    "periods": "Guide.lark('start: T\\nT: ' + ' & '.join(f'/([ab]{{{n}}})*/' for n in (7, 11, 13, 17, 19, 23, 29)))",
    "long periods": "Guide.lark('start: T\\nT: ' + ' & '.join(f'/(a{{{n}}})*b/' for n in (101, 103, 107, 109, 113)))",
    "parts of a long text": "Guide.lark('start: S\\nS: %regex {\"substring_chars\": \"' + 'abcde' * 100000 + '\"}')",
    "tokens": "Guide.lark('start: ' + ' | '.join(f'<[{i}]>' for i in range(60000)))",
    "doubled rules": "Guide.gbnf('root ::= r0\\n' + ''.join(f'r{i} ::= r{i + 1} r{i + 1}\\n' for i in range(60))"
    " + 'r60 ::= \"x\"')",
    "stacked repetitions": "Guide.gbnf('root ::= \"a\"' + '{2}' * 30)",
    "optional texts": "Guide.gbnf('root ::= ' + '\"a\"? ' * 20000)",
}
CODE = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
from guided_texts import tiny_tokenizer
from pyinfer.errors import ParameterError
from pyinfer.guides.guide import Guide
from threading import Thread

def attack():
    try:
        matcher = {guide}.matcher(tiny_tokenizer())
        while not matcher.finished and matcher.mask().any() and not matcher.forced():
            matcher.accept(int(min(i for i in range(256) if matcher.mask()[i // 32] >> i % 32 & 1)))
            break
        print("compiled")
    except ParameterError as error:
        print("refused")

thread = Thread(target=attack)
thread.start()
thread.join()
used = [sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
print(sum(used))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs bounds of memory by the system")
@pytest.mark.parametrize("name", ATTACKS)
def test_no_guide_takes_for_ever(name):
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    code = CODE.replace("{guide}", ATTACKS[name])

    process = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,  # of a busy machine; the computing time counts
        env={**os.environ, "PYTHONPATH": paths},
    )

    assert process.returncode == 0, process.stderr[-500:]
    outcome, seconds = process.stdout.split()
    assert outcome in ("compiled", "refused")
    assert float(seconds) < SECONDS


def test_ordinary_grammars_need_no_process():
    ordinary = [grammar_of(guide) for guide in (Guide.gbnf(ARITHMETIC), Guide.gbnf(JSON), Guide.regex(r"\w+@\w+\.org"))]
    ordinary += [f"start: A\nA: {string_terminal(formats=[name])}" for name in FORMATS if not name.startswith("idn")]

    assert [grammar for grammar in ordinary if not is_small(grammar)] == []


@pytest.mark.parametrize("size", [100, 1000])
def test_the_check_for_size_is_fast(size):
    grammar = "start: " + " ".join(f"R{i}" for i in range(size)) + "\n" + "".join(f'R{i}: "a"+\n' for i in range(size))
    start = time.process_time()

    is_small(grammar)

    assert time.process_time() - start < 0.1
