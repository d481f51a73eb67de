"""The interface of models for the code above: sizes, what layers keep of a sequence, and operations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pyinfer import _kernels
from pyinfer.memory.spec import LayerSpec
from pyinfer.models.graph import Graph, Outputs, Rotation
from pyinfer.models.keys import Keys
from pyinfer.weights.store import Weights

# Tensors of which no architecture needs any, as patterns of fnmatch: scales of activations (NVFP4), which are quantized
# with their own, and angles in old files, which are computed.
UNNEEDED = ("*.input_scale", "blk.*.attn_rot_embd.weight")
POOLINGS = {0: None, 1: "mean", 2: "cls", 3: "last", 4: "rank", (1 << 32) - 1: None}  # as files number them


@dataclass(frozen=True)
class Config:
    """Hyper-parameters that every model has; an architecture adds its own."""

    architecture: str
    n_layers: int
    n_embd: int
    n_vocab: int  # rows of the embedding
    n_ctx_train: int
    pooling: str | None  # how a text's embedding is made of its hidden states: "mean", "cls", "last" or "rank"

    @property
    def causal(self) -> bool:
        """Whether tokens attend only to earlier ones and themselves."""
        return True

    @property
    def encoder(self) -> bool:
        """Whether there are no logits: the last norm is the output."""
        return False

    @property
    def n_positions(self) -> int:
        """How many learned positions there are; 0: there are none, and no such limit."""
        return 0

    @property
    def unneeded(self) -> tuple[str, ...]:
        """Further names of tensors that change no result, as Architecture.unneeded has them."""
        return ()

    def rotates_by(self, n_ctx: int) -> tuple[str, ...]:
        """Which tensors the rotations of a context of n_ctx tokens take: cached keys of others do not fit."""
        return ()


def read_pooling(keys: Keys) -> str | None:
    value = keys.get_int("pooling_type", max(POOLINGS), default=0, minimum=-1)
    if value % (1 << 32) not in POOLINGS:
        keys.fail("pooling_type", value, "0 to 4")
    return POOLINGS[value % (1 << 32)]


@dataclass(frozen=True)
class Architecture:
    """The functions that an architecture's file defines, for its own kind of Config, c.

    - `read(keys)` returns c. It raises ModelError for values that are missing, absurd or contradictory.
    - `memory(c)` returns the spec of what each layer keeps of a sequence.
    - `record(g, c)` records the operations.
    - `unneeded` (none): names of tensors that such files have and that change no result, as patterns of fnmatch. Any
      other tensor that `record` does not ask for is an error, since a result without it would be wrong.
    """

    read: Callable[[Keys], Config]
    memory: Callable[[Any], Sequence[LayerSpec]]
    record: Callable[[Graph, Any], Outputs]
    unneeded: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recording:
    """The result of recording a model on a plan.

    - `hidden`: [n_outputs, n_embd], the wanted rows after the last norm; the first `n_hidden_ops` operations compute
      them.
    - `logits`: [n_outputs, n_vocab]; None for an encoder.
    - `rotations`: how each layer rotates cached keys by position; None for a layer whose keys do not depend on it. The
      whole is None if cached keys can't be moved to other positions.
    """

    hidden: _kernels.Value
    n_hidden_ops: int
    logits: _kernels.Value | None
    rotations: tuple[Rotation | None, ...] | None


@dataclass(frozen=True)
class Model:
    """The model of a file. `memory`: the spec of what each layer keeps of a sequence."""

    config: Config
    memory: tuple[LayerSpec, ...]
    architecture: Architecture

    def record(
        self, plan: _kernels.Plan, weights: Weights, caches: Sequence[_kernels.Cache | _kernels.State]
    ) -> Recording:
        """Record the operations of a forward pass on a plan; caches: one a layer, as Memory.layers has them.

        Raises ModelError for tensors that are missing, of another shape, or that the architecture does not use.
        """
        weights.hide((*UNNEEDED, *self.architecture.unneeded, *self.config.unneeded))
        g = Graph(plan, weights, caches)
        hidden, logits = self.architecture.record(g, self.config)
        weights.check_used(f"the architecture {self.config.architecture!r}")
        rotations = tuple(g.rotations) if g.can_shift and self.config.causal else None
        return Recording(hidden.value, hidden.n_ops, None if logits is None else logits.value, rotations)
