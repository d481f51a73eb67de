"""The form of messages that a chat template expects, found by rendering short conversations.

A template that is given messages in another form fails, writes Python's notation, or leaves parts out without a word.
A form is good where everything that was said is in the prompt.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any, Literal

from pyinfer.chat.rendering import render_variables, tools_variable
from pyinfer.errors import TemplateError

PROBE_SECONDS = 0.4  # of processor time for one try; most templates need a millisecond
ALL_SECONDS = 2.0  # for all tries
QUESTION, WORDS, ANSWER, THANKS = "pyinfer-question", "pyinfer-words", "pyinfer-answer", "pyinfer-thanks"
NAMES, KEY = ("probe_tool", "other_tool"), "probe_key"
VALUES, RESULTS = ("pyinfer-value", "pyinfer-other"), ("pyinfer-result", "pyinfer-second")
SHORT_IDS, LONG_IDS = ("probe1234", "other1234"), ("call_probe-12345678", "call_other-12345678")
# What shows that a value stands there in Python's notation, or as JSON in JSON.
ARTEFACTS = (f"'{KEY}'", f'\\"{KEY}', "None", "Undefined")

BEST = 4  # quality of a form: everything is in two prompts, without artefacts

Message = Mapping[str, Any]
Empty = Literal["null", "text", "absent"]
EMPTIES: tuple[Empty, ...] = ("null", "text", "absent")


@lru_cache(maxsize=64)
def template_quirks(template: str) -> TemplateQuirks:
    """Return the form of messages that a template expects. A template that fails with all forms gets the usual one."""
    return TemplateQuirks(template)


class TemplateQuirks:
    """The form of messages that a template expects. What a chat does not need is not found out.

    - `takes_text`: a content may be a text.
    - `takes_parts`: a content may be a list of {"type": "text", "text": …}.
    - `takes_system`: the role "system" is known.
    - `text_arguments`: the arguments of a tool call are a JSON text; otherwise they are a dict.
    - `empties`: how the content beside calls may be empty: None, "" or absent. Nothing: the template writes no calls,
      and they become a part of the text.
    - `takes_words`: a content beside calls may have words; otherwise they come in a message before.
    - `takes_several`: a message may have several calls; otherwise each comes in a message of its own, with its result.
    - `takes_results`: the role "tool" is known; otherwise results come from the user.
    - `takes_functions`: the role "function", an older form of "tool", is known.
    - `names_results`: a result needs the name of its function.
    - `short_ids`: the ids of calls have nine letters or digits.
    """

    def __init__(self, template: str) -> None:
        self._probe = Probe(template)

    @cached_property
    def takes_parts(self) -> bool:
        parts = self._probe.render([{"role": "user", "content": [{"type": "text", "text": WORDS}]}], tools=False)
        return WORDS in parts and not any(f"{q}text{q}" in parts for q in "'\"")

    @cached_property
    def takes_text(self) -> bool:
        text = self._probe.render([{"role": "user", "content": WORDS}], tools=False)
        takes_text = WORDS in text or not self.takes_parts
        self._probe.takes_text = takes_text
        return takes_text

    @cached_property
    def takes_system(self) -> bool:
        probe = self._begin()
        text = probe.render([{"role": "system", "content": probe.content(WORDS)}, *probe.question()], True, False)
        return WORDS in text

    @cached_property
    def _calls(self) -> tuple[bool, tuple[Empty, ...]]:
        probe = Probe(self._begin().template)  # of its own: other threads may use the common one
        probe.takes_text = self.takes_text
        found = probe.find_calls()
        self._probe.text_arguments = found[0]
        return found

    @property
    def text_arguments(self) -> bool:
        return self._calls[0]

    @property
    def empties(self) -> tuple[Empty, ...]:
        return self._calls[1]

    @property
    def takes_none(self) -> bool:
        """Whether the content beside calls may be None."""
        return "null" in self.empties

    @cached_property
    def takes_words(self) -> bool:
        probe, empty, parts = self._begin(), self._empty, [WORDS, VALUES[0]]
        together = [probe.answer(WORDS, probe.calls(1)), probe.result()]
        apart = [probe.answer(WORDS), probe.answer(empty, probe.calls(1)), probe.result()]
        return probe.quality(together, parts) == BEST or probe.quality(apart, parts) < BEST

    @cached_property
    def takes_several(self) -> bool:
        probe, empty, parts = self._begin(), self._empty, [*VALUES, *RESULTS]
        both = probe.calls(2)
        one_each = [part for i in (0, 1) for part in (probe.answer(empty, both[i : i + 1]), probe.result(i))]
        together = [probe.answer(empty, both), probe.result(), probe.result(1)]
        return probe.quality(together, parts) == BEST or probe.quality(one_each, parts) < BEST

    @cached_property
    def takes_results(self) -> bool:
        return self._begin().keeps(self._with_result(), [RESULTS[0]])

    @cached_property
    def takes_functions(self) -> bool:
        result = {**self._begin().result(), "role": "function"}
        return self._probe.keeps([self._with_result()[0], result], [RESULTS[0]])

    @cached_property
    def names_results(self) -> bool:
        probe = self._begin()
        named, unnamed = (probe.count(self._with_result(named=named), NAMES[0]) for named in (True, False))
        return unnamed < named

    @cached_property
    def short_ids(self) -> bool:
        probe, parts = self._begin(), [VALUES[0], RESULTS[0]]
        return probe.keeps(self._with_result(), parts) and not probe.keeps(self._with_result(LONG_IDS), parts)

    @property
    def _empty(self) -> Empty:
        return self.empties[0] if self.empties else "text"

    def _begin(self) -> Probe:
        """Return the probe, with the form of contents that the template takes."""
        _ = self.takes_text
        return self._probe

    def _with_result(self, ids: Sequence[str] = SHORT_IDS, named: bool = True) -> list[Message]:
        probe = self._probe
        calls = probe.calls(1, ids) if self.empties else []
        return [probe.answer(self._empty if calls else ANSWER, calls), probe.result(0, named, ids)]


class Probe:
    """Renders short conversations by a template, within a time for all of them.

    - `template`: its source.
    - `text_arguments`, `takes_text`: the form of the messages.
    """

    def __init__(self, template: str) -> None:
        self.template = template
        self._left = ALL_SECONDS
        self.takes_text = True
        self.text_arguments = False

    @cached_property
    def _tools_variable(self) -> str | None:
        try:
            return tools_variable(self.template)
        except TemplateError:
            return None

    def render(self, messages: Sequence[Message], prompt: bool = False, tools: bool = True) -> str:
        """Return the text; "" if the template fails."""
        variables = {"messages": messages, "add_generation_prompt": prompt, "bos_token": "", "eos_token": ""}
        if tools and self._tools_variable:
            variables[self._tools_variable] = [tool_for_probes(name) for name in NAMES]
        started = time.thread_time()
        try:
            return render_variables(self.template, variables, max_seconds=max(0.0, min(self._left, PROBE_SECONDS)))
        except TemplateError:
            if time.thread_time() - started > PROBE_SECONDS:  # it would take the same time again
                self._left = 0.0
            return ""
        finally:
            self._left -= time.thread_time() - started

    def question(self) -> list[Message]:
        """Return the first message."""
        return [{"role": "user", "content": self.content(QUESTION)}]

    def content(self, text: str) -> Any:
        return text if self.takes_text else [{"type": "text", "text": text}]

    def calls(self, n: int, ids: Sequence[str] = SHORT_IDS) -> list[dict[str, Any]]:
        """Return n calls, each with an argument."""
        arguments = [{KEY: value} for value in VALUES[:n]]
        given = [json.dumps(each) if self.text_arguments else each for each in arguments]
        return [
            {"id": ids[i], "type": "function", "function": {"name": NAMES[i], "arguments": each}}
            for i, each in enumerate(given)
        ]

    def answer(self, content: str, calls: Iterable[Message] = ()) -> Message:
        """Return the model's message. `content`: words; or how it is empty, as in `EMPTIES`."""
        message: dict[str, Any] = {"role": "assistant", "content": None if content == "null" else self.content(content)}
        if content == "text":
            message["content"] = self.content("")
        elif content == "absent":
            del message["content"]
        return {**message, "tool_calls": list(calls)} if calls else message

    def result(self, i: int = 0, named: bool = True, ids: Sequence[str] = SHORT_IDS) -> Message:
        """Return the result of a call."""
        name = {"name": NAMES[i]} if named else {}
        return {"role": "tool", **name, "tool_call_id": ids[i], "content": self.content(RESULTS[i])}

    def keeps(self, messages: Sequence[Message], parts: Iterable[str]) -> bool:
        """Whether the parts of these messages are all in the prompt, and where the conversation goes on."""
        return self.quality(messages, parts) > 0

    def quality(self, messages: Sequence[Message], parts: Iterable[str]) -> int:
        """Count in how many conversations all parts of the messages are in the prompt, without artefacts."""
        parts, further = list(parts), [self.answer(ANSWER), {"role": "user", "content": self.content(THANKS)}]
        texts = [self.render([*self.question(), *messages], True), self.render([*self.question(), *messages, *further])]
        plain = self.render([*self.question(), *further])
        good = [text for text in texts if all(part in text for part in parts)]
        return sum(2 - any(text.count(sign) > plain.count(sign) for sign in ARTEFACTS) for text in good)

    def count(self, messages: Sequence[Message], part: str) -> int:
        """How often a text is in the prompt."""
        return self.render([*self.question(), *messages], True).count(part)

    def find_calls(self) -> tuple[bool, tuple[Empty, ...]]:
        """Find whether arguments are a text, and the best ways in which a content is empty."""
        qualities: dict[tuple[bool, Empty], int] = {}
        for self.text_arguments in (False, True):
            for empty in EMPTIES:
                call = self.answer(empty, self.calls(1))
                shown = [self.quality([call], [NAMES[0], VALUES[0]]), self.quality([call, self.result()], VALUES[:1])]
                qualities[self.text_arguments, empty] = sum(shown)
        best = max(qualities.values())
        as_text = not any(qualities[False, empty] == best for empty in EMPTIES)
        return as_text, tuple(empty for empty in EMPTIES if qualities[as_text, empty] == best > 0)


def tool_for_probes(name: str) -> dict[str, Any]:
    """Return a tool with one argument."""
    properties = {KEY: {"type": "string", "description": "A text."}}
    parameters = {"type": "object", "properties": properties, "required": [KEY]}
    return {"type": "function", "function": {"name": name, "description": "A tool.", "parameters": parameters}}
