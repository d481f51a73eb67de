"""What `pyinfer bench` counts: passes, and the bytes and products of operations."""

import numpy as np
import pytest
from tiny_models import TinyModel, write_tiny_model

from pyinfer import _kernels
from pyinfer.cli.passes import Pass, bytes_and_macs, decode_passes, prompt_passes, run_passes
from pyinfer.cli.profile import figures_by_kind, format_profile, kind_of, seconds_by_kind
from pyinfer.cli.roofline import points, roof
from pyinfer.engine.engine import Engine
from pyinfer.engine.options import EngineOptions
from pyinfer.errors import ParameterError
from pyinfer.gguf import GGUFFile


@pytest.fixture
def engine(tmp_path):
    """Two layers; n_embd 256, n_ff 512, 4 heads and 2 KV heads of 64, window 8 in the first, 96 tokens, F32."""
    with GGUFFile(write_tiny_model(tmp_path / "tiny.gguf", TinyModel("gemma3"))) as file:
        return Engine(file, EngineOptions(n_ctx=64, n_batch=16, n_seqs=3, n_threads=1))


def test_a_prompt_is_cut_into_batches_and_has_logits_at_its_end():
    assert prompt_passes(5, 20, 16) == [Pass(5, 16, 1, False), Pass(21, 4, 1, True)]
    assert prompt_passes(0, 8, 16, n_sequences=3, logits=False) == [Pass(0, 5, 3, False), Pass(5, 3, 3, False)]
    assert prompt_passes(0, 16, 16) == [Pass(0, 16)]
    assert prompt_passes(7, 0, 16) == []


def test_passes_fill_every_sequence(engine):
    tokens = np.random.default_rng(0).integers(0, engine.n_vocab, (3, 64))
    run_passes(engine, tokens, prompt_passes(0, 9, 16, 3, logits=False) + decode_passes(9, 2, 3))
    together = engine.forward(tokens[:, 11], [11] * 3, [0, 1, 2], [0, 1, 2]).copy()
    for sequence in range(3):
        engine.truncate(sequence, 0)
        engine.forward(tokens[sequence, :11], np.arange(11), [sequence] * 11, [])
        alone = engine.forward([tokens[sequence, 11]], [11], [sequence], [0])
        np.testing.assert_array_equal(alone[0], together[sequence])


def test_products_cost_their_matrices(engine):
    cost = engine.costs()["blk.1.ffn_gate_up"]
    assert bytes_and_macs(cost, Pass(10, 7)) == (2 * 256 * 512 * 4, 7 * 2 * 256 * 512)
    assert bytes_and_macs(cost, Pass(10, 1, n_sequences=3)) == (2 * 256 * 512 * 4, 3 * 2 * 256 * 512)


def test_logits_cost_nothing_where_none_are_wanted(engine):
    cost = engine.costs()["output"]
    assert bytes_and_macs(cost, Pass(0, 16, logits=False)) == (0, 0)
    assert bytes_and_macs(cost, Pass(0, 16)) == (96 * 256 * 4, 96 * 256)


def test_attention_costs_the_positions_it_sees(engine):
    sliding, full = (engine.costs()[f"blk.{layer}.attention"] for layer in (0, 1))
    assert (sliding.window, full.window) == (8, 0)
    position_bytes, position_macs = 2 * 2 * 64 * 2, 2 * 4 * 64  # keys and values of 2 heads in f16; 4 heads
    assert bytes_and_macs(full, Pass(20, 1)) == (21 * position_bytes, 21 * position_macs)
    assert bytes_and_macs(full, Pass(20, 2, n_sequences=3)) == (3 * 22 * position_bytes, 3 * 43 * position_macs)
    assert bytes_and_macs(sliding, Pass(20, 2)) == (9 * position_bytes, 16 * position_macs)
    assert bytes_and_macs(sliding, Pass(2, 1)) == (3 * position_bytes, 3 * position_macs)


def test_a_profile_has_rates_where_there_is_work(engine):
    tokens = np.zeros((3, 64), np.int64)
    passes = decode_passes(0, 4)
    runs = [seconds_by_kind(engine, lambda: run_passes(engine, tokens, passes)) for _ in range(3)]
    figures = figures_by_kind(runs, engine.costs(), passes, 4)
    assert sum(f["share"] for f in figures.values()) == pytest.approx(1)
    assert figures["ffn_down"]["gbps"] > 0 and figures["ffn_down"]["macs_per_byte"] == 0.25
    assert figures["attention"]["gmacs"] > 0
    assert figures["ffn_norm"]["ms"] > 0 and figures["ffn_norm"]["gbps"] is None
    assert [line.split()[0] for line in format_profile(figures).splitlines()[1:]] == list(figures)


def test_the_roof_is_memory_up_to_the_ridge_and_arithmetic_after_it():
    result = {
        "read_limit_gbps": 10,
        "dot_limit_gmacs": 200,
        "decode_profile": {
            "qkv": {"share": 0.5, "macs_per_byte": 2.0, "gmacs": 15.0},
            "attention": {"share": 0.001, "macs_per_byte": 2.0, "gmacs": 15.0},
            "rope": {"share": 0.4, "macs_per_byte": None, "gmacs": None},
        },
    }
    assert [roof(result, x) for x in (2, 20, 500)] == [20, 200, 200]
    assert points(result, "decode") == {"qkv": (2, 15)} and points(result, "prefill") == {}


def test_a_profile_is_of_the_median_times():
    cost = _kernels.OpCost(False, 1000, 4000, 0, 0, 0)
    runs = [{"up": seconds, "norm": 3e-6} for seconds in (1e-6, 9e-6, 2e-6)]
    figures = figures_by_kind(runs, {"blk.0.up": cost}, [Pass(0, 1), Pass(1, 1)], 2)
    assert list(figures) == ["norm", "up"]
    assert figures["up"] == pytest.approx({"ms": 1e-3, "share": 0.4, "gbps": 1.0, "gmacs": 4.0, "macs_per_byte": 4.0})


def test_kinds_are_names_without_layers():
    assert [kind_of(name) for name in ("blk.12.attention.merge", "output")] == ["attention.merge", "output"]


@pytest.mark.parametrize("isa", _kernels.available_isas())
def test_every_instruction_set_has_a_dot_limit(isa):
    _kernels.select_isa(isa)
    try:
        assert _kernels.dot_limit(1, 0.02) > 0.5
    finally:
        _kernels.select_isa()


def test_bandwidth_needs_memory_and_threads():
    memory = np.ones(1 << 22, np.uint8)
    assert _kernels.read_bandwidth(memory, 2) > 0 and _kernels.read_limit(memory, 2) > 0
    for n_bytes, n_threads in ((1000, 1), (1 << 20, 0)):
        with pytest.raises(ParameterError, match="no bandwidth of"):
            _kernels.read_bandwidth(np.ones(n_bytes, np.uint8), n_threads)
        with pytest.raises(ParameterError, match="no bandwidth of"):
            _kernels.read_limit(np.ones(n_bytes, np.uint8), n_threads)
    with pytest.raises(ParameterError, match="n_threads is 0"):
        _kernels.dot_limit(0)
