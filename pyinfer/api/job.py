"""What one call of `generate` asks for: one prompt or many, and one text or several for each prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from pyinfer.errors import ParameterError, PyinferError
from pyinfer.sampling.params import SamplingParams
from pyinfer.sampling.sampler import derived_seed
from pyinfer.tasks.generation import Generation
from pyinfer.tasks.prompt import Prompt, one_or_many
from pyinfer.tasks.results import Completion

Params = SamplingParams | Sequence[SamplingParams] | None


class Job:
    """The tasks of one call, and the completions that are made of their results.

    - `prompt`, `params`: as for `LLM.generate`.
    - `make`: a function of (prompt, parameters of one text) that returns a task.
    - `admit` (None): a function that is called with the number of tasks before they are made; it may raise an error.

    Raises ParameterError where `params` are not SamplingParams, or not as many as there are prompts, and what `make`
    and `admit` raise.
    """

    def __init__(
        self,
        prompt: Prompt | Iterable[Prompt],
        params: Params,
        make: Callable[[Prompt, SamplingParams], Generation],
        admit: Callable[[int], None] | None = None,
    ) -> None:
        prompts, self._many = one_or_many(prompt)
        self._params = params_of_each(params, len(prompts) if self._many else None)
        samples = [samples_of(own) for own in self._params]
        if admit is not None:
            admit(sum(map(len, samples)))
        self._groups = []
        for i, own in enumerate(samples):
            with naming(f"prompt {i}" if self._many else ""):
                self._groups.append([make(prompts[i], sample) for sample in own])

    @property
    def tasks(self) -> list[Generation]:
        return [generation for group in self._groups for generation in group]

    def result(self) -> Completion | list[Completion]:
        """Return the completion, or a list for a list of prompts, in their order. All tasks must be finished."""
        completions = self._completions()
        return completions if self._many else completions[0]

    def completion(self) -> Completion:
        """Return the completion of the first prompt."""
        return self._completions()[0]

    def _completions(self) -> list[Completion]:
        completions = []
        for group, params in zip(self._groups, self._params, strict=True):
            samples = [generation.completion for generation in group if generation.completion is not None]
            completions.append(with_choices(samples, params.n, params.logprobs is not None))
        return completions


def params_of_each(params: Params, n: int | None, what: str = "prompts") -> list[SamplingParams]:
    """Return the parameters of each of n prompts, or chats; None: of a single one, for which a list is refused."""
    if params is None or isinstance(params, SamplingParams):
        return [params or SamplingParams()] * (1 if n is None else n)
    if n is None or not isinstance(params, Sequence):
        raise ParameterError(f"params is a {type(params).__name__}; expected SamplingParams")
    if len(params) != n:
        raise ParameterError(f"there are {len(params)} params for {n} {what}; expected one for each")
    return list(params)


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Begin the message of an error with which prompt, or chat, it is about. Nothing changes without a name."""
    try:
        yield
    except PyinferError as error:
        if not name:
            raise
        raise type(error)(f"{name}: {error}") from error


def samples_of(params: SamplingParams) -> list[SamplingParams]:
    """Return the parameters of each text of a prompt.

    Each text has a seed of its own, and reports log-probabilities where the best texts are chosen by them.
    """
    if not isinstance(params, SamplingParams):
        raise ParameterError(f"params is a {type(params).__name__}; expected SamplingParams")
    n = params.best_of or params.n
    if n == 1:
        return [params]
    logprobs = 0 if params.logprobs is None and n > params.n else params.logprobs
    seed = params.seed
    seeds = [seed if seed is None or i == 0 else derived_seed(seed, i) for i in range(n)]
    return [replace(params, n=1, best_of=None, seed=seed, logprobs=logprobs) for seed in seeds]


def with_choices(samples: Sequence[Completion], n: int, keep_logprobs: bool) -> Completion:
    """Return one completion whose choices are the `n` samples with the highest mean log-probability of a token.

    Where all samples are wanted, they stay in their order.
    """
    kept = list(samples)
    if n < len(kept):
        kept.sort(key=_mean_logprob, reverse=True)
    if not keep_logprobs:
        kept = [replace(sample, logprobs=None) for sample in kept]
    return replace(kept[0], choices=tuple(kept[:n]) if n > 1 else ())


def _mean_logprob(sample: Completion) -> float:
    logprobs = [choice.logprob for choice in sample.logprobs or () if choice.logprob is not None]
    return sum(logprobs) / len(logprobs) if logprobs else 0.0
