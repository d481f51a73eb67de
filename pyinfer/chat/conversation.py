"""Renders messages and encodes them as the token ids of a prompt.

Only the template can write control tokens: "<|im_end|>" in a message is a text of ten characters.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyinfer.chat.answer import AnswerParser
from pyinfer.chat.messages import check_messages, plain, with_system_text
from pyinfer.chat.reasoning import ReasoningFormat, reasoning_format, reasoning_opened
from pyinfer.chat.rendering import tools_variable
from pyinfer.chat.shield import encode_rendered
from pyinfer.chat.templates import choose_template, render
from pyinfer.chat.tool_formats import DEFAULT_FORMAT, ToolFormat
from pyinfer.chat.tool_grammar import tool_grammar
from pyinfer.chat.tool_probe import tool_format
from pyinfer.chat.tool_writer import written_calls
from pyinfer.chat.tools import ToolChoice, check_tools, chosen_tools
from pyinfer.errors import ParameterError
from pyinfer.tokenizer import Tokenizer

SPECIAL_VARIABLES = {"bos_token": "bos_id", "eos_token": "eos_id", "unk_token": "unknown_id", "pad_token": "padding_id"}


@dataclass(frozen=True)
class ChatPrompt:
    """A rendered prompt, and what is needed to read the answer to it.

    - `text`, `tokens`: the prompt.
    - `template`: the source of the template that rendered it.
    - `tools`: the tools that the prompt shows; `tool_choice`: as it was given.
    - `tool_format`: how the model writes tool calls; None if there are no tools, or if the format is not known.
    """

    text: str
    tokens: list[int]
    template: str
    tools: tuple[dict[str, Any], ...] = ()
    tool_choice: ToolChoice = "auto"
    tool_format: ToolFormat | None = None

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
    variable = tools_variable(source)
    must_call = bool(shown) and tool_choice != "auto"
    if shown and variable is None and not must_call:
        raise ParameterError(
            "tools are given, but the chat template has no place for them; template='chatml' has one, "
            "and with tool_choice='required' a system message describes them"
        )
    form = (tool_format(source) or (DEFAULT_FORMAT if must_call else None)) if shown else None
    checked = check_messages(messages, source)
    if must_call and variable is None and form is not None:
        checked = with_system_text(checked, _described(chosen_tools(shown, tool_choice), form), source)
    special = {name: _token_text(tokenizer, getattr(tokenizer, key)) for name, key in SPECIAL_VARIABLES.items()}
    special |= {name: value for name, value in variables.items() if name in special}
    data = {
        **{name: value for name, value in variables.items() if name not in special},
        "messages": checked,
        "tools": None,
        "documents": plain(documents, "documents"),
    }
    data[variable or "tools"] = plain(shown, "tools") or None

    def rendered(data: Mapping[str, Any]) -> str:
        if continue_final_message:
            text = render(source, add_generation_prompt=False, **{**special, **data})
            return _up_to_the_end_of(text, data["messages"][-1])
        return render(source, add_generation_prompt=add_generation_prompt, **{**special, **data})

    text, tokens = encode_rendered(tokenizer, source, data, rendered)
    if tokenizer.add_bos and tokenizer.bos_id is not None and tokens[:1] != [tokenizer.bos_id]:
        tokens.insert(0, tokenizer.bos_id)
    return ChatPrompt(text, tokens, source, tuple(shown), tool_choice, form)


def _described(tools: Sequence[Mapping[str, Any]], form: ToolFormat) -> str:
    """Return what a system message says of tools, where the template has no place for them."""
    lines = [json.dumps(plain(tool["function"], "tools"), ensure_ascii=False) for tool in tools]
    example = written_calls(form, [("the function's name", {"an argument": "its value"})])
    return "\n".join(["Answer with a call of one of these functions:", *lines, "", f"Write a call so: {example}"])


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


def _token_text(tokenizer: Tokenizer, token: int | None) -> str:
    return "" if token is None else tokenizer.token_bytes(token).decode(errors="replace")
