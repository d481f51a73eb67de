"""What all parts of `Llama` use: the file, the LLM, the sequence of `eval`, seeds, and how a call responds."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pyinfer.api.llm import LLM
from pyinfer.api.stream import Stream
from pyinfer.arguments import check_integer
from pyinfer.compat.arguments import RECORDED, check_arguments, kv_type_of, pooling_of, weights_of
from pyinfer.compat.cache import BaseLlamaCache, common_prefix
from pyinfer.compat.context import Context, LlamaState
from pyinfer.compat.response import Chunk, ResponseWriter, Whole
from pyinfer.compat.rope import rope_overrides
from pyinfer.compat.sampling import RANDOM_SEEDS, checked_seed
from pyinfer.compat.speculative import LlamaDraftModel, n_draft_of
from pyinfer.compat.startup import CONTEXT_PARAMS, MODEL_PARAMS, parameters
from pyinfer.compat.tokenizers import BaseLlamaTokenizer, checked_tokenizer
from pyinfer.errors import ContextError, ParameterError, PyinferError, StateError
from pyinfer.gguf import GGUFFile
from pyinfer.gguf.overrides import Override
from pyinfer.hub import resolve_model
from pyinfer.sampling.params import SamplingParams
from pyinfer.speculation.policy import DEFAULT_N_DRAFT
from pyinfer.system import default_threads
from pyinfer.tokenizer import load_tokenizer

MIN_BATCH = 512  # LangChain asks for 8, which makes prompts slow and changes nothing else


class Model:
    """A model file, loaded with llama-cpp-python's arguments; `Llama` says which."""

    # arguments as they were given, or their defaults
    numa: bool | int
    tensor_split: Sequence[float] | None
    lora_base: str | None
    lora_scale: float
    lora_path: str | None

    def __init__(
        self,
        model_path: str | Path,
        *,
        n_ctx: int = 512,
        n_batch: int = 512,
        n_threads: int | None = None,
        seed: int | None = None,
        logits_all: bool = False,
        embedding: bool = False,
        vocab_only: bool = False,
        use_mmap: bool = True,
        use_mlock: bool = False,
        pooling_type: int = -1,
        chat_format: str | None = None,
        chat_handler: Callable[..., Any] | None = None,
        type_k: int | None = None,
        type_v: int | None = None,
        draft_model: LlamaDraftModel | None = None,
        spm_infill: bool = False,
        kv_overrides: Mapping[str, Override] | None = None,
        tokenizer: BaseLlamaTokenizer | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        **arguments: Any,
    ) -> None:
        self._arguments = {name: value for name, value in locals().items() if name not in ("self", "arguments")}
        self._arguments.update(arguments)
        check_arguments(arguments)
        last_n_tokens_size = arguments.get("last_n_tokens_size", 64)
        check_integer("last_n_tokens_size", last_n_tokens_size, -1, None, "a whole number of at least -1 (-1: all)")
        for name, size in (("n_ctx", n_ctx), ("n_batch", n_batch)):
            if size is not None:
                check_integer(name, size, 0, None, "a whole number of at least 0")
        n_draft = n_draft_of(draft_model)
        path = resolve_model(model_path)
        if not path.exists():
            raise ParameterError(f"Model path does not exist: {model_path}")
        with GGUFFile(path) as file:
            file.override(kv_overrides)
            overrides = {**rope_overrides(arguments, file.metadata), **(kv_overrides or {})}
            file.override(overrides)
            self._file_metadata = dict(file.metadata)
            self._n_bytes = sum(tensor.n_bytes for tensor in file.tensors.values())
            self._n_params = sum(tensor.n_elements for tensor in file.tensors.values())
            if vocab_only:
                self._tokenizer = load_tokenizer(file)
        self.model_path = str(model_path)
        self.verbose = bool(arguments.get("verbose", True))
        self._chat_format, self.chat_handler = chat_format, chat_handler
        self.last_n_tokens_size = int(last_n_tokens_size)
        self.draft_model, self.spm_infill = draft_model, spm_infill
        self.kv_overrides, self._own_tokenizer = kv_overrides, checked_tokenizer(tokenizer)
        self._template_variables = dict(chat_template_kwargs or {})
        for name, usual in RECORDED.items():
            setattr(self, name, arguments.get(name, usual))
        self.numa = int(self.numa) if isinstance(self.numa, bool) else self.numa
        self.cache: BaseLlamaCache | None = None
        self._seed = checked_seed(seed)
        self._pooling = pooling_of(pooling_type)
        self._logits_all = logits_all
        self._llm: LLM | None = None
        if vocab_only:
            n_ctx, self.n_threads = n_ctx or self._trained_ctx, n_threads or default_threads()
        else:
            self._llm = LLM(
                path,
                n_ctx=self._positions(n_ctx),
                n_batch=max(n_batch or 0, MIN_BATCH),
                n_threads=n_threads,
                kv_type=kv_type_of(type_k, type_v),
                weights=weights_of(use_mmap, use_mlock, self._n_bytes),
                speculative=None if n_draft is None else "lookup",
                n_draft=n_draft or DEFAULT_N_DRAFT,
                overrides=overrides,
            )
            self._tokenizer = self._llm.tokenizer
            n_ctx, self.n_threads = self._llm.n_ctx, self._llm.engine.n_threads
        self.n_threads_batch = self.n_threads
        self.n_batch = min(n_batch or n_ctx, n_ctx)
        self.model_params = parameters(MODEL_PARAMS, self._arguments)
        used = {"n_ctx": n_ctx, "n_batch": self.n_batch, "n_threads": self.n_threads, "embeddings": embedding}
        self.context_params = parameters(
            CONTEXT_PARAMS, {**self._arguments, **used, "n_threads_batch": self.n_threads_batch}
        )
        self._is_recurrent = self._is_hybrid = False

    def _positions(self, n_ctx: int) -> int:
        """Return the context's length. 0 means the training context, which is also the most of an encoder."""
        causal = self._file_metadata.get(f"{self._architecture}.attention.causal", True)
        return min(n_ctx, self._trained_ctx) if n_ctx and not causal else n_ctx or self._trained_ctx

    @property
    def _architecture(self) -> str:
        return str(self._file_metadata.get("general.architecture", ""))

    def _number(self, key: str, default: float = 0) -> float:
        """Return a number of the file's hyper-parameters."""
        value = self._file_metadata.get(f"{self._architecture}.{key}", default)
        return value if isinstance(value, int | float) else default

    @property
    def _trained_ctx(self) -> int:
        return int(self._number("context_length", 512))

    @property
    def llm(self) -> LLM:
        """The LLM that computes. Raises PyinferError with vocab_only."""
        if self._llm is None:
            raise PyinferError(f"{self.model_path}: vocab_only is True; there are no weights to compute with")
        return self._llm

    @property
    def model(self) -> Model:
        """The model, for the functions of pyinfer.compat.low_level."""
        return self

    @property
    def ctx(self) -> Model:
        """The context, for the functions of pyinfer.compat.low_level."""
        return self

    # private in llama-cpp-python, but other programs read them

    @property
    def _n_ctx(self) -> int:
        return self.n_ctx()

    @property
    def _n_vocab(self) -> int:
        return self.n_vocab()

    @cached_property
    def _context(self) -> Context:
        return Context(self.llm, self._logits_all)

    def close(self) -> None:
        """Release all memory."""
        if self._llm is not None:
            self._llm.close()

    def __getstate__(self) -> dict[str, Any]:
        return self._arguments

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def n_vocab(self) -> int:
        return self._tokenizer.n_vocab if self._llm is None else self._llm.engine.n_vocab

    def n_ctx(self) -> int:
        return int(self.context_params.n_ctx)

    def n_embd(self) -> int:
        return int(self._number("embedding_length"))

    @cached_property
    def metadata(self) -> dict[str, str]:
        """The file's metadata as text values; lists are left out."""
        values = {k: v for k, v in self._file_metadata.items() if isinstance(v, str | bool | int | float | np.generic)}
        return {k: str(v).lower() if isinstance(v, bool | np.bool_) else str(v) for k, v in values.items()}

    def set_seed(self, seed: int) -> None:
        """Set the seed of all later calls that have none of their own; -1: a new seed for each call."""
        self._seed = checked_seed(seed)

    def set_cache(self, cache: BaseLlamaCache | None) -> None:
        """Keep the states of later texts in a cache, for other Llama objects or for later processes; None: no longer.

        A Llama's own prompts share the keys and values of common prefixes without it.
        """
        self.cache = cache

    def save_state(self) -> LlamaState:
        """Return the sequence with its keys and values, for `load_state`. It can be pickled."""
        return self._context.save(self._seed)

    def load_state(self, state: LlamaState) -> None:
        """Replace the sequence by a saved one.

        - `state`: what `save_state` returned.

        Raises StateError for a state of another model, ContextError if it is too long, ParameterError for other things.
        """
        if not isinstance(state, LlamaState):
            raise ParameterError(f"state is a {type(state).__name__}; expected a LlamaState, as save_state returns it")
        seed = checked_seed(state.seed)
        self._context.load(state)
        self._seed = seed

    def _load_cached(self, tokens: list[int]) -> None:
        """Load the cache's state for a prompt, where it has more of it than the present sequence."""
        if self.cache is None:
            return
        try:
            state = self.cache[tokens]
        except KeyError:
            return
        if common_prefix(state.input_ids.tolist(), tokens) > common_prefix(self._context.tokens, tokens):
            seed = self._seed
            with contextlib.suppress(StateError, ContextError):  # of another model, or too long for this context
                self.load_state(state)
            self._seed = seed

    def _keep(self, tokens: Sequence[int]) -> None:
        """Make these tokens the present sequence, and keep its state in the cache."""
        self._context.set_tokens(tokens)
        if self.cache is not None:
            self.cache[self._context.tokens] = self.save_state()

    def _respond(
        self,
        writer: ResponseWriter[Whole, Chunk],
        tokens: list[int],
        params: SamplingParams,
        stream: bool,
        visible_tokens: Collection[int] = frozenset(),
    ) -> Whole | Iterator[Chunk]:
        """Generate a text and return what the writer makes of it. `eval` then continues after this text."""
        if len(tokens) >= self.n_ctx():
            raise ContextError(f"Requested tokens ({len(tokens)}) exceed context window of {self.n_ctx()}")
        self._load_cached(tokens)
        if stream:
            pieces = self.llm.stream(tokens, params, visible_tokens=visible_tokens)
            return self._chunks(writer, pieces, tokens)
        job = self.llm.job(tokens, params, visible_tokens)
        self.llm.run(job.tasks)
        done = job.completion()
        self._keep([*done.prompt, *done.tokens])
        return writer.whole(done)

    def _chunks(self, writer: ResponseWriter[Whole, Chunk], stream: Stream, prompt: Sequence[int]) -> Iterator[Chunk]:
        yield from writer.chunks(stream)
        done = stream.completion
        self._keep([*prompt, *(done.tokens if done is not None else ())])

    def _seed_for(self, seed: int | None) -> int | None:
        """Return a call's seed: its own, or the next one of a sequence that the constructor's seed starts."""
        if seed is not None:
            return checked_seed(seed)
        if self._seed in RANDOM_SEEDS:
            return None
        self._seed = random.Random(self._seed).randint(0, 2**32 - 2)
        return self._seed
