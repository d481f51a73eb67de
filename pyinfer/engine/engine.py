"""The engine: a model's weights, its KV cache and its plan, and forward passes over batches of tokens.

Each token of a forward pass has a sequence and a position; logits are computed only where they are wanted. The code of
the model runs once, when the engine is made, and records the plan; a forward pass is then one call of compiled code
without the GIL. It can end after the last norm and return hidden states, from which embeddings are made; an encoder has
nothing else.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyinfer import _kernels
from pyinfer.arguments import check_positive
from pyinfer.engine import forks
from pyinfer.engine.inputs import Pass, Rows
from pyinfer.engine.options import EngineOptions
from pyinfer.engine.trace import TracedPlan
from pyinfer.errors import ContextError, ModelError, ParameterError, PyinferError
from pyinfer.gguf import GGUFFile
from pyinfer.memory.manager import Memory
from pyinfer.memory.spec import PAGE
from pyinfer.models.model import Config, Model, Recording
from pyinfer.models.registry import read_model
from pyinfer.system import default_threads
from pyinfer.weights.store import Weights

DEFAULT_N_CTX = 4096  # positions, where the model allows: what a long prompt needs, at a bounded price
ONE_SEQUENCE = EngineOptions(n_seqs=1)
MAX_SEQS = 4096  # each takes a row of the page table and a place in every pass
MAX_THREADS = 1024
NO_LOGITS: NDArray[np.float32] = np.zeros((0, 0), np.float32)
SHORT_TEXT = 8  # tokens: an encoder has slots to fill a forward pass with texts of this length


class Engine:
    """A model ready to compute: its weights, its memory and its plan.

    - `source`: an open GGUF file; or an engine, with which this one shares the weights and nothing else: they stay
      until both are closed.
    - `options`: see EngineOptions, but n_seqs is 1 by default. An encoder computes texts whole: its n_batch is at least
      n_ctx, and its n_seqs what it takes to fill a pass with short texts.
    - `n_keep`: positions at the beginning of a sequence that no context shift drops (default 0).

    Raises ModelError for a file that cannot be run, ParameterError for options out of range.

        with GGUFFile("model.gguf") as file:
            engine = Engine(file, EngineOptions(n_ctx=512))
    """

    def __init__(self, source: GGUFFile | Engine, options: EngineOptions = ONE_SEQUENCE, *, n_keep: int = 0) -> None:
        if isinstance(source, GGUFFile):
            source.override(options.overrides)
        self._model: Model = read_model(source) if isinstance(source, GGUFFile) else source._model
        self.config: Config = self._model.config
        self.n_ctx = check_positive("n_ctx", options.n_ctx, min(self.config.n_ctx_train, DEFAULT_N_CTX))
        if 0 < self.config.n_positions < self.n_ctx:
            raise ParameterError(f"n_ctx is {self.n_ctx}; the model has {self.config.n_positions} learned positions")
        self.n_threads = check_positive("n_threads", options.n_threads, default_threads(), MAX_THREADS)
        self.n_batch = check_positive("n_batch", options.n_batch, 512)
        self.n_seqs = check_positive("n_seqs", options.n_seqs, 1, MAX_SEQS)
        if self.config.causal:
            self.n_batch = max(self.n_seqs, min(self.n_batch, self.n_ctx * self.n_seqs))
        else:
            self.n_batch = max(self.n_batch, self.n_ctx)
            self.n_seqs = max(self.n_seqs, self.n_batch // SHORT_TEXT)
        self.n_vocab = self.config.n_vocab
        self.n_ctx_train = self.config.n_ctx_train
        self.isa: str = _kernels.current_isa()
        self._lock = threading.Lock()
        self._broken_by_fork = False
        forks.register(self)
        self._weights = Weights(source, options.weights) if isinstance(source, GGUFFile) else source._open_weights()
        if options.kv_cache_memory is not None:
            check_positive("kv_cache_memory", options.kv_cache_memory, 1)
        self.memory = Memory(
            self._model.memory,
            self.n_seqs,
            self.n_ctx,
            kv_type=options.kv_type,
            n_bytes=options.kv_cache_memory,
            causal=self.config.causal,
            n_batch=self.n_batch,
            n_keep=n_keep,
        )
        self._plan: _kernels.Plan | None = _kernels.Plan(self.n_batch, self.n_ctx, self.n_seqs, self.n_threads)
        recording = self._record(self._plan)
        self._hidden, self._n_hidden_ops = recording.hidden, recording.n_hidden_ops
        self._logits, self._rotations = recording.logits, recording.rotations
        self._rows: NDArray[np.float32] | None = None  # of the logits, once they were asked for
        if isinstance(source, GGUFFile):
            self._weights.load(self.n_threads, options.progress)

    def forward(
        self, tokens: ArrayLike, positions: ArrayLike, sequences: ArrayLike, outputs: ArrayLike
    ) -> NDArray[np.float32]:
        """Compute a forward pass over tokens, whose keys and values stay in the cache.

        - `tokens`, `positions`, `sequences`: int32 [n], at most n_batch. A position that is in the cache is computed
          again; all positions of a sequence before its first one here must have been computed.
        - `outputs`: int32 [m], the rows whose logits are wanted.

        Returns float32 [m, n_vocab], valid until the next forward pass. Raises ParameterError for values out of range,
        ContextError beyond `n_ctx`, KeyboardInterrupt on Ctrl-C, and ModelError for an encoder.

            logits = engine.forward([1, 2, 3], [0, 1, 2], [0, 0, 0], outputs=[2])
        """
        with self._lock:
            self._open_plan()
            logits = self._decoder_logits()
            n = self._run(tokens, positions, sequences, outputs)
            return logits.rows[:n]

    def run(self, p: Pass) -> Rows:
        """Compute a forward pass over contiguous arrays, for which the memory has reserved pages.

        Raises ParameterError for values out of range and for an adapter that does not exist, and ModelError where
        logits are wanted of an encoder.
        """
        with self._lock:
            plan = self._open_plan()
            if p.adapters is not None and p.adapters.any():
                raise ParameterError(f"a pass asks for adapter {p.adapters.max()}; the engine has none")
            n, n_ops = len(p.logits), -1
            if n == 0:
                n_ops = self._n_hidden_ops
            elif self._rows is None:
                self._rows = self._decoder_logits().rows
            outputs = p.logits if len(p.hidden) == 0 else np.concatenate([p.logits, p.hidden])
            plan.run(
                p.tokens, p.positions, p.slots, outputs, self.memory.tables, n_logits=n,
                embeddings=p.embeddings, n_ops=n_ops,
            )  # fmt: skip
            logits = NO_LOGITS if self._rows is None else self._rows[:n]
            return Rows(logits, self._hidden.rows[n : len(outputs)])

    def hidden(
        self, tokens: ArrayLike, positions: ArrayLike, sequences: ArrayLike, outputs: ArrayLike
    ) -> NDArray[np.float32]:
        """Compute a forward pass as `forward` does, up to the last norm; return its rows: float32 [m, n_embd].

        Without causal attention, it takes whole sequences, from position 0 on, and caches nothing.
        """
        with self._lock:
            n = self._run(tokens, positions, sequences, outputs, self._n_hidden_ops)
            return self._hidden.rows[:n]

    def trace(self, tokens: ArrayLike, names: Sequence[str] | None) -> dict[str, NDArray[np.float32]]:
        """Compute the activations of tokens int32 [n] whose names a glob matches (None: all): float32 [n, width] each.

        This uses sequence 0, which is empty afterwards. The names are in pyinfer.engine.trace. Raises ParameterError
        for globs that match nothing, ContextError beyond n_ctx.
        """
        ids = np.ascontiguousarray(tokens, np.int32)
        rows, sequences = np.arange(len(ids), dtype=np.int32), np.zeros(len(ids), np.int32)
        with self._lock:
            self._open_plan()
            plan = TracedPlan(len(ids), self.n_ctx, self.n_seqs, self.n_threads, names)
            logits = self._record(plan).logits
            if logits is not None:
                plan.keep("logits", logits, "outputs")
            plan.check_globs()
            self.memory.release(0)
            try:
                self._reserve(0, 0, len(ids))
                plan.run(ids, rows, sequences, rows, self.memory.tables, n_ops=plan.n_ops)
            finally:
                self.memory.release(0)
            return plan.kept(len(ids))

    def _record(self, plan: _kernels.Plan) -> Recording:
        return self._model.record(plan, self._weights, self.memory.layers)

    def _run(
        self, tokens: ArrayLike, positions: ArrayLike, sequences: ArrayLike, outputs: ArrayLike, n_ops: int = -1
    ) -> int:
        """Run the first n_ops operations of a forward pass (negative: all). Return how many rows are wanted."""
        ids, at, of, wanted = (np.ascontiguousarray(a, np.int32) for a in (tokens, positions, sequences, outputs))
        plan = self._open_plan()
        for sequence in np.unique(of).tolist():
            if not 0 <= sequence < self.n_seqs:
                raise ParameterError(f"sequence {sequence} of {self.n_seqs}")
            here = at[of == sequence]
            if not (self.config.causal or np.array_equal(here, np.arange(len(here)))):
                raise ParameterError(f"sequence {sequence} has positions {here}; expected a whole text, from 0 on")
            self._reserve(sequence, int(here.min()), int(here.max()) + 1)
        plan.run(ids, at, of, wanted, self.memory.tables, n_ops=n_ops)
        return len(wanted)

    def _reserve(self, sequence: int, start: int, stop: int) -> None:
        if not self.memory.reserve(sequence, start, stop):
            raise ContextError(f"the KV cache has {self.memory.n_pages} pages; there are not enough for this pass")

    def check_decoder(self) -> None:
        """Raise ModelError for an encoder, which has no logits."""
        if self._logits is None:
            raise ModelError(
                f"a model of the architecture {self.config.architecture!r} is an encoder: it embeds texts "
                "(LLM.embed) and cannot generate any"
            )

    def _decoder_logits(self) -> _kernels.Value:
        self.check_decoder()
        assert self._logits is not None
        return self._logits

    @property
    def can_shift(self) -> bool:
        """Whether cached keys can move to other positions: positions are rotations of keys, or not in keys at all."""
        return self._rotations is not None

    def drop_pages(self, sequence: int, first: int, n: int) -> bool:
        """Drop n pages from a sequence, from its page `first` on. All later pages move to lower positions.

        Returns False, with nothing changed, if there are not enough pages to copy those that other sequences share.
        """
        assert self._rotations is not None
        with self._lock:
            self._open_plan()
            moved = self.memory.drop(sequence, first, n)
            if moved is None:
                return False
            layers = zip(self.memory.layers, self.memory.layer_tables, self._rotations, strict=True)
            for cache, table, rotation in layers:
                if rotation is not None:
                    pages = np.array(moved[table], np.int32)
                    cache.move_keys(pages, rotation.frequencies, -n * PAGE, rotation.neox, self.n_threads)
        return True

    def truncate(self, sequence: int, n_keep: int) -> None:
        """Drop the positions of a sequence from n_keep on."""
        with self._lock:
            self._open_plan()
            self.memory.rewind(sequence, n_keep)

    def profile(self) -> dict[str, int]:
        """Return the nanoseconds of each operation since the first call, which starts the count."""
        plan = self._open_plan()
        return dict(zip(plan.names, plan.profile().tolist(), strict=True))

    def costs(self) -> dict[str, _kernels.OpCost]:
        """Return how much each operation reads and multiplies."""
        plan = self._open_plan()
        return dict(zip(plan.names, plan.costs(), strict=True))

    def stop(self) -> None:
        """Stop the forward pass under way, if any, which then raises PassStopped. Any thread may call this."""
        if (plan := self._plan) is not None:
            plan.stop()

    def close(self) -> None:
        """Release weights and cache, once no forward pass is under way."""
        with self._lock:
            self._plan = None
            for name in ("_logits", "_hidden", "_rows", "_weights", "memory"):
                self.__dict__.pop(name, None)

    def before_fork(self) -> None:
        """Do nothing: the engine thread rests during a fork (see Loop), so that no forward pass is under way."""

    def after_fork(self, in_child: bool) -> None:
        """In a child process, note whether another thread was using the engine, and make a new lock."""
        if in_child:
            self._broken_by_fork = self._broken_by_fork or self._lock.locked()
            self._lock = threading.Lock()

    def _open_weights(self) -> Weights:
        with self._lock:
            self._open_plan()
            return self._weights

    def _open_plan(self) -> _kernels.Plan:
        if self._plan is None:
            raise PyinferError("the model is closed")
        if self._broken_by_fork:
            raise PyinferError(forks.BROKEN_BY_FORK)
        return self._plan
