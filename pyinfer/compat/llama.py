"""llama-cpp-python's class `Llama`, on pyinfer's `LLM`."""

from __future__ import annotations

import random
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyinfer.chat import prepare_chat
from pyinfer.compat.arguments import check_arguments, kv_type_of, pooling_of
from pyinfer.compat.chat import ChatWriter, response_guide, template_of, tools_of
from pyinfer.compat.completion import CompletionWriter
from pyinfer.compat.context import Context, LlamaState
from pyinfer.compat.grammar import LlamaGrammar
from pyinfer.compat.infill import infill_prompt
from pyinfer.compat.sampling import RANDOM_SEEDS, StoppingCriteria, ending_processor, processors_of, sampling_params
from pyinfer.compat.types import (
    CreateChatCompletionResponse,
    CreateChatCompletionStreamResponse,
    CreateCompletionResponse,
    CreateCompletionStreamResponse,
    CreateEmbeddingResponse,
)
from pyinfer.errors import ParameterError, PyinferError
from pyinfer.gguf import GGUFFile
from pyinfer.runtime.generation import Completion
from pyinfer.runtime.guide import Guide
from pyinfer.runtime.llm import LLM
from pyinfer.runtime.params import LogitsProcessor
from pyinfer.runtime.sampling import Sampler, derived_seed
from pyinfer.tokenizer import Tokenizer, load_tokenizer

MIN_BATCH = 512  # LangChain asks for 8, which makes prompts slow and changes nothing else

Processors = Sequence[LogitsProcessor] | LogitsProcessor | None
Criteria = Sequence[StoppingCriteria] | StoppingCriteria | None
Grammar = LlamaGrammar | Guide | None


class Llama:
    """A model with llama-cpp-python's methods and results; `llm` is the LLM below, for all else.

        llama = Llama("model.gguf", n_ctx=2048)
        print(llama("The capital of France is", max_tokens=16)["choices"][0]["text"])

    Takes all arguments of llama-cpp-python's constructor. Those without use on a CPU (n_gpu_layers, flash_attn, …) are
    warned of; those that would change what the model computes (lora_path, rope_freq_base, kv_overrides, …) are a
    ParameterError, as are unknown ones. docs/coming-from-llama-cpp-python.md has a table.
    Raises ParameterError for arguments and where there is no such file, and what LLM raises.
    """

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
        pooling_type: int = -1,
        chat_format: str | None = None,
        chat_handler: Callable[..., Any] | None = None,
        type_k: int | None = None,
        type_v: int | None = None,
        spm_infill: bool = False,
        **arguments: Any,
    ) -> None:
        from pyinfer.hub import resolve_model

        self._arguments = {name: value for name, value in locals().items() if name not in ("self", "arguments")}
        self._arguments.pop("resolve_model")
        self._arguments.update(arguments)
        check_arguments(arguments)
        path = resolve_model(model_path)
        if not path.exists():
            raise ParameterError(f"model_path is {str(model_path)!r}, which does not exist")
        with GGUFFile(path) as file:
            self._file_metadata = dict(file.metadata)
        self.model_path = str(model_path)
        self.verbose = bool(arguments.get("verbose", True))
        self.chat_format, self.chat_handler = chat_format, chat_handler
        self.last_n_tokens_size = int(arguments.get("last_n_tokens_size", 64))
        self.spm_infill = spm_infill
        self.cache: Any = None
        self._seed = seed
        self._pooling = pooling_of(pooling_type)
        self._logits_all = logits_all
        self._llm: LLM | None = None
        if vocab_only:
            self._tokenizer = load_tokenizer(path)
            n_ctx = n_ctx or self._trained_ctx
        else:
            self._llm = LLM(
                path,
                n_ctx=self._positions(n_ctx),
                n_batch=max(n_batch or 0, MIN_BATCH),
                n_threads=n_threads,
                kv_type=kv_type_of(type_k, type_v),
            )
            self._tokenizer = self._llm.tokenizer
            n_ctx = self._llm.n_ctx
        self.n_batch = min(n_batch or n_ctx, n_ctx)
        self.context_params = SimpleNamespace(
            n_ctx=n_ctx, n_batch=self.n_batch, n_threads=n_threads, embeddings=embedding, pooling_type=pooling_type
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

    @cached_property
    def _context(self) -> Context:
        return Context(self.llm, self._logits_all)

    def close(self) -> None:
        """Give back all memory."""
        if self._llm is not None:
            self._llm.close()

    def __enter__(self) -> Llama:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return self._arguments

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    # texts

    def create_completion(
        self,
        prompt: str | Sequence[int],
        suffix: str | None = None,
        max_tokens: int | None = 16,
        temperature: float = 0.8,
        top_p: float = 0.95,
        min_p: float = 0.05,
        typical_p: float = 1.0,
        logprobs: int | None = None,
        echo: bool = False,
        stop: str | Sequence[str] | None = None,
        frequency_penalty: float = 0.0,
        presence_penalty: float = 0.0,
        repeat_penalty: float = 1.0,
        top_k: int = 40,
        stream: bool = False,
        seed: int | None = None,
        tfs_z: float = 1.0,
        mirostat_mode: int = 0,
        mirostat_tau: float = 5.0,
        mirostat_eta: float = 0.1,
        model: str | None = None,
        stopping_criteria: Criteria = None,
        logits_processor: Processors = None,
        grammar: Grammar = None,
        logit_bias: Mapping[Any, float] | None = None,
    ) -> CreateCompletionResponse | Iterator[CreateCompletionStreamResponse]:
        """The text that follows a prompt, as a dictionary of OpenAI's API, or with stream one for each piece of it.

        prompt: text, in which special tokens are recognised, or token ids. suffix: what shall stand after the text,
        for models that fill in. max_tokens: None or 0: until the context is full. temperature: 0 takes the likeliest
        token. logprobs: how many likely tokens to report. echo: with the prompt.
        Raises ContextError for prompts that leave no room, ParameterError for arguments, each before anything runs.
        """
        tokens = self._prompt_tokens(prompt, suffix)
        echo = echo and not stream
        processors = processors_of(logits_processor)
        if stopping_criteria is not None:
            if grammar is not None:
                raise ParameterError("stopping_criteria and grammar are given; expected one of them")
            processors = (*processors, ending_processor(stopping_criteria, self._tokenizer.eog_ids))
        params = sampling_params(
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            typical_p=typical_p,
            repeat_penalty=repeat_penalty,
            frequency_penalty=frequency_penalty,
            presence_penalty=presence_penalty,
            tfs_z=tfs_z,
            mirostat_mode=mirostat_mode,
            mirostat_tau=mirostat_tau,
            mirostat_eta=mirostat_eta,
            logits_processor=processors,
            grammar=grammar,
            logit_bias=logit_bias,
            seed=self._seed_for(seed),
            stop=stop,
            max_tokens=max_tokens,
            repetition_window=self.last_n_tokens_size,
            logprobs=logprobs,
            prompt_logprobs=logprobs if echo else None,
        )
        text = prompt if isinstance(prompt, str) else self._tokenizer.decode(tokens, skip_special=True)
        writer = CompletionWriter(self._tokenizer, model or self.model_path, text, echo)
        if stream:
            pieces = self.llm.stream(tokens, params)
            return self._noted(writer.chunks(pieces), tokens, lambda: pieces.completion)
        done = self.llm.generate(tokens, params)
        self._context.set_tokens([*done.prompt, *done.tokens])
        return writer.whole(done)

    __call__ = create_completion

    def create_chat_completion(
        self,
        messages: Sequence[Mapping[str, Any]],
        functions: Sequence[Mapping[str, Any]] | None = None,
        function_call: str | Mapping[str, Any] | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: str | Mapping[str, Any] | None = None,
        temperature: float = 0.2,
        top_p: float = 0.95,
        top_k: int = 40,
        min_p: float = 0.05,
        typical_p: float = 1.0,
        stream: bool = False,
        stop: str | Sequence[str] | None = None,
        seed: int | None = None,
        response_format: Mapping[str, Any] | None = None,
        max_tokens: int | None = None,
        presence_penalty: float = 0.0,
        frequency_penalty: float = 0.0,
        repeat_penalty: float = 1.0,
        tfs_z: float = 1.0,
        mirostat_mode: int = 0,
        mirostat_tau: float = 5.0,
        mirostat_eta: float = 0.1,
        model: str | None = None,
        logits_processor: Processors = None,
        grammar: Grammar = None,
        logit_bias: Mapping[Any, float] | None = None,
        logprobs: bool | None = None,
        top_logprobs: int | None = None,
    ) -> CreateChatCompletionResponse | Iterator[CreateChatCompletionStreamResponse]:
        """The answer to messages, as a dictionary of OpenAI's API, or with stream one for each part of it.

        messages, tools: as `pyinfer.chat.prepare_chat` takes them. tool_choice "required", or that of a function,
        constrains the text to calls. response_format: {"type": "json_object", "schema": …} constrains it to JSON.
        Raises what prepare_chat raises, and what create_completion does.
        """
        if self.chat_handler is not None:
            given = {name: value for name, value in locals().items() if name != "self"}
            return self.chat_handler(llama=self, **given)  # type: ignore[no-any-return]
        given_tools, choice = tools_of(functions, function_call, tools, tool_choice)
        prompt = prepare_chat(
            self._tokenizer,
            messages,
            template_of(self.chat_format, self._tokenizer),
            tools=given_tools or None,
            tool_choice=choice,
        )
        guides: list[Any] = [guide for guide in (grammar, response_guide(response_format)) if guide is not None]
        if prompt.tools and choice != "auto":
            source = prompt.grammar(self._tokenizer)
            if source is None:
                raise ParameterError("tool_choice asks for a call; how this chat format writes calls is not known")
            guides.append(Guide.lark(source))
        if len(guides) > 1:
            raise ParameterError("expected only one of grammar, response_format and a tool_choice that asks for a call")
        params = sampling_params(
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            typical_p=typical_p,
            repeat_penalty=repeat_penalty,
            frequency_penalty=frequency_penalty,
            presence_penalty=presence_penalty,
            tfs_z=tfs_z,
            mirostat_mode=mirostat_mode,
            mirostat_tau=mirostat_tau,
            mirostat_eta=mirostat_eta,
            logits_processor=logits_processor,
            grammar=guides[0] if guides else None,
            logit_bias=logit_bias,
            seed=self._seed_for(seed),
            stop=stop,
            max_tokens=max_tokens,
            repetition_window=self.last_n_tokens_size,
            logprobs=(top_logprobs or 0) if logprobs else None,
        )
        writer = ChatWriter(self._tokenizer, model or self.model_path, prompt, bool(functions))
        if stream:
            pieces = self.llm.stream(prompt.tokens, params)
            return self._noted(writer.chunks(pieces), prompt.tokens, lambda: pieces.completion)
        done = self.llm.generate(prompt.tokens, params)
        self._context.set_tokens([*done.prompt, *done.tokens])
        return writer.whole(done)

    def create_chat_completion_openai_v1(self, *args: Any, **kwargs: Any) -> Any:
        """As create_chat_completion, with the classes of the `openai` package."""
        try:
            from openai.types.chat import ChatCompletion, ChatCompletionChunk  # type: ignore[import-not-found, unused-ignore]
        except ImportError as error:
            raise ParameterError("create_chat_completion_openai_v1 needs `pip install openai`") from error
        answer = self.create_chat_completion(*args, **kwargs)
        if isinstance(answer, dict):
            return ChatCompletion.model_validate(answer)
        return (ChatCompletionChunk.model_validate(chunk) for chunk in answer)

    def _prompt_tokens(self, prompt: str | Sequence[int], suffix: str | None) -> list[int]:
        tokenizer = self._tokenizer
        if suffix is not None:
            if not isinstance(prompt, str):
                raise ParameterError("suffix is given and the prompt is token ids; expected a text")
            return infill_prompt(tokenizer, self._file_metadata, prompt, suffix, self.spm_infill)
        if not isinstance(prompt, str):
            return self.llm.token_ids(prompt)
        tokens = tokenizer.encode(prompt, parse_special=True)
        if tokens[:2] == [tokenizer.bos_id] * 2:
            warnings.warn("the prompt begins with the begin token, which the model's file adds, too", stacklevel=3)
        return tokens or ([] if tokenizer.bos_id is None else [tokenizer.bos_id])

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
            return seed
        if self._seed in RANDOM_SEEDS:
            return None
        self._seed = random.Random(self._seed).randint(0, 2**32 - 2)
        return self._seed

    # tokens

    def tokenize(self, text: bytes, add_bos: bool = True, special: bool = False) -> list[int]:
        """Token ids of UTF-8. add_bos: with the begin and end tokens that the model asks for; special: control tokens
        in the text become their ids. Raises ParameterError for other bytes."""
        try:
            decoded = bytes(text).decode("utf-8")
        except (UnicodeDecodeError, TypeError) as error:
            raise ParameterError(f"text is {text!r:.60}; expected bytes of UTF-8: {error}") from None
        return self._tokenizer.encode(decoded, add_special=add_bos, parse_special=special)

    def detokenize(
        self, tokens: Sequence[int], prev_tokens: Sequence[int] | None = None, special: bool = False
    ) -> bytes:
        """The bytes of token ids. prev_tokens: those before, so that a first space stays; special: control tokens."""
        if prev_tokens is not None:
            before = self.detokenize(prev_tokens, special=special)
            return self.detokenize([*prev_tokens, *tokens], special=special)[len(before) :]
        tokenizer = self._tokenizer
        text = tokenizer.decode_bytes([t for t in tokens if special or not tokenizer.is_special(t)])
        return text.removeprefix(b" ") if len(tokens) and tokens[0] == tokenizer.bos_id and not special else text

    def tokenizer(self) -> Tokenizer:
        """pyinfer's tokenizer of the model."""
        return self._tokenizer

    def token_bos(self) -> int:
        """The token that begins a text; -1 if there is none."""
        return -1 if self._tokenizer.bos_id is None else self._tokenizer.bos_id

    def token_eos(self) -> int:
        """The token that ends a text; -1 if there is none."""
        return -1 if self._tokenizer.eos_id is None else self._tokenizer.eos_id

    def token_nl(self) -> int:
        """The token of a line break."""
        return self._tokenizer.encode("\n", add_special=False, continues=True)[-1]

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

    # token by token

    @property
    def n_tokens(self) -> int:
        """Tokens that eval, or the last text, has gone through."""
        return self._context.n_tokens

    @n_tokens.setter
    def n_tokens(self, n: int) -> None:
        self._context.truncate(n)

    @property
    def input_ids(self) -> NDArray[np.intc]:
        """The tokens, and room for those to come: int32 [n_ctx]."""
        return self._context.input_ids

    @property
    def scores(self) -> NDArray[np.float32]:
        """Logits of eval: float32 [n_ctx, n_vocab] with logits_all, else [1, n_vocab] of the last token."""
        return self._context.scores

    @property
    def eval_tokens(self) -> deque[int]:
        return deque(self._context.tokens, maxlen=self.n_ctx())

    @property
    def eval_logits(self) -> deque[list[float]]:
        rows = self.scores[: self.n_tokens].tolist()
        return deque(rows, maxlen=self.n_ctx() if self._logits_all else 1)

    def reset(self) -> None:
        """Begin an empty sequence."""
        self._context.truncate(0)

    def eval(self, tokens: Sequence[int]) -> None:
        """Pass tokens behind those so far; `scores` then has their logits. Raises ContextError if they do not fit."""
        self._context.eval(tokens)

    def sample(
        self,
        top_k: int = 40,
        top_p: float = 0.95,
        min_p: float = 0.05,
        typical_p: float = 1.0,
        temp: float = 0.80,
        repeat_penalty: float = 1.0,
        frequency_penalty: float = 0.0,
        presence_penalty: float = 0.0,
        tfs_z: float = 1.0,
        mirostat_mode: int = 0,
        mirostat_eta: float = 0.1,
        mirostat_tau: float = 5.0,
        penalize_nl: bool = True,
        logits_processor: Processors = None,
        grammar: Grammar = None,
        idx: int | None = None,
    ) -> int:
        """A token to follow those so far, or those up to position idx (with logits_all). penalize_nl has no effect."""
        given = {name: value for name, value in locals().items() if name not in ("self", "idx")}
        sampler, guide = self._sampler(given)
        mask = None if guide is None else guide.matcher(self._tokenizer).mask()
        row = self._context.last_logits() if idx is None else self.scores[idx]
        return sampler.sample(row, mask).token

    def generate(
        self,
        tokens: Sequence[int],
        top_k: int = 40,
        top_p: float = 0.95,
        min_p: float = 0.05,
        typical_p: float = 1.0,
        temp: float = 0.80,
        repeat_penalty: float = 1.0,
        reset: bool = True,
        frequency_penalty: float = 0.0,
        presence_penalty: float = 0.0,
        tfs_z: float = 1.0,
        mirostat_mode: int = 0,
        mirostat_tau: float = 5.0,
        mirostat_eta: float = 0.1,
        penalize_nl: bool = True,
        logits_processor: Processors = None,
        stopping_criteria: Criteria = None,
        grammar: Grammar = None,
    ) -> Generator[int, Sequence[int] | None, None]:
        """Tokens without end, end tokens included: whoever iterates says when it is enough.

        reset: the tokens are all there is; otherwise they go on from those so far. `send` passes further tokens before
        the next one. Raises ContextError when the context is full.
        """
        given = {n: v for n, v in locals().items() if n not in ("self", "tokens", "reset", "stopping_criteria")}
        waiting = self.llm.token_ids(list(tokens))
        if reset:
            n_same = self.longest_token_prefix(self._context.tokens, waiting[:-1])
            self._context.truncate(n_same)
            waiting = waiting[n_same:]
        sampler, guide = self._sampler(given, waiting)
        matcher = None if guide is None else guide.matcher(self._tokenizer)
        while True:
            self.eval(waiting)
            logits = self._context.last_logits()
            if stopping_criteria is not None:
                criteria = [stopping_criteria] if callable(stopping_criteria) else stopping_criteria
                seen = np.array(self._context.tokens, np.int64)
                if any(criterion(seen, logits) for criterion in criteria):
                    return
            ended = matcher is not None and matcher.finished
            if ended and not self._tokenizer.eog_ids:
                return
            mask = None if matcher is None or ended else matcher.mask()
            if ended:
                token = self.token_eos() if self.token_eos() >= 0 else min(self._tokenizer.eog_ids)
            else:
                token = sampler.sample(logits, mask).token
                if matcher is not None:
                    matcher.accept(token)
            more = yield token
            for extra in more or ():
                sampler.accept(extra)
            waiting = [token, *(more or ())]

    def _sampler(self, given: dict[str, Any], more: Sequence[int] = ()) -> tuple[Sampler, Guide | None]:
        """For the tokens so far and `more`; given: sample's arguments."""
        arguments = {name: value for name, value in given.items() if name not in ("temp", "penalize_nl")}
        params = sampling_params(
            **arguments,
            temperature=given["temp"],
            repetition_window=self.last_n_tokens_size,
            seed=None if self._seed in RANDOM_SEEDS else derived_seed(int(self._seed or 0), self.n_tokens),
        )
        return Sampler(params, [*self._context.tokens, *more], self._tokenizer), params.guide

    def set_seed(self, seed: int) -> None:
        """Of all further calls that have none; -1: a new one each time."""
        self._seed = seed

    def set_cache(self, cache: Any) -> None:
        """Accepted: prompts that begin alike share keys and values anyway."""
        self.cache = cache

    def save_state(self) -> LlamaState:
        """The tokens so far with their keys and values, for `load_state`; can be pickled."""
        return self._context.save(self._seed)

    def load_state(self, state: LlamaState) -> None:
        """Go on where a state was saved. Raises StateError for one of another model, ContextError if it is too long."""
        self._context.load(state)
        self._seed = state.seed

    # embeddings

    def embed(
        self, input: str | Sequence[str], normalize: bool = False, truncate: bool = True, return_count: bool = False
    ) -> Any:
        """The embedding of a text, a list of n_embd numbers, or a list of those of several.

        return_count: a pair of that and the number of tokens. truncate: long texts lose their end; otherwise they
        raise ContextError.
        """
        texts = [input] if isinstance(input, str) else list(input)
        vectors = self.llm.embed(texts, self._pooling, normalize, truncate).tolist()
        found = vectors[0] if isinstance(input, str) else vectors
        if not return_count:
            return found
        return found, sum(min(len(self._tokenizer.encode(text)), self.n_ctx()) for text in texts)

    def create_embedding(self, input: str | Sequence[str], model: str | None = None) -> CreateEmbeddingResponse:
        """Embeddings as a dictionary of OpenAI's API."""
        vectors, n_tokens = self.embed([input] if isinstance(input, str) else input, return_count=True)
        return {
            "object": "list",
            "data": [{"object": "embedding", "embedding": vector, "index": i} for i, vector in enumerate(vectors)],
            "model": model or self.model_path,
            "usage": {"prompt_tokens": n_tokens, "total_tokens": n_tokens},
        }

    def pooling_type(self) -> int:
        return int(self.context_params.pooling_type)

    @staticmethod
    def logits_to_logprobs(logits: Any, axis: int = -1) -> NDArray[np.float32]:
        """log(softmax(logits)) along an axis, float32."""
        values = np.asarray(logits, np.float32)
        shifted = values - values.max(axis=axis, keepdims=True)
        result: NDArray[np.float32] = shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))
        return result

    @staticmethod
    def longest_token_prefix(a: Sequence[int], b: Sequence[int]) -> int:
        """How many tokens two sequences begin alike with."""
        return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))

    @classmethod
    def from_pretrained(
        cls,
        repo_id: str,
        filename: str | None = None,
        additional_files: Sequence[str] | None = None,
        local_dir: str | Path | None = None,
        local_dir_use_symlinks: bool | str = "auto",
        cache_dir: str | Path | None = None,
        **kwargs: Any,
    ) -> Llama:
        """A model of the Hugging Face hub, which is fetched if the cache does not have it (`pip install pyinfer[hub]`).

        filename: a file's name, a pattern such as "*q8_0.gguf", a quant, or None for the usual one; parts of split
        models are found. Files lie in the hub's cache (HF_HOME): local_dir, cache_dir and additional_files must be
        None. Raises ParameterError for those, DownloadError if the model can't be fetched, and what Llama raises.
        """
        for name, value in (("additional_files", additional_files), ("local_dir", local_dir), ("cache_dir", cache_dir)):
            if value:
                raise ParameterError(f"{name} is {value!r:.60}; expected None: files lie in the hub's cache (HF_HOME)")
        wanted = None if filename is None else filename.strip("*-._").removesuffix(".gguf")
        if wanted is not None and "*" in wanted:
            raise ParameterError(f"filename is {filename!r}; expected a name, or a pattern with * at its ends")
        return cls(f"hf:{repo_id}" + (f":{wanted}" if wanted else ""), **kwargs)
