"""Texts that follow a prompt, as llama-cpp-python's `create_completion` takes and returns them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pyinfer.api.stream import Stream
from pyinfer.arguments import quoted
from pyinfer.compat.infill import infill_prompt
from pyinfer.compat.logprobs import LogprobsWriter
from pyinfer.compat.response import ResponseWriter, usage_of
from pyinfer.compat.sampling import Criteria, Grammar, Processors, ending_processor, processors_of, sampling_params
from pyinfer.compat.types import (
    CompletionLogprobs,
    CreateCompletionResponse,
    CreateCompletionStreamResponse,
    FinishReason,
)
from pyinfer.compat.vocabulary import Vocabulary
from pyinfer.errors import ParameterError
from pyinfer.tasks.results import Completion
from pyinfer.tokenizer import Tokenizer


class CompletionWriter(ResponseWriter[CreateCompletionResponse, CreateCompletionStreamResponse]):
    """Writes completions. `prompt`: the prompt's text, for character offsets and for `echo`."""

    def __init__(self, tokenizer: Tokenizer, model: str, prompt: str, echo: bool) -> None:
        super().__init__(tokenizer, model, "cmpl")
        self._prompt = prompt
        self._echo = echo

    def whole(self, done: Completion) -> CreateCompletionResponse:
        text = self._prompt + done.text if self._echo else done.text
        chunk = self._chunk(text, self._logprobs(done), done.finish_reason)
        return {**chunk, "usage": usage_of(done)}

    def chunks(self, stream: Stream) -> Iterator[CreateCompletionStreamResponse]:
        writer = LogprobsWriter(self._tokenizer, len(self._prompt))
        with stream:
            for piece in stream:
                logprobs = writer.write([c.token for c in piece.logprobs], piece.logprobs) if piece.logprobs else None
                yield self._chunk(piece.text, logprobs, None)
        if stream.completion is not None:
            yield self._chunk("", None, stream.completion.finish_reason)

    def _logprobs(self, done: Completion) -> CompletionLogprobs | None:
        if done.logprobs is None:
            return None
        if not self._echo or done.prompt_logprobs is None:
            return LogprobsWriter(self._tokenizer, len(self._prompt)).write(done.tokens, done.logprobs)
        begin = int(done.prompt[0] == self._tokenizer.bos_id)
        choices = [*done.prompt_logprobs[begin:], *done.logprobs]
        choices[0] = None  # OpenAI's API gives the first token none; here a begin token may have preceded it
        return LogprobsWriter(self._tokenizer, 0).write([*done.prompt[begin:], *done.tokens], choices)

    def _chunk(
        self, text: str, logprobs: CompletionLogprobs | None, finish_reason: FinishReason | None
    ) -> CreateCompletionStreamResponse:
        return {
            "id": self._id,
            "object": "text_completion",
            "created": self._created,
            "model": self._model,
            "choices": [{"text": text, "index": 0, "logprobs": logprobs, "finish_reason": finish_reason}],
        }


class Completions(Vocabulary):
    """`Llama`'s method that continues a prompt."""

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
        """Generate the text that follows a prompt.

        Arguments and their defaults are llama-cpp-python's. Those that need a word:

        - `prompt`: a text, in which special tokens are recognised, or token ids.
        - `suffix` (None): the text that shall follow the generated one, for models that were trained to fill gaps.
        - `max_tokens` (16): None and 0 mean as many as the context has room for.
        - `temperature` (0.8): 0 takes the likeliest token.
        - `logprobs` (None): how many of the likeliest tokens are reported at each place.
        - `echo` (False): put the prompt before the text.
        - `stream` (False): return an iterator over pieces.

        Returns a dictionary in the form of OpenAI's API, or with `stream` an iterator over one for each piece. Raises,
        before anything runs, ContextError for a prompt that leaves no room, and ParameterError for arguments.

            llama.create_completion("The capital of France is", max_tokens=16)["choices"][0]["text"]
        """
        tokens = self._prompt_tokens(prompt, suffix)
        echo = echo and not stream
        if stopping_criteria is not None:
            if grammar is not None:
                raise ParameterError("stopping_criteria and grammar are given; expected one of them")
            ending = ending_processor(stopping_criteria, self._tokenizer.eog_ids)
            logits_processor = (*processors_of(logits_processor), ending)
        seed = self._seed_for(seed)
        reported = {"logprobs": logprobs, "prompt_logprobs": logprobs if echo else None}
        params = sampling_params(locals(), repetition_window=self.last_n_tokens_size, **reported)
        text = prompt if isinstance(prompt, str) else self._tokenizer.decode(tokens, skip_special=True)
        writer = CompletionWriter(self._tokenizer, model or self.model_path, text, echo)
        return self._respond(writer, tokens, params, stream)

    __call__ = create_completion

    def _prompt_tokens(self, prompt: str | Sequence[int], suffix: str | None) -> list[int]:
        tokenizer = self._tokenizer
        if suffix is not None:
            if not isinstance(prompt, str):
                raise ParameterError("suffix is given and the prompt is token ids; expected a text")
            if not isinstance(suffix, str):
                raise ParameterError(f"suffix is {quoted(suffix)}; expected None or a text")
            return infill_prompt(tokenizer, self._file_metadata, prompt, suffix, self.spm_infill)
        if not isinstance(prompt, str):
            return self.llm.token_ids(prompt)
        if self._own_tokenizer is None:
            tokens = tokenizer.encode(prompt, parse_special=True)
        else:
            tokens = self._own_tokens(prompt)
        if tokens[:2] == [tokenizer.bos_id] * 2:
            warnings.warn("the prompt begins with the begin token, which the model's file adds, too", stacklevel=3)
        return tokens or ([] if tokenizer.bos_id is None else [tokenizer.bos_id])
