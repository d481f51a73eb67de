"""The options of loading a model, said once for `LLM`, `AsyncLLM`, the compatible interface and the commands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace

from pyinfer.gguf.overrides import Override


@dataclass(frozen=True)
class EngineOptions:
    """Say how a model is loaded, and how much it has room for.

    In brackets: the default, then the range.

    - `n_ctx` (None; at least 1): tokens that a prompt and its text may have together; None: as many as the model was
      trained for, at most 4096.
    - `n_threads` (None; 1 to 1024): threads that compute; None: as many as the cores that the process may really use.
    - `kv_type` ("f16"): the type of cached keys and values: "f16", "bf16", "f32" or "q8_0".
    - `n_batch` (512; at least 1): the largest number of tokens of a forward pass. It is raised to `n_seqs`, and for an
      encoder, which computes each text in one forward pass, to `n_ctx`.
    - `n_seqs` (8; 1 to 4096): sequences that are computed at once; further requests wait for their turn.
    - `kv_cache_memory` (None; at least a page of 64 positions): bytes for keys and values. None: what `n_seqs`
      sequences of `n_ctx` tokens need, at most a quarter of the memory, but enough for one such sequence. The system
      provides the memory when it is first written to.
    - `weights` ("copy"): "copy" copies the weights to memory, rearranged for speed. "mmap" leaves them in the mapped
      file: processes share it, and it may be larger than RAM, but it must not change until the model is closed.
    - `overrides` (None): values of metadata keys in place of the file's, such as {"llama.rope.freq_base": 1e6}; each of
      the type that the file's value has.
    - `progress` (None): a function that is called with (bytes done, bytes in all) while weights are loaded.

    Values are checked where a model is loaded with them.

        EngineOptions(n_ctx=8192, kv_type="q8_0")
    """

    n_ctx: int | None = field(default=None, metadata={"help": "context in tokens (default: the model's, at most 4096)"})
    n_threads: int | None = field(default=None, metadata={"help": "threads (default: the cores that may be used)"})
    kv_type: str = field(
        default="f16", metadata={"help": "of cached keys and values: f32, f16, bf16, q8_0 (default: f16)"}
    )
    n_batch: int = field(default=512, metadata={"help": "tokens computed at once (default: 512)"})
    n_seqs: int = field(default=8, metadata={"help": "texts computed at once (default: 8)"})
    kv_cache_memory: int | None = field(
        default=None, metadata={"help": "bytes for keys and values (default: at most a quarter of the memory)"}
    )
    weights: str = field(default="copy", metadata={"help": "copied to memory, or in the mapped file"})
    progress: Callable[[int, int], None] | None = field(
        default=None, metadata={"help": "called while weights are loaded"}
    )
    overrides: Mapping[str, Override] | None = field(
        default=None, metadata={"help": "a value in place of the file's: KEY=TYPE:VALUE (bool, int, float, str)"}
    )

    @classmethod
    def help(cls, name: str) -> str:
        """Return the line that says what an option is, for help texts."""
        return next(str(one.metadata["help"]) for one in fields(cls) if one.name == name)

    def of_draft_model(self) -> EngineOptions:
        """Return the options of a model that drafts for this one: the same sizes, but a memory limit of its own."""
        return replace(self, kv_cache_memory=None, weights="copy", progress=None, overrides=None)


DEFAULTS = EngineOptions()
