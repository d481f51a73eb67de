"""What one call of `generate` asks for: one prompt or many, and one text or several for each prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast

import numpy as np

from pyinfer.arguments import as_list_or_none
from pyinfer.errors import ParameterError
from pyinfer.sampling.params import SamplingParams
from pyinfer.sampling.sampler import derived_seed
from pyinfer.tasks.generation import Generation
from pyinfer.tasks.prompt import Prompt
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
        prompt: Prompt | Sequence[Prompt],
        params: Params,
        make: Callable[[Prompt, SamplingParams], Generation],
        admit: Callable[[int], None] | None = None,
    ) -> None:
        self._many = is_many(prompt)
        prompts = list(cast(Sequence[Prompt], prompt)) if self._many else [cast(Prompt, prompt)]
        if params is None or isinstance(params, SamplingParams):
            self._params = [params or SamplingParams()] * len(prompts)
        elif self._many and isinstance(params, Sequence):
            self._params = list(params)
        else:
            raise ParameterError(f"params is a {type(params).__name__}; expected SamplingParams")
        if len(self._params) != len(prompts):
            raise ParameterError(
                f"there are {len(self._params)} params for {len(prompts)} prompts; expected one for each"
            )
        samples = [samples_of(own) for own in self._params]
        if admit is not None:
            admit(sum(map(len, samples)))
        self._groups = [[make(p, s) for s in own] for p, own in zip(prompts, samples, strict=True)]

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


def is_many(prompt: Prompt | Sequence[Prompt]) -> bool:
    """Whether this is a list of prompts (and not one prompt, which may be a list of token ids)."""
    items = as_list_or_none(prompt) if isinstance(prompt, Sequence | np.ndarray) else None
    return items is not None and len(items) > 0 and isinstance(items[0], str | Sequence | np.ndarray)


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
