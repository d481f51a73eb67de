"""Renders messages and encodes them as the token ids of a prompt.

Only the template can write control tokens: "<|im_end|>" in a message is a text of ten characters.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyinfer.chat.answer import AnswerParser
from pyinfer.chat.reasoning import ReasoningFormat, reasoning_format, reasoning_opened
from pyinfer.chat.shield import encode_rendered
from pyinfer.chat.templates import TemplateQuirks, choose_template, render, template_quirks, template_variables
from pyinfer.chat.tool_grammar import tool_grammar
from pyinfer.chat.tools import ToolChoice, ToolFormat, check_tools, chosen_tools, tool_format
from pyinfer.errors import ParameterError
from pyinfer.tokenizer import Tokenizer

ROLES = (
    *("system", "developer", "user", "assistant", "tool"),
    # roles that some families' templates have
    *("control", "document", "environment", "function", "ipython", "tool_response", "tool_results"),
)
REASONING_KEYS = ("reasoning_content", "thinking", "reasoning")
SPECIAL_VARIABLES = {"bos_token": "bos_id", "eos_token": "eos_id", "unk_token": "unknown_id", "pad_token": "padding_id"}


@dataclass(frozen=True)
class ChatPrompt:
    """A rendered prompt, and what is needed to read the answer to it.

    - `text`, `tokens`: the prompt.
    - `template`: the source of the template that rendered it.
    - `tools`: the tools that the prompt shows; `tool_choice`: as it was given.
    """

    text: str
    tokens: list[int]
    template: str
    tools: tuple[dict[str, Any], ...] = ()
    tool_choice: ToolChoice = "auto"

    @property
    def tool_format(self) -> ToolFormat | None:
        """How the model writes tool calls; None if there are no tools, or if the format is not known."""
        return tool_format(self.template) if self.tools else None

    @property
    def reasoning_format(self) -> ReasoningFormat | None:
        """How the model marks its reasoning; None if it does not."""
        return reasoning_format(self.template)

    def parser(self, reasoning: bool = False) -> AnswerParser:
        """Return a parser for the answer. `reasoning`: separate the reasoning, which is text otherwise."""
        return AnswerParser(
            self.reasoning_format if reasoning else None,
            self.tool_format,
            chosen_tools(self.tools, self.tool_choice),
            reasoning_opened=self._reasoning_opened,
            tool_opened=self._tool_opened,
        )

    def grammar(self, tokenizer: Tokenizer, parallel: bool = True) -> str | None:
        """Return a grammar that allows no malformed call, by `tool_grammar`; None if there is nothing to constrain."""
        form = self.tool_format
        if form is None:
            return None
        return tool_grammar(
            tokenizer,
            form,
            self.tools,
            self.tool_choice,
            parallel=parallel,
            opened=self._tool_opened,
            reasoning=self.reasoning_format,
            reasoning_opened=self._reasoning_opened,
        )

    def visible_tokens(self, tokenizer: Tokenizer, reasoning: bool = False) -> frozenset[int]:
        """Return the control tokens that `parser` needs as text, for `Tokenizer.stream_decoder(visible_tokens=…)`."""
        marks = [] if self.tool_format is None else self.tool_format.marks
        if reasoning and self.reasoning_format is not None:
            marks = [*marks, self.reasoning_format.start, self.reasoning_format.end]
        return frozenset(token for mark in marks for _, _, token in tokenizer.find_special(mark))

    @property
    def _tool_opened(self) -> str:
        form = self.tool_format
        return form.start if form is not None and form.text_name and self.text.endswith(form.start) else ""

    @property
    def _reasoning_opened(self) -> bool:
        form = self.reasoning_format
        return form is not None and reasoning_opened(form, self.text)


def encode_chat(
    tokenizer: Tokenizer, messages: Sequence[Mapping[str, Any]], template: str | None = None, **kwargs: Any
) -> list[int]:
    """Return the token ids of the prompt that `prepare_chat` returns.

    - `tokenizer`, `messages`, `template`, `kwargs`: as for `prepare_chat`, whose errors it raises.

        encode_chat(tokenizer, [{"role": "user", "content": "Hello"}])
    """
    return prepare_chat(tokenizer, messages, template, **kwargs).tokens


def prepare_chat(
    tokenizer: Tokenizer,
    messages: Sequence[Mapping[str, Any]],
    template: str | None = None,
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
    tool_choice: ToolChoice = "auto",
    documents: Sequence[Mapping[str, Any]] | None = None,
    add_generation_prompt: bool = True,
    continue_final_message: bool = False,
    **variables: Any,
) -> ChatPrompt:
    """Render messages to a prompt and encode it.

    - `tokenizer`: the model's, with the templates of its file.
    - `messages`: as in OpenAI's API: a list of {"role": …, "content": a text or a list of text parts, …}.
    - `template` (None): a name or a source, as for `choose_template`; None: the model's own.
    - `tools` (None): functions that the model may call, as in OpenAI's API.
    - `tool_choice` ("auto"): "auto", "none", "required" or {"type": "function", "function": {"name": …}}.
    - `documents` (None): [{"title": …, "text": …}], for templates that use them.
    - `add_generation_prompt` (True): end the prompt where the model's answer begins.
    - `continue_final_message` (False): end the prompt after the text of the last message, so that the model continues
      that message and begins no new one.
    - `variables`: further variables of the template, such as `enable_thinking`.

    Returns a ChatPrompt. Special tokens that the template writes become control tokens; in the arguments they are text.
    The begin token is added where the model asks for it and the template does not write it. Raises ParameterError for
    messages, tools or a template of another form, and TemplateError if the template refuses them.

        prepare_chat(tokenizer, [{"role": "user", "content": "Hello"}]).tokens
    """
    chosen_tools(tools, tool_choice)
    shown = [] if tool_choice == "none" else check_tools(tools)
    source = choose_template(tokenizer, template, with_tools=bool(shown))
    if shown and "tools" not in template_variables(source):
        raise ParameterError("tools are given, but the chat template has no place for them; template='chatml' has one")
    special = {name: _token_text(tokenizer, getattr(tokenizer, key)) for name, key in SPECIAL_VARIABLES.items()}
    special |= {name: value for name, value in variables.items() if name in special}
    data = {
        **{name: value for name, value in variables.items() if name not in special},
        "messages": check_messages(messages, source),
        "tools": _plain(shown, "tools") or None,
        "documents": _plain(documents, "documents"),
    }

    def rendered(data: Mapping[str, Any]) -> str:
        if continue_final_message:
            text = render(source, add_generation_prompt=False, **{**special, **data})
            return _up_to_the_end_of(text, data["messages"][-1])
        return render(source, add_generation_prompt=add_generation_prompt, **{**special, **data})

    text, tokens = encode_rendered(tokenizer, source, data, rendered)
    if tokenizer.add_bos and tokenizer.bos_id is not None and tokens[:1] != [tokenizer.bos_id]:
        tokens.insert(0, tokenizer.bos_id)
    return ChatPrompt(text, tokens, source, tuple(shown), tool_choice)


def _up_to_the_end_of(text: str, message: Mapping[str, Any]) -> str:
    """Return a prompt without what its template writes after the text of the last message."""
    content = message.get("content")
    if not isinstance(content, str):  # parts of text
        content = content[-1].get("text", "") if content else ""
    words = content.strip()
    at = text.rfind(words) if words else -1
    if at < 0:
        raise ParameterError(
            f"continue_final_message is True; the prompt does not have the last message's text, {words!r:.60}"
        )
    end = at + len(words)
    space = content[len(content.rstrip()) :]
    return text[: end + len(space)] if text.startswith(space, end) else text[:end]


def check_messages(messages: Sequence[Mapping[str, Any]], template: str) -> list[dict[str, Any]]:
    """Return copies of messages, in the form that a template expects. Raises ParameterError for what is no message."""
    if isinstance(messages, (str, Mapping)) or not isinstance(messages, Sequence) or not messages:
        raise ParameterError(f"messages is {messages!r:.60}; expected a list of {{'role': …, 'content': …}}")
    habits = template_quirks(template)
    return [_checked(message, f"messages[{i}]", template, habits) for i, message in enumerate(messages)]


def _checked(message: Mapping[str, Any], where: str, template: str, habits: TemplateQuirks) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        raise ParameterError(f"{where} is a {type(message).__name__}; expected {{'role': …, 'content': …}}")
    role = message.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise ParameterError(f"{where}: role is {role!r:.60}; expected one of {', '.join(ROLES)}")
    checked: dict[str, Any] = _plain(message, where)
    if role == "developer" and "developer" not in template:
        checked["role"] = "system"
    calls = checked.get("tool_calls")
    if checked.get("content") is not None:
        checked["content"] = _content(checked["content"], f"{where}: content", habits)
    elif not calls and "function_call" not in checked and not any(checked.get(key) for key in REASONING_KEYS):
        raise ParameterError(f"{where}: content is missing; expected a text or a list of text parts")
    elif calls and not habits.takes_none:
        checked["content"] = _content("", where, habits)
    if calls is not None:
        checked["tool_calls"] = _calls(calls, f"{where}: tool_calls", habits)
    reasoning = next((checked[key] for key in REASONING_KEYS if checked.get(key) is not None), None)
    if reasoning is not None:
        checked = {"thinking": reasoning, **checked, "reasoning_content": reasoning}
    return checked


def _content(content: Any, where: str, habits: TemplateQuirks) -> Any:
    if isinstance(content, str):
        return content if habits.takes_text else [{"type": "text", "text": content}]
    if not isinstance(content, list):
        raise ParameterError(f"{where} is a {type(content).__name__}; expected a text or a list of text parts")
    for i, part in enumerate(content):
        if not isinstance(part, dict) or not isinstance(part.get("text"), str) or part.get("type") != "text":
            kind = part.get("type") if isinstance(part, dict) else type(part).__name__
            raise ParameterError(f"{where}[{i}] is of the type {kind!r:.60}; expected {{'type': 'text', 'text': …}}")
    return content if habits.takes_parts else "\n".join(part["text"] for part in content)


def _calls(calls: Any, where: str, habits: TemplateQuirks) -> list[dict[str, Any]]:
    if not isinstance(calls, list):
        raise ParameterError(f"{where} is a {type(calls).__name__}; expected a list")
    checked = []
    for i, call in enumerate(calls):
        function = call.get("function", call) if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise ParameterError(f"{where}[{i}] is {call!r:.60}; expected a function with its name and arguments")
        arguments = _arguments(function.get("arguments", {}), f"{where}[{i}]: arguments", habits)
        changed = {**function, "arguments": arguments}
        checked.append({**call, "function": changed} if "function" in call else changed)
    return checked


def _arguments(arguments: Any, where: str, habits: TemplateQuirks) -> Any:
    if isinstance(arguments, str):
        if habits.text_arguments:
            return arguments
        try:
            arguments = json.loads(arguments or "{}")
        except ValueError as error:
            raise ParameterError(f"{where} is {arguments!r:.60}, which is not JSON: {error}") from None
    if not isinstance(arguments, dict):
        raise ParameterError(f"{where} is a {type(arguments).__name__}; expected an object or its JSON")
    return json.dumps(arguments, ensure_ascii=False) if habits.text_arguments else arguments


def _plain(value: Any, where: str) -> Any:
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


def _token_text(tokenizer: Tokenizer, token: int | None) -> str:
    return "" if token is None else tokenizer.token_bytes(token).decode(errors="replace")
