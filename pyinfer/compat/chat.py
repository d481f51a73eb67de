"""Chats, with the arguments and results of llama-cpp-python's `create_chat_completion`."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pyinfer.chat import ChatPrompt, Turn, prepare_turn
from pyinfer.chat.rendering import tools_variable
from pyinfer.chat.templates import choose_template
from pyinfer.compat.chat_choices import call_guide, format_name, messages_of, response_guide, template_of, tools_of
from pyinfer.compat.chat_writer import CallParser, ChatWriter, Parser
from pyinfer.compat.handlers import (
    ChatFormatter,
    LlamaChatCompletionHandler,
    LlamaChatCompletionHandlerRegistry,
    Messages,
)
from pyinfer.compat.sampling import (
    Grammar,
    Processors,
    ending_processor,
    sampling_params,
    stops_of,
)
from pyinfer.compat.types import CreateChatCompletionResponse, CreateChatCompletionStreamResponse
from pyinfer.compat.vocabulary import Vocabulary
from pyinfer.errors import ParameterError
from pyinfer.sampling.params import SamplingParams

Response = CreateChatCompletionResponse | Iterator[CreateChatCompletionStreamResponse]


class Chats(Vocabulary):
    """`Llama`'s methods that answer messages."""

    @property
    def chat_format(self) -> str | None:
        """The name of the format of chats: the one that was given or set, or that of the file's template.

        It is None where there is a chat_handler. The file's template is used until a chat_format is given or set.
        """
        if self._chat_format is None and self.chat_handler is None:
            return format_name(self._tokenizer.chat_template)
        return self._chat_format

    @chat_format.setter
    def chat_format(self, chat_format: str | None) -> None:
        self._chat_format = chat_format

    @property
    def _chat_handlers(self) -> dict[str, LlamaChatCompletionHandler]:
        """A handler for each template of the file, under llama-cpp-python's names."""
        names = [*self._tokenizer.chat_templates]
        handlers = {name: template_handler(name) for name in names}
        if self._tokenizer.chat_template is not None:
            handlers["chat_template.default"] = template_handler("chat_template.default")
        return handlers

    def create_chat_completion(
        self,
        messages: Sequence[Mapping[str, Any]],
        functions: Sequence[Mapping[str, Any]] | None = None,
        function_call: str | Mapping[str, Any] | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: str | Mapping[str, Any] | None = None,
        temperature: float = 0.2,
        top_p: float = 0.95,
        top_k: int = 40,
        min_p: float = 0.05,
        typical_p: float = 1.0,
        stream: bool = False,
        stop: str | Sequence[str] | None = None,
        seed: int | None = None,
        response_format: Mapping[str, Any] | None = None,
        max_tokens: int | None = None,
        presence_penalty: float = 0.0,
        frequency_penalty: float = 0.0,
        repeat_penalty: float = 1.0,
        tfs_z: float = 1.0,
        mirostat_mode: int = 0,
        mirostat_tau: float = 5.0,
        mirostat_eta: float = 0.1,
        model: str | None = None,
        logits_processor: Processors = None,
        grammar: Grammar = None,
        logit_bias: Mapping[Any, float] | None = None,
        logprobs: bool | None = None,
        top_logprobs: int | None = None,
    ) -> CreateChatCompletionResponse | Iterator[CreateChatCompletionStreamResponse]:
        """Answer messages by the chat template.

        Arguments and their defaults are llama-cpp-python's. Those that need a word:

        - `messages`, `tools`: as for `LLM.chat`. Where the chat template has no place for tools, they are ignored with
          a warning, unless one must be called.
        - `tool_choice` (None): "auto", "none", "required" or a function; the last two constrain the text to calls.
        - `response_format` (None): {"type": "json_object", "schema": …} constrains the text to JSON.
        - `stream` (False): return an iterator over chunks.

        Returns a dictionary in the form of OpenAI's API, or with `stream` an iterator over one for each chunk. Raises
        what `LLM.chat` and `create_completion` raise.

            llama.create_chat_completion([{"role": "user", "content": "Hello"}])["choices"][0]["message"]["content"]
        """
        given = {name: value for name, value in locals().items() if name != "self"}
        handler = self.chat_handler or LlamaChatCompletionHandlerRegistry().registered(self._chat_format)
        if handler is not None:
            return handler(llama=self, **given)  # type: ignore[no-any-return]
        template, stop = template_of(self._chat_format, self._tokenizer, has_tools(given))
        return self.chat_by(template, given, stop=stop)

    def chat_by(
        self,
        template: str | None,
        given: Mapping[str, Any],
        stop_token_ids: Sequence[int] = (),
        stop: Sequence[str] = (),
        **variables: Any,
    ) -> Response:
        """Answer by a template.

        `template` and `variables` are as for `prepare_turn`; `given` are the arguments of create_chat_completion;
        `stop` and `stop_token_ids` end the answer, too.
        """
        tools, choice = chosen_tools(given)
        if tools and choice == "auto":
            source = choose_template(self._tokenizer, template, with_tools=True)
            if not tools_variable(source):
                warnings.warn(
                    "tools are ignored: the chat template has no place for tools; chat_format='chatml' has one",
                    stacklevel=3,
                )
                tools = []
        variables = {**self._template_variables, **variables}
        params = self._chat_params(given, None, stop, stop_token_ids)
        turn = prepare_turn(
            self._tokenizer,
            messages_of(given["messages"]),
            params,
            template=template,
            tools=tools or None,
            tool_choice=choice,
            add_generation_prompt=variables.pop("add_generation_prompt", True),
            template_kwargs=variables,
        )
        if self._own_tokenizer is not None:
            turn = replace(turn, prompt=replace(turn.prompt, tokens=self._own_tokens(turn.prompt.text)))
        return self._answer(turn, turn.parser(), given)

    def chat_by_formatter(self, formatter: ChatFormatter, arguments: Mapping[str, Any]) -> Response:
        """Answer by the prompt of a formatter, to which `arguments` that create_chat_completion has none of go."""
        given, variables = completed(arguments)
        names = ("functions", "function_call", "tools", "tool_choice")
        made = formatter(messages=given["messages"], **{name: given[name] for name in names}, **variables)
        tools, choice = chosen_tools(given)
        call = call_guide(tools, choice) if tools else None
        params = self._chat_params(given, call and call[0], stops_of(made.stop))
        if made.stopping_criteria is not None and params.guide is None:  # a guide ends the text itself
            ending = ending_processor(made.stopping_criteria, self._tokenizer.eog_ids)
            params = replace(params, logits_processors=(*params.logits_processors, ending))
        tokens = self.tokenize(made.prompt.encode("utf-8"), add_bos=not made.added_special, special=True)
        turn = Turn(ChatPrompt(made.prompt, tokens, template=""), params, frozenset(), reasoning=False)
        return self._answer(turn, CallParser(call[1]) if call else turn.parser(), given)

    def _chat_params(
        self, given: Mapping[str, Any], guide: Any, stop: Sequence[str], stop_token_ids: Sequence[int] = ()
    ) -> SamplingParams:
        """Return the parameters of an answer. `guide`: of a call, which takes precedence as in llama-cpp-python."""
        form = response_guide(given["response_format"])
        if form is not None and given["grammar"] is not None:
            raise ParameterError("grammar and response_format are given; expected one of them")
        if guide is not None and (form is not None or given["grammar"] is not None):
            raise ParameterError("a tool must be called, and the answer has a form; expected one of them")
        own = stops_of(given["stop"])
        return sampling_params(
            {
                **given,
                "grammar": guide or form or given["grammar"],
                "seed": self._seed_for(given["seed"]),
                "stop": [*own, *stop] if stop and isinstance(own, Sequence) else own,
            },
            repetition_window=self.last_n_tokens_size,
            logprobs=(given["top_logprobs"] or 0) if given["logprobs"] else None,
            stop_token_ids=stop_token_ids,
        )

    def _answer(self, turn: Turn, parser: Parser, given: Mapping[str, Any]) -> Response:
        writer = ChatWriter(self._tokenizer, given["model"] or self.model_path, parser, bool(given["functions"]))
        return self._respond(writer, turn.prompt.tokens, turn.params, bool(given["stream"]), turn.visible_tokens)

    def create_chat_completion_openai_v1(self, *args: Any, **kwargs: Any) -> Any:
        """Answer as create_chat_completion does, with the result as classes of the `openai` package."""
        try:
            from openai.types.chat import ChatCompletion, ChatCompletionChunk  # type: ignore[import-not-found, unused-ignore]
        except ImportError as error:
            raise ParameterError("create_chat_completion_openai_v1 needs `pip install openai`") from error
        answer = self.create_chat_completion(*args, **kwargs)
        if isinstance(answer, dict):
            return ChatCompletion.model_validate(answer)
        return (ChatCompletionChunk.model_validate(chunk) for chunk in answer)


USUAL = {name: one.default for name, one in inspect.signature(Chats.create_chat_completion).parameters.items()}


def completed(arguments: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return create_chat_completion's arguments, with the defaults of missing ones, and the other arguments."""
    given = {name: arguments.get(name, usual) for name, usual in USUAL.items() if name != "self"}
    return given, {name: value for name, value in arguments.items() if name not in given}


def chosen_tools(given: Mapping[str, Any]) -> tuple[list[dict[str, Any]], Any]:
    return tools_of(*(given[name] for name in ("functions", "function_call", "tools", "tool_choice")))


def has_tools(given: Mapping[str, Any]) -> bool:
    return bool(given["functions"] or given["tools"])


def template_handler(chat_format: str) -> LlamaChatCompletionHandler:
    """Return a chat handler that answers by a format; further arguments are variables of its template."""

    def handler(*, llama: Chats, messages: Messages, **arguments: Any) -> Any:
        given, variables = completed({**arguments, "messages": messages})
        template, stop = template_of(chat_format, llama._tokenizer, has_tools(given))
        return llama.chat_by(template, given, stop=stop, **variables)

    return handler
