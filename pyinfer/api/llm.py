"""`LLM`: a model file ready to generate text."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from pyinfer import _kernels
from pyinfer.api.chat import ChatStream
from pyinfer.api.job import Job, Params
from pyinfer.api.stream import Stream, Streamed
from pyinfer.arguments import check_integer, check_positive
from pyinfer.chat.calls import ChatCompletion, prepare_turn
from pyinfer.engine.engine import Engine
from pyinfer.engine.options import DEFAULTS, EngineOptions
from pyinfer.errors import ContextError, ParameterError, PyinferError, StateError
from pyinfer.gguf import GGUFFile
from pyinfer.hub import resolve_model
from pyinfer.memory.prefix_key import PrefixKey
from pyinfer.memory.session_file import Layout, fingerprint, read_state, write_state
from pyinfer.sampling.params import SamplingParams
from pyinfer.scheduling.scheduler import Scheduler
from pyinfer.scheduling.task import Task
from pyinfer.speculation.draft_model import DraftModel, draft_engine
from pyinfer.speculation.policy import DEFAULT_N_DRAFT, Speculation
from pyinfer.tasks.embedding import embed
from pyinfer.tasks.generation import Generation
from pyinfer.tasks.logits import Logits
from pyinfer.tasks.prompt import Prompt, prompt_ids
from pyinfer.tasks.results import Completion, Piece
from pyinfer.tasks.scoring import Perplexity, Score, perplexity, score
from pyinfer.tokenizer import Tokenizer, load_tokenizer


class LLM:
    """A model, its tokenizer and its KV cache.

        with LLM("model.gguf") as llm:
            print(llm.generate("The capital of France is", SamplingParams(max_tokens=16)).text)

    path: a GGUF file, any part of a split one, or a name that `pyinfer.hub` knows.
    n_ctx, n_threads, kv_type, n_batch, n_seqs, kv_cache_memory, weights, progress: see EngineOptions; progress is
    called while the model is fetched, too.
    prefix_cache: whether prompts share prefixes, now or later; results are the same to the bit.
    on_overflow: "error" ends texts where the context is full; "shift" then drops the older half of what follows the
    first n_keep tokens (rounded up to pages of 64), again and again.
    speculative: "lookup" drafts that texts go on as they or their prompts did before. draft_model: a small model with
    the same tokens, which drafts, too: a file, a name, or an open LLM, which shares its weights, may be used meanwhile
    and closed before or after. n_draft: draft tokens at once, at most; fewer or none where that doesn't pay. Results
    are the same to the bit.

    Raises GGUFError, ModelError, TokenizerError for files, ParameterError for arguments. May be used from several
    threads, whose requests run together.
    """

    def __init__(
        self,
        path: str | Path,
        n_ctx: int | None = DEFAULTS.n_ctx,
        n_threads: int | None = DEFAULTS.n_threads,
        kv_type: str = DEFAULTS.kv_type,
        n_batch: int = DEFAULTS.n_batch,
        n_seqs: int = DEFAULTS.n_seqs,
        kv_cache_memory: int | None = DEFAULTS.kv_cache_memory,
        prefix_cache: bool = True,
        on_overflow: str = "error",
        n_keep: int = 0,
        weights: str = DEFAULTS.weights,
        progress: Callable[[int, int], None] | None = DEFAULTS.progress,
        speculative: str | None = None,
        draft_model: str | Path | LLM | None = None,
        n_draft: int = DEFAULT_N_DRAFT,
    ) -> None:
        if on_overflow not in ("error", "shift"):
            raise ParameterError(f"on_overflow is {on_overflow!r}; expected 'error' or 'shift'")
        if speculative not in (None, "lookup"):
            raise ParameterError(f"speculative is {speculative!r}; expected 'lookup' or None (or see draft_model)")
        n_draft = check_positive("n_draft", n_draft, DEFAULT_N_DRAFT)
        path = resolve_model(path, progress)
        if draft_model is not None and not isinstance(draft_model, LLM):
            draft_model = resolve_model(draft_model, progress)
        options = EngineOptions(n_ctx, n_threads, kv_type, n_batch, n_seqs, kv_cache_memory, weights, progress)
        with GGUFFile(path) as file:
            self._tokenizer = load_tokenizer(file)
            drafting = None
            if draft_model is not None:  # first, as it is what is sooner loaded or refused
                drafting = draft_engine(draft_model, self._tokenizer, **options.of_draft_model().as_arguments())
            n_kept = self._kept_tokens(n_keep) if on_overflow == "shift" else None
            self._engine = Engine(file, **options.as_arguments(), n_keep=n_kept or 0)
            self._fingerprint = fingerprint(file, self._engine.config)
        _kernels.end_threads()  # those that loaded the weights: the engine thread has its own
        self._draft = None if drafting is None else DraftModel(drafting, self._engine.n_vocab, self._tokenizer.eog_ids)
        self.path = Path(path)
        self._closed = False
        self._prefix_cache = prefix_cache
        self._scheduler = Scheduler(self._engine, prefix_cache, n_kept)
        if speculative is not None or self._draft is not None:
            self._scheduler.drafter = Speculation(self._scheduler.costs, n_draft, speculative == "lookup", self._draft)

    def __enter__(self) -> LLM:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def tokenizer(self) -> Tokenizer:
        return self._tokenizer

    @property
    def engine(self) -> Engine:
        """The engine below; PyinferError once the model is closed."""
        if self._closed:
            raise PyinferError(f"{self.path}: the model is closed")
        return self._engine

    @property
    def scheduler(self) -> Scheduler:
        """What runs requests on the engine; PyinferError once the model is closed."""
        if self._closed:
            raise PyinferError(f"{self.path}: the model is closed")
        return self._scheduler

    @property
    def n_ctx(self) -> int:
        """Positions that a prompt and its text may have together."""
        return self._scheduler.n_ctx

    def close(self) -> None:
        """Give back all memory; requests under way and further calls raise PyinferError."""
        if not self._closed:
            self._scheduler.close()
            self._engine.close()
            if self._draft is not None:
                self._draft.close()
        self._closed = True

    @overload
    def generate(  # type: ignore[overload-overlap]
        self, prompt: Prompt, params: SamplingParams | None = None, progress: bool = False
    ) -> Completion: ...
    @overload
    def generate(self, prompt: Sequence[Prompt], params: Params = None, progress: bool = False) -> list[Completion]: ...
    def generate(
        self, prompt: Prompt | Sequence[Prompt], params: Params = None, progress: bool = False
    ) -> Completion | list[Completion]:
        """The text that follows a prompt, or the texts that follow several, which run together.

        prompt: text (special tokens in it are text) or token ids, or a list of prompts; params: for all of them, or
        one for each. progress: draw a bar on standard error. Returns a Completion, or a list in the order of the
        prompts. Each request's result is the same whatever runs beside it.
        Raises ContextError for prompts that leave no room, ParameterError for empty ones, TokenizerError or
        ParameterError for ids out of range, each before anything runs; and what a text's own processors raise.

            first, second = llm.generate(["Once upon a time", "In the beginning"])
        """
        job = self.job(prompt, params)
        self.scheduler.run(job.tasks, "generating" if progress else None)
        return job.result()

    def stream(
        self, prompt: Prompt, params: SamplingParams | None = None, *, visible_tokens: Collection[int] = frozenset()
    ) -> Stream:
        """As generate for one prompt, piece by piece; other calls may run meanwhile.

        With n above 1, pieces of all texts come in turn, each with the index of its own. visible_tokens: control
        tokens that are text. Raises what generate raises, and ParameterError for a best_of above n.

            for piece in llm.stream("Once upon a time"):
                print(piece.text, end="", flush=True)
        """
        return Stream(self.scheduler, Streamed(prompt, params, partial(self.generation, visible_tokens=visible_tokens)))

    def chat(
        self, messages: Sequence[Mapping[str, Any]], params: SamplingParams | None = None, **options: Any
    ) -> ChatCompletion:
        """The answer to messages as OpenAI's API has them, by the model's chat template.

        options: template, tools, tool_choice, constrain_tools, parallel_tool_calls, documents, reasoning, and variables
        of the template; `pyinfer.chat.prepare_turn` says what they are. Raises what it raises, and what generate does.

            done = llm.chat([{"role": "user", "content": "Hello"}])
            print(done.content, done.finish_reason)
        """
        turn = prepare_turn(self._tokenizer, messages, params, **options)
        job = self.job(turn.prompt.tokens, turn.params, turn.visible_tokens)
        self.scheduler.run(job.tasks)
        return turn.result(job.completion())

    def stream_chat(
        self, messages: Sequence[Mapping[str, Any]], params: SamplingParams | None = None, **options: Any
    ) -> ChatStream:
        """As chat for one answer (n = 1), delta by delta: thoughts, text and calls as they become certain.

        Raises as chat.

            for delta in llm.stream_chat([{"role": "user", "content": "Hello"}]):
                print(delta.content, end="", flush=True)
        """
        turn = prepare_turn(self._tokenizer, messages, params, **options)
        return ChatStream(turn, self.stream(turn.prompt.tokens, turn.one_text(), visible_tokens=turn.visible_tokens))

    def logits(self, tokens: Sequence[int] | NDArray[np.integer]) -> NDArray[np.float32]:
        """Logits at each of the tokens, from an empty context: float32 [n_tokens, n_vocab].

        Raises ContextError for more tokens than n_ctx, ParameterError for ids out of range, ModelError for an encoder.
        """
        self.engine.check_decoder()
        ids = self._fitting_ids(tokens)
        task = Logits(ids, self.engine.n_vocab)
        self.scheduler.run([task])
        return task.out

    def trace(self, tokens: Prompt, names: str | Sequence[str] | None = None) -> dict[str, NDArray[np.float32]]:
        """Activations of a prompt's tokens by name, from an empty context: float32 [n_tokens, width] each.

        names: a glob or several, None for all of them; pyinfer.engine.trace says what there is. Numbers are those of
        generation, to the bit. Requests under way are computed again afterwards.
        Raises ParameterError for names that there are not, ContextError for more tokens than n_ctx.

            streams = llm.trace("The capital of France is", "blk.*.out")
        """
        ids = self._fitting_ids(tokens)
        globs = [names] if isinstance(names, str) else names
        return self.scheduler.call(partial(self.engine.trace, ids, globs), preempt=True)

    def save_state(self, path: str | Path, tokens: Prompt | Completion) -> int:
        """Save the cached keys and values of a prompt, or of a completion with its prompt, for `load_state`.

        Returns how many of its tokens that are: those of the longest beginning that is still cached.
        Raises StateError if there is none, ParameterError without prefix_cache, OSError if the file can't be written.
        """
        ids = [*tokens.prompt, *tokens.tokens] if isinstance(tokens, Completion) else self.token_ids(tokens)
        layout = self._state_layout()
        memory = self.engine.memory
        snapshot = self.scheduler.call(lambda: memory.snapshot(PrefixKey(list(ids)), len(ids)))
        if snapshot.n == 0:
            raise StateError(f"none of these {len(ids)} tokens is in the cache; generate with them first")
        write_state(Path(path), layout, ids[: snapshot.n], snapshot)
        return snapshot.n

    def load_state(self, path: str | Path) -> list[int]:
        """Take a saved session's keys and values into the cache; returns its tokens.

        What begins with these tokens is generated without passing them again, as long as they stay cached.
        Raises StateError for files that are damaged or of another model, ContextError if they are too many for the
        cache, each before anything has changed; ParameterError without prefix_cache, OSError if there is no such file.
        """
        tokens, snapshot = read_state(Path(path), self._state_layout(), self.n_ctx, self._engine.n_vocab)
        memory = self.engine.memory
        self.scheduler.call(lambda: memory.restore(PrefixKey(list(tokens)), snapshot))
        return tokens

    def _state_layout(self) -> Layout:
        if not self._prefix_cache:
            raise ParameterError("prefix_cache is False; sessions are saved from and loaded into it")
        memory = self.engine.memory
        return Layout(self._fingerprint, memory.kv_type, memory.group_sizes, memory.state_bytes)

    def job(
        self,
        prompt: Prompt | Sequence[Prompt],
        params: Params = None,
        visible_tokens: Collection[int] = frozenset(),
        admit: Callable[[int], None] | None = None,
    ) -> Job:
        """The tasks of `generate`, for the scheduler; visible_tokens: as for `generation`,
        admit: as for Job."""
        return Job(prompt, params, partial(self.generation, visible_tokens=visible_tokens), admit)

    def generation(
        self,
        prompt: Prompt,
        params: SamplingParams,
        pieces: deque[Piece] | None = None,
        index: int = 0,
        visible_tokens: Collection[int] = frozenset(),
    ) -> Generation:
        """A task for one text (n and best_of are not looked at), checked; pieces, index, visible_tokens: as
        Generation has them."""
        self.engine.check_decoder()
        ids = self.token_ids(prompt)
        if len(ids) >= self.n_ctx:
            raise ContextError(
                f"the prompt has {len(ids)} tokens; the context of {self.n_ctx} leaves room for "
                f"{self.n_ctx - 1} and one more (n_ctx, kv_cache_memory)"
            )
        n_ctx = None if self._scheduler.shifts else self.n_ctx
        return Generation(ids, params, self._tokenizer, n_ctx, pieces, index, visible_tokens)

    def run(self, tasks: Sequence[Task]) -> None:
        """Run tasks of any kind to their end; raise the first error of one, and cancel the others, as Ctrl-C does."""
        self.scheduler.run(tasks)

    def token_ids(self, prompt: Prompt) -> list[int]:
        """A prompt's token ids, checked; ParameterError if there are none, or one is out of range."""
        return prompt_ids(prompt, self._tokenizer, self.engine.n_vocab)

    def _fitting_ids(self, tokens: Prompt) -> list[int]:
        ids = self.token_ids(tokens)
        if len(ids) > self.n_ctx:
            raise ContextError(f"{len(ids)} tokens do not fit into the context of {self.n_ctx} (n_ctx)")
        return ids

    def embed(
        self,
        texts: str | Sequence[str | Sequence[int]],
        pooling: str | None = None,
        normalize: bool = True,
        truncate: bool = False,
    ) -> NDArray[np.float32]:
        """Embeddings of texts, float32 [n_texts, n_embd]; see pyinfer.tasks.embedding.embed.

        Raises ContextError for texts that are too long, unless truncate is True; ParameterError.

            first, second = llm.embed(["A cat sits on the mat.", "There is a cat on the rug."])
            print("cosine", first @ second)
        """
        return embed(self.scheduler, self._tokenizer, texts, pooling, normalize, truncate)

    def score(self, prompt: Prompt, continuations: Sequence[Prompt]) -> list[Score]:
        """How likely each of these texts is after a prompt; see pyinfer.tasks.scoring.score.

        Raises ContextError and ParameterError, as generate.

            first, second = llm.score("The capital of France is", [" Paris", " Rome"])
            print(first.logprob > second.logprob, first.greedy)
        """
        return score(self.scheduler, self._tokenizer, prompt, continuations)

    def perplexity(
        self,
        text: Prompt,
        n_ctx: int = 512,
        stride: int | None = None,
        n_chunks: int | None = None,
        progress: Callable[[Perplexity, int], None] | None = None,
    ) -> Perplexity:
        """How well the model predicts a text, by llama-perplexity's method; see pyinfer.tasks.scoring.perplexity.

        Raises ParameterError for arguments out of range, and for texts of less than one chunk.

            print(llm.perplexity(Path("book.txt").read_text()).value)
        """
        return perplexity(self.scheduler, self._tokenizer, text, n_ctx, stride, n_chunks, progress)

    def _kept_tokens(self, n_keep: int) -> int:
        """Of a context that is shifted: with the beginning-of-text token, without which models go astray."""
        check_integer("n_keep", n_keep, 0, None, "a whole number of at least 0")
        return int(n_keep) + self._tokenizer.add_bos
