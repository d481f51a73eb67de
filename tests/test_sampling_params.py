"""The ranges of parameters, and what errors say of values out of range."""

import ast
import dataclasses
import inspect
import math
import pickle
import re

import numpy as np
import pytest

import pyinfer
from pyinfer.errors import ParameterError
from pyinfer.sampling.params import FLOATS, MAX_BIAS, MAX_SAMPLES, SAMPLERS, SamplingParams


def halve(tokens, logits):
    return logits / 2


class FakeGuide:
    def matcher(self, tokenizer):
        return None


def test_the_docstring_has_every_parameter_with_its_default():
    documented = re.findall(r"^- `(\w+)` \(([^;)]+)", inspect.getdoc(SamplingParams), re.MULTILINE)
    fields = {field.name: field.default for field in dataclasses.fields(SamplingParams)}
    assert sorted(name for name, _ in documented) == sorted(fields)
    for name, default in documented:
        if default not in ("none", 'newline, `:`, `"` and `*`', "all of `SAMPLERS`"):
            assert ast.literal_eval(default) == fields[name], name


def test_the_defaults_are_those_of_llama_cpp():
    p = SamplingParams()
    assert (p.temperature, p.top_k, p.top_p, p.min_p, p.typical_p, p.top_n_sigma) == (0.8, 40, 0.95, 0.05, 1.0, -1.0)
    assert (p.xtc_probability, p.xtc_threshold, p.dynatemp_range, p.dynatemp_exponent) == (0.0, 0.1, 0.0, 1.0)
    assert (p.dry_multiplier, p.dry_base, p.dry_allowed_length, p.dry_window) == (0.0, 1.75, 2, -1)
    assert p.dry_sequence_breakers == ("\n", ":", '"', "*")
    assert (p.repetition_penalty, p.repetition_window, p.frequency_penalty, p.presence_penalty) == (1.0, 64, 0.0, 0.0)
    assert (p.mirostat, p.mirostat_tau, p.mirostat_eta) == (False, 5.0, 0.1)
    assert (p.adaptive_target, p.adaptive_decay) == (-1.0, 0.9)
    assert ",".join(p.samplers) == "penalties,dry,top_n_sigma,top_k,typ_p,top_p,min_p,xtc,temperature,adaptive_p"


NOT_A_NUMBER = (math.nan, "1", None, True, [1], np.array(0.5), 1j)
WRONG = {
    **dict.fromkeys(
        ("temperature", "dynatemp_range", "dynatemp_exponent", "dry_multiplier", "mirostat_tau", "mirostat_eta"),
        (-0.1, math.inf, *NOT_A_NUMBER),
    ),
    **dict.fromkeys(("top_p", "min_p", "typical_p", "xtc_probability", "xtc_threshold"), (-0.01, 1.01, *NOT_A_NUMBER)),
    "top_n_sigma": (-1.1, math.inf, *NOT_A_NUMBER),
    "dry_base": (0.99, math.inf, *NOT_A_NUMBER),
    "repetition_penalty": (0, -1, math.inf, *NOT_A_NUMBER),
    "frequency_penalty": (-1.1e9, math.inf, *NOT_A_NUMBER),
    "presence_penalty": (1.1e9, -math.inf, *NOT_A_NUMBER),
    "adaptive_target": (-1.1, 1.1, *NOT_A_NUMBER),
    "adaptive_decay": (-0.1, 1.0, *NOT_A_NUMBER),
    **dict.fromkeys(("top_k", "dry_allowed_length", "min_tokens"), (-1, 1.5, "1", None, True)),
    **dict.fromkeys(("dry_window", "repetition_window"), (-2, 1.5, None, True)),
    "seed": (-1, 2**64, 1.0, "7"),
    "max_tokens": (0, -1, 2.0),
    "n": (0, 1.0, None, True, MAX_SAMPLES + 1),
    "best_of": (0, 1.0, True, MAX_SAMPLES + 1),
    **dict.fromkeys(("logprobs", "prompt_logprobs"), (-1, 1.0, True)),
    **dict.fromkeys(("mirostat", "ignore_eos"), (1, None, "yes")),
    "stop": ("", [""], [1], 5, None, {"a"}, ["a", "\ud800"]),
    "dry_sequence_breakers": ("", [""], [1], None, "\udfff"),
    **{
        name: ([-1], ["a"], "12", b"12", bytearray(b"12"), [1.0], [True], 7, {1: 2}, np.array(1))
        for name in ("banned_tokens", "stop_token_ids")
    },
    "allowed_tokens": ([], [-1], "12", [1.5], 7),
    "guide": ("json", 3),
    "logits_processors": (halve, [1], "abc", None),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_parameter_out_of_range_is_named_with_its_value_and_what_is_allowed(name, value):
    with pytest.raises(ParameterError) as caught:
        SamplingParams(**{name: value})
    assert str(caught.value).startswith(f"{name} is {value!r}; expected ")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stop": ["x"] * 257}, "stop has 257 texts; expected at most 256"),
        ({"stop": "x" * 1025}, "stop has a text of 1025 characters, 'xxxx"),
        ({"dry_sequence_breakers": ["x"] * 65}, "dry_sequence_breakers has 65 texts; expected at most 64"),
        ({"dry_sequence_breakers": "x" * 41}, "expected at most 40 characters"),
        ({"min_tokens": 5, "max_tokens": 4}, "min_tokens is 5; expected at most max_tokens, 4"),
        ({"n": 3, "best_of": 2}, "best_of is 2; expected None or at least n, 3"),
        ({"allowed_tokens": [1, 2], "banned_tokens": [2, 1, 0]}, "at least one id that banned_tokens does not have"),
        ({"samplers": ["top_k", "top_q"]}, "samplers has 'top_q'; expected names of penalties, dry, top_n_sigma"),
        ({"samplers": ["top_k", "top_k"]}, "samplers has 'top_k' more than once"),
        ({"samplers": "top_k"}, "samplers is 'top_k'; expected a list of names"),
        ({"samplers": [3]}, "samplers has 3; expected names"),
        ({"samplers": [np.array([1, 2])]}, "samplers has array([1, 2]); expected names"),
        *(({name: 10**400}, f"{name} is 1000") for name in FLOATS),
        ({"seed": 10**5000}, "seed is <int object at"),
        ({"temperature": -(10**5000)}, "temperature is <int object at"),
        ({"logit_bias": {5: 10**400}}, "logit_bias has 5: 1000"),
        ({"logit_bias": {5: math.nan}}, "logit_bias has 5: nan; expected"),
        ({"logit_bias": {5: math.inf}}, "logit_bias has 5: inf; expected"),
        ({"logit_bias": {5: 2 * MAX_BIAS}}, "logit_bias has 5: 2000000000.0; expected"),
        ({"logit_bias": {-5: 1.0}}, "logit_bias has -5: 1.0; expected"),
        ({"logit_bias": {"5": 1.0}}, "logit_bias has '5': 1.0; expected"),
        ({"logit_bias": [1, 2]}, "logit_bias is [1, 2]; expected"),
        ({"banned_tokens": ["no"] * 1000}, "...; expected token ids"),
    ],
)
def test_what_does_not_go_together_or_is_too_much_is_refused(values, message):
    with pytest.raises(ParameterError) as caught:
        SamplingParams(**values)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 300


def test_parameters_can_be_compared_hashed_pickled_and_changed():
    params = SamplingParams(
        stop=["a", "b"], logit_bias={3: 1, 1: -math.inf}, banned_tokens={9, 2}, logits_processors=[halve], n=2
    )
    assert params.stop == ("a", "b")
    assert params.logit_bias == ((1, -math.inf), (3, 1.0))
    assert params.banned_tokens == (2, 9)
    again = dataclasses.replace(params, n=3)
    assert dataclasses.replace(again, n=2) == params
    assert hash(again) != hash(params) == hash(dataclasses.replace(again, n=2))
    assert pickle.loads(pickle.dumps(params)) == params
    with pytest.raises(dataclasses.FrozenInstanceError):
        params.n = 5


def test_numbers_of_numpy_and_one_stop_text_are_taken():
    params = SamplingParams(
        temperature=np.float32(0.5), top_k=np.int64(3), stop="end", stop_token_ids=np.arange(3), mirostat=np.bool_(True)
    )
    assert params.stop == ("end",)
    assert params.stop_token_ids == (0, 1, 2)


def test_every_sampler_may_be_left_out_and_put_anywhere():
    assert SamplingParams(samplers=[]).samplers == ()
    assert SamplingParams(samplers=SAMPLERS[::-1]).samplers == SAMPLERS[::-1]


def test_a_guide_is_what_has_a_matcher():
    guide = FakeGuide()
    assert SamplingParams(guide=guide).guide is guide


def test_the_package_has_them_by_name():
    assert pyinfer.SamplingParams is SamplingParams
