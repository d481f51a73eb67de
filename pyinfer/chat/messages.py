"""Checks messages, and gives them the form that a template expects."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pyinfer.chat.quirks import TemplateQuirks
from pyinfer.chat.templates import template_quirks
from pyinfer.chat.tool_formats import DEFAULT_FORMAT
from pyinfer.chat.tool_probe import tool_format
from pyinfer.chat.tool_writer import written_calls
from pyinfer.errors import ParameterError

ROLES = (
    *("system", "developer", "user", "assistant", "tool"),
    # roles that some families' templates have
    *("control", "document", "environment", "function", "ipython", "tool_response", "tool_results"),
)
REASONING_KEYS = ("reasoning_content", "thinking", "reasoning")
MEDIA = ("image", "image_url", "input_image", "audio", "input_audio", "video", "video_url", "file")
RESULT = "<tool_response>\n{}\n</tool_response>"  # a result in a user's message, as Hermes and Qwen write it

Message = dict[str, Any]


def check_messages(messages: Sequence[Mapping[str, Any]], template: str) -> list[Message]:
    """Return copies of messages, in the form that a template expects. Raises ParameterError for what is no message."""
    if isinstance(messages, (str, Mapping)) or not isinstance(messages, Sequence) or not messages:
        raise ParameterError(f"messages is {messages!r:.60}; expected a list of {{'role': …, 'content': …}}")
    quirks = template_quirks(template)
    checked = [_checked(message, f"messages[{i}]", template, quirks) for i, message in enumerate(messages)]
    checked = list(_without_functions(checked, quirks))
    if any(message.get("tool_calls") or message["role"] == "tool" for message in checked):
        return list(_History(checked, template, quirks).messages())
    return checked


def with_system_text(messages: list[Message], text: str, template: str) -> list[Message]:
    """Return messages with a text at the end of the system message, or before the first message of a user."""
    quirks = template_quirks(template)
    role = "system" if quirks.takes_system else "user"
    at = next((i for i, message in enumerate(messages) if message["role"] == role), None)
    if at is None:
        return [{"role": role, "content": _content(text, "", template, quirks)}, *messages]
    parts = (_text_of(messages[at]), text) if role == "system" else (text, _text_of(messages[at]))
    joined = {**messages[at], "content": _content("\n\n".join(filter(None, parts)), "", template, quirks)}
    return [*messages[:at], joined, *messages[at + 1 :]]


def _checked(message: Mapping[str, Any], where: str, template: str, quirks: TemplateQuirks) -> Message:
    if not isinstance(message, Mapping):
        raise ParameterError(f"{where} is a {type(message).__name__}; expected {{'role': …, 'content': …}}")
    role = message.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise ParameterError(f"{where}: role is {role!r:.60}; expected one of {', '.join(ROLES)}")
    checked: Message = plain(message, where)
    if role == "developer" and "developer" not in template:
        checked["role"] = "system"
    calls = checked.get("tool_calls")
    if not calls and isinstance(checked.get("function_call"), dict) and "function_call" not in template:
        calls = [{"id": f"call{where[9:-1]:0>5}", "type": "function", "function": checked.pop("function_call")}]
    if checked.get("content") is not None:
        checked["content"] = _content(checked["content"], f"{where}: content", template, quirks)
    elif not calls and "function_call" not in checked and not any(checked.get(key) for key in REASONING_KEYS):
        raise ParameterError(f"{where}: content is missing; expected a text or a list of text parts")
    if calls:
        checked["tool_calls"] = _calls(calls, f"{where}: tool_calls", quirks)
    else:
        checked.pop("tool_calls", None)  # templates look whether there is the key
    reasoning = next((checked[key] for key in REASONING_KEYS if checked.get(key) is not None), None)
    if reasoning is not None:
        checked = {"thinking": reasoning, **checked, "reasoning_content": reasoning}
    return checked


def _content(content: Any, where: str, template: str, quirks: TemplateQuirks) -> Any:
    if isinstance(content, str):
        return content if quirks.takes_text else [{"type": "text", "text": content}]
    if not isinstance(content, list):
        raise ParameterError(f"{where} is a {type(content).__name__}; expected a text or a list of text parts")
    own = any(_has_own_keys(part, template) for part in content)
    for i, part in enumerate(content):
        is_text = isinstance(part, dict) and isinstance(part.get("text"), str) and part.get("type") == "text"
        if not is_text and not _has_own_keys(part, template):
            kind = part.get("type") if isinstance(part, dict) else type(part).__name__
            raise ParameterError(f"{where}[{i}] is of the type {kind!r:.60}; expected {{'type': 'text', 'text': …}}")
    return content if own or quirks.takes_parts else "\n".join(part["text"] for part in content)


def _has_own_keys(part: Any, template: str) -> bool:
    """Whether a part of a content has keys that this template reads, beside those of texts."""
    if not isinstance(part, dict) or part.get("type") in MEDIA:
        return False
    return any(key not in ("type", "text") and key in template for key in part)


def _calls(calls: Any, where: str, quirks: TemplateQuirks) -> list[Message]:
    if not isinstance(calls, list):
        raise ParameterError(f"{where} is a {type(calls).__name__}; expected a list")
    checked = []
    for i, call in enumerate(calls):
        function = call.get("function", call) if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise ParameterError(f"{where}[{i}] is {call!r:.60}; expected a function with its name and arguments")
        arguments = _arguments(function.get("arguments"), f"{where}[{i}]: arguments", quirks)
        changed = {**function, "arguments": arguments}
        checked.append({**call, "function": changed} if "function" in call else changed)
        checked[-1].setdefault("type", "function")
    return checked


def _arguments(arguments: Any, where: str, quirks: TemplateQuirks) -> Any:
    if isinstance(arguments, str):
        if quirks.text_arguments and arguments:
            return arguments
        try:
            arguments = json.loads(arguments or "{}", strict=False)
        except ValueError as error:
            raise ParameterError(f"{where} is {arguments!r:.60}, which is not JSON: {error}") from None
    arguments = {} if arguments is None else arguments
    if not isinstance(arguments, dict):
        raise ParameterError(f"{where} is a {type(arguments).__name__}; expected an object or its JSON")
    return json.dumps(arguments, ensure_ascii=False) if quirks.text_arguments else arguments


def _without_functions(messages: list[Message], quirks: TemplateQuirks) -> Iterator[Message]:
    """Yield messages with results of tools in place of those of functions, the older form, where these are dropped."""
    last: dict[str, str] = {}  # the ids of the latest calls, by the functions' names
    for message in messages:
        for call in message.get("tool_calls", ()):
            last[call.get("function", call)["name"]] = call.get("id") or ""
        if message["role"] == "function" and not quirks.takes_functions:
            message = {"tool_call_id": last.get(str(message.get("name")), ""), **message, "role": "tool"}
        yield message


class _History:
    """Gives messages with calls and results the form in which a template shows all of them."""

    def __init__(self, messages: list[Message], template: str, quirks: TemplateQuirks) -> None:
        self._given = messages
        self._template = template
        self._quirks = quirks
        self._names: dict[str, str] = {}  # of the functions, by the ids of their calls

    def messages(self) -> Iterator[Message]:
        given = self._given
        at = 0
        while at < len(given):
            message = given[at]
            end = at + 1
            while end < len(given) and given[end]["role"] == "tool":
                end += 1
            results = given[at + 1 : end] if message["role"] != "tool" else given[at:end]
            if message.get("tool_calls"):
                yield from self._turn(message, results)
            else:
                yield from [message] if message["role"] != "tool" else []
                yield from self._results(results)
            at = end

    def _turn(self, message: Message, results: list[Message]) -> Iterator[Message]:
        """Yield a message with calls, and their results."""
        quirks, calls = self._quirks, [self._with_id(call) for call in message["tool_calls"]]
        for call in calls:
            self._names[call.get("id") or ""] = call.get("function", call)["name"]
        message = {**message, "tool_calls": calls}
        if not quirks.empties:
            yield self._as_text(message)
            yield from self._results(results)
            return
        if _text_of(message) and not quirks.takes_words:
            yield {key: value for key, value in message.items() if key != "tool_calls"}
            message = {"role": message["role"], "content": None, "tool_calls": calls}
        message = self._with_empty_content(message)
        if len(calls) == 1 or quirks.takes_several:
            yield message
            yield from self._results(results)
            return
        left = list(results)
        for i, call in enumerate(calls):
            own = [result for result in left if call.get("id") and self._id_of(result) == call["id"]] or left[:1]
            own = own if len(left) > len(calls) - 1 - i else own[:1]
            left = [result for result in left if not any(result is each for each in own)]
            first = message if i == 0 else self._with_empty_content({"role": message["role"], "content": None})
            yield {**first, "tool_calls": [call]}
            yield from self._results(own)
        yield from self._results(left)

    def _with_empty_content(self, message: Message) -> Message:
        """Return a message whose content, if it has no words, is empty in a way that the template understands."""
        content = message.get("content")
        if _text_of(message):
            return message
        given = "absent" if "content" not in message else "null" if content is None else "text"
        if given in self._quirks.empties:
            return message
        best = self._quirks.empties[0]
        rest = {key: value for key, value in message.items() if key != "content"}
        if best == "absent":
            return rest
        empty = "" if self._quirks.takes_text else [{"type": "text", "text": ""}]
        return {**message, "content": None if best == "null" else empty}

    def _as_text(self, message: Message) -> Message:
        """Return a message in which calls are a part of the text, as the model would have written them."""
        form = tool_format(self._template) or DEFAULT_FORMAT
        functions = [call.get("function", call) for call in message["tool_calls"]]
        calls = [(function["name"], _object_of(function["arguments"])) for function in functions]
        text = "\n".join(filter(None, [_text_of(message), written_calls(form, calls)]))
        rest = {key: value for key, value in message.items() if key != "tool_calls"}
        return {**rest, "content": text if self._quirks.takes_text else [{"type": "text", "text": text}]}

    def _results(self, results: list[Message]) -> Iterator[Message]:
        if self._quirks.takes_results:
            yield from map(self._named, results)
        elif results:
            text = "\n".join(RESULT.format(_text_of(result)) for result in results)
            yield {"role": "user", "content": text if self._quirks.takes_text else [{"type": "text", "text": text}]}

    def _named(self, result: Message) -> Message:
        """Return a result with the id and, where the template needs it, the name of its call."""
        result = {**result, "tool_call_id": self._id_of(result)} if result.get("tool_call_id") else result
        name = self._names.get(result.get("tool_call_id") or "")
        if name is None or result.get("name") or not self._quirks.names_results:
            return result
        return {**result, "name": name}

    def _with_id(self, call: Message) -> Message:
        return {**call, "id": self._short(call["id"])} if isinstance(call.get("id"), str) else call

    def _id_of(self, result: Message) -> str:
        return self._short(result["tool_call_id"]) if isinstance(result.get("tool_call_id"), str) else ""

    def _short(self, call_id: str) -> str:
        """Return an id that the template accepts, the same for the same id."""
        if not self._quirks.short_ids or (len(call_id) == 9 and call_id.isascii() and call_id.isalnum()):
            return call_id
        return hashlib.sha256(call_id.encode(errors="replace")).hexdigest()[:9]


def _text_of(message: Mapping[str, Any]) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else "\n".join(str(part.get("text", "")) for part in content)


def _object_of(arguments: Any) -> dict[str, Any]:
    """Return arguments as a dict, though a message may have them as JSON."""
    value = json.loads(arguments, strict=False) if isinstance(arguments, str) else arguments
    return value if isinstance(value, dict) else {}


def plain(value: Any, where: str) -> Any:
    """Copy a value to dicts and lists, which templates distinguish and JSON can write."""
    try:
        return _copied(value, where)
    except RecursionError:
        raise ParameterError(f"{where} contains itself, or lists and dicts that are nested too deep") from None


def _copied(value: Any, where: str) -> Any:
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise ParameterError(f"{where} has the key {key!r:.60}; expected texts")
        return {key: _copied(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_copied(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if value is None or isinstance(value, (str, int, float)):
        return value
    raise ParameterError(f"{where} is a {type(value).__name__}; expected texts, numbers, lists and dicts")
