"""Graphs of made-up architectures, as breadth needs them, against NumPy in float64: whatever the order in which
additions are deferred and memory is shared, the result is that of the formulas."""

import sys
from dataclasses import replace
from functools import partial
from types import ModuleType

import numpy as np
import oracle
import pytest
from tiny_models import TinyModel, write_tiny_model

from pyinfer import _kernels
from pyinfer.engine.engine import Engine
from pyinfer.engine.options import EngineOptions
from pyinfer.gguf import GGUFFile, GGUFWriter
from pyinfer.models import registry
from pyinfer.models.decoder import NEOX, Decoder, begin, memory, read, record
from pyinfer.models.graph import Norm, Outputs
from pyinfer.models.model import Architecture
from pyinfer.models.parts.attention import attention
from pyinfer.models.parts.embedding import logits
from pyinfer.models.parts.feed_forward import feed_forward
from pyinfer.models.registry import read_model
from pyinfer.weights.store import Weights

EPS = 1e-5
QWEN2 = partial(read, d=Decoder(rope=NEOX))
TOKENS = np.random.default_rng(1).integers(0, 96, 20).tolist()
MODEL = TinyModel("madeup", n_layers=2, n_embd=64, n_heads=2, n_kv_heads=1, head_dim=32, n_ff=96)


@pytest.fixture
def madeup(monkeypatch, tmp_path):
    """A function from an architecture's functions to an engine of a file of it, and the oracle's view of the file."""

    def make(record, memory=memory, read=QWEN2, model=MODEL, vectors=None):
        module = ModuleType("pyinfer.models.madeup")
        module.ARCHITECTURES = {"madeup": Architecture(read, memory, record)}
        monkeypatch.setattr(Weights, "check_used", lambda *_: None)  # files have all of Llama's tensors
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(registry.FILES, "madeup", "madeup")
        path = write_tiny_model(tmp_path / "plain.gguf", model)
        if vectors:
            path = with_vectors(path, tmp_path / "more.gguf", vectors)
        with GGUFFile(path) as file:
            return Engine(file, EngineOptions(n_seqs=1, kv_type="f32", n_threads=1)), oracle.Model(path)

    return make


def with_vectors(path, target, vectors):
    """A copy of a file of floats that has further tensors."""
    with GGUFFile(path) as file:
        writer = GGUFWriter(target, dict(file.metadata.items()))
        for info in file.tensors.values():
            writer.add_tensor(info.name, info.rows().view(np.float32).reshape(info.shape))
        for name, values in vectors.items():
            writer.add_tensor(name, values.astype(np.float32))
        writer.write()
    return target


def vector(seed):
    return np.random.default_rng(seed).uniform(0.5, 1.5, MODEL.n_embd)


def norm(m, name, x, eps=EPS):
    return oracle.rms_norm(x, m.vector(f"{name}.weight"), eps)


def attend(m, layer, x):
    return oracle.attention(m, layer, x, np.arange(len(x), dtype=np.float64), np.zeros(len(x)))


def first(m):
    return m.rows("token_embd.weight", np.asarray(TOKENS))


def check(engine, m, x):
    """The engine's logits, in one pass, in passes of 3 tokens and one by one, are those of the last stream x."""
    expected = m.linear("output", norm(m, "output_norm", x))
    for step in (len(TOKENS), 3, 1):
        engine.truncate(0, 0)
        for start in range(0, len(TOKENS), step):
            part = TOKENS[start : start + step]
            n = len(part)
            found = engine.forward(part, np.arange(start, start + n), [0] * n, np.arange(n))
            assert oracle_error(found, expected[start : start + n]) < 1e-9
    wanted = engine.hidden(TOKENS[-1:], [len(TOKENS) - 1], [0], [0])
    assert oracle_error(wanted, norm(m, "output_norm", x)[-1:]) < 1e-9


def oracle_error(found, expected):
    return ((found - expected) ** 2).mean() / (expected**2).mean()


def end(g, x, c):
    hidden = g.norm(x, "output_norm", c.norm, outputs=True)
    return Outputs(hidden, logits(g, hidden, c.output))


def test_parallel_blocks_read_the_same_norm(madeup):
    def record(g, c):
        x = begin(g, c)
        for i in range(c.n_layers):
            h = g.layer(i)
            n = h.norm(x, "attn_norm", c.norm)
            x += attention(h, n, c.attention[i])
            x += feed_forward(h, n, c.feed_forward[i])
        return end(g, x, c)

    engine, m = madeup(record)
    x = first(m)
    for i in range(2):
        n = norm(m, f"blk.{i}.attn_norm", x)
        x = x + attend(m, i, n) + oracle.feed_forward(m, i, n)
    check(engine, m, x)


def test_parallel_blocks_may_have_a_norm_each(madeup):
    def record(g, c):
        x = begin(g, c)
        for i in range(c.n_layers):
            h = g.layer(i)
            n, m = h.norm(x, "attn_norm", c.norm), h.norm(x, "ffn_norm", c.norm)
            x += attention(h, n, c.attention[i])
            x += feed_forward(h, m, c.feed_forward[i])
        return end(g, x, c)

    engine, m = madeup(record)
    x = first(m)
    for i in range(2):
        y = attend(m, i, norm(m, f"blk.{i}.attn_norm", x))
        x = x + y + oracle.feed_forward(m, i, norm(m, f"blk.{i}.ffn_norm", x))
    check(engine, m, x)


def test_a_trace_of_parallel_blocks_has_the_stream_after_each(madeup):
    def record(g, c):
        x = begin(g, c)
        h = g.layer(0)
        n = h.norm(x, "attn_norm", c.norm)
        x += attention(h, n, c.attention[0])
        x += feed_forward(h, n, c.feed_forward[0])
        return end(g, x, c)

    engine, m = madeup(record)
    x = first(m)
    n = norm(m, "blk.0.attn_norm", x)
    mid = x + attend(m, 0, n)
    expected = {"blk.0.mid": mid, "blk.0.out": mid + oracle.feed_forward(m, 0, n)}
    found = engine.trace(TOKENS, None)
    assert [name for name in found if name.rpartition(".")[2] in ("mid", "out", "add")] == list(expected)
    for name, rows in expected.items():
        assert oracle_error(found[name], rows) < 1e-9, name


def test_residuals_may_be_scaled_with_and_without_a_norm_of_what_is_added(madeup):
    def record(g, c):
        x = begin(g, c)
        for i in range(c.n_layers):
            h = g.layer(i)
            x += attention(h, h.norm(x, "attn_norm", c.norm), c.attention[i]) * 0.5 * 0.5
            y = feed_forward(h, h.norm(x, "ffn_norm", c.norm), c.feed_forward[i])
            x += h.post(y, "post_ffw_norm", c.norm) * 3.0
        return end(g, x, c)

    engine, m = madeup(record, vectors={f"blk.{i}.post_ffw_norm.weight": vector(i) for i in range(2)})
    x = first(m)
    for i in range(2):
        x = x + 0.25 * attend(m, i, norm(m, f"blk.{i}.attn_norm", x))
        y = oracle.feed_forward(m, i, norm(m, f"blk.{i}.ffn_norm", x))
        x = x + 3 * norm(m, f"blk.{i}.post_ffw_norm", y)
    check(engine, m, x)


def test_two_streams_may_be_added_to_each_other_and_go_on_apart(madeup):
    def record(g, c):
        high = begin(g, c)
        low = g.stream(g.read(high, "low"))
        for i in range(c.n_layers):
            h = g.layer(i)
            low += high  # as it is now: what is added to it next does not count
            high += attention(h, h.norm(high, "attn_norm", c.norm), c.attention[i])
            low += feed_forward(h, h.norm(high, "ffn_norm", c.norm), c.feed_forward[i])
        high += low
        return end(g, high, c)

    engine, m = madeup(record)
    high = low = first(m)
    for i in range(2):
        low = low + high
        high = high + attend(m, i, norm(m, f"blk.{i}.attn_norm", high))
        low = low + oracle.feed_forward(m, i, norm(m, f"blk.{i}.ffn_norm", high))
    check(engine, m, high + low)


def test_blocks_without_a_norm_before_them_read_the_stream_itself(madeup):
    def record(g, c):
        x = begin(g, c)
        for i in range(c.n_layers):
            h = g.layer(i)
            x += h.post(attention(h, h.read(x, "attn_in"), c.attention[i]), "attn_norm", c.norm)
            x += h.post(feed_forward(h, h.read(x, "ffn_in"), c.feed_forward[i]), "ffn_norm", c.norm)
        return end(g, x, c)

    engine, m = madeup(record)
    x = first(m)
    for i in range(2):
        x = x + norm(m, f"blk.{i}.attn_norm", attend(m, i, x))
        x = x + norm(m, f"blk.{i}.ffn_norm", oracle.feed_forward(m, i, x))
    check(engine, m, x)


def test_a_norm_of_what_is_added_may_be_of_another_kind_than_the_next_norm(madeup):
    layer_norm, weak = Norm(EPS, centered=True), Norm(0.5)

    def record(g, c):
        x = begin(g, c)
        for i in range(c.n_layers):
            h = g.layer(i)
            x += h.post(attention(h, h.norm(x, "attn_norm", c.norm), c.attention[i]), "attn_post_norm", layer_norm)
            x += h.post(feed_forward(h, h.norm(x, "ffn_norm", c.norm), c.feed_forward[i]), "ffn_post_norm", weak)
        return end(g, x, c)

    vectors = {}
    for i in range(2):
        vectors |= {f"blk.{i}.attn_post_norm.weight": vector(i), f"blk.{i}.attn_post_norm.bias": vector(i + 2)}
        vectors |= {f"blk.{i}.ffn_post_norm.weight": vector(i + 4)}
    engine, m = madeup(record, vectors=vectors)
    x = first(m)
    for i in range(2):
        y = attend(m, i, norm(m, f"blk.{i}.attn_norm", x))
        y = (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + EPS)
        x = x + y * m.vector(f"blk.{i}.attn_post_norm.weight") + m.vector(f"blk.{i}.attn_post_norm.bias")
        y = oracle.feed_forward(m, i, norm(m, f"blk.{i}.ffn_norm", x))
        x = x + norm(m, f"blk.{i}.ffn_post_norm", y, 0.5)
    check(engine, m, x)


def test_norms_may_have_no_weights(madeup):
    unit = Norm(EPS, centered=True, unit=True)

    def record(g, c):
        x = begin(g, c)
        for i in range(c.n_layers):
            h = g.layer(i)
            x += attention(h, h.norm(x, "unit", unit), c.attention[i])
            x += feed_forward(h, h.norm(x, "unit", replace(unit, centered=False)), c.feed_forward[i])
        return end(g, x, c)

    engine, m = madeup(record)
    x = first(m)
    for i in range(2):
        centered = x - x.mean(-1, keepdims=True)
        x = x + attend(m, i, oracle.rms_norm(centered, np.ones(64), EPS))
        x = x + oracle.feed_forward(m, i, oracle.rms_norm(x, np.ones(64), EPS))
    check(engine, m, x)


def test_what_is_kept_for_later_layers_is_not_written_over(madeup):
    def record(g, c):
        x = begin(g, c)
        start = g.read(x, "start")
        for i in range(c.n_layers):
            h = g.layer(i)
            n = h.norm(x, "attn_norm", c.norm)
            x += attention(h, n, c.attention[i])
            x += feed_forward(h, h.norm(x, "ffn_norm", c.norm), c.feed_forward[i])
            x += start
            x += n
            h.read(x, "again")
        return end(g, x, c)

    engine, m = madeup(record)
    start = x = first(m)
    for i in range(2):
        n = norm(m, f"blk.{i}.attn_norm", x)
        x = x + attend(m, i, n)
        x = x + oracle.feed_forward(m, i, norm(m, f"blk.{i}.ffn_norm", x)) + start + n
    check(engine, m, x)


def test_layers_may_run_more_than_once_each_time_with_a_cache_of_its_own(madeup):
    def record(g, c):
        x = begin(g, c)
        for loop in range(2):
            for i in range(c.n_layers):
                h = g.layer(i, cache=loop * c.n_layers + i)
                x += attention(h, h.norm(x, "attn_norm", c.norm), c.attention[i])
                x += feed_forward(h, h.norm(x, "ffn_norm", c.norm), c.feed_forward[i])
        return end(g, x, c)

    engine, m = madeup(record, memory=lambda c: 2 * memory(c))
    x = first(m)
    for i in (0, 1, 0, 1):
        x = x + attend(m, i, norm(m, f"blk.{i}.attn_norm", x))
        x = x + oracle.feed_forward(m, i, norm(m, f"blk.{i}.ffn_norm", x))
    check(engine, m, x)


def attend_by(m, layer, x, n_heads, base, window):
    """Attention with one query head a KV head; base None: heads don't turn."""
    q, k, v = (m.linear(f"blk.{layer}.attn_{part}", x).reshape(len(x), n_heads, 32) for part in "qkv")
    at = np.arange(len(x), dtype=np.float64)
    if base is not None:
        angles = at[:, None] * base ** (-2 * np.arange(16) / 32)
        q, k = (oracle.rotate(heads, angles, 1.0, neox=True) for heads in (q, k))
    age = at[:, None] - at
    visible = (age >= 0) & (age < window)
    weights = oracle.softmax(np.where(visible, np.einsum("qhd,khd->hqk", q, k) / np.sqrt(32), -np.inf))
    return m.linear(f"blk.{layer}.attn_output", np.einsum("hqk,khd->qhd", weights, v).reshape(len(x), -1))


def test_layers_may_differ_in_heads_rotations_and_windows(madeup):
    def read_other(keys):
        c = QWEN2(keys)
        one, two = c.attention
        return replace(c, attention=(replace(one, rope=None, window=5), replace(two, rope=two.rope.unscaled(500.0))))

    engine, m = madeup(record, read=read_other, model=replace(MODEL, n_heads=(4, 2), n_kv_heads=(4, 2)))
    x = first(m)
    for i, of_layer in enumerate([(4, None, 5), (2, 500.0, 1000)]):
        x = x + attend_by(m, i, norm(m, f"blk.{i}.attn_norm", x), *of_layer)
        x = x + oracle.feed_forward(m, i, norm(m, f"blk.{i}.ffn_norm", x))
    check(engine, m, x)


def test_a_context_shifts_where_no_layer_turns(madeup):
    """With one layer and no positions at all, the last token's logits depend on which tokens are there only."""
    model = replace(MODEL, n_layers=1, n_ctx=256)
    engine, _ = madeup(record, read=partial(read, d=Decoder(rope=None)), model=model)
    tokens = np.random.default_rng(2).integers(0, 96, 140).tolist()
    assert engine.can_shift
    engine.forward(tokens, np.arange(140), [0] * 140, [])
    assert engine.drop_pages(0, 0, 1)
    shifted = engine.forward([7], [76], [0], [0]).copy()
    engine.truncate(0, 0)
    expected = engine.forward([*tokens[64:], 7], np.arange(77), [0] * 77, [76])
    np.testing.assert_allclose(shifted, expected, rtol=1e-5, atol=1e-5)


def test_a_stream_can_not_be_read_after_the_norm_of_its_outputs(madeup):
    def record(g, c):
        x = begin(g, c)
        x += attention(g.layer(0), g.layer(0).norm(x, "attn_norm", c.norm), c.attention[0])
        g.norm(x, "output_norm", c.norm, outputs=True)
        return end(g, x, c)

    with pytest.raises(AssertionError, match="after the norm of its outputs"):
        madeup(record)


class CountingPlan(_kernels.Plan):
    """Knows the values that norms and products give."""

    def __init__(self, *args):
        super().__init__(*args)
        self.values = set()

    def norm(self, name, x, weight, out, *args, **kwargs):
        self.values.add(out)
        super().norm(name, x, weight, out, *args, **kwargs)

    def matmul(self, name, src, segments, **kwargs):
        self.values.update(out for _, out, _, _ in segments)
        super().matmul(name, src, segments, **kwargs)


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gemma3", "bert", "nomic-bert"])
def test_layers_share_the_memory_of_their_activations(tmp_path, architecture):
    def values_of(n_layers):
        path = write_tiny_model(tmp_path / "m.gguf", TinyModel(architecture, n_layers=n_layers))
        plan = CountingPlan(8, 128, 1, 1)
        with GGUFFile(path) as file:
            caches = Engine(file, EngineOptions(n_seqs=1, kv_type="f32", n_threads=1)).memory.layers
            read_model(file).record(plan, Weights(file), caches)
        return sorted(value.name for value in plan.values)

    once = values_of(1)
    assert len(set(once)) == len(once)
    assert values_of(4) == once
