"""The keywords of a chat: fields of SamplingParams, and variables of the template; errors say what else was meant."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any

from pyinfer.chat.rendering import TOOLS_VARIABLES, template_variables
from pyinfer.errors import ParameterError
from pyinfer.sampling.params import SamplingParams

SAMPLING = frozenset(field.name for field in fields(SamplingParams))
OPTIONS = (
    *("template", "tools", "tool_choice", "constrain_tools", "parallel_tool_calls", "documents", "reasoning"),
    *("add_generation_prompt", "continue_final_message", "template_kwargs"),
)
# Variables that a chat sets itself.
RESERVED = frozenset({"messages", "documents", "add_generation_prompt", *TOOLS_VARIABLES})
SPECIAL = frozenset({"bos_token", "eos_token", "unk_token", "pad_token"})  # which any template may read
# What other libraries call it, and what it is here.
MEANT = {
    "response_format": "guide=Guide.json(schema)",
    "grammar": "guide=Guide.gbnf(grammar)",
    "guided_json": "guide=Guide.json(schema)",
    "chat_template": "template",
    "chat_format": "template",
    "chat_template_kwargs": "template_kwargs",
    "extra_body": "template_kwargs",
    "functions": "tools",
    "function_call": "tool_choice",
    "enable_reasoning": "reasoning",
    "max_new_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
    "n_predict": "max_tokens",
    "num_predict": "max_tokens",
    "temp": "temperature",
    "do_sample": "temperature (0: the likeliest token)",
    "repeat_penalty": "repetition_penalty",
    "repeat_last_n": "repetition_window",
    "typ_p": "typical_p",
    "tfs_z": "another sampler: tail-free sampling does not exist here",
    "mirostat_mode": "mirostat",
    "top_logprobs": "logprobs",
    "logits_processor": "logits_processors",
    "sampling_params": "params",
    "model": "LLM(model)",
    "system": "a first message with the role 'system'",
    "prompt": "messages",
}


@dataclass(frozen=True)
class Keywords:
    """Keywords of a chat: fields of SamplingParams, and variables of the template."""

    sampling: dict[str, Any]
    variables: dict[str, Any]


def sort_keywords(
    keywords: Mapping[str, Any], template_kwargs: Mapping[str, Any] | None, template: Callable[[], str]
) -> Keywords:
    """Tell keywords apart.

    - `keywords`: those that are no argument of the call.
    - `template_kwargs`: variables of the template, whether it reads them or not.
    - `template`: a function that returns the template's source.

    Raises ParameterError for a keyword that is neither a field of SamplingParams nor read by the template.
    """
    sampling = {name: value for name, value in keywords.items() if name in SAMPLING}
    others = {name: value for name, value in keywords.items() if name not in SAMPLING}
    if others.get("stream") in (False, None):
        others.pop("stream", None)
    if others:
        known = (template_variables(template()) | SPECIAL) - RESERVED
        for name in others:
            if name not in known:
                raise _unknown(name, known)
    if template_kwargs is not None and not isinstance(template_kwargs, Mapping):
        raise ParameterError(f"template_kwargs is a {type(template_kwargs).__name__}; expected a dict")
    variables = dict(template_kwargs or {})
    for name in variables:
        if not isinstance(name, str) or name in RESERVED:
            raise ParameterError(f"template_kwargs has {name!r:.60}; expected names that no argument of the chat sets")
    if both := variables.keys() & others.keys():
        raise ParameterError(f"{min(both)} is given as a keyword and in template_kwargs; expected one of them")
    return Keywords(sampling, {**variables, **others})


def _unknown(name: str, variables: frozenset[str]) -> ParameterError:
    """Return the error for a keyword that nobody reads, with what may have been meant."""
    if name == "stream":
        return ParameterError(
            "stream is no option: chat returns a whole answer, and stream_chat an iterator over its deltas"
        )
    known = [*SAMPLING, *OPTIONS, *variables]
    close = get_close_matches(name, known, 1, 0.7) if name not in MEANT else [MEANT[name]]
    meant = f"did you mean {close[0]}?" if close else "variables of a template go into template_kwargs={...}"
    return ParameterError(
        f"{name} is no option of a chat, no field of SamplingParams and no variable that the template reads; {meant}"
    )
