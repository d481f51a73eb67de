"""`LLM`: a model file ready to generate text."""

from __future__ import annotations

import operator
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pyinfer.errors import ContextError, ParameterError, PyinferError
from pyinfer.gguf import GGUFFile
from pyinfer.runtime.engine import Engine
from pyinfer.runtime.generation import Completion, Piece, Stream
from pyinfer.runtime.params import SamplingParams
from pyinfer.tokenizer import Tokenizer, load_tokenizer

if TYPE_CHECKING:
    from pyinfer.runtime.scoring import Perplexity, Score

LOGITS_CHUNK = 64  # tokens: the engine's rows of logits stay resident once they were used


class LLM:
    """A model, its tokenizer and its KV cache.

        with LLM("model.gguf") as llm:
            print(llm.generate("The capital of France is", SamplingParams(max_tokens=16)).text)

    path: a GGUF file, any part of a split one, or a name that `pyinfer.hub` knows.
    n_ctx: tokens of prompt and text together (default: what the model
    was trained for, at most 4096). n_threads: default the cores that the process may use. kv_type: of cached keys and
    values, "f16", "bf16", "f32" or "q8_0". n_batch: prompt tokens passed at once. progress(bytes done, bytes in all):
    called while the model is fetched, then while weights are loaded.
    weights: "copy" takes them into memory, rearranged for speed, and the file is not
    used any more; "mmap" leaves them in the mapped file, for models larger than RAM and for processes that share one:
    the file must stay as it is until `close`, since shortening a mapped file ends the process (SIGBUS).
    Raises GGUFError, ModelError, TokenizerError for files, ParameterError for arguments. Calls from several threads
    wait for each other.
    """

    def __init__(
        self,
        path: str | Path,
        n_ctx: int | None = None,
        n_threads: int | None = None,
        kv_type: str = "f16",
        n_batch: int = 512,
        weights: str = "copy",
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        from pyinfer.hub import resolve_model

        path = resolve_model(path, progress)
        self._lock = threading.Lock()
        self._owner: int | None = None
        with GGUFFile(path) as file:
            self._tokenizer = load_tokenizer(file)
            self._engine: Engine | None = Engine(
                file,
                n_ctx=n_ctx,
                n_threads=n_threads,
                kv_type=kv_type,
                n_batch=n_batch,
                weights=weights,
                progress=progress,
            )
        self.path = Path(path)

    def __enter__(self) -> LLM:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def tokenizer(self) -> Tokenizer:
        return self._tokenizer

    @property
    def engine(self) -> Engine:
        """The engine below; PyinferError once the model is closed."""
        if self._engine is None:
            raise PyinferError(f"{self.path}: the model is closed")
        return self._engine

    def close(self) -> None:
        """Give back all memory; further calls raise PyinferError."""
        if self._engine is not None:
            self._engine.close()
        self._engine = None

    def generate(self, prompt: str | Sequence[int], params: SamplingParams | None = None) -> Completion:
        """The text that follows a prompt. prompt: text (special tokens in it are text) or token ids.

        Raises ContextError for prompts that leave no room, ParameterError for empty ones, TokenizerError or
        ParameterError for ids out of range.
        """
        stream = self._start(prompt, params)
        for _ in self._locked(stream):
            pass
        assert stream.completion is not None
        return stream.completion

    def stream(self, prompt: str | Sequence[int], params: SamplingParams | None = None) -> Iterator[Piece]:
        """As generate, piece by piece.

        for piece in llm.stream("Once upon a time"):
            print(piece.text, end="", flush=True)
        """
        return self._locked(self._start(prompt, params))

    def start(
        self, prompt: str | Sequence[int], params: SamplingParams | None = None
    ) -> tuple[Stream, Iterator[Piece]]:
        """As stream, and the stream's own object, whose `completion` has the counts and times at the end."""
        stream = self._start(prompt, params)
        return stream, self._locked(stream)

    def logits(self, tokens: Sequence[int] | NDArray[np.integer]) -> NDArray[np.float32]:
        """Logits at each of the tokens, from an empty context: float32 [n_tokens, n_vocab]."""
        engine, ids = self.engine, self._checked(tokens)
        if len(ids) > engine.n_ctx:
            raise ContextError(f"{len(ids)} tokens do not fit into the context of {engine.n_ctx} (n_ctx)")
        out = np.empty((len(ids), engine.n_vocab), np.float32)
        with self._exclusive():
            engine.truncate(0, 0)
            step = min(LOGITS_CHUNK, engine.n_batch)
            for start in range(0, len(ids), step):
                part = ids[start : start + step]
                n = len(part)
                out[start : start + n] = engine.forward(part, np.arange(start, start + n), [0] * n, np.arange(n))
        return out

    def _start(self, prompt: str | Sequence[int], params: SamplingParams | None) -> Stream:
        if params is not None and not isinstance(params, SamplingParams):
            raise ParameterError(f"params is a {type(params).__name__}; expected SamplingParams")
        tokens = self._tokenizer.encode(prompt) if isinstance(prompt, str) else self._checked(prompt)
        if not tokens:
            raise ParameterError("the prompt is empty; expected at least one token")
        return Stream(self.engine, self._tokenizer, tokens, params or SamplingParams())

    def _checked(self, tokens: Sequence[int] | NDArray[np.integer]) -> list[int]:
        n_vocab = self.engine.n_vocab
        ids = []
        for i, token in enumerate(tokens):
            try:
                ids.append(operator.index(token))
            except TypeError:
                raise ParameterError(f"token {i} is a {type(token).__name__}; expected a token id") from None
            if not 0 <= ids[-1] < n_vocab:
                raise ParameterError(f"token {i} is id {ids[-1]}; the vocabulary has 0 to {n_vocab - 1}")
        if not ids:
            raise ParameterError("there are no tokens; expected at least one")
        return ids

    def _locked(self, stream: Stream) -> Iterator[Piece]:
        """The pieces of a stream, while nothing else uses the cache."""
        with self._exclusive():
            try:
                yield from stream
            finally:
                stream.close()

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Hold the cache: calls of other threads wait; one of the same thread, which would wait forever, is refused."""
        if self._owner == threading.get_ident():
            raise ParameterError("another stream of this model is under way in this thread; finish or close it first")
        with self._lock:
            self._owner = threading.get_ident()
            try:
                yield
            finally:
                self._owner = None

    def embed(
        self,
        texts: str | Sequence[str | Sequence[int]],
        pooling: str | None = None,
        normalize: bool = True,
        truncate: bool = False,
    ) -> NDArray[np.float32]:
        """Embeddings of texts, float32 [n_texts, n_embd]; see pyinfer.runtime.embedding.embed.

        first, second = llm.embed(["A cat sits on the mat.", "There is a cat on the rug."])
        print("cosine", first @ second)
        """
        from pyinfer.runtime.embedding import embed

        with self._exclusive():
            return embed(self.engine, self._tokenizer, texts, pooling, normalize, truncate)

    def score(self, prompt: str | Sequence[int], continuations: Sequence[str | Sequence[int]]) -> list[Score]:
        """How likely each of these texts is after a prompt; see pyinfer.runtime.scoring.score.

        first, second = llm.score("The capital of France is", [" Paris", " Rome"])
        print(first.logprob > second.logprob, first.greedy)
        """
        from pyinfer.runtime.scoring import score

        with self._exclusive():
            return score(self.engine, self._tokenizer, prompt, continuations)

    def score_tokens(self, texts: Iterable[tuple[Sequence[int], int]]) -> list[Score]:
        """Scores of texts as token ids, each with the position from which on it is scored."""
        from pyinfer.runtime.scoring import score_tokens

        with self._exclusive():
            return score_tokens(self.engine, texts)

    def perplexity(
        self,
        text: str | Sequence[int],
        n_ctx: int = 512,
        stride: int | None = None,
        n_chunks: int | None = None,
        progress: Callable[[Perplexity, int], None] | None = None,
    ) -> Perplexity:
        """How well the model predicts a text, by llama-perplexity's method; see pyinfer.runtime.scoring.perplexity.

        print(llm.perplexity(Path("book.txt").read_text()).value)
        """
        from pyinfer.runtime.scoring import perplexity

        with self._exclusive():
            return perplexity(self.engine, self._tokenizer, text, n_ctx, stride, n_chunks, progress)
