"""Chat handlers of programs: functions that answer messages, or that make prompts of them, by the names of formats."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from pyinfer.compat.formats import FORMATS
from pyinfer.compat.sampling import StoppingCriteriaList
from pyinfer.errors import ParameterError

Messages = Sequence[Mapping[str, Any]]
OWN_HANDLERS = ("functionary", "functionary-v1", "functionary-v2", "chatml-function-calling")
Registered = TypeVar("Registered", bound=Callable[..., Any])


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


class LlamaChatCompletionHandlerNotFoundException(ParameterError):
    """There is no chat format of this name."""


class LlamaChatCompletionHandlerRegistry:
    """The chat handlers that programs have registered; all instances are the same registry."""

    _chat_handlers: dict[str, LlamaChatCompletionHandler] = {}  # noqa: RUF012

    def register_chat_completion_handler(
        self, name: str, chat_handler: LlamaChatCompletionHandler, overwrite: bool = False
    ) -> None:
        """Register a handler for `Llama(chat_format=name)`. Raises ParameterError for a name that is in use."""
        if not overwrite and (name in self._chat_handlers or name in FORMATS or name in OWN_HANDLERS):
            raise ParameterError(f"the chat format {name!r} exists; overwrite=True replaces it")
        self._chat_handlers[name] = chat_handler

    def unregister_chat_handler(self, name: str) -> None:
        """Forget a handler. Raises ParameterError if none was registered."""
        if name not in self._chat_handlers:
            raise ParameterError(f"no chat handler was registered as {name!r}")
        del self._chat_handlers[name]

    def registered(self, name: str | None) -> LlamaChatCompletionHandler | None:
        """Return the handler that was registered, or None."""
        return self._chat_handlers.get(name) if isinstance(name, str) else None


def chat_formatter_to_chat_completion_handler(chat_formatter: ChatFormatter) -> LlamaChatCompletionHandler:
    """Return a chat handler that uses a formatter's prompts."""

    def handler(*, llama: Any, messages: Messages, **arguments: Any) -> Any:
        return llama.chat_by_formatter(chat_formatter, {**arguments, "messages": messages})

    return handler


def register_chat_completion_handler(name: str) -> Callable[[Registered], Registered]:
    """Decorate a chat handler: `Llama(chat_format=name)` then calls it. Raises ParameterError for a name in use."""

    def decorate(handler: Registered) -> Registered:
        LlamaChatCompletionHandlerRegistry().register_chat_completion_handler(name, handler)
        return handler

    return decorate


def register_chat_format(name: str) -> Callable[[Registered], Registered]:
    """Decorate a formatter: `Llama(chat_format=name)` then uses its prompts. Raises ParameterError for a name in use.

    @register_chat_format("plain")
    def plain(messages, **variables):
        return ChatFormatterResponse(prompt="\\n".join(m["content"] for m in messages))
    """

    def decorate(formatter: Registered) -> Registered:
        handler = chat_formatter_to_chat_completion_handler(formatter)
        LlamaChatCompletionHandlerRegistry().register_chat_completion_handler(name, handler)
        return formatter

    return decorate
