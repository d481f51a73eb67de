"""A made-up architecture for tests only, with every kind of sequence memory: some layers keep a recurrent state.

A recurrent layer is out(h), h = decay * h + in(x) for each channel, token by token; it stands where a layer of
attention would, and takes that one's weights: attn_q for `in`, attn_output for `out`. All other layers are as Llama's,
with the windows that the file gives them.

    with registered():
        path = write_text_model(tmp_path / "m.gguf", hybrid([ATTENTION, RECURRENT, WINDOW]))
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import oracle
import pytest
from numpy.typing import NDArray
from tiny_models import TinyModel

from pyinfer.memory.spec import LayerSpec, StateSpec
from pyinfer.models import registry
from pyinfer.models.decoder import NEOX, Decoder, begin
from pyinfer.models.decoder import read as read_decoder
from pyinfer.models.graph import Graph, Layer, Outputs, Rows
from pyinfer.models.keys import Keys
from pyinfer.models.model import Architecture
from pyinfer.models.parts.attention import Window, attention
from pyinfer.models.parts.embedding import logits
from pyinfer.models.parts.feed_forward import feed_forward
from pyinfer.models.transformer import Transformer

NAME = "hybrid"
ATTENTION, RECURRENT, WINDOW = "attention", "recurrent", "window"


def hybrid(kinds: Sequence[str], window: int = 40, **options: object) -> TinyModel:
    """What to write: a model whose layers are of these kinds."""
    metadata = {"recurrent_layers": [kind == RECURRENT for kind in kinds]}
    if WINDOW in kinds:
        metadata["attention.sliding_window"] = window
        metadata["attention.sliding_window_pattern"] = [kind == WINDOW for kind in kinds]
    return TinyModel(NAME, n_layers=len(kinds), metadata=metadata, **options)


def decays(width: int) -> NDArray[np.float32]:
    """Of each channel: some forget at once, others remember hundreds of tokens."""
    return np.linspace(0.3, 0.998, width, dtype=np.float32)


@dataclass(frozen=True)
class Hybrid(Transformer):
    """recurrent: of each layer, whether it is."""

    recurrent: tuple[bool, ...]

    @property
    def state_width(self) -> int:
        return self.attention[0].n_heads * self.attention[0].k_dim

    @property
    def unneeded(self) -> tuple[str, ...]:
        return tuple(
            f"blk.{i}.attn_{part}.*" for i, recurrent in enumerate(self.recurrent) if recurrent for part in "kv"
        )


def read(keys: Keys) -> Hybrid:
    c = read_decoder(keys, Decoder(rope=NEOX, window=Window(period=1, size=0)))
    flags = keys.get_array("recurrent_layers")
    assert flags is not None and len(flags) == c.n_layers
    return Hybrid(**{field.name: getattr(c, field.name) for field in fields(c)}, recurrent=tuple(map(bool, flags)))


def memory(c: Hybrid) -> list[LayerSpec]:
    state = StateSpec((c.state_width,))
    return [state if recurrent else a.memory for a, recurrent in zip(c.attention, c.recurrent, strict=True)]


def recurrence(h: Layer, x: Rows, width: int) -> Rows:
    """x [n_tokens, n_embd] to [n_tokens, n_embd]."""
    g = h.graph
    (inward,) = g.linear(h.name("scan_in"), x, {h.name("attn_q"): ("scan_in", width)})
    states = g.rows("states", width)
    g.plan.scan(h.name("scan"), inward.value, decays(width), h.state, states.value)
    (out,) = g.linear(h.name("attn_output"), states, {h.name("attn_output"): ("projected", x.width)})
    return out


def record(g: Graph, c: Hybrid) -> Outputs:
    x = begin(g, c)
    for i in range(c.n_layers):
        h = g.layer(i)
        n = h.norm(x, "attn_norm", c.norm)
        x += recurrence(h, n, c.state_width) if c.recurrent[i] else attention(h, n, c.attention[i])
        x += feed_forward(h, h.norm(x, "ffn_norm", c.norm), c.feed_forward[i])
    hidden = g.norm(x, "output_norm", c.norm, outputs=True)
    return Outputs(hidden, logits(g, hidden, c.output))


# The files are those of a transformer, so recurrent layers have keys' and values' weights, too.
ARCHITECTURES = {NAME: Architecture(read, memory, record)}


@contextmanager
def registered() -> Iterator[None]:
    """Let files of this architecture be loaded meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.FILES, NAME, NAME)
        patch.setitem(sys.modules, f"{registry.__package__}.{NAME}", sys.modules[__name__])
        yield


def plain_logits(path: Path, tokens: Sequence[int]) -> NDArray[np.float64]:
    """Logits (n, n_vocab) of a plain pass in float64 over a whole text; as oracle.oracle_logits."""
    model = oracle.Model(path)
    eps, n = model.get("attention.layer_norm_rms_epsilon"), len(tokens)
    recurrent = model.get("recurrent_layers")
    x = model.rows("token_embd.weight", np.asarray(tokens))  # (n, n_embd)
    for layer in range(model.get("block_count")):
        blk = f"blk.{layer}"
        y = oracle.rms_norm(x, model.vector(f"{blk}.attn_norm.weight"), eps)
        if recurrent[layer]:
            inward = model.linear(f"{blk}.attn_q", y)  # (n, width)
            state, states = np.zeros(inward.shape[1]), []
            for row in inward:
                state = decays(len(row)).astype(np.float64) * state + row
                states.append(state)
            y = model.linear(f"{blk}.attn_output", np.array(states))
        else:
            y = oracle.attention(model, layer, y, np.arange(n, dtype=np.float64), np.zeros(n))
        x = x + y
        x = x + oracle.feed_forward(model, layer, oracle.rms_norm(x, model.vector(f"{blk}.ffn_norm.weight"), eps))
    return model.linear("output", oracle.rms_norm(x, model.vector("output_norm.weight"), eps))
