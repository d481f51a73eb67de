"""What one call of `chat` asks for: the answer of one chat, or of many, which run together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol, cast

from pyinfer.api.job import Job, Params, naming, params_of_each, samples_of
from pyinfer.arguments import items_in_order
from pyinfer.chat.calls import ChatCompletion, Turn
from pyinfer.sampling.params import SamplingParams
from pyinfer.tasks.generation import Generation
from pyinfer.tasks.prompt import Prompt

Chat = Sequence[Mapping[str, Any]]  # a list of messages


class MakeJob(Protocol):
    def __call__(self, prompt: Prompt, params: SamplingParams, visible_tokens: Collection[int]) -> Job: ...


class ChatJob:
    """The tasks of one call, and the answers that are made of their results.

    - `messages`, `params`: as for `LLM.chat`.
    - `prepare`: a function of (messages, parameters) that returns a turn.
    - `make_job`: a function of a turn's prompt, parameters and visible tokens that returns the tasks of its texts.
    - `admit` (None): as for Job.

    Raises ParameterError as Job does, and what `prepare`, `make_job` and `admit` raise.
    """

    def __init__(
        self,
        messages: Chat | Iterable[Chat],
        params: Params,
        prepare: Callable[[Chat, SamplingParams], Turn],
        make_job: MakeJob,
        admit: Callable[[int], None] | None = None,
    ) -> None:
        chats, self._many = one_or_many_chats(messages)
        own_params = params_of_each(params, len(chats) if self._many else None, "chats")
        names = [f"chat {i}" if self._many else "" for i in range(len(chats))]
        self._turns: list[Turn] = []
        for name, chat, own in zip(names, chats, own_params, strict=True):
            with naming(name):
                self._turns.append(prepare(chat, own))
        if admit is not None:
            admit(sum(len(samples_of(turn.params)) for turn in self._turns))
        self._jobs: list[Job] = []
        for name, turn in zip(names, self._turns, strict=True):
            with naming(name):
                self._jobs.append(make_job(turn.prompt.tokens, turn.params, turn.visible_tokens))

    @property
    def tasks(self) -> list[Generation]:
        return [task for job in self._jobs for task in job.tasks]

    def result(self) -> ChatCompletion | list[ChatCompletion]:
        """Return the answer, or a list for a list of chats, in their order. All tasks must be finished."""
        answers = [turn.result(job.completion()) for turn, job in zip(self._turns, self._jobs, strict=True)]
        return answers if self._many else answers[0]


def one_or_many_chats(messages: Chat | Iterable[Chat]) -> tuple[list[Chat], bool]:
    """Return the lists of messages, and whether there are several: a list, column or generator of such lists."""
    items = items_in_order(messages)
    if items and all(items_in_order(item) is not None for item in items):
        return items, True
    return [cast(Chat, messages if items is None or isinstance(messages, Sequence) else items)], False
