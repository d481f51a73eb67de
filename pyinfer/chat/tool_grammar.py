"""Grammars in which a model can write no malformed tool call: Lark, in the dialect of llguidance.

Arguments follow the tools' JSON schemas. The control tokens of a format are written by their ids, so that nothing else
can stand for them; user-defined tokens are text, as all others are.
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
    """Lark for `Guide.lark`: texts and calls with "auto", calls alone otherwise; None if no tool is left to call.

    `parallel`: there may be more than one call. `opened`: what of the format's start the prompt has already written.
    `reasoning`: how the model marks thoughts, which may come before all else, and which the prompt may have opened.

    Raises ParameterError for a tool_choice that chosen_tools refuses.
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
    thoughts = ""
    if reasoning is not None:
        head = "" if reasoning_opened else texts.literal(reasoning.start)
        thoughts = f"({head} {texts.up_to(reasoning.end)} SPACE)" + ("" if reasoning_opened else "?")
    return "\n".join(["%llguidance {}", f"start: {thoughts} ({answer})", *rules, *texts.rules()]) + "\n"


def _call(texts: _Texts, form: ToolFormat, function: Mapping[str, Any]) -> str:
    """A call from its name on, to its end; in a list or an object with the brackets of this call."""
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
    """Arguments one by one, in the schema's order; those that are not required may be left out."""
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
    # what a schema leaves open is no place for a model to invent things
    schema = {"additionalProperties": False, **schema, "x-guidance": FIXED_SPACE}
    return json.dumps(schema)


class _Texts:
    """Texts of a format in Lark."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._lazy: dict[str, str] = {}
        self._values: list[str] = []

    def _parts(self, text: str) -> list[tuple[str, int | None]]:
        """The text in order: (text, None), or a control token with its id."""
        parts: list[tuple[str, int | None]] = []
        at = 0
        for start, end, token in self._tokenizer.find_special(text):
            if self._tokenizer.is_user_defined(token):
                continue
            parts += [(text[at:start], None), (text[start:end], token)]
            at = end
        return [part for part in [*parts, (text[at:], None)] if part[0]]

    def literal(self, text: str) -> str:
        """Exactly this text; nothing for the empty one."""
        parts = self._parts(text)
        return " ".join(json.dumps(t, ensure_ascii=False) if i is None else f"<[{i}]>" for t, i in parts)

    def first(self, text: str) -> str:
        """What of a text shows that it has begun: its first control token, or its first word."""
        return self._parts(text)[0][0].split()[0]

    def up_to(self, text: str) -> str:
        """Any text that does not have this one, and then this one."""
        part, token = self._parts(text)[0]
        lazy = self._lazy.setdefault(part, f"up_to_{len(self._lazy)}") if token is None else f"TEXT <[{token}]>"
        return f"{lazy} {self.literal(text.removeprefix(part))}"

    def value(self, schema: Mapping[str, Any], after: str, end: str) -> str:
        """A text that meets a schema, and then `after`; without the marks in that and in `end`, where readers stop.

        Raises ParameterError for a pattern that is none.
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
        # one terminal, as terminals are greedy and a value may end as the mark begins
        self._values.append(f"ENDED_{body}: {body} {self.literal(closing)}")
        return f"ENDED_{body} {self.literal(after.removeprefix(closing))}"

    def rules(self) -> list[str]:
        """The rules that the others need."""
        lazy = [f"{name}[lazy]: /(.|\\n)*{_escape(text)}/" for text, name in self._lazy.items()]
        return [*lazy, *self._values, r"TEXT: /(.|\n)*/", r"SPACE: /\s*/"]


def _found_anywhere(pattern: str) -> str:
    """A regular expression for the whole of the texts that JSON Schema's pattern is found in."""
    anything = r"(.|\n)*"
    found = []
    for part in _alternatives(pattern):
        head, tail = part.startswith("^"), bool(re.search(r"(?<!\\)(\\\\)*\$$", part))
        inner = part[head : len(part) - tail]
        found.append(f"{'' if head else anything}({inner}){'' if tail else anything}")
    return re.sub(r"(?<!\\)((?:\\\\)*)/", r"\1\/", "|".join(found)).replace("\n", r"\n")


def _alternatives(pattern: str) -> list[str]:
    """What stands between the outermost "|" of a regular expression."""
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
