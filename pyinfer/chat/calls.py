"""A model's turn in a chat: from messages to what it is asked for, and from its text to a message.

`LLM.chat`, `LLM.stream_chat` and those of `AsyncLLM` are made of this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from pyinfer.chat.answer import Answer, AnswerParser
from pyinfer.chat.conversation import ChatPrompt, prepare_chat
from pyinfer.chat.templates import turn_ends
from pyinfer.chat.tools import ToolCall, ToolChoice
from pyinfer.errors import ParameterError
from pyinfer.guides.guide import Guide
from pyinfer.sampling.params import SamplingParams
from pyinfer.tasks.results import Completion
from pyinfer.tokenizer import Tokenizer

ChatFinishReason = Literal["stop", "length", "tool_calls"]


@dataclass(frozen=True)
class ChatCompletion:
    """A model's answer. completion: the text that it is made of, with its tokens, counts and times.

    content: None where there are calls and nothing else; reasoning: None where thoughts were not asked for.
    finish_reason: "tool_calls" where the model calls and came to its end; otherwise that of the completion.
    choices: all answers where n was above 1, this one first.
    """

    answer: Answer
    completion: Completion
    choices: tuple[ChatCompletion, ...] = ()

    @property
    def content(self) -> str | None:
        return self.answer.content

    @property
    def reasoning(self) -> str | None:
        return self.answer.reasoning

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        return self.answer.tool_calls

    @property
    def finish_reason(self) -> ChatFinishReason:
        reason = self.completion.finish_reason
        return "tool_calls" if reason == "stop" and self.tool_calls else reason

    @property
    def message(self) -> dict[str, Any]:
        """The answer as OpenAI's API has it, which can be one of the next messages."""
        return self.answer.as_dict()

    @property
    def usage(self) -> dict[str, Any]:
        """Counts of tokens as in OpenAI's API, of all choices together."""
        done = self.completion
        n_generated = sum(choice.completion.completion_tokens for choice in self.choices or (self,))
        return {
            "prompt_tokens": done.prompt_tokens,
            "completion_tokens": n_generated,
            "total_tokens": done.prompt_tokens + n_generated,
            "prompt_tokens_details": {"cached_tokens": done.cached_tokens},
        }


@dataclass(frozen=True)
class Turn:
    """What a model is asked for. visible_tokens: control tokens that the parser must see."""

    prompt: ChatPrompt
    params: SamplingParams
    visible_tokens: frozenset[int]
    reasoning: bool

    def one_text(self) -> SamplingParams:
        """The parameters, for a stream. ParameterError where they ask for several answers."""
        if (self.params.best_of or self.params.n) > 1:
            raise ParameterError(
                f"n is {self.params.n}, best_of {self.params.best_of}; a chat's stream gives one answer (use chat)"
            )
        return self.params

    def parser(self) -> AnswerParser:
        return self.prompt.parser(self.reasoning)

    def result(self, completion: Completion) -> ChatCompletion:
        """The whole text as an answer; of each choice where there are several."""
        choices = tuple(self.result(choice) for choice in completion.choices)
        parser = self.parser()
        parser.push(completion.text)
        parser.finish()
        return ChatCompletion(parser.answer(), completion, choices)


def prepare_turn(
    tokenizer: Tokenizer,
    messages: Sequence[Mapping[str, Any]],
    params: SamplingParams | None = None,
    *,
    template: str | None = None,
    tools: Sequence[Mapping[str, Any]] | None = None,
    tool_choice: ToolChoice = "auto",
    constrain_tools: bool | None = None,
    parallel_tool_calls: bool = True,
    documents: Sequence[Mapping[str, Any]] | None = None,
    reasoning: bool = False,
    **variables: Any,
) -> Turn:
    """The prompt and parameters for a model's turn.

    template, tools, tool_choice, documents, variables: as `prepare_chat` takes them. reasoning: thoughts come apart
    from the content. constrain_tools: a grammar makes malformed calls impossible (`pip install pyinfer[guided]`);
    None: where the model must call a function. parallel_tool_calls: that grammar allows more than one.

    With a template that is not of the model's file the text also ends where the template goes on to the next turn.

    Raises what prepare_chat raises, and ParameterError where calls are to be constrained and the way that the model
    writes them is not known, or params has a guide.
    """
    own = SamplingParams() if params is None else params
    if not isinstance(own, SamplingParams):
        raise ParameterError(f"params is a {type(own).__name__}; expected SamplingParams")
    prompt = prepare_chat(
        tokenizer, messages, template, tools=tools, tool_choice=tool_choice, documents=documents, **variables
    )
    if prompt.template not in (tokenizer.chat_template, *tokenizer.chat_templates.values()):
        ids, texts = turn_ends(tokenizer, prompt.template)
        own = replace(own, stop=(*own.stop, *texts), stop_token_ids=(*own.stop_token_ids, *ids))
    must_call = bool(prompt.tools) and tool_choice != "auto"
    if prompt.tools and (must_call if constrain_tools is None else constrain_tools):
        own = replace(own, guide=_call_guide(tokenizer, prompt, own, parallel_tool_calls))
    return Turn(prompt, own, prompt.visible_tokens(tokenizer, reasoning), reasoning)


def _call_guide(tokenizer: Tokenizer, prompt: ChatPrompt, params: SamplingParams, parallel: bool) -> Guide:
    if params.guide is not None:
        raise ParameterError("params has a guide, and tool calls are constrained; expected one of them")
    grammar = prompt.grammar(tokenizer, parallel)
    if grammar is None:
        raise ParameterError("tool calls can't be constrained: how this chat template writes them is not known")
    return Guide.lark(grammar)
