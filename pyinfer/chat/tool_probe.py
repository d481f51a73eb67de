"""Finds how a model writes its calls by what its chat template renders, and never by what the template's source says.

The first of these that there is: the format in which the template renders a call; one that its rendering of tools shows
by an example; one that it tells in words.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import regex

from pyinfer.chat.notation import NEARLY_JSON, ValueEnd, read_value
from pyinfer.chat.quirks import ANSWER, KEY, NAMES, QUESTION, VALUES, Probe, template_quirks, tool_for_probes
from pyinfer.chat.tool_formats import TOOL_FORMATS, ToolFormat
from pyinfer.chat.tool_parser import ToolCallParser
from pyinfer.chat.tools import NAME, ToolCall

MARK = r"(?:<[^<>\s]{1,40}>|\[/?[A-Z_]{2,40}\])"  # what a mark of calls looks like, where the format is no known one
MARKS = rf"{MARK}(?:\s*{MARK})*"
OPENING = regex.compile(r"\[\s*\{|\{")  # of calls in JSON
EXAMPLE_CALLS = {"object": r"\s*\{", "list": r"\s*\[", "python": r"\s*\[?\s*\w+\("}


@lru_cache(maxsize=64)
def tool_format(template: str) -> ToolFormat | None:
    """Return the format of calls of the model that a chat template (its source) belongs to; None if it shows none."""
    probe, quirks = Probe(template), template_quirks(template)
    probe.takes_text, probe.text_arguments = quirks.takes_text, quirks.text_arguments
    call = probe.answer(quirks.empties[0], probe.calls(1)) if quirks.empties else None
    prompts = [] if call is None else list(_texts_of_call(probe, call))
    rendered = _rendered_format(prompts) or _derived_format(prompts, _end_of_turn(probe))
    if rendered is not None and rendered.start:
        return rendered
    shown = probe.render(probe.question(), True)
    examples = [(match.start(), form) for form in TOOL_FORMATS if (match := _example(form).search(shown)) is not None]
    if examples:
        return min(examples, key=lambda found: found[0])[1]
    if rendered is not None:
        return rendered
    without = probe.render(probe.question(), True, tools=False)
    told = (form for form in TOOL_FORMATS if form.told and form.told in shown and form.told not in without)
    return next(told, None)


def _texts_of_call(probe: Probe, call: Any) -> Iterator[str]:
    """Yield what a template renders of a call, cut off where the model's text may begin."""
    text = probe.render([*probe.question(), call])
    plain = probe.render([*probe.question(), probe.answer(ANSWER)]).partition(ANSWER)[0]
    for before in (plain, probe.render(probe.question(), True)):
        if before and text.startswith(before):
            yield text[len(before) :]
    yield text.rpartition(QUESTION)[2]


def _end_of_turn(probe: Probe) -> str:
    return probe.render([*probe.question(), probe.answer(ANSWER)]).partition(ANSWER)[2]


def _rendered_format(prompts: list[str]) -> ToolFormat | None:
    """Return the format by which a call is read from one of the texts, with the least other text."""
    for text in prompts:
        found = [(rest, i) for i, form in enumerate(TOOL_FORMATS) if (rest := _rest_of(form, text)) is not None]
        if found:
            return TOOL_FORMATS[min(found)[1]]
    return None


def _rest_of(form: ToolFormat, text: str) -> tuple[int, bool] | None:
    """Return how many characters are no part of a call, and whether its keys are others; None if no call is read."""
    parser = ToolCallParser(form, [tool_for_probes(NAMES[0])])
    parts = [*parser.push(text), *parser.finish()]
    calls = [part for part in parts if isinstance(part, ToolCall)]
    if not calls or any(json.loads(call.arguments) != {KEY: VALUES[0]} for call in calls):
        return None
    keys = [form.key, *([form.name_key] if form.name_key else [])] if form.layout in ("object", "list") else []
    other_keys = any(f'"{key}"' not in text for key in keys) or (not form.name_key and f'"{form.key}"' in text)
    return sum(len(part.strip()) for part in parts if isinstance(part, str)), other_keys


def _derived_format(prompts: list[str], end_of_turn: str) -> ToolFormat | None:
    """Return a format made of the marks that stand around a call in JSON; None if there is no such call."""
    for text in prompts:
        for start in [match.start() for match in OPENING.finditer(text, 0, text.find(NAMES[0]) + 1)][:4]:
            end = ValueEnd(NEARLY_JSON).find(text, start, final=True)
            keys = None if end is None else _keys_of(text[start:end])
            before = regex.fullmatch(rf"\s*({MARKS})\s*", text[:start])
            if keys is None or before is None:
                continue
            after = regex.match(MARKS, text[end:].strip().removesuffix(end_of_turn.strip()))
            layout: Any = "list" if text[start] == "[" else "object"
            closing = "" if after is None else after[0]
            return ToolFormat("as-shown", before[1], layout, end=closing, separator="\n", name_key=keys[0], key=keys[1])
    return None


def _keys_of(text: str) -> tuple[str, str] | None:
    """Return the keys of the name and of the arguments in a call in JSON; None if it is no call."""
    try:
        value = read_value(text)
    except ValueError:
        return None
    call = value[0] if isinstance(value, list) and value else value
    if not isinstance(call, dict) or NAMES[0] not in call.values():
        return None
    return next((("name", key) for key in ("arguments", "parameters") if key in call and "name" in call), None)


@lru_cache(maxsize=64)
def _example(form: ToolFormat) -> Any:
    """Return a pattern of an example of a format's calls, which has more than its marks; nothing for unmarked ones."""
    start = form.start.strip()
    if not start:
        return regex.compile("(?!)")
    first = regex.escape(form.parameter[0].strip()) if form.layout == "parameters" else r"[{<]"
    name = rf"\s*[\"']?{NAME}[\"']?\s*{regex.escape(form.between.strip())}\s*{first}"
    calls = EXAMPLE_CALLS.get(form.layout, name)
    spaced = r"\s*".join(map(regex.escape, start.split()))
    return regex.compile(spaced + calls)
