"""What projects import of llama-cpp-python's `llama_chat_format`: the types of handlers, and templates as handlers."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pyinfer.chat.templates import render
from pyinfer.compat.chat import Chats
from pyinfer.compat.sampling import StoppingCriteriaList

Messages = Sequence[Mapping[str, Any]]


class LlamaChatCompletionHandler(Protocol):
    """What `Llama(chat_handler=…)` calls in place of a template, with create_chat_completion's arguments."""

    def __call__(self, *, llama: Any, messages: Messages, **arguments: Any) -> Any: ...


@dataclass
class ChatFormatterResponse:
    """The prompt for messages. stop, stopping_criteria: what ends the answer; added_special: it has its begin token."""

    prompt: str
    stop: str | list[str] | None = None
    stopping_criteria: StoppingCriteriaList | None = None
    added_special: bool = False


class ChatFormatter(Protocol):
    """What makes a prompt of messages."""

    def __call__(self, *, messages: Messages, **variables: Any) -> ChatFormatterResponse: ...


class Jinja2ChatFormatter(ChatFormatter):
    """A template in Jinja with its special tokens. Raises TemplateError for messages that it refuses, as LLM.chat does.

    Llama("model.gguf", chat_handler=Jinja2ChatFormatter(source, "</s>", "<s>").to_chat_handler())
    """

    def __init__(
        self,
        template: str,
        eos_token: str,
        bos_token: str,
        add_generation_prompt: bool = True,
        stop_token_ids: Sequence[int] | None = None,
    ) -> None:
        self.template, self.eos_token, self.bos_token = template, eos_token, bos_token
        self.add_generation_prompt = add_generation_prompt
        self.stop_token_ids = None if stop_token_ids is None else set(stop_token_ids)

    @property
    def _variables(self) -> dict[str, Any]:
        names = ("eos_token", "bos_token", "add_generation_prompt")
        return {name: getattr(self, name) for name in names}

    def __call__(self, *, messages: Messages, **variables: Any) -> ChatFormatterResponse:
        """The prompt; variables: the template's, such as tools."""
        prompt = render(self.template, messages, **{**variables, **self._variables})
        ends = self.stop_token_ids
        criteria = None if ends is None else StoppingCriteriaList([lambda tokens, logits: int(tokens[-1]) in ends])
        return ChatFormatterResponse(prompt, [self.eos_token], criteria, added_special=True)

    def to_chat_handler(self) -> LlamaChatCompletionHandler:
        """A chat_handler that answers by this template, as Llama does by that of the file: tools, streams and all."""
        parameters = inspect.signature(Chats.create_chat_completion).parameters
        usual = {name: parameter.default for name, parameter in parameters.items()}

        def handler(*, llama: Chats, messages: Messages, **arguments: Any) -> Any:
            given = {**usual, **arguments, "messages": messages}
            return llama.chat_by(self.template, given, tuple(self.stop_token_ids or ()), **self._variables)

        return handler
