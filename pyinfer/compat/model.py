"""What all parts of `Llama` stand on: the file, the LLM, the one sequence of tokens, seeds."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from pyinfer.api.llm import LLM
from pyinfer.arguments import check_integer
from pyinfer.compat.arguments import RECORDED, check_arguments, kv_type_of, pooling_of, weights_of
from pyinfer.compat.context import Context
from pyinfer.compat.sampling import RANDOM_SEEDS, checked_seed
from pyinfer.compat.speculative import LlamaDraftModel, n_draft_of
from pyinfer.errors import ParameterError, PyinferError
from pyinfer.gguf import GGUFFile
from pyinfer.hub import resolve_model
from pyinfer.speculation.policy import DEFAULT_N_DRAFT
from pyinfer.system import default_threads
from pyinfer.tasks.results import Completion
from pyinfer.tokenizer import load_tokenizer

MIN_BATCH = 512  # LangChain asks for 8, which makes prompts slow and changes nothing else


class Model:
    """A model file, loaded with llama-cpp-python's arguments; `Llama` says which."""

    # as they were given, or their defaults
    numa: bool | int
    tensor_split: Sequence[float] | None
    kv_overrides: Mapping[str, bool | int | float | str] | None
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
            raise ParameterError(f"model_path is {str(model_path)!r}, which does not exist")
        with GGUFFile(path) as file:
            self._file_metadata = dict(file.metadata)
            n_bytes = sum(tensor.n_bytes for tensor in file.tensors.values())
        self.model_path = str(model_path)
        self.verbose = bool(arguments.get("verbose", True))
        self._chat_format, self.chat_handler = chat_format, chat_handler
        self.last_n_tokens_size = int(last_n_tokens_size)
        self.draft_model, self.spm_infill = draft_model, spm_infill
        for name, usual in RECORDED.items():
            setattr(self, name, arguments.get(name, usual))
        self.numa = int(self.numa) if isinstance(self.numa, bool) else self.numa
        self.cache: Any = None
        self._seed = checked_seed(seed)
        self._pooling = pooling_of(pooling_type)
        self._logits_all = logits_all
        self._llm: LLM | None = None
        if vocab_only:
            self._tokenizer = load_tokenizer(path)
            n_ctx, self.n_threads = n_ctx or self._trained_ctx, n_threads or default_threads()
        else:
            self._llm = LLM(
                path,
                n_ctx=self._positions(n_ctx),
                n_batch=max(n_batch or 0, MIN_BATCH),
                n_threads=n_threads,
                kv_type=kv_type_of(type_k, type_v),
                weights=weights_of(use_mmap, use_mlock, n_bytes),
                speculative=None if n_draft is None else "lookup",
                n_draft=n_draft or DEFAULT_N_DRAFT,
            )
            self._tokenizer = self._llm.tokenizer
            n_ctx, self.n_threads = self._llm.n_ctx, self._llm.engine.n_threads
        self.n_threads_batch = self.n_threads
        self.n_batch = min(n_batch or n_ctx, n_ctx)
        self.context_params = SimpleNamespace(
            n_ctx=n_ctx,
            n_batch=self.n_batch,
            n_threads=self.n_threads,
            n_threads_batch=self.n_threads_batch,
            embeddings=embedding,
            pooling_type=pooling_type,
        )

    def _positions(self, n_ctx: int) -> int:
        """n_ctx with 0 as the model's; encoders have no more than theirs."""
        causal = self._file_metadata.get(f"{self._architecture}.attention.causal", True)
        return min(n_ctx, self._trained_ctx) if n_ctx and not causal else n_ctx or self._trained_ctx

    @property
    def _architecture(self) -> str:
        return str(self._file_metadata.get("general.architecture", ""))

    @property
    def _trained_ctx(self) -> int:
        return int(self._file_metadata.get(f"{self._architecture}.context_length", 512))

    @property
    def llm(self) -> LLM:
        """The LLM below; PyinferError with vocab_only."""
        if self._llm is None:
            raise PyinferError(f"{self.model_path}: vocab_only is True; there are no weights to compute with")
        return self._llm

    @property
    def model(self) -> Model:
        """What the functions of pyinfer.compat.low_level take for a model."""
        return self

    @property
    def ctx(self) -> Model:
        """What they take for a context."""
        return self

    # private there, which other programs read all the same

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
        """Give back all memory."""
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
        return self.llm.engine.config.n_embd

    @cached_property
    def metadata(self) -> dict[str, str]:
        """The file's metadata as texts, without lists."""
        values = {k: v for k, v in self._file_metadata.items() if isinstance(v, str | bool | int | float | np.generic)}
        return {k: str(v).lower() if isinstance(v, bool | np.bool_) else str(v) for k, v in values.items()}

    def set_seed(self, seed: int) -> None:
        """Of all further calls that have none; -1: a new one each time."""
        self._seed = checked_seed(seed)

    def set_cache(self, cache: Any) -> None:
        """Accepted: prompts that begin alike share keys and values anyway."""
        self.cache = cache

    def _noted(
        self, chunks: Iterator[Any], prompt: Sequence[int], completion: Callable[[], Completion | None]
    ) -> Iterator[Any]:
        """Chunks, after which the context goes on behind the text."""
        yield from chunks
        done = completion()
        self._context.set_tokens([*prompt, *(done.tokens if done is not None else ())])

    def _seed_for(self, seed: int | None) -> int | None:
        """Of a call: its own, or the next of those that the constructor's seed leads to."""
        if seed is not None:
            return checked_seed(seed)
        if self._seed in RANDOM_SEEDS:
            return None
        self._seed = random.Random(self._seed).randint(0, 2**32 - 2)
        return self._seed
