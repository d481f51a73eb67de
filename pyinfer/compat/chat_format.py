"""What projects import from llama-cpp-python's `llama_chat_format`: types of handlers, and templates as handlers."""

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
    """A function that `Llama(chat_handler=…)` calls with create_chat_completion's arguments, in place of a template."""

    def __call__(self, *, llama: Any, messages: Messages, **arguments: Any) -> Any: ...


@dataclass
class ChatFormatterResponse:
    """The prompt for messages.

    `stop` and `stopping_criteria` end the answer. `added_special`: the prompt has its begin token already.
    """

    prompt: str
    stop: str | list[str] | None = None
    stopping_criteria: StoppingCriteriaList | None = None
    added_special: bool = False


class ChatFormatter(Protocol):
    """A function that makes a prompt of messages."""

    def __call__(self, *, messages: Messages, **variables: Any) -> ChatFormatterResponse: ...


class Jinja2ChatFormatter(ChatFormatter):
    """Make prompts by a template in Jinja. A call raises TemplateError for messages that the template refuses.

    - `template`: its source.
    - `eos_token`, `bos_token`: the texts of its special tokens.
    - `add_generation_prompt` (True): end the prompt where the model's answer begins.
    - `stop_token_ids` (None): ids that end the answer.

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
        """Render messages. `variables` are further variables of the template, such as tools."""
        prompt = render(self.template, messages, **{**variables, **self._variables})
        ends = self.stop_token_ids
        criteria = None if ends is None else StoppingCriteriaList([lambda tokens, logits: int(tokens[-1]) in ends])
        return ChatFormatterResponse(prompt, [self.eos_token], criteria, added_special=True)

    def to_chat_handler(self) -> LlamaChatCompletionHandler:
        """Return a chat_handler that uses this template, with tools and streams, in place of the file's template."""
        parameters = inspect.signature(Chats.create_chat_completion).parameters
        usual = {name: parameter.default for name, parameter in parameters.items()}

        def handler(*, llama: Chats, messages: Messages, **arguments: Any) -> Any:
            given = {**usual, **arguments, "messages": messages}
            return llama.chat_by(self.template, given, tuple(self.stop_token_ids or ()), **self._variables)

        return handler
