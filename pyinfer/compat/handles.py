"""`Llama._model` and `Llama._ctx`: private in llama-cpp-python, but many programs call their methods."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyinfer.compat import low_level, startup
from pyinfer.compat.constants import CONSTANTS
from pyinfer.errors import ParameterError
from pyinfer.gguf.strings import StringArray

# The metadata that has the id of a token, for each of the methods token_*
TOKEN_KEYS = {
    "cls": ("cls_token_id", "bos_token_id"),
    "sep": ("seperator_token_id",),
    "pad": ("padding_token_id",),
    "eot": ("eot_token_id",),
    "prefix": ("fim_pre_token_id", "prefix_token_id"),
    "middle": ("fim_mid_token_id", "middle_token_id"),
    "suffix": ("fim_suf_token_id", "suffix_token_id"),
}
VOCABULARIES = {"llama": "SPM", "gpt2": "BPE", "bert": "WPM", "t5": "UGM", "rwkv": "RWKV"}


class ModelHandle:
    """The model of a `Llama`, with the methods of llama-cpp-python's class `LlamaModel`.

    `model` and `vocab` are what the functions of pyinfer.compat.low_level take.
    """

    def __init__(self, llama: Any) -> None:
        self.model: Any = llama

    @property
    def vocab(self) -> int:
        return low_level.llama_model_get_vocab(self.model)

    @property
    def _metadata(self) -> dict[str, Any]:
        found: dict[str, Any] = self.model._file_metadata
        return found

    def close(self) -> None:
        """Release the model's memory."""
        if self.model is not None:
            self.model.close()
        self.model = None

    def vocab_type(self) -> int:
        name = VOCABULARIES.get(str(self._metadata.get("tokenizer.ggml.model")), "NONE")
        return CONSTANTS[f"LLAMA_VOCAB_TYPE_{name}"]

    def n_vocab(self) -> int:
        return int(self.model.n_vocab())

    def n_ctx_train(self) -> int:
        return int(self.model._trained_ctx)

    def n_embd(self) -> int:
        return int(self.model._number("embedding_length"))

    def n_layer(self) -> int:
        return int(self.model._number("block_count"))

    def n_head(self) -> int:
        return int(self.model._number("attention.head_count"))

    def n_head_kv(self) -> int:
        return int(self.model._number("attention.head_count_kv", self.n_head()))

    def n_swa(self) -> int:
        return int(self.model._number("attention.sliding_window"))

    def rope_freq_scale_train(self) -> float:
        return 1 / float(self.model._number("rope.scaling.factor", 1.0) or 1.0)

    def desc(self) -> str:
        return f"{self.model._architecture} {self._metadata.get('general.size_label', '')}".strip()

    def size(self) -> int:
        """Return the bytes of the weights."""
        return int(self.model._n_bytes)

    def n_params(self) -> int:
        return int(self.model._n_params)

    def metadata(self) -> dict[str, str]:
        return dict(self.model.metadata)

    def token_get_text(self, token: int) -> str:
        """Return a token's text as the file has it, such as "▁the". Raises ParameterError for what is no token."""
        texts: Sequence[Any] | StringArray = self._metadata.get("tokenizer.ggml.tokens", ())
        if not 0 <= token < len(texts):
            raise ParameterError(f"token is {token!r:.60}; expected an id from 0 to {len(texts) - 1}")
        return str(texts[token])

    def token_get_score(self, token: int) -> float:
        scores = self._metadata.get("tokenizer.ggml.scores", ())
        return float(scores[token]) if 0 <= token < len(scores) else 0.0

    def token_get_attr(self, token: int) -> int:
        return low_level.llama_token_get_attr(self.vocab, token)

    def token_bos(self) -> int:
        return int(self.model.token_bos())

    def token_eos(self) -> int:
        return int(self.model.token_eos())

    def token_nl(self) -> int:
        return int(self.model.token_nl())

    def _token(self, name: str) -> int:
        values = (self._metadata.get(f"tokenizer.ggml.{key}") for key in TOKEN_KEYS[name])
        return next((int(value) for value in values if value is not None), -1)

    def token_cls(self) -> int:
        return self._token("cls") if self._metadata.get("tokenizer.ggml.model") == "bert" else -1

    def token_sep(self) -> int:
        return self._token("sep")

    def token_pad(self) -> int:
        return self._token("pad")

    def token_eot(self) -> int:
        return self._token("eot")

    def token_prefix(self) -> int:
        return self._token("prefix")

    def token_middle(self) -> int:
        return self._token("middle")

    def token_suffix(self) -> int:
        return self._token("suffix")

    def add_bos_token(self) -> bool:
        """Whether the begin token is put before texts."""
        return bool(self.model._tokenizer.add_bos)

    def add_eos_token(self) -> bool:
        """Whether the end token is put behind texts."""
        return bool(self._metadata.get("tokenizer.ggml.add_eos_token", False))

    def tokenize(self, text: bytes, add_bos: bool, special: bool) -> list[int]:
        ids: list[int] = self.model._tokenize(text, add_bos, special)
        return ids

    def detokenize(self, tokens: Sequence[int], special: bool = False) -> bytes:
        text: bytes = self.model._detokenize(tokens, None, special)
        return text

    def token_to_piece(self, token: int, special: bool = False) -> bytes:
        tokenizer = self.model._tokenizer
        piece: bytes = tokenizer.token_bytes(token) if special or not tokenizer.is_special(token) else b""
        return piece

    @staticmethod
    def default_params() -> SimpleNamespace:
        return startup.llama_model_default_params()


class ContextHandle:
    """The context of a `Llama`, with the methods of llama-cpp-python's class `LlamaContext`. It has one sequence.

    `ctx` is what the functions of pyinfer.compat.low_level take; None after `close`.
    """

    def __init__(self, llama: Any) -> None:
        self._llama = llama

    @property
    def ctx(self) -> Any:
        return self._llama

    def close(self) -> None:
        self._llama = None

    def n_ctx(self) -> int:
        return int(self.ctx.n_ctx())

    def pooling_type(self) -> int:
        return int(self.ctx.pooling_type())

    def kv_cache_clear(self) -> None:
        """Begin an empty sequence."""
        self.ctx.reset()

    def kv_cache_seq_rm(self, seq_id: int, p0: int, p1: int) -> bool:
        return low_level.llama_memory_seq_rm(self.ctx, seq_id, p0, p1)

    def kv_cache_seq_keep(self, seq_id: int) -> None:
        """Do nothing: there is one sequence."""

    def get_state_size(self) -> int:
        return int(self.ctx.save_state().llama_state_size)

    def decode(self, batch: Any) -> None:
        """Append a batch's tokens, as low_level.llama_decode does."""
        low_level.llama_decode(self.ctx, getattr(batch, "batch", batch))

    def set_n_threads(self, n_threads: int, n_threads_batch: int) -> None:
        """Do nothing: the threads are those of the constructor."""

    def get_logits(self) -> NDArray[np.float32]:
        return low_level.llama_get_logits(self.ctx)

    def get_logits_ith(self, i: int) -> NDArray[np.float32]:
        return low_level.llama_get_logits_ith(self.ctx, i)

    def set_rng_seed(self, seed: int) -> None:
        """Set the seed of later calls, as Llama.set_seed does."""
        self.ctx.set_seed(seed)

    def reset_timings(self) -> None:
        """Do nothing: there are no timings."""

    def print_timings(self) -> None:
        """Do nothing: there are no timings."""

    @staticmethod
    def default_params() -> SimpleNamespace:
        return startup.llama_context_default_params()
