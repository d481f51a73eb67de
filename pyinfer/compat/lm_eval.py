"""lm-evaluation-harness on pyinfer: importing this module adds the model `pyinfer` to the harness.

    lm_eval --model pyinfer --model_args path=MODEL --tasks arc_easy

Versions of the harness after 0.4.13 find the model by an entry point. For older ones,
`python -m pyinfer.compat.lm_eval` takes the same arguments. `pip install 'pyinfer-gguf[lm-eval]'` installs the harness.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import islice
from typing import Any

from pyinfer.api.llm import LLM
from pyinfer.chat import choose_template, prepare_chat
from pyinfer.errors import ParameterError, missing_extra
from pyinfer.hub import resolve_model
from pyinfer.sampling.params import SamplingParams
from pyinfer.tasks.scoring import score_tokens

try:
    from lm_eval.api.model import TemplateLM
    from lm_eval.api.registry import register_model
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
except ImportError as missing:
    raise missing_extra("the harness is not installed", "lm-eval") from missing

MAX_NEW_TOKENS = 256  # where a task does not say
LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens")  # tasks have one of these
SAMPLING = ("top_k", "top_p", "min_p", "repetition_penalty", "seed")
OFF = {"top_k": 0, "top_p": 1.0, "min_p": 0.0}  # the harness samples from the whole distribution unless told otherwise
HANDLED = ("do_sample", "temperature", "until")  # sampling_params has code for each


@register_model("pyinfer")
class PyinferLM(TemplateLM):  # type: ignore[misc]
    """Load a model for the harness.

    - `path`, `pretrained` or `model`: a file or a name, as LLM takes it.
    - `add_bos_token` (None): whether texts begin with the beginning-of-text token; None: as the file says.
    - `chat_template` (None): a built-in template's name; None: the file's template.
    - `batch_size`, `max_batch_size`, `device`: have no effect; the harness gives them to all models.
    - `arguments`: LLM's other arguments.
    """

    def __init__(
        self,
        path: str | None = None,
        pretrained: str | None = None,
        model: str | None = None,
        add_bos_token: bool | None = None,
        chat_template: str | None = None,
        batch_size: Any = None,
        max_batch_size: Any = None,
        device: Any = None,
        **arguments: Any,
    ) -> None:
        super().__init__()
        name = path or pretrained or model
        if name is None:
            raise ParameterError("there is no model; expected path=MODEL among the model's arguments")
        self.llm = LLM(resolve_model(str(name)), **arguments)
        self._name = str(name)
        self._template = chat_template
        tokenizer = self.llm.tokenizer
        self._adds_bos = tokenizer.add_bos if add_bos_token is None else bool(add_bos_token)
        self.max_length = self.llm.n_ctx
        self.max_gen_toks = MAX_NEW_TOKENS

    @property
    def eot_token_id(self) -> int:
        end = self.llm.tokenizer.eos_id
        if end is None:
            raise ParameterError(f"{self._name}: the vocabulary has no token that ends a text")
        return end

    @property
    def prefix_token_id(self) -> int:
        """The token that stands before a text without context."""
        begin = self.llm.tokenizer.bos_id
        return self.eot_token_id if begin is None else begin

    @property
    def tokenizer_name(self) -> str:
        return self._name.replace("/", "__")

    @cached_property
    def _template_source(self) -> str:
        return choose_template(self.llm.tokenizer, self._template)

    def chat_template(self, chat_template: bool | str = False) -> str:
        """Return the source of the template in use; "" if none is wanted."""
        if isinstance(chat_template, str) and chat_template:
            self._template = chat_template
            self.__dict__.pop("_template_source", None)
        return self._template_source if chat_template else ""

    def apply_chat_template(self, chat_history: Sequence[dict[str, str]], add_generation_prompt: bool = True) -> str:
        template, tokenizer = self._template_source, self.llm.tokenizer
        return prepare_chat(tokenizer, chat_history, template, add_generation_prompt=add_generation_prompt).text

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """Return token ids. Special tokens are parsed, as the harness's other models do; the first is never doubled."""
        tokenizer = self.llm.tokenizer
        ids = tokenizer.encode(string, add_special=False, parse_special=True)
        begin = tokenizer.bos_id
        if (self._adds_bos if add_special_tokens is None else add_special_tokens) and begin is not None:
            ids = ids if ids[:1] == [begin] else [begin, *ids]
        return ids

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[tuple[str, str], list[int], list[int]]], **kwargs: Any
    ) -> list[tuple[float, bool]]:
        texts = []
        for (_, continuation), before, after in requests:
            if not after:
                raise ParameterError(f"the continuation {continuation!r:.60} has no tokens")
            tokens = [*before, *after][-(self.max_length + 1) :]
            texts.append((tokens, max(1, len(tokens) - len(after))))
        results = [(score.logprob, score.greedy) for score in score_tokens(self.llm.scheduler, texts)]
        for (key, *_), result in zip(requests, results, strict=True):
            self.cache_hook.add_partial("loglikelihood", key, result)
        return results

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """Score whole texts: each token once, given as many earlier tokens as the context has room for."""
        texts, counts = [], []
        for (text,) in (request.args for request in requests):
            tokens = self.tok_encode(text, add_special_tokens=False)
            windows = get_rolling_token_windows(tokens, self.prefix_token_id, self.max_length, context_len=1)
            pairs = [make_disjoint_window(window) for window in windows]
            texts += [([*before, *after], len(before)) for before, after in pairs]
            counts.append(len(pairs))
        scores = iter(score_tokens(self.llm.scheduler, texts))
        results = [sum(score.logprob for score in islice(scores, count)) for count in counts]
        for request, result in zip(requests, results, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, result)
        return results

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        prompts, params = [], []
        for context, wishes in (request.args for request in requests):
            own = sampling_params(wishes, self.max_gen_toks)
            assert own.max_tokens is not None
            room = max(1, self.max_length - own.max_tokens)
            prompts.append(self.tok_encode(context)[-room:] or [self.prefix_token_id])
            params.append(own)
        results = [done.text for done in self.llm.generate(prompts, params)] if prompts else []
        for request, text in zip(requests, results, strict=True):
            self.cache_hook.add_partial("generate_until", request.args, text)
        return results


def sampling_params(wishes: dict[str, Any], max_tokens: int) -> SamplingParams:
    """Return the parameters that a task's `generation_kwargs` ask for. Warns of names without a meaning here."""
    unknown = [name for name in wishes if name not in (*LENGTHS, *SAMPLING, *HANDLED)]
    if unknown:
        warnings.warn(f"pyinfer does not know generation_kwargs {', '.join(unknown)}", stacklevel=2)
    until = wishes.get("until") or ()
    stops = [until] if isinstance(until, str) else [text for text in until if text]
    length = next((wishes[name] for name in LENGTHS if wishes.get(name)), max_tokens)
    temperature = wishes.get("temperature")
    if temperature is None:
        temperature = 1.0 if wishes.get("do_sample") else 0.0
    if wishes.get("do_sample") is False:
        temperature = 0.0
    chosen = {name: wishes[name] for name in SAMPLING if wishes.get(name) is not None}
    return SamplingParams(temperature=temperature, stop=stops, max_tokens=int(length), **{**OFF, **chosen})


def main() -> int:
    """Run the harness's own command, which now knows this model."""
    from lm_eval.__main__ import cli_evaluate

    run: Callable[[], Any] = cli_evaluate
    run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
