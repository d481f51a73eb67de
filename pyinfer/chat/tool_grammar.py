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
from pyinfer.chat.tool_formats import ToolFormat
from pyinfer.chat.tool_schemas import arguments_schema, flat_forms, is_text, object_forms, types_of
from pyinfer.chat.tools import ToolChoice, chosen_tools
from pyinfer.errors import ParameterError
from pyinfer.guides.schema.layout import FIXED_SPACE
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
    opening, closing = form.brackets
    start = form.group_start + form.start + opening
    again = (form.separator or ", ") if form.in_list else form.separator + form.start
    end = (closing + form.end) * form.in_list + form.group_end
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
        answer = rf"{calls} | /([^{{\[\s](.|\n)*)?/"
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
    name, parameters = function["name"], function.get("parameters") or {}
    if form.layout == "python":
        return f"{texts.literal(f'{name}(')} {_pairs(texts, form, parameters, '=', ', ')} {texts.literal(')')}"
    if form.in_list or form.layout == "object":
        named = f"{json.dumps(form.name_key)}: {json.dumps(name, ensure_ascii=False)}, {json.dumps(form.key)}"
        before = f"{{{named if form.name_key else json.dumps(name, ensure_ascii=False)}: "
        end = "" if form.in_list else form.end
        return f"{texts.literal(before)} {texts.json(arguments_schema(parameters))} {texts.literal('}' + end)}"
    number = f" {texts.literal(form.id_mark)} NUMBER " if form.numbered else ""
    head = (
        f"{texts.literal(name)}{number} {texts.literal(form.between)}" if number else texts.literal(name + form.between)
    )
    if form.layout == "parameters":
        arguments = _parameters(texts, form, parameters)
    elif form.notation.bare_keys:
        arguments = f"{texts.literal('{')} {_pairs(texts, form, parameters, ':', ',')} {texts.literal('}')}"
    else:
        arguments = texts.json(arguments_schema(parameters))
    return f"{head} {arguments} {texts.literal(form.end)}"


def _parameters(texts: _Texts, form: ToolFormat, schema: Mapping[str, Any]) -> str:
    """Return the rule of arguments that are written one by one, in the schema's order; optional ones may be absent."""
    before, middle, after = form.parameter
    choices = []
    for object_form in object_forms(schema, schema):
        rules = []
        for name, value in object_form["properties"].items():
            if is_text(value, schema):
                head, body = middle, texts.text(value, schema, after, form.end)
            else:
                head = form.json_middle or middle
                body = f"{texts.json(_with_definitions(value, schema))} {texts.literal(after)}"
                if types_of(value, schema) == {"string"}:  # which the schema does not say, but its values show
                    body = f"({texts.text(value, schema, after, form.end)} | {body})"
            optional = "" if name in object_form["required"] else "?"
            rules.append(f"({texts.literal(before + name + head)} {body}){optional}")
        choices.append(" ".join(rules))
    return _any_of(choices)


def _pairs(texts: _Texts, form: ToolFormat, schema: Mapping[str, Any], assign: str, comma: str) -> str:
    """Return the rule of key-value pairs between commas, in the schema's order; optional ones may be absent."""
    choices = []
    for object_form in object_forms(schema, schema):
        first = later = '""'  # what may follow from a pair on: where none has come yet, and where one has
        for name, value in reversed(object_form["properties"].items()):
            pair = f"{texts.literal(name + assign)} {_pair_value(texts, form, value, schema)}"
            given, left_out = f"{pair} {later}", name not in object_form["required"]
            first = texts.rule(_any_of([given, first] if left_out else [given]))
            given = f"{texts.literal(comma)} {given}"
            later = texts.rule(_any_of([given, later] if left_out else [given]))
        choices.append(first)
    return _any_of(choices)


def _pair_value(texts: _Texts, form: ToolFormat, value: Any, root: Mapping[str, Any]) -> str:
    """Return the rule of a value in the notation of a format."""
    if not form.notation.bare_keys:
        return texts.json(_with_definitions(value, root))
    quote = form.notation.quotes[0]
    types, choices = types_of(value, root), []
    if "string" in types:
        strings = {"allOf": [value, {"type": "string"}]}
        choices.append(f"{texts.literal(quote)} {texts.text(strings, root, quote, quote)}")
    if scalars := types & {"number", "integer", "boolean", "null"}:
        only = {"allOf": [value, {"type": sorted(scalars)}]} if types != scalars else value
        choices.append(texts.json(_with_definitions(only, root)))
    for flat in flat_forms(value, root):
        if "array" in types_of(flat, root):
            item = texts.rule(_pair_value(texts, form, flat["items"], root) if "items" in flat else texts.any_of(form))
            choices.append(f'"[" ({item} ("," {item})*)? "]"')
        if "object" in types_of(flat, root):
            properties = isinstance(flat.get("properties"), Mapping)
            inner = _pairs(texts, form, {**root, **flat}, ":", ",") if properties else texts.any_pairs(form)
            choices.append(f'"{{" {inner} "}}"')
    return _any_of(choices)


def _any_of(choices: Sequence[str]) -> str:
    distinct = list(dict.fromkeys(choices))
    return distinct[0] if len(distinct) == 1 else f"({' | '.join(distinct)})"


def _with_definitions(schema: Any, root: Mapping[str, Any]) -> Any:
    """Return a part of a schema with the definitions that it may refer to."""
    if not isinstance(schema, Mapping):
        return schema
    return {**{key: root[key] for key in ("$defs", "definitions") if key in root}, **schema}


class _Texts:
    """Writes texts of a format in Lark."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._lazy: dict[str, str] = {}
        self._values: list[str] = []
        self._named: dict[str, str] = {}  # rules by what they match
        self._any = ""

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

    def json(self, schema: Any) -> str:
        """Return what matches JSON that meets a schema, in the layout of json.dumps."""
        options = {**FIXED_SPACE, "coerce_one_of": True}
        whole = {**schema, "x-guidance": options} if isinstance(schema, Mapping) else schema
        return f"%json {json.dumps(whole, ensure_ascii=False)}"

    def rule(self, body: str) -> str:
        """Return the name of a rule."""
        if body not in self._named:
            self._named[body] = f"part_{len(self._named)}"
        return self._named[body]

    def text(self, schema: Any, root: Any, after: str, end: str) -> str:
        """Return what matches a text that stands by itself and meets a schema, followed by `after`."""
        choices = []
        for flat in flat_forms(schema, root):
            if "enum" in flat or "const" in flat:
                options = [option for option in flat.get("enum", [flat.get("const")]) if isinstance(option, str)]
                choices += [f"{self.literal(option)} {self.literal(after)}" for option in options]
            else:
                choices.append(self.value(flat, after, end))
        return _any_of(choices)

    def any_of(self, form: ToolFormat) -> str:
        """Return what matches any value in a notation whose keys have no quotes."""
        if self._any:
            return "any_value"
        quote = form.notation.quotes[0]
        text = f"{self.literal(quote)} {self.text({}, {}, quote, quote)}"
        scalar = self.json({"type": ["number", "boolean", "null"]})
        self._any = f'any_value: {text} | {scalar} | "[" (any_value ("," any_value)*)? "]" | "{{" any_pairs "}}"'
        return "any_value"

    def any_pairs(self, form: ToolFormat) -> str:
        """Return what matches the inside of any object in such a notation."""
        self.any_of(form)
        return "any_pairs"

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
        named = [f"{name}: {body}" for body, name in self._named.items()]
        pairs = 'any_pairs: (KEY ":" any_value ("," KEY ":" any_value)*)?'
        if self._any:
            named += [self._any, pairs, "KEY: /[A-Za-z_][A-Za-z0-9_]*/"]
        return [*lazy, *named, *self._values, r"TEXT: /(.|\n)*/", r"SPACE: /\s*/", "NUMBER: /[0-9]+/"]


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
