"""Embeddings: the vector of a text is pooled from its tokens' hidden states after the last norm.

Texts are tasks like all others: a forward pass computes many of them, the long ones first, beside texts that are
generated. The other texts do not change a vector, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from pyinfer.arguments import checked_ids, items_in_order, quoted
from pyinfer.engine.engine import Engine
from pyinfer.errors import ContextError, ModelError, ParameterError
from pyinfer.scheduling.scheduler import Scheduler
from pyinfer.scheduling.task import Next, Task
from pyinfer.tokenizer import Tokenizer

# which tokens of a text of n are pooled: the first, and the one after the last
POOLINGS: dict[str, Callable[[int], tuple[int, int]]] = {
    "mean": lambda n: (0, n),
    "cls": lambda n: (0, 1),
    "last": lambda n: (n - 1, n),
}


class Embedding(Task):
    """A task that pools a text's hidden states: `vector`, float64 [n_embd], once it is finished."""

    output = "hidden"
    publish = False  # prompts hardly ever share a prefix with embedded texts, of which there may be many

    def __init__(self, tokens: Sequence[int], pooling: str) -> None:
        first, end = POOLINGS[pooling](len(tokens))
        super().__init__(tokens, first, end)
        self.vector: NDArray[np.float64] = np.zeros(0)
        self._n_rows = end - first
        self._n_added = 0

    def process(self, rows: NDArray[np.float32], draft: Sequence[int]) -> Next:
        if not len(self.vector):
            self.vector = np.zeros(rows.shape[1])
        # rows are added one after the other, so that the sum does not depend on how passes cut the text
        self.vector = np.add.reduce(np.concatenate([self.vector[None], rows]), axis=0)
        self._n_added += len(rows)
        done = self._n_added == self._n_rows
        if done:
            self.vector /= self._n_rows
        return Next(done=done)


def embed(
    scheduler: Scheduler,
    tokenizer: Tokenizer,
    texts: str | Sequence[str | Sequence[int]],
    pooling: str | None = None,
    normalize: bool = True,
    truncate: bool = False,
) -> NDArray[np.float32]:
    """Compute the embedding of each text.

    - `texts`: a text or a list. Texts get the special tokens that the model asks for; token ids are used as they are.
    - `pooling` (None): "mean" of all tokens, the first ("cls") or the "last"; None: as the file says, otherwise "mean"
      for an encoder and "last" for a decoder.
    - `normalize` (True): give vectors of length 1.
    - `truncate` (False): cut texts that are too long at their end, but keep a special token there.

    Returns float32 [n_texts, n_embd]; a single text counts as a list of one. Raises ContextError for a text that is too
    long, ParameterError for a text without tokens, ids out of range and an unknown pooling, and ModelError where the
    model computes no finite numbers.
    """
    engine = scheduler.engine
    pooling = check_pooling(engine, pooling)
    tasks = embedding_tasks(scheduler, tokenizer, texts, pooling, truncate)
    # long ones first, so that texts of one forward pass are of similar lengths
    scheduler.run(sorted(tasks, key=lambda task: -len(task.items)))
    return vectors_of(tasks, engine.config.n_embd, normalize)


def embedding_tasks(
    scheduler: Scheduler, tokenizer: Tokenizer, texts: str | Sequence[str | Sequence[int]], pooling: str, truncate: bool
) -> list[Embedding]:
    """Return the tasks of `embed`, in the order of the texts."""
    ids = tokenize(tokenizer, texts, scheduler.engine.n_vocab, scheduler.n_ctx, truncate)
    return [Embedding(tokens, pooling) for tokens in ids]


def vectors_of(tasks: Sequence[Embedding], n_embd: int, normalize: bool) -> NDArray[np.float32]:
    """Return the vectors of finished tasks, float32 [n_tasks, n_embd]. Raises ModelError for infinities and NaN."""
    out = np.empty((len(tasks), n_embd), np.float32)
    for i, task in enumerate(tasks):
        out[i] = task.vector
    damaged = np.flatnonzero(~np.isfinite(out).all(axis=1))
    if len(damaged):
        raise ModelError(f"the embedding of text {damaged[0]} is not finite: weights are damaged or overflow float32")
    if normalize:
        out /= np.maximum(np.linalg.norm(out, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return out


def check_pooling(engine: Engine, pooling: str | None) -> str:
    """Return the pooling to use. Raises ParameterError for one that does not exist."""
    usual = engine.config.pooling or ("mean" if engine.config.encoder else "last")
    found = usual if pooling is None else pooling
    if not isinstance(found, str) or found not in POOLINGS:
        whose = " in the model's file" if pooling is None else ""
        raise ParameterError(f"pooling is {quoted(found)}{whose}; expected one of {', '.join(POOLINGS)}")
    return found


def tokenize(
    tokenizer: Tokenizer, texts: str | Sequence[str | Sequence[int]], n_vocab: int, n_ctx: int, truncate: bool
) -> list[list[int]]:
    """Return the token ids of each text, at most as many as the context has room for."""
    items = [texts] if isinstance(texts, str) else items_in_order(texts)
    if items is None:
        raise ParameterError(f"texts is {quoted(texts)}; expected a text or a list of texts")
    tokens = []
    for i, text in enumerate(items):
        ids = tokenizer.encode(text) if isinstance(text, str) else checked_ids(text, n_vocab, f"text {i}")
        if not ids:
            raise ParameterError(f"text {i} has no tokens; expected at least one")
        if len(ids) > n_ctx:
            if not truncate:
                raise ContextError(
                    f"text {i} has {len(ids)} tokens; the context has {n_ctx} (n_ctx; truncate=True cuts texts)"
                )
            closing = ids[-1:] if isinstance(text, str) and tokenizer.add_eos else []
            ids = ids[: n_ctx - len(closing)] + closing
        tokens.append(ids)
    return tokens
