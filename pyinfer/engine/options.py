"""The options of loading a model, said once for `LLM`, `AsyncLLM`, the compatible interface and the commands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any


@dataclass(frozen=True)
class EngineOptions:
    """How a model is loaded, and what it has room for.

    n_ctx: tokens of prompt and text together, at least 1 (default: what the model was trained for, at most 4096).
    n_threads: 1 to 1024 (default: the cores that the process may really use).
    kv_type: of cached keys and values, "f16", "bf16", "f32" or "q8_0".
    n_batch: most tokens of a forward pass, at least n_seqs; for an encoder, which computes texts whole, at least n_ctx.
    n_seqs: texts computed at once, 1 to 4096; more requests wait for their turn.
    kv_cache_memory: bytes for keys and values, at least a page of 64 positions (default: what n_seqs texts of n_ctx
    need, at most a quarter of the memory, at least one text of n_ctx); taken as they are first written.
    weights: "copy" takes them into memory, rearranged for speed; "mmap" leaves them in the mapped file, which processes
    share and which may exceed RAM: the file must stay as it is until the model is closed.
    progress: called with (bytes done, bytes in all) while weights are loaded.
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

    @classmethod
    def help(cls, name: str) -> str:
        """The line that says what an option is."""
        return next(str(one.metadata["help"]) for one in fields(cls) if one.name == name)

    def as_arguments(self) -> dict[str, Any]:
        """The options by name."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    def of_draft_model(self) -> EngineOptions:
        """Those of a model that drafts for this one: of the same sizes, with memory of its own."""
        return replace(self, kv_cache_memory=None, weights="copy", progress=None)


DEFAULTS = EngineOptions()
