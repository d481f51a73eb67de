"""`LLM`: a model file ready to generate text."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from pyinfer import _kernels
from pyinfer.api.chat import ChatStream
from pyinfer.api.chat_job import Chat, ChatJob
from pyinfer.api.description import description_of
from pyinfer.api.job import Job, Params
from pyinfer.api.session import layout_of, load_session, save_session
from pyinfer.api.stream import Stream, Streamed
from pyinfer.arguments import check_integer, check_positive
from pyinfer.chat.calls import ChatCompletion, prepare_turn
from pyinfer.engine.engine import Engine
from pyinfer.engine.options import DEFAULTS, EngineOptions
from pyinfer.errors import ContextError, ParameterError, PyinferError
from pyinfer.gguf import GGUFFile
from pyinfer.gguf.overrides import Override
from pyinfer.hub import resolve_model
from pyinfer.progress import progress_bar
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
    """Load a model with its tokenizer and its KV cache, to generate text, chat, embed and score.

    Several threads may call it; their requests run together. In brackets: the default, then the range.

    - `path`: a GGUF file, any part of a split one, or a name that `pyinfer.hub` knows.
    - `n_ctx`, `n_threads`, `kv_type`, `n_batch`, `n_seqs`, `kv_cache_memory`, `weights`, `overrides`: as
      `pyinfer.engine.options.EngineOptions` says.
    - `progress` (None): True draws a bar while the model is downloaded and loaded, as `generate` does; or a function
      that is called with (bytes done, bytes in all).
    - `prefix_cache` (True): prompts share the cached keys and values of their common prefixes, also after a request has
      ended. Results are the same, bit for bit.
    - `on_overflow` ("error"): what happens when the context is full: "error" ends the text; "shift" drops the older
      half of what follows the first `n_keep` tokens, as often as needed.
    - `n_keep` (0; at least 0): tokens that "shift" never drops; rounded up to pages of 64.
    - `speculative` (None): "lookup" drafts tokens that followed the same words earlier in the text or its prompt.
      Results are the same, bit for bit, as without.
    - `draft_model` (None): a small model with the same tokens, which drafts, too: a file, a name, or an open LLM. Of an
      LLM only the weights are shared: it may be used at the same time and closed earlier or later.
    - `n_draft` (31; at least 1): the largest number of draft tokens a step; there are fewer, or none, where drafting
      would cost time.

    Raises GGUFError, ModelError or TokenizerError for a file that can't be used, DownloadError for a model that can't
    be downloaded, and ParameterError for arguments.

        with LLM("model.gguf") as llm:
            print(llm.generate("The capital of France is", SamplingParams(max_tokens=16)).text)
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
        progress: bool | Callable[[int, int], None] | None = DEFAULTS.progress,
        speculative: str | None = None,
        draft_model: str | Path | LLM | None = None,
        n_draft: int = DEFAULT_N_DRAFT,
        overrides: Mapping[str, Override] | None = DEFAULTS.overrides,
    ) -> None:
        if on_overflow not in ("error", "shift"):
            raise ParameterError(f"on_overflow is {on_overflow!r}; expected 'error' or 'shift'")
        if speculative not in (None, "lookup"):
            raise ParameterError(f"speculative is {speculative!r}; expected 'lookup' or None (or see draft_model)")
        check_integer("n_keep", n_keep, 0, None, "a whole number of at least 0")
        n_draft = check_positive("n_draft", n_draft, DEFAULT_N_DRAFT)
        if isinstance(progress, bool):
            progress = progress_bar("loading") if progress else None
        path = resolve_model(path, progress)
        if draft_model is not None and not isinstance(draft_model, LLM):
            draft_model = resolve_model(draft_model, progress)
        options = EngineOptions(
            n_ctx, n_threads, kv_type, n_batch, n_seqs, kv_cache_memory, weights, progress, overrides
        )
        with GGUFFile(path) as file:
            file.override(overrides)
            self._tokenizer = load_tokenizer(file)
            drafting = None
            if draft_model is not None:  # loaded first, since a small model is loaded or refused sooner
                drafting = draft_engine(draft_model, self._tokenizer, options.of_draft_model())
            n_kept = n_keep + self._tokenizer.add_bos if on_overflow == "shift" else None  # models need the first token
            self._engine = Engine(file, options, n_keep=n_kept or 0)
            self._layout = layout_of(file, self._engine) if prefix_cache else None
            self._description = description_of(file, self._engine.n_ctx)
        _kernels.end_threads()  # ends those that loaded the weights: the engine thread has its own
        self._draft = None if drafting is None else DraftModel(drafting, self._engine.n_vocab, self._tokenizer.eog_ids)
        self.path = Path(path)
        self._closed = False
        self._scheduler = Scheduler(self._engine, prefix_cache, n_kept)
        if speculative is not None or self._draft is not None:
            self._scheduler.drafter = Speculation(self._scheduler.costs, n_draft, speculative == "lookup", self._draft)

    def __repr__(self) -> str:
        return f"LLM({self._description}{', closed' if self._closed else ''})"

    def __enter__(self) -> LLM:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        return self._tokenizer

    @property
    def engine(self) -> Engine:
        """What computes forward passes. Raises PyinferError once the model is closed."""
        if self._closed:
            raise PyinferError(f"{self.path}: the model is closed")
        return self._engine

    @property
    def scheduler(self) -> Scheduler:
        """What runs requests on the engine. Raises PyinferError once the model is closed."""
        if self._closed:
            raise PyinferError(f"{self.path}: the model is closed")
        return self._scheduler

    @property
    def n_ctx(self) -> int:
        """How many tokens a prompt and its text may have together."""
        return self._scheduler.n_ctx

    def close(self) -> None:
        """Release all memory. Requests under way and later calls raise PyinferError."""
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
    def generate(self, prompt: Iterable[Prompt], params: Params = None, progress: bool = False) -> list[Completion]: ...
    def generate(
        self, prompt: Prompt | Iterable[Prompt], params: Params = None, progress: bool = False
    ) -> Completion | list[Completion]:
        """Generate the text that follows a prompt, or the texts that follow several prompts, which run together.

        - `prompt`: a text, in which special tokens are plain characters, or token ids; or several such prompts: a list,
          a tuple, a NumPy array, a column of pandas or Polars, or a generator.
        - `params` (None): for all prompts, or a list with one for each; None: the defaults of SamplingParams.
        - `progress` (False): draw a progress bar: on standard error if it is a terminal, or in a notebook.

        Returns a Completion, or a list of them in the order of the prompts. What else runs at the same time does not
        change a result. Raises, before anything runs, ContextError for a prompt that leaves no room in the context, and
        ParameterError or TokenizerError for a prompt that is empty or has ids out of range. Raises what the logits
        processors of `params` raise.

            first, second = llm.generate(["Once upon a time", "In the beginning"])
        """
        job = self.job(prompt, params)
        self.scheduler.run(job.tasks, "generating" if progress else None)
        return job.result()

    def stream(
        self, prompt: Prompt, params: SamplingParams | None = None, *, visible_tokens: Collection[int] = frozenset()
    ) -> Stream:
        """Generate the text that follows one prompt, and give it piece by piece.

        - `prompt`, `params`: as for `generate`. With `n` above 1, each piece has the index of the text that it is of.
        - `visible_tokens` (none): ids of control tokens that become characters of the text, in place of nothing.

        Returns a Stream to iterate over; other calls may run at the same time. Raises what `generate` raises, and
        ParameterError for a `best_of` above `n`.

            for piece in llm.stream("Once upon a time"):
                print(piece.text, end="", flush=True)
        """
        return Stream(self.scheduler, Streamed(prompt, params, partial(self.generation, visible_tokens=visible_tokens)))

    @overload
    def chat(self, messages: Chat, params: SamplingParams | None = None, **options: Any) -> ChatCompletion: ...
    @overload
    def chat(self, messages: Iterable[Chat], params: Params = None, **options: Any) -> list[ChatCompletion]: ...
    def chat(
        self, messages: Chat | Iterable[Chat], params: Params = None, *, progress: bool = False, **options: Any
    ) -> ChatCompletion | list[ChatCompletion]:
        """Answer messages in the form of OpenAI's API, by the model's chat template.

        - `messages`: a list of `{"role": …, "content": …}`; or several such lists, which are answered together.
        - `params` (None), `progress` (False): as for `generate`.
        - `options`: the other arguments of `pyinfer.chat.prepare_turn`: `template`, `tools`, `tool_choice`,
          `constrain_tools`, `parallel_tool_calls`, `documents`, `reasoning`, `continue_final_message`,
          `template_kwargs` (variables of the template); and fields of SamplingParams, which replace those of `params`.

        Returns a ChatCompletion, or a list of them in the order of the chats. Raises what `prepare_turn` and `generate`
        raise: ParameterError for other options.

            done = llm.chat([{"role": "user", "content": "Hello"}], temperature=0, max_tokens=50)
            print(done.content, done.finish_reason)
        """
        job = ChatJob(messages, params, partial(prepare_turn, self._tokenizer, **options), self.job)
        self.scheduler.run(job.tasks, "answering" if progress else None)
        return job.result()

    def stream_chat(
        self, messages: Sequence[Mapping[str, Any]], params: SamplingParams | None = None, **options: Any
    ) -> ChatStream:
        """Answer messages, and give the answer delta by delta: reasoning, text and tool calls as they become certain.

        - `messages`, `params`, `options`: as for `chat`, but for one answer: `n` and `best_of` are at most 1.

        Returns a ChatStream to iterate over. Raises what `chat` raises.

            for delta in llm.stream_chat([{"role": "user", "content": "Hello"}]):
                print(delta.content, end="", flush=True)
        """
        turn = prepare_turn(self._tokenizer, messages, params, **options)
        return ChatStream(turn, self.stream(turn.prompt.tokens, turn.one_text(), visible_tokens=turn.visible_tokens))

    def logits(self, tokens: Sequence[int] | NDArray[np.integer]) -> NDArray[np.float32]:
        """Compute the logits at each token of a sequence that begins with the first one.

        - `tokens`: token ids, at least 1 and at most `n_ctx`.

        Returns float32 [n_tokens, n_vocab]. Raises ContextError for more tokens than `n_ctx`, ParameterError for none
        and for ids out of range, and ModelError for an encoder.

            likeliest = llm.logits([1, 2, 3])[-1].argmax()
        """
        self.engine.check_decoder()
        ids = self._fitting_ids(tokens)
        task = Logits(ids, self.engine.n_vocab)
        self.scheduler.run([task])
        return task.out

    def trace(self, tokens: Prompt, names: str | Sequence[str] | None = None) -> dict[str, NDArray[np.float32]]:
        """Compute the activations of a prompt's tokens, bit for bit those that generation would compute.

        - `tokens`: a text or token ids, at most `n_ctx` tokens.
        - `names` (None): a glob, or several, of names that `pyinfer.engine.trace` lists; None: all of them.

        Returns float32 [n_tokens, width] by name. Requests under way lose their cache and are computed again
        afterwards. Raises ParameterError for a name that matches nothing, ContextError for more tokens than `n_ctx`.

            streams = llm.trace("The capital of France is", "blk.*.out")
        """
        ids = self._fitting_ids(tokens)
        globs = [names] if isinstance(names, str) else names
        return self.scheduler.call(partial(self.engine.trace, ids, globs), preempt=True)

    def save_state(self, path: str | Path, tokens: Prompt | Completion) -> int:
        """Save the cached keys and values of a sequence to a session file, which `load_state` reads.

        - `path`: the file to write.
        - `tokens`: the sequence: a prompt, or a Completion for its prompt and its text.

        Returns how many tokens are saved: those of the longest prefix that is still cached. Raises StateError if there
        is none, ParameterError without `prefix_cache`, and OSError if the file can't be written.

            llm.save_state("session", llm.generate("Once upon a time", SamplingParams(max_tokens=16)))
        """
        ids = [*tokens.prompt, *tokens.tokens] if isinstance(tokens, Completion) else self.token_ids(tokens)
        return save_session(path, ids, self._layout, self.engine.memory, self.scheduler)

    def load_state(self, path: str | Path) -> list[int]:
        """Load a session file's keys and values into the cache.

        - `path`: a file that `save_state` wrote, of the same model and `kv_type`.

        Returns the session's tokens. Prompts that begin with them need not compute them again while they stay cached.
        Raises, before anything has changed, StateError for a file that is damaged or of another model, and ContextError
        for more tokens than the cache has room for; ParameterError without `prefix_cache`, OSError without a file.

            llm.save_state("session", llm.generate("Once upon a time", SamplingParams(max_tokens=16)))
            print(llm.generate([*llm.load_state("session"), 1]).cached_tokens)
        """
        return load_session(path, self._layout, self.n_ctx, self.engine, self.scheduler)

    def job(
        self,
        prompt: Prompt | Iterable[Prompt],
        params: Params = None,
        visible_tokens: Collection[int] = frozenset(),
        admit: Callable[[int], None] | None = None,
    ) -> Job:
        """Return the tasks of a `generate` call, for the scheduler. `admit` is as for Job."""
        return Job(prompt, params, partial(self.generation, visible_tokens=visible_tokens), admit)

    def generation(
        self,
        prompt: Prompt,
        params: SamplingParams,
        pieces: deque[Piece] | None = None,
        index: int = 0,
        visible_tokens: Collection[int] = frozenset(),
    ) -> Generation:
        """Check a prompt and return the task for one text (`n` and `best_of` have no effect here).

        `pieces`, `index` and `visible_tokens` are as for Generation.
        """
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
        """Run tasks of any kind to their end. The first error of a task, and Ctrl-C, is raised and cancels the rest."""
        self.scheduler.run(tasks)

    def token_ids(self, prompt: Prompt) -> list[int]:
        """Return a prompt's token ids. Raises ParameterError if there are none, or one is out of range."""
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
        """Compute the embedding of each text.

        - `texts`: a text, or a list of texts or lists of token ids.
        - `pooling` (None): how a text's hidden states become one vector: "mean", "cls" (the first token's) or "last";
          None: as the model's file says.
        - `normalize` (True): give vectors of length 1.
        - `truncate` (False): cut texts that are too long at their end, in place of an error.

        Returns float32 [n_texts, n_embd]. Raises ContextError for a text that is too long, and ParameterError.

            first, second = llm.embed(["A cat sits on the mat.", "There is a cat on the rug."])
            print("cosine", first @ second)
        """
        return embed(self.scheduler, self._tokenizer, texts, pooling, normalize, truncate)

    def score(self, prompt: Prompt, continuations: Sequence[Prompt]) -> list[Score]:
        """Compute how likely each of several continuations of a prompt is.

        - `prompt`: a text or token ids.
        - `continuations`: a list of texts or lists of token ids, none of them empty.

        Returns a `pyinfer.tasks.scoring.Score` for each. Raises ContextError and ParameterError as `generate` does.

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
        """Measure how well the model predicts a text, by the method of llama-perplexity.

        - `text`, `n_ctx`, `stride`, `n_chunks`, `progress`: as `pyinfer.tasks.scoring.perplexity` says.

        Returns a Perplexity. Raises ParameterError for arguments out of range, and for a text shorter than one chunk.

            print(llm.perplexity(Path("book.txt").read_text()).value)
        """
        return perplexity(self.scheduler, self._tokenizer, text, n_ctx, stride, n_chunks, progress)
