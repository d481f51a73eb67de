"""Grammars, in llguidance's dialect of Lark, under which a model can write no malformed tool call.

Arguments follow the tools' JSON schemas. Grammars name a format's control tokens by their ids, so that no text can
replace them; user-defined tokens are text, as all others are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pyinfer.chat.reasoning import ReasoningFormat
from pyinfer.chat.tools import ToolChoice, ToolFormat, chosen_tools, is_text
from pyinfer.errors import ParameterError
from pyinfer.guides.grammar.json_schema import FIXED_SPACE
from pyinfer.tokenizer import Tokenizer


def tool_grammar(
    tokenizer: Tokenizer,
    form: ToolFormat,
    tools: Sequence[Mapping[str, Any]],
    tool_choice: ToolChoice = "auto",
    *,
    parallel: bool = True,
    opened: str = "",
    reasoning: ReasoningFormat | None = None,
    reasoning_opened: bool = False,
) -> str | None:
    """Write a grammar for `Guide.lark`: of texts and calls where `tool_choice` is "auto", otherwise of calls alone.

    - `form`: how the model writes calls.
    - `tools`, `tool_choice`: as for `chosen_tools`.
    - `parallel` (True): allow more than one call.
    - `opened` (""): the part of the format's start that the prompt ends with.
    - `reasoning` (None): how the model marks its reasoning, which may come before all else; None: it does not.
    - `reasoning_opened` (False): the prompt ends within reasoning.

    Returns None if no tool may be called. Raises ParameterError for a tool_choice that `chosen_tools` refuses.
    """
    chosen = chosen_tools(tools, tool_choice)
    if not chosen:
        return None
    texts = _Texts(tokenizer)
    in_list = form.layout == "list"
    start = form.group_start + form.start + "[" * in_list
    again = ", " if in_list else form.separator + form.start
    end = ("]" + form.end) * in_list + form.group_end
    more = f"({texts.literal(again)} call)*" if parallel else ""
    rules = [
        f"begun: call {more} {texts.literal(end)}",
        f"call: {' | '.join(f'call_{i}' for i in range(len(chosen)))}",
        *(f"call_{i}: {_call(texts, form, tool['function'])}" for i, tool in enumerate(chosen)),
    ]
    calls = f"{texts.literal(start.removeprefix(opened))} begun"
    if tool_choice != "auto":
        answer = calls
    elif not start:  # calls begin where JSON does
        answer = rf"{calls} | /([^{{\s](.|\n)*)?/"
    else:
        trigger = texts.first(start)
        rules.append(f"within: {texts.up_to(trigger)} {texts.literal(start.removeprefix(trigger))} begun")
        answer = "within* TEXT" if parallel else "within | TEXT"
        if opened:
            answer = f"{calls} | {texts.literal(form.text_name + form.between)} ({answer})"
    before = ""
    if reasoning is not None:
        head = "" if reasoning_opened else texts.literal(reasoning.start)
        before = f"({head} {texts.up_to(reasoning.end)} SPACE)" + ("" if reasoning_opened else "?")
    return "\n".join(["%llguidance {}", f"start: {before} ({answer})", *rules, *texts.rules()]) + "\n"


def _call(texts: _Texts, form: ToolFormat, function: Mapping[str, Any]) -> str:
    """Return the rule of a call from its name to its end; in a list or an object, with the braces around it."""
    name = json.dumps(function["name"])
    if form.layout == "parameters":
        arguments = _parameters(texts, form, function.get("parameters") or {})
        return f"{texts.literal(function['name'] + form.between)} {arguments} {texts.literal(form.end)}"
    arguments = _schema(function.get("parameters"))
    if form.layout == "named":
        return f"{texts.literal(function['name'] + form.between)} %json {arguments} {texts.literal(form.end)}"
    before = f'{{"name": {name}, "{form.key}": '
    end = "" if form.layout == "list" else form.end
    return f"{texts.literal(before)} %json {arguments} {texts.literal('}' + end)}"


def _parameters(texts: _Texts, form: ToolFormat, schema: Mapping[str, Any]) -> str:
    """Return the rule of arguments that are written one by one, in the schema's order; optional ones may be absent."""
    before, middle, after = form.parameter
    rules = []
    for name, value in schema.get("properties", {}).items():
        if is_text(value) and ("enum" in value or "const" in value):
            options = [option for option in value.get("enum", [value.get("const")]) if isinstance(option, str)]
            body = f"({' | '.join(texts.literal(option) for option in options)}) {texts.literal(after)}"
        elif is_text(value):
            body = texts.value(value, after, form.end)
        else:
            inner = {**({"$defs": schema["$defs"]} if "$defs" in schema else {}), **value, "x-guidance": FIXED_SPACE}
            body = f"%json {json.dumps(inner)} {texts.literal(after)}"
        optional = "" if name in schema.get("required", ()) else "?"
        rules.append(f"({texts.literal(before + name + middle)} {body}){optional}")
    return " ".join(rules)


def _schema(parameters: Mapping[str, Any] | None) -> str:
    schema = {"type": "object", "properties": {}, **(parameters or {})}
    # unless the schema allows further properties explicitly, the model shall not invent any
    schema = {"additionalProperties": False, **schema, "x-guidance": FIXED_SPACE}
    return json.dumps(schema)


class _Texts:
    """Writes texts of a format in Lark."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._lazy: dict[str, str] = {}
        self._values: list[str] = []

    def _parts(self, text: str) -> list[tuple[str, int | None]]:
        """Split a text into its parts, in order: (text, None) or (control token's text, its id)."""
        parts: list[tuple[str, int | None]] = []
        at = 0
        for start, end, token in self._tokenizer.find_special(text):
            if self._tokenizer.is_user_defined(token):
                continue
            parts += [(text[at:start], None), (text[start:end], token)]
            at = end
        return [part for part in [*parts, (text[at:], None)] if part[0]]

    def literal(self, text: str) -> str:
        """Return what matches exactly this text; "" for the empty text."""
        parts = self._parts(text)
        return " ".join(json.dumps(t, ensure_ascii=False) if i is None else f"<[{i}]>" for t, i in parts)

    def first(self, text: str) -> str:
        """Return the part of a text that shows that it begins: its first control token, or its first word."""
        return self._parts(text)[0][0].split()[0]

    def up_to(self, text: str) -> str:
        """Return what matches any text without this one in it, followed by this one."""
        part, token = self._parts(text)[0]
        lazy = self._lazy.setdefault(part, f"up_to_{len(self._lazy)}") if token is None else f"TEXT <[{token}]>"
        return f"{lazy} {self.literal(text.removeprefix(part))}"

    def value(self, schema: Mapping[str, Any], after: str, end: str) -> str:
        """Return what matches a text that meets a schema, followed by `after`.

        The text contains neither the mark in `after` nor that in `end`, since a reader would stop there. Raises
        ParameterError for a pattern that is no text.
        """
        marks = [_escape(part) for part in (after.strip(), end.split()[-1])]
        least, most = schema.get("minLength", 0), schema.get("maxLength", "")
        terms = [rf"/(.|\n){{{least},{most}}}/" if least or most != "" else r"/(.|\n)*/"]
        if (pattern := schema.get("pattern")) is not None:
            if not isinstance(pattern, str):
                raise ParameterError(f"pattern is {pattern!r:.60}; expected a regular expression")
            terms.append(f"/{_found_anywhere(pattern)}/")
        terms.append(rf"~/(.|\n)*({'|'.join(marks)})(.|\n)*/")
        closing, token = self._parts(after)[0]
        body = f"VALUE_{len(self._values)}"
        self._values.append(f"{body}: {' & '.join(terms)}")
        if token is not None:
            return f"{body} {self.literal(after)}"
        # value and mark are one terminal: a terminal is greedy, and a value may end with the mark's first characters
        self._values.append(f"ENDED_{body}: {body} {self.literal(closing)}")
        return f"ENDED_{body} {self.literal(after.removeprefix(closing))}"

    def rules(self) -> list[str]:
        """Return the rules that the other rules refer to."""
        lazy = [f"{name}[lazy]: /(.|\\n)*{_escape(text)}/" for text, name in self._lazy.items()]
        return [*lazy, *self._values, r"TEXT: /(.|\n)*/", r"SPACE: /\s*/"]


def _found_anywhere(pattern: str) -> str:
    """Return a regular expression that matches a text as a whole where JSON Schema's pattern is found in it."""
    anything = r"(.|\n)*"
    found = []
    for part in _alternatives(pattern):
        head, tail = part.startswith("^"), bool(re.search(r"(?<!\\)(\\\\)*\$$", part))
        inner = part[head : len(part) - tail]
        found.append(f"{'' if head else anything}({inner}){'' if tail else anything}")
    return re.sub(r"(?<!\\)((?:\\\\)*)/", r"\1\/", "|".join(found)).replace("\n", r"\n")


def _alternatives(pattern: str) -> list[str]:
    """Split a regular expression at its outermost "|"."""
    parts, depth, in_class = [""], 0, False
    for piece in re.findall(r"\\.|.", pattern, re.DOTALL):
        in_class = piece == "[" or (in_class and piece != "]")
        depth += 0 if in_class else (piece == "(") - (piece == ")")
        if piece == "|" and depth == 0 and not in_class:
            parts.append("")
        else:
            parts[-1] += piece
    return parts


def _escape(text: str) -> str:
    return re.sub(r"([\\.+*?()|\[\]{}^$/])", r"\\\1", text)
