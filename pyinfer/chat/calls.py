"""A model's turn in a chat: messages become a prompt and parameters, and the generated text becomes a message.

`chat` and `stream_chat` of `LLM` and `AsyncLLM` are built on this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from pyinfer.arguments import shortened
from pyinfer.chat.answer import Answer, AnswerParser
from pyinfer.chat.conversation import ChatPrompt, prepare_chat
from pyinfer.chat.keywords import sort_keywords
from pyinfer.chat.templates import choose_template, turn_ends
from pyinfer.chat.tool_formats import DEFAULT_FORMAT
from pyinfer.chat.tools import ToolCall, ToolChoice
from pyinfer.errors import ParameterError
from pyinfer.guides.guide import Guide
from pyinfer.sampling.params import SamplingParams
from pyinfer.tasks.results import Completion
from pyinfer.tokenizer import Tokenizer

ChatFinishReason = Literal["stop", "length", "tool_calls"]


@dataclass(frozen=True)
class ChatCompletion:
    """Hold a model's answer, and the completion that it was read from.

    - `content`: the text; None where the answer has tool calls and nothing else.
    - `reasoning`: the model's reasoning; None where it was not asked for.
    - `tool_calls`: the functions that the model calls, in their order.
    - `finish_reason`: "tool_calls" where the model called functions and ended by itself; otherwise the completion's.
    - `message`: the answer as a message of OpenAI's API.
    - `usage`: counts of tokens.
    - `completion`: the generated text with its tokens, counts and times.
    - `choices`: all answers, this one first, where `n` was above 1; otherwise empty.

        done = llm.chat([{"role": "user", "content": "Hello"}])
        print(done.content, done.usage["completion_tokens"])
    """

    answer: Answer
    completion: Completion
    choices: tuple[ChatCompletion, ...] = ()

    def __repr__(self) -> str:
        """Show the beginning of the answer and counts, and not thousands of token ids."""
        content = None if self.content is None else shortened(self.content)
        calls = f", tool_calls={[call.name for call in self.tool_calls]}" if self.tool_calls else ""
        choices = f", choices={len(self.choices)}" if self.choices else ""
        done = self.completion
        return (
            f"ChatCompletion(content={content}{calls}, finish_reason={self.finish_reason!r}, "
            f"prompt_tokens={done.prompt_tokens}, completion_tokens={done.completion_tokens}{choices})"
        )

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
        """The answer in the form of OpenAI's API. It can be one of the messages of the next call."""
        return self.answer.as_dict()

    @property
    def usage(self) -> dict[str, Any]:
        """Counts of tokens in the form of OpenAI's API, summed over all choices."""
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
    """What a model is asked for.

    - `prompt`, `params`: what it generates the answer from.
    - `visible_tokens`: ids of control tokens that `parser` needs as text.
    - `reasoning`: whether the parser separates the reasoning from the content.
    """

    prompt: ChatPrompt
    params: SamplingParams
    visible_tokens: frozenset[int]
    reasoning: bool

    def one_text(self) -> SamplingParams:
        """Return the parameters, for a stream. Raises ParameterError where they ask for several answers."""
        if (self.params.best_of or self.params.n) > 1:
            raise ParameterError(
                f"n is {self.params.n}, best_of {self.params.best_of}; a chat's stream gives one answer (use chat)"
            )
        return self.params

    def parser(self) -> AnswerParser:
        return self.prompt.parser(self.reasoning)

    def result(self, completion: Completion) -> ChatCompletion:
        """Read a whole text, and those of its choices, as answers."""
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
    add_generation_prompt: bool = True,
    continue_final_message: bool = False,
    template_kwargs: Mapping[str, Any] | None = None,
    **keywords: Any,
) -> Turn:
    """Prepare a model's turn: render messages to a prompt, and complete the parameters.

    - `messages`, `template`, `tools`, `tool_choice`, `documents`, `add_generation_prompt`, `continue_final_message`: as
      for `prepare_chat`.
    - `params` (None): how the text is generated; None: the defaults of SamplingParams.
    - `constrain_tools` (None): whether a grammar makes malformed tool calls impossible; None: only where `tool_choice`
      makes the model call a function.
    - `parallel_tool_calls` (True): that grammar allows more than one call, where the model was taught a format.
    - `reasoning` (False): separate the model's reasoning from the content; otherwise it is a part of the content.
    - `template_kwargs` (None): variables of the template, such as {"enable_thinking": False}.
    - `keywords`: fields of SamplingParams, which replace those of `params`; and variables that the template reads.

    Returns a Turn. If the template is not from the model's file, its parameters also end the text where the template
    would begin the next turn. Raises what `prepare_chat` raises, and ParameterError for any other keyword, and where
    calls shall be constrained but the format of the model's calls is unknown or `params` has a guide.

        turn = prepare_turn(tokenizer, [{"role": "user", "content": "Hello"}], max_tokens=50)
        answer = turn.result(llm.generate(turn.prompt.tokens, turn.params))
    """
    own = SamplingParams() if params is None else params
    if not isinstance(own, SamplingParams):
        raise ParameterError(f"params is a {type(own).__name__}; expected SamplingParams")
    given = sort_keywords(keywords, template_kwargs, lambda: choose_template(tokenizer, template, bool(tools)))
    own = replace(own, **given.sampling)
    prompt = prepare_chat(
        tokenizer,
        messages,
        template,
        tools=tools,
        tool_choice=tool_choice,
        documents=documents,
        add_generation_prompt=add_generation_prompt,
        continue_final_message=continue_final_message,
        **given.variables,
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
    # a model that was taught no format does not know when calls are enough
    grammar = prompt.grammar(tokenizer, parallel and prompt.tool_format != DEFAULT_FORMAT)
    if grammar is None:
        raise ParameterError(
            "tool calls can't be constrained: how this chat template writes them is not known; "
            "tool_choice='required' has them written in JSON"
        )
    return Guide.lark(grammar)
