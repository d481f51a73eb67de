"""llama-cpp-python's classes between `Llama` and the C interface (`llama_cpp._internals`): model, context, samplers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pyinfer.compat import low_level
from pyinfer.compat.absent import absent_class
from pyinfer.compat.grammar import LlamaGrammar
from pyinfer.compat.handles import ContextHandle, ModelHandle
from pyinfer.compat.steps import Steps
from pyinfer.compat.vocabulary import Vocabulary
from pyinfer.errors import ParameterError, PyinferError
from pyinfer.guides.guide import Guide
from pyinfer.guides.matcher import GuideMatcher
from pyinfer.sampling.params import SamplingParams
from pyinfer.sampling.sampler import Sampler

# The fields of llama_context_default_params() that are arguments of Llama, too
SHARED_FIELDS = (
    *("n_ctx", "n_batch", "n_threads", "pooling_type", "type_k", "type_v", "rope_scaling_type", "rope_freq_base"),
    *("rope_freq_scale", "yarn_ext_factor", "yarn_attn_factor", "yarn_beta_fast", "yarn_beta_slow", "yarn_orig_ctx"),
)
CELLS = 256  # llama.cpp makes contexts of so many positions or of a multiple; programs rely on the room
ALL_TOKENS: Mapping[str, Any] = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}  # leaves every token


class LlamaModel(ModelHandle):
    """A model file, of which weights are loaded for each LlamaContext.

    - `path_model`: a GGUF file. `params`, `verbose`: have no effect.

    Raises what Llama raises with vocab_only.

        model = LlamaModel(path_model="model.gguf", params=llama_cpp.llama_model_default_params())
    """

    def __init__(self, *, path_model: str, params: Any = None, verbose: bool = True) -> None:
        super().__init__(Vocabulary(path_model, vocab_only=True, verbose=verbose))
        self.path_model, self.params, self.verbose = path_model, params, verbose
        self._contexts: list[LlamaContext] = []

    def close(self) -> None:
        """Close the model and its contexts."""
        for context in self._contexts:
            context.close()
        super().close()


class LlamaContext(ContextHandle):
    """A context of a model, ready to compute.

    - `model`: a LlamaModel. `params`: as llama_context_default_params returns them. `verbose`: has no effect.

    Raises what Llama raises.

        context = LlamaContext(model=model, params=llama_cpp.llama_context_default_params())
        context.decode(batch)
    """

    def __init__(self, *, model: LlamaModel, params: Any, verbose: bool = True) -> None:
        if model.model is None:
            raise PyinferError(f"{model.path_model}: the model is closed")
        given = {name: getattr(params, name) for name in SHARED_FIELDS if hasattr(params, name)}
        given["n_ctx"] = -(-given.get("n_ctx", 0) // CELLS) * CELLS
        super().__init__(Steps(model.path_model, embedding=bool(getattr(params, "embeddings", False)), **given))
        self.model, self.params, self.verbose = model, params, verbose
        model._contexts.append(self)

    def close(self) -> None:
        """Release the context's memory."""
        if self.ctx is not None:
            self.ctx.close()
        super().close()


class LlamaBatch:
    """Tokens for LlamaContext.decode. `n_tokens`: how many there is room for; `embd` must be 0."""

    def __init__(self, *, n_tokens: int, embd: int = 0, n_seq_max: int = 1, verbose: bool = True) -> None:
        self._n_tokens = n_tokens
        self.batch = low_level.llama_batch_init(n_tokens, embd, n_seq_max)

    def n_tokens(self) -> int:
        return self.batch.n_tokens

    def reset(self) -> None:
        """Remove all tokens."""
        self.batch.n_tokens = 0

    def close(self) -> None:
        """Do nothing: Python frees the batch."""

    def set_batch(self, batch: Sequence[int], n_past: int, logits_all: bool) -> None:
        """Replace the tokens by these, from position n_past on."""
        self.reset()
        self._add(batch, n_past)

    def add_sequence(self, batch: Sequence[int], seq_id: int, logits_all: bool) -> None:
        """Append the tokens of a sequence, from its beginning on. Raises ParameterError for other ones than 0."""
        if seq_id:
            raise ParameterError(f"seq_id is {seq_id!r:.60}; expected 0: a context has one sequence")
        self._add(batch, 0)

    def _add(self, tokens: Sequence[int], first: int) -> None:
        start = self.batch.n_tokens
        if start + len(tokens) > self._n_tokens:
            raise ParameterError(
                f"{start + len(tokens)} tokens; expected at most {self._n_tokens}, the batch's n_tokens"
            )
        for i, token in enumerate(tokens):
            self.batch.token[start + i] = int(token)
            self.batch.pos[start + i] = first + i
        self.batch.n_tokens = start + len(tokens)


class LlamaSampler:
    """A chain of samplers, which act in the order in which they are added.

    sampler = LlamaSampler()
    sampler.add_top_k(40)
    sampler.add_dist(seed=1)
    token = sampler.sample(context)
    """

    def __init__(self) -> None:
        self._given: dict[str, Any] = dict(ALL_TOKENS)
        self._order: list[str] = []
        self._guide: Guide | None = None
        self._sampler: Sampler | None = None
        self._matcher: GuideMatcher | None = None

    def close(self) -> None:
        """Do nothing: Python frees the samplers."""

    def _add(self, step: str | None, **given: Any) -> None:
        self._sampler = None
        self._given.update(given)
        if step is not None and step not in self._order:
            self._order.append(step)

    def add_greedy(self) -> None:
        self._add("temperature", temperature=0.0)

    def add_dist(self, seed: int) -> None:
        self._add(None, seed=None if seed in (-1, 0xFFFFFFFF) else seed)

    def add_softmax(self) -> None:
        """Do nothing: probabilities are computed where they are needed."""

    def add_top_k(self, k: int) -> None:
        self._add("top_k", top_k=max(0, k))

    def add_top_p(self, p: float, min_keep: int = 1) -> None:
        self._add("top_p", top_p=min(1.0, p))

    def add_min_p(self, p: float, min_keep: int = 1) -> None:
        self._add("min_p", min_p=max(0.0, p))

    def add_typical(self, p: float, min_keep: int = 1) -> None:
        self._add("typ_p", typical_p=min(1.0, p))

    def add_temp(self, temp: float) -> None:
        self._add("temperature", temperature=max(0.0, temp))

    def add_temp_ext(self, t: float, delta: float, exponent: float) -> None:
        self._add("temperature", temperature=max(0.0, t), dynatemp_range=delta, dynatemp_exponent=exponent)

    def add_xtc(self, p: float, t: float, min_keep: int, seed: int) -> None:
        self._add("xtc", xtc_probability=p, xtc_threshold=t)

    def add_top_n_sigma(self, n: float) -> None:
        self._add("top_n_sigma", top_n_sigma=n)

    def add_mirostat_v2(self, seed: int, tau: float, eta: float) -> None:
        self._add(None, mirostat=True, mirostat_tau=tau, mirostat_eta=eta, seed=seed)

    def add_mirostat(self, n_vocab: int, seed: int, tau: float, eta: float, m: int) -> None:
        """Add mirostat 2, which stands in for 1."""
        self.add_mirostat_v2(seed, tau, eta)

    def add_penalties(
        self, n_vocab: int = 0, *, penalty_last_n: int, penalty_repeat: float, penalty_freq: float,
        penalty_present: float, **_: Any,
    ) -> None:  # fmt: skip
        self._add(
            "penalties",
            repetition_window=penalty_last_n,
            repetition_penalty=penalty_repeat,
            frequency_penalty=penalty_freq,
            presence_penalty=penalty_present,
        )

    def add_logit_bias(self, n_vocab: int, logit_bias: Mapping[int, float]) -> None:
        self._add(None, logit_bias=dict(logit_bias))

    def add_grammar(self, model: ModelHandle, grammar: LlamaGrammar) -> None:
        self._add(None)
        self._guide = grammar.guide

    def sample(self, ctx: ContextHandle, idx: int = -1) -> int:
        """Sample a token by the logits of the last batch's token idx, and accept it."""
        llama = ctx.ctx
        if self._sampler is None:
            params = SamplingParams(**self._given, samplers=tuple(self._order))
            self._sampler = Sampler(params, llama._context.tokens, llama._tokenizer)
            self._matcher = None if self._guide is None else self._guide.matcher(llama._tokenizer)
        logits = llama._context.logits() if idx == -1 else low_level.llama_get_logits_ith(llama, idx)
        mask = None if self._matcher is None else self._matcher.mask()
        token = self._sampler.sample(np.asarray(logits), mask).token
        if self._matcher is not None:
            self._matcher.accept(token)
        return token

    def accept(self, token: int) -> None:
        """Count a token that was not sampled here."""
        if self._sampler is not None:
            self._sampler.accept(token)

    def reset(self) -> None:
        """Forget the tokens and start the random numbers again."""
        self._sampler = None

    def clone(self) -> LlamaSampler:
        """Return a sampler of the same chain."""
        other = LlamaSampler()
        other._given, other._order, other._guide = dict(self._given), list(self._order), self._guide
        return other

    def get_seed(self) -> int:
        seed = self._given.get("seed")
        return 0xFFFFFFFF if seed is None else int(seed)


def normalize_embedding(embedding: Sequence[float]) -> list[float]:
    """Return a vector scaled to length 1."""
    norm = float(np.linalg.norm(embedding))
    return [value / norm for value in embedding] if norm else list(embedding)


_WHY = "it reads memory of llama.cpp; LlamaSampler samples"
CustomSampler = absent_class("CustomSampler", _WHY)
LlamaTokenDataArray = absent_class("LlamaTokenDataArray", _WHY)
LlamaSamplingContext = absent_class("LlamaSamplingContext", _WHY)
LlamaSamplingParams = absent_class("LlamaSamplingParams", _WHY)
