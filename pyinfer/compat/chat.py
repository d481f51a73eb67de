"""Chats, with the arguments and results of llama-cpp-python's `create_chat_completion`."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pyinfer.api.stream import Stream
from pyinfer.arguments import quoted
from pyinfer.chat import AnswerDelta, Turn, builtin_templates, prepare_turn
from pyinfer.chat.templates import choose_template, template_variables
from pyinfer.chat.tools import ToolChoice, check_tools, tool_names
from pyinfer.compat.logprobs import chat_logprobs
from pyinfer.compat.model import Model
from pyinfer.compat.response import ResponseWriter, usage_of
from pyinfer.compat.sampling import Grammar, Processors, sampling_params
from pyinfer.compat.types import (
    ChatCompletionLogprobs,
    ChatCompletionResponseChoice,
    ChatCompletionResponseMessage,
    ChatCompletionStreamResponseDelta,
    CreateChatCompletionResponse,
    CreateChatCompletionStreamResponse,
    FinishReason,
)
from pyinfer.errors import ParameterError
from pyinfer.guides.guide import Guide
from pyinfer.sampling.logprobs import Choice
from pyinfer.tasks.results import Completion
from pyinfer.tokenizer import Tokenizer

# llama-cpp-python's names of formats that have another name here
FORMATS = {
    "chat_template.default": "default",
    "chatml-function-calling": "chatml",
    "qwen": "chatml",
    "mistral-instruct": "mistral",
}
WITHOUT_TEMPLATE = "llama-2"  # what llama-cpp-python takes for files without a template
# The SHA-256 of the templates that llama-cpp-python has a name for, and that name
NAMED_TEMPLATES = {
    "153280e3ff55d19da1398bdb3914ee2a51b80429bfaedde11d7d216c39db80f3": "chatml",
    "7e995b379ec01747807246483647cd99030abf331653f1119e16d7ac041a3495": "mistral-instruct",  # Mistral 7B v0.1
    "26a59556925c987317ce5291811ba3b7f32ec4c647c400c6cc7e3a9993007ba7": "mistral-instruct",  # Mixtral 8x7B v0.1
    "ba03a121d097859c7b5b9cd03af99aafe95275210d2876f642ad9929a150f122": "llama-3",
}


def format_name(template: str | None) -> str:
    """Return llama-cpp-python's name of the format of chats where no chat_format is given.

    `template`: the source of the file's template.
    """
    if template is None:
        return WITHOUT_TEMPLATE
    digest = hashlib.sha256(template.encode("utf-8", errors="replace")).hexdigest()
    return NAMED_TEMPLATES.get(digest, "chat_template.default")


def template_of(chat_format: str | None, tokenizer: Tokenizer) -> str | None:
    """Return the template for `prepare_turn`. Raises ParameterError for a format that does not exist here."""
    if chat_format is None:
        return None if tokenizer.chat_template is not None else WITHOUT_TEMPLATE
    is_text = isinstance(chat_format, str)
    name = FORMATS.get(chat_format, chat_format).removeprefix("chat_template.") if is_text else ""
    known = [*builtin_templates(), *tokenizer.chat_templates, "default"]
    if name not in known and "{" not in name:
        raise ParameterError(
            f"chat_format is {quoted(chat_format)}; expected None (the file's), "
            f"one of {', '.join([*FORMATS, *known])}, or a template in Jinja"
        )
    return name


def tools_of(
    functions: Sequence[Mapping[str, Any]] | None,
    function_call: str | Mapping[str, Any] | None,
    tools: Sequence[Mapping[str, Any]] | None,
    tool_choice: str | Mapping[str, Any] | None,
) -> tuple[list[dict[str, Any]], ToolChoice]:
    """Return the tools and the choice among them. `functions` and `function_call` are an older form of the same.

    Raises ParameterError for tools or a choice of another form.
    """
    if functions:
        if isinstance(functions, str | Mapping) or not isinstance(functions, Sequence):
            raise ParameterError(f"functions is {quoted(functions)}; expected a list")
        tools, tool_choice = [{"type": "function", "function": function} for function in functions], function_call
    given = check_tools(tools or None)
    names = tool_names(given)
    if isinstance(tool_choice, Mapping):
        function = tool_choice.get("function", tool_choice)
        name = function.get("name") if isinstance(function, Mapping) else None
    elif tool_choice in ("auto", "none", "required", None):
        return given, "auto" if tool_choice is None or not given else tool_choice  # type: ignore[return-value]
    else:
        name = tool_choice
    if name not in names:
        raise ParameterError(
            f"tool_choice is {quoted(tool_choice)}; expected 'auto', 'none', 'required' or one of {names}"
        )
    return given, {"type": "function", "function": {"name": name}}


def usable_tools(
    tokenizer: Tokenizer, template: str | None, tools: list[dict[str, Any]], choice: ToolChoice
) -> list[dict[str, Any]]:
    """Return the tools; or none, with a warning, where the template has no place for them.

    llama-cpp-python answers without tools, too. Raises ParameterError where a tool must be called.
    """
    if not tools or choice == "none":
        return tools
    if "tools" in template_variables(choose_template(tokenizer, template, with_tools=True)):
        return tools
    problem = "the chat template has no place for tools; chat_format='chatml' has one"
    if choice != "auto":
        raise ParameterError(f"tool_choice is {quoted(choice)}; {problem}")
    warnings.warn(f"tools are ignored: {problem}", stacklevel=4)
    return []


def response_guide(response_format: Mapping[str, Any] | None) -> Guide | None:
    """Return the guide that a response_format asks for. Raises ParameterError for an unknown one."""
    if response_format is None:
        return None
    kind = response_format.get("type") if isinstance(response_format, Mapping) else None
    if kind == "text":
        return None
    if kind == "json_object":
        return Guide.json(response_format.get("schema") or {"type": "object"})
    if kind == "json_schema" and isinstance(response_format.get("json_schema"), Mapping):
        return Guide.json(response_format["json_schema"].get("schema", {}))
    raise ParameterError(
        f"response_format is {quoted(response_format)}; expected {{'type': 'text'}} or "
        "{'type': 'json_object', 'schema': …}"
    )


class ChatWriter(ResponseWriter[CreateChatCompletionResponse, CreateChatCompletionStreamResponse]):
    """Writes answers. `as_function`: a tool call becomes the message's function_call, which is the older form."""

    def __init__(self, tokenizer: Tokenizer, model: str, turn: Turn, as_function: bool) -> None:
        super().__init__(tokenizer, model, "chatcmpl")
        self._parser = turn.parser()
        self._as_function = as_function

    def whole(self, done: Completion) -> CreateChatCompletionResponse:
        self._parser.push(done.text)
        self._parser.finish()
        answer = self._parser.answer()
        message: ChatCompletionResponseMessage = {"role": "assistant", "content": answer.content}
        if answer.tool_calls and self._as_function:
            call = answer.tool_calls[0]
            message["function_call"] = {"name": call.name, "arguments": call.arguments}
        elif answer.tool_calls:
            message["tool_calls"] = answer.as_dict()["tool_calls"]
        choice: ChatCompletionResponseChoice = {
            "index": 0,
            "message": message,
            "logprobs": None if done.logprobs is None else chat_logprobs(self._tokenizer, done.logprobs),
            "finish_reason": self._reason(done),
        }
        return {
            "id": self._id,
            "object": "chat.completion",
            "created": self._created,
            "model": self._model,
            "choices": [choice],
            "usage": usage_of(done),
        }

    def chunks(self, stream: Stream) -> Iterator[CreateChatCompletionStreamResponse]:
        """Yield a chunk with the role, one for each delta of the answer, and one with the reason why it ends."""
        waiting: list[Choice] = []
        with stream:
            yield self._chunk({"role": "assistant"})
            for piece in stream:
                waiting += piece.logprobs
                for delta in self._parser.push(piece.text):
                    yield self._chunk(self._delta(delta), self._logprobs(waiting))
            for delta in self._parser.finish():
                yield self._chunk(self._delta(delta), self._logprobs(waiting))
        if stream.completion is not None:
            yield self._chunk({}, None, self._reason(stream.completion))

    def _logprobs(self, waiting: list[Choice]) -> ChatCompletionLogprobs | None:
        """Return the log-probabilities of the tokens since the last chunk, and empty the list."""
        if not waiting:
            return None
        written = chat_logprobs(self._tokenizer, waiting)
        waiting.clear()
        return written

    def _delta(self, delta: AnswerDelta) -> ChatCompletionStreamResponseDelta:
        if delta.tool_calls and self._as_function:
            call = delta.tool_calls[0]
            return {"function_call": {"name": call.name, "arguments": call.arguments}}
        return delta.as_dict()  # type: ignore[return-value]

    def _reason(self, done: Completion) -> FinishReason:
        if done.finish_reason == "stop" and self._parser.answer().tool_calls:
            return "function_call" if self._as_function else "tool_calls"
        return done.finish_reason

    def _chunk(
        self,
        delta: ChatCompletionStreamResponseDelta,
        logprobs: ChatCompletionLogprobs | None = None,
        finish_reason: FinishReason | None = None,
    ) -> CreateChatCompletionStreamResponse:
        return {
            "id": self._id,
            "model": self._model,
            "created": self._created,
            "object": "chat.completion.chunk",
            "choices": [{"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}],
        }


class Chats(Model):
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
        if self.chat_handler is not None:
            return self.chat_handler(llama=self, **given)  # type: ignore[no-any-return]
        return self.chat_by(template_of(self._chat_format, self._tokenizer), given)

    def chat_by(
        self, template: str | None, given: Mapping[str, Any], stop_token_ids: Sequence[int] = (), **variables: Any
    ) -> CreateChatCompletionResponse | Iterator[CreateChatCompletionStreamResponse]:
        """Answer by a template.

        `template` and `variables` are as for `prepare_turn`; `given` are the arguments of create_chat_completion.
        """
        tools, choice = tools_of(*(given[name] for name in ("functions", "function_call", "tools", "tool_choice")))
        tools = usable_tools(self._tokenizer, template, tools, choice)
        guide = response_guide(given["response_format"])
        if guide is not None and given["grammar"] is not None:
            raise ParameterError("grammar and response_format are given; expected one of them")
        sampling = {**given, "grammar": guide or given["grammar"], "seed": self._seed_for(given["seed"])}
        params = sampling_params(
            sampling,
            repetition_window=self.last_n_tokens_size,
            logprobs=(given["top_logprobs"] or 0) if given["logprobs"] else None,
            stop_token_ids=stop_token_ids,
        )
        turn = prepare_turn(
            self._tokenizer,
            given["messages"],
            params,
            template=template,
            tools=tools or None,
            tool_choice=choice,
            **variables,
        )
        tokens = turn.prompt.tokens
        writer = ChatWriter(self._tokenizer, given["model"] or self.model_path, turn, bool(given["functions"]))
        return self._respond(writer, tokens, turn.params, bool(given["stream"]), turn.visible_tokens)

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
