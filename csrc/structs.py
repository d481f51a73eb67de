"""Declares the structs of the kernels' headers for Cython: `python csrc/structs.py` writes csrc/structs.pxi.

A field that is added to a struct is so known to Plan's methods, under its name and with its type, without being written
twice; setup.py does it before each build. The headers' structs are plain: a member is `type a, *b, c[n];` or a pointer
to a function. ValueError for anything else.
"""

import re
from pathlib import Path

CSRC = Path(__file__).parent
TARGET = CSRC / "structs.pxi"
INCLUDE = re.compile(r'#include "(kernels/ops\.hpp|ops/\w+\.hpp)"')
CONSTANT = re.compile(r"constexpr int (\w+) = (\d+);")
ENUM = re.compile(r"enum (\w+)(?: : \w+)? {\s*(.*?)\s*};", re.DOTALL)
STRUCT = re.compile(r"^struct (\w+) {[^\n]*\n(.*?)^};", re.DOTALL | re.MULTILINE)
FIELD = re.compile(r"((?:const )?\w+) ?(\W*\w.*)")
FUNCTION = re.compile(r"(.+?) ?\(\*(\w+)\)\((.*)\)")
NAME = re.compile(r"(\**) ?(\w+)(?:\[(\w+)\])?")
OPERATION = re.compile(r"^    X\((\w+), (\w+)\)", re.MULTILINE)


def in_cython(text: str) -> str:
    return re.sub(r"\bbool\b", "bool_t", text)


def fields(struct: str, body: str, constants: dict[str, int]) -> list[str]:
    """One declaration a line, as Cython has it."""
    lines = []
    for statement in filter(None, (" ".join(s.split()) for s in body.split(";"))):
        if match := FUNCTION.fullmatch(statement):
            result, name, arguments = match.groups()
            lines.append(in_cython(f"{result} (*{name})({arguments}) noexcept nogil"))
            continue
        match = FIELD.fullmatch(statement)
        names = [NAME.fullmatch(n.strip()) for n in match[2].split(",")] if match else [None]
        for found in names:
            if match is None or found is None or (found[3] and not (found[3].isdigit() or found[3] in constants)):
                raise ValueError(f"struct {struct}: {statement!r} is not understood")
            size = f"[{constants.get(found[3], found[3])}]" if found[3] else ""
            lines.append(in_cython(f"{match[1]}{found[1]} {found[2]}{size}"))
    return lines


def declarations(header: str, text: str, constants: dict[str, int]) -> str:
    """The constants, enumerations and structs of a header; constants: those known so far, which it adds to."""
    text = re.sub(r"//[^\n]*", "", text)
    here = {name: int(value) for name, value in CONSTANT.findall(text)}
    operations = OPERATION.findall(text)
    constants |= here | ({"kOpKinds": len(operations)} if operations else {})
    parts = [f"    const int {', '.join(here)}\n"] if here else []
    for name, members in ENUM.findall(text):
        members = ", ".join(f"k{struct}" for struct, _ in operations) if operations else members
        parts.append(f"    ctypedef enum {name}:\n        {members}\n")
    for name, body in STRUCT.findall(text):
        if name == "Op":  # a union, of what the list says
            body = body[: body.index("union")] + "".join(f"{struct} {member};" for struct, member in operations)
        lines = "".join(f"        {line}\n" for line in fields(name, body, constants))
        parts.append(f"    ctypedef struct {name}:\n{lines}")
    return f'cdef extern from "{header}" namespace "pyinfer" nogil:\n' + "\n".join(parts) if parts else ""


def in_order(header: str, seen: list[str]) -> list[str]:
    """A header and what it includes, what is included first."""
    for other in INCLUDE.findall((CSRC / header).read_text()):
        if other not in seen and other != header:
            in_order(other, seen)
    if header not in seen:
        seen.append(header)
    return seen


def generated() -> str:
    constants: dict[str, int] = {}
    headers = in_order("ops/all.hpp", [])
    parts = [declarations(header, (CSRC / header).read_text(), constants) for header in headers]
    return "# Written by structs.py from the headers.\n\n" + "\n\n".join(parts)


def main() -> None:
    text = generated()
    if not TARGET.exists() or TARGET.read_text() != text:
        TARGET.write_text(text)


if __name__ == "__main__":
    main()
