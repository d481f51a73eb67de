"""What a plan checks before a pass, whose rows an operation works on, and how a pass ends early."""

import threading
import time

import numpy as np
import pytest
from heads import Heads
from plans import matrix, random_rows, run, value

from pyinfer import _kernels
from pyinfer.errors import ParameterError, PassStopped
from pyinfer.gguf import TensorType

PAGE = _kernels.PAGE


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def attending(n_pages=4, window=0, table=0, n_ctx=4 * PAGE, capacity=4, n_sequences=2):
    """A plan with one attention layer over n_pages pages of zeros; and its output."""
    stride = _kernels.Cache.page_bytes(TensorType.F32, 1, 16, 16)
    cache = _kernels.Cache(TensorType.F32, 1, 16, 16, np.zeros(n_pages * stride, np.uint8), 0, stride, table)
    plan = _kernels.Plan(capacity, n_ctx, n_sequences, 1)
    q, k, v, out = (value(name, 16, capacity) for name in ("q", "k", "v", "out"))
    plan.rope("rope", q, k, v, None, cache, True)
    plan.attention("attention", q, cache, out, window=window)
    v.rows[:] = 1
    return plan, out


def table_of(*rows):
    return np.array(rows, np.int32)


def test_every_page_that_will_be_read_is_checked():
    plan, _ = attending()
    with pytest.raises(ParameterError, match=r"sequence 0: page 1000000000 of 4 \(table 0, entry 0\)"):
        run(plan, 1, positions=[2 * PAGE], page_table=(table_of([10**9, 1, 2, -1], [-1] * 4),))
    with pytest.raises(ParameterError, match=r"sequence 1: page -1 of 4 \(table 0, entry 1\)"):
        run(plan, 1, positions=[2 * PAGE], sequences=[1], page_table=(table_of([-1] * 4, [0, -1, 2, -1]),))
    with pytest.raises(ParameterError, match="sequence 0: page 4 of 4"):
        run(plan, 1, positions=[0], page_table=(table_of([4, -1, -1, -1], [-1] * 4),))
    # what no operation reads may be anything
    run(plan, 1, positions=[2 * PAGE], page_table=(table_of([0, 1, 2, -1], [10**9] * 4),))


@pytest.mark.parametrize("window, first", [(1, 2), (2, 1), (PAGE + 1, 1), (PAGE + 2, 0)])
def test_pages_that_left_the_window_are_not_read(window, first):
    plan, out = attending(window=window)
    entries = [3 - i for i in range(4)]
    entries[:first] = [-1] * first
    run(plan, 1, positions=[2 * PAGE], page_table=(table_of(entries, [-1] * 4),))
    assert np.isfinite(out.rows[0]).all()
    entries[first] = -1
    with pytest.raises(ParameterError, match=f"page -1 of 4 .table 0, entry {first}"):
        run(plan, 1, positions=[2 * PAGE], page_table=(table_of(entries, [-1] * 4),))


def test_each_memory_group_has_a_table_of_its_own(rng):
    """Two layers of different heads and windows, whose pages lie differently in memories of different sizes."""
    n = 3 * PAGE
    layers = [Heads(rng, n, 4, 2, 32, v_dim=16), Heads(rng, n, 9, 3, 80, "f32")]
    tables = (table_of([4, 1, 3]), table_of([0, 2, 1]))
    plan = _kernels.Plan(n, n, 1, 2)
    outs = []
    for i, (h, window, n_pages) in enumerate(zip(layers, (0, 20), (5, 3), strict=True)):
        stride = _kernels.Cache.page_bytes(TensorType.F32, h.n_kv_heads, h.dim, h.v_dim)
        memory = np.zeros(n_pages * stride, np.uint8)
        cache = _kernels.Cache(TensorType.F32, h.n_kv_heads, h.dim, h.v_dim, memory, 0, stride, table=i)
        q, k, v = (
            value(f"{name}{i}", a[0].size, n, a.reshape(n, -1)) for name, a in zip("qkv", (h.q, h.k, h.v), strict=True)
        )
        outs.append(value(f"out{i}", h.n_heads * h.v_dim, n))
        plan.rope(f"rope{i}", q, k, v, None, cache, True)
        plan.attention(f"attention{i}", q, cache, outs[i], window=window)
    run(plan, n, page_table=tables)
    for h, window, out in zip(layers, (0, 20), outs, strict=True):
        np.testing.assert_allclose(out.rows[:n].reshape(n, h.n_heads, -1), h.expected(window=window), rtol=0, atol=1e-5)
    with pytest.raises(ParameterError, match=r"page 4 of 3 \(table 1, entry 0\)"):
        run(plan, n, page_table=tables[::-1])
    with pytest.raises(ParameterError, match="1 page tables; the plan reads 2"):
        run(plan, n, page_table=tables[:1])
    with pytest.raises(ParameterError, match=r"a page table of 1 x 2 pages for 1 sequences of 192 \(table 1\)"):
        run(plan, n, page_table=(tables[0], tables[1][:, :2].copy()))


def test_a_position_of_a_sequence_is_computed_once_in_a_pass():
    plan, _ = attending(n_pages=8)
    run(plan, 4, positions=[5, 4, 5, 4], sequences=[0, 0, 1, 1])
    with pytest.raises(ParameterError, match="tokens 1 and 3 are both position 4 of sequence 0"):
        run(plan, 4, positions=[5, 4, 4, 4], sequences=[0, 0, 1, 0])


def test_outputs_are_rows_of_the_pass_each_once():
    plan, _ = attending()
    with pytest.raises(ParameterError, match="output 1 is row 4 of 4"):
        run(plan, 4, outputs=[0, 4])
    with pytest.raises(ParameterError, match="output 2 is row 3, which is an output before"):
        run(plan, 4, outputs=[3, 0, 3])
    with pytest.raises(ParameterError, match="2 logits of 1 outputs"):
        run(plan, 4, outputs=[3], n_logits=2)


def test_logits_are_the_first_of_the_outputs(rng):
    n, k = 5, 64
    x = rng.standard_normal((n, k)).astype(np.float32)
    rows = random_rows(rng, "F32", 24, k)
    weight, w = matrix("F32", rows, k), rows.view(np.float32)
    plan = _kernels.Plan(n, n, 1, 2)
    hidden, capped, logits = value("hidden", k, n), value("capped", k, n), value("logits", 24, n)
    wanted = _kernels.Value("wanted", k, n)
    plan.norm("norm", value("x", k, n, x), np.ones(k, np.float32), hidden, 1e-6, rows="outputs")
    plan.pack("pick", hidden, wanted, rows="logits")
    plan.matmul("output", wanted, [(weight, logits, None, 1.0)], rows="logits")
    plan.pack("copy", hidden, capped, rows="logits")
    plan.softcap("cap", capped, 0.5, rows="logits")
    normed = x / np.sqrt((x * x).mean(-1, keepdims=True))
    for outputs, n_logits, computed in (([4, 0, 2], 2, 2), ([1, 3], 0, 0), ([3, 2, 1], -1, 3)):
        for out in (hidden, capped, logits):
            out.rows[:] = 0
        run(plan, n, outputs=outputs, n_logits=n_logits)
        np.testing.assert_allclose(hidden.rows[: len(outputs)], normed[outputs], rtol=1e-5)
        np.testing.assert_array_equal(logits.rows.any(1), np.arange(8) < computed)
        np.testing.assert_allclose(logits.rows[:computed], normed[outputs[:computed]] @ w.T, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(capped.rows[:computed], 0.5 * np.tanh(normed[outputs[:computed]] / 0.5), rtol=1e-4)
        assert not capped.rows[computed:].any()


@pytest.mark.parametrize("isa", _kernels.available_isas())
@pytest.mark.parametrize("n_threads", [1, 3])
def test_operations_work_on_as_many_rows_as_an_earlier_one_chose(rng, isa, n_threads):
    n, k = 21, 64
    x, scores = rng.standard_normal((n, k)).astype(np.float32), rng.standard_normal((n, 3)).astype(np.float32)
    _kernels.select_isa(isa)
    weight = matrix("Q8_0", random_rows(rng, "Q8_0", 40, k), k)
    plan, chosen = _kernels.Plan(n, n, 1, n_threads), _kernels.Counts("chosen", n)
    vx, vs = value("x", k, n, x), value("scores", 3, n, scores)
    picked, product, every = value("picked", k, n), value("product", 40, n), value("every", 40, n)
    packed = _kernels.Value("packed", k, n)
    plan.select("select", vs, 1, 0.25, chosen)
    plan.gather("gather", vx, chosen, picked)
    plan.matmul("product", picked, [(weight, product, None, 1.0)], rows=chosen)
    plan.softcap("cap", product, 2.0, rows=chosen)
    plan.pack("pack", vx, packed)
    plan.matmul("every", packed, [(weight, every, None, 1.0)])
    plan.softcap("every cap", every, 2.0)
    _kernels.select_isa()
    for column in (scores[:, 1], -np.ones(n), np.ones(n), scores[::-1, 1]):  # some, none, all, others
        vs.rows[:n, 1] = column
        product.rows[:] = 0
        run(plan, n)
        expected = np.flatnonzero(column > np.float32(0.25))
        assert chosen.n == len(expected)
        np.testing.assert_array_equal(chosen.rows, expected)
        np.testing.assert_array_equal(picked.rows[: len(expected)], x[expected])
        np.testing.assert_array_equal(product.rows[: len(expected)], every.rows[expected])
        assert not product.rows[len(expected) :].any()


def test_rows_that_are_chosen_from_no_outputs_are_none():
    plan, chosen, x, out = _kernels.Plan(2, 2, 1, 1), _kernels.Counts("c", 2), value("x", 4, 2), value("out", 4, 2)
    x.rows[:] = 1
    plan.select("select", x, 0, 0.0, chosen, rows="outputs")
    plan.gather("gather", x, chosen, out)
    run(plan, 2, outputs=[0, 1])
    assert chosen.n == 2
    run(plan, 2)
    assert chosen.n == 0


def test_one_operation_chooses_rows_before_others_take_them():
    plan, other = _kernels.Plan(2, 2, 1, 1), _kernels.Plan(2, 2, 1, 1)
    chosen, x, out = _kernels.Counts("chosen", 2), value("x", 4, 2), value("out", 4, 2)
    with pytest.raises(ParameterError, match="no earlier operation of the plan writes the rows chosen"):
        plan.gather("gather", x, chosen, out)
    plan.select("select", x, 0, 0.0, chosen)
    with pytest.raises(ParameterError, match="no earlier operation of the plan writes the rows chosen"):
        other.pack("pack", x, out, rows=chosen)
    with pytest.raises(ParameterError, match="another operation writes chosen"):
        plan.select("again", x, 1, 0.0, chosen)
    with pytest.raises(ParameterError, match="column 4 of 4"):
        plan.select("more", x, 4, 0.0, _kernels.Counts("c", 2))
    with pytest.raises(ParameterError, match="few holds 1 rows, a pass 2"):
        plan.select("more", x, 0, 0.0, _kernels.Counts("few", 1))
    with pytest.raises(ParameterError, match="rows is 'all'; expected 'tokens', 'outputs', 'logits' or a Counts"):
        plan.pack("pack", x, out, rows="all")
    assert plan.names == ["select"] and other.names == []


class States:
    """A scan over sequences' tokens, by a plan."""

    def __init__(self, k, n_rows, capacity=32, n_threads=2, n_sequences=3):
        self.memory = np.full((n_rows, k), 7, np.float32)
        self.x, self.out = value("x", k, capacity), value("out", k, capacity)
        if k % 32 == 0:
            self.out.want("quants")
        self.decay = np.linspace(0.5, 1, k).astype(np.float32)
        self.plan = _kernels.Plan(capacity, 1000, n_sequences, n_threads)
        self.plan.scan("scan", self.x, self.decay, _kernels.State(self.memory, table=1), self.out)

    def step(self, x, positions, sequences, rows=(2, 0, 4)):
        self.x.rows[: len(x)] = x
        tables = (table_of([]), table_of(*([row] for row in rows)))
        run(self.plan, len(x), positions=positions, sequences=sequences, page_table=tables)
        return self.out.rows[: len(x)].copy()

    def expected(self, x):
        h, rows = np.zeros(x.shape[1]), []
        for row in x:
            h = self.decay * h + row
            rows.append(h)
        return np.array(rows)


@pytest.mark.parametrize("k", [1, 64, 200])
def test_states_go_on_from_pass_to_pass_as_alone(rng, k):
    a, b = rng.standard_normal((20, k)).astype(np.float32), rng.standard_normal((9, k)).astype(np.float32)
    states = States(k, 5)
    untouched = states.memory[[0, 1, 3]].copy()
    first = states.step(np.concatenate([a[:7], b[:5]]), [*range(7), *range(5)], [0] * 7 + [2] * 5)
    rest = [states.step(np.stack([b[i], a[i + 2]]), [i, i + 2], [2, 0]) for i in range(5, 9)]  # interleaved
    last = states.step(a[11:], np.arange(11, 20), np.zeros(9))
    of_a = np.concatenate([first[:7], *(r[1:] for r in rest), last])
    of_b = np.concatenate([first[7:], *(r[:1] for r in rest)])
    for found, x in ((of_a, a), (of_b, b)):
        np.testing.assert_allclose(found, states.expected(x), rtol=1e-5, atol=1e-5)
        alone = States(k, 5, n_threads=1)
        np.testing.assert_array_equal(alone.step(x, np.arange(len(x)), np.ones(len(x))), found)
    if k % 32 == 0:  # what products read
        np.testing.assert_allclose(states.out.dequantized(9), last, rtol=0, atol=np.abs(last).max() / 127)
    np.testing.assert_array_equal(states.memory[[0, 1, 3]], untouched)
    np.testing.assert_array_equal(states.memory[[2, 4]], [of_a[-1], of_b[-1]])


def test_states_are_checked():
    states, x = States(4, 5), np.zeros((2, 4))
    with pytest.raises(ParameterError, match=r"sequence 1: state 5 of 5 \(table 1, entry 0\)"):
        states.step(x, [0, 1], [1, 1], rows=(0, 5, 1))
    with pytest.raises(ParameterError, match="sequences 0 and 2 have the same state 3"):
        states.step(x, [0, 0], [0, 2], rows=(3, 1, 3))
    with pytest.raises(ParameterError, match="token 1: position 5 of sequence 0 after 3"):
        states.step(x, [3, 5], [0, 0])
    states.step(x, [0, 0], [0, 1], rows=(3, 1, 3))  # of those in the pass only
    plan, v = _kernels.Plan(1, 64, 1, 1), value("v", 16, 1)
    plan.scan("scan", v, 0.5, _kernels.State(np.zeros((1, 16), np.float32)), value("out", 16, 1))
    stride = _kernels.Cache.page_bytes(TensorType.F32, 1, 16, 16)
    cache = _kernels.Cache(TensorType.F32, 1, 16, 16, np.zeros(stride, np.uint8), 0, stride)
    with pytest.raises(ParameterError, match="table 0 is of pages for some operations and of states for others"):
        plan.attention("attention", v, cache, value("out", 16, 1))
    assert plan.names == ["scan"]


def test_a_method_that_raises_leaves_the_plan_as_it_was(rng):
    plan, x, out = _kernels.Plan(16, 64, 1, 1), value("x", 64, 16), value("out", 64, 16)
    small, narrow = _kernels.Value("small", 64, 8), _kernels.Value("narrow", 33, 16)
    weight = matrix("Q8_0", random_rows(rng, "Q8_0", 33, 64), 64)
    stride = _kernels.Cache.page_bytes(TensorType.F32, 1, 64, 64)
    cache = _kernels.Cache(TensorType.F32, 1, 64, 64, np.zeros(stride, np.uint8), 0, stride)
    plan.pack("pack", x, out)
    for record in (
        lambda: plan.pack("p", x, small),
        lambda: plan.norm("n", x, np.ones(64), small, 1e-5, bias=np.ones(64)),
        lambda: plan.norm("n", x, np.ones(64), out, 1e-5, bias=np.ones(63)),
        lambda: plan.norm("n", x, np.ones(64), x, 1e-5, rows="outputs"),
        lambda: plan.attention("a", x, cache, small),
        lambda: plan.rope("r", x, x, small, None, cache, True),
        lambda: plan.matmul("m", x, [(weight, narrow, None, 1.0), (weight, out, None, 1.0)]),
        lambda: plan.matmul("m", narrow, [(matrix("Q8_0", random_rows(rng, "Q8_0", 33, 32), 32), narrow, None, 1.0)]),
        lambda: plan.glu("g", x, [(weight, None, 1.0)], narrow, "tanh"),
        lambda: plan.gated("g", x, narrow, out, "silu"),
        lambda: plan.rope("r", x, None, x, None, cache, True),
        lambda: plan.rope("r", x, x, x, None, cache, True, q_norm=(np.ones(63), None, False)),
        lambda: plan.attention("a", x, cache, out, slopes=np.ones(2)),
        lambda: plan.attention("a", x, cache, out, gate=narrow),
        lambda: plan.norm("n", x, np.ones(64), out, 1e-5, y=x, post=np.ones(48)),
    ):
        with pytest.raises(ParameterError):
            record()
        assert plan.names == ["pack"] and len(plan.costs()) == 1
    x.rows[:] = 3
    run(plan, 16, page_table=())  # without the table that attention would have needed
    assert (out.rows == 3).all()


def test_forms_are_asked_for_before_the_first_pass():
    plan, x, out = _kernels.Plan(2, 2, 1, 1), value("x", 32, 2), _kernels.Value("out", 32, 2).want("tiles")
    plan.pack("pack", x, out)
    run(plan, 2)
    out.want("tiles")
    with pytest.raises(ParameterError, match=r"out: rows are wanted after the first pass, which made \['tiles'\]"):
        out.want("rows")
    with pytest.raises(ParameterError, match="out: rows are wanted"):
        out.rows  # noqa: B018
    with pytest.raises(ParameterError, match="form 'halves'; there are: rows, tiles, quants"):
        x.want("halves")
    with pytest.raises(ParameterError, match="takes no further operations"):
        plan.pack("more", x, x)


class Long:
    """A pass that takes a second or more, in operations of a millisecond or so; its last one writes `out`."""

    def __init__(self, n_ops=4000):
        n, k = 64, 4096
        self.plan, x, y = _kernels.Plan(n, n, 1, 2), value("x", k, n), value("y", k, n)
        x.rows[:] = 1
        for _ in range(n_ops):
            self.plan.softcap("cap", y, 1.0)
        self.out = value("out", k, n)
        self.plan.pack("last", x, self.out)

    def run(self, n_ops=-1):
        run(self.plan, 64, page_table=(), n_ops=n_ops)


def test_a_pass_is_stopped_by_another_thread():
    long, began, ended = Long(), time.perf_counter(), []

    def stop():
        ended.append(time.perf_counter())
        long.plan.stop()

    timer = threading.Timer(0.1, stop)
    timer.start()
    with pytest.raises(PassStopped):
        long.run()
    now = time.perf_counter()
    timer.join()
    assert now - ended[0] < 0.3 and now - began >= 0.1  # 0.1 s where nothing else runs
    assert not long.out.rows.any()  # its operations did not all run
    long.plan.stop()  # of no pass
    run(long.plan, 1, page_table=())
    assert (long.out.rows[0] == 1).all()


def test_a_pass_of_another_thread_does_without_the_interpreter():
    """While the interpreter is held in one long call, operations go on: none of them takes as long as that."""
    exponent, held = 1 << 20, 0.0
    while held < 0.3:  # to know what takes so long here
        exponent *= 2
        began = time.perf_counter()
        pow(3, exponent)
        held = time.perf_counter() - began
    long = Long(8000)
    long.plan.profile()
    thread = threading.Thread(target=long.run)
    thread.start()
    time.sleep(0.1)
    began = time.perf_counter()
    pow(3, exponent)
    held = time.perf_counter() - began
    thread.join()
    assert long.plan.profile().max() < 0.7e9 * held


def test_two_passes_over_a_plan_do_not_run_at_once():
    long = Long()
    thread = threading.Thread(target=long.run)
    thread.start()
    time.sleep(0.1)
    with pytest.raises(ParameterError, match="a pass over this plan is under way"):
        long.run()
    thread.join()
    assert (long.out.rows == 1).all()


def test_a_product_reads_the_rows_that_were_packed():
    plan, x, hidden, out = _kernels.Plan(4, 4, 1, 1), *(value(name, 32, 4) for name in ("x", "hidden", "out"))
    weight = matrix("F32", np.ones((32, 32), np.float32).view(np.uint8), 32)
    plan.norm("norm", x, np.ones(32, np.float32), hidden, 1e-5, rows="outputs")

    with pytest.raises(ParameterError, match="output reads logits of hidden, which was packed as outputs"):
        plan.matmul("output", hidden, [(weight, out, None, 1.0)], rows="logits")


def test_subclasses_are_told_of_results_and_of_what_products_read(rng):
    told = []

    class Told(_kernels.Plan):
        def wrote(self, name, part, value, rows, added=None):
            told.append((name, part, value.name, rows))

        def multiplies(self, name, src, rows):
            told.append((name, src.name))

    weights = [matrix("F32", random_rows(rng, "F32", 32, 32), 32) for _ in range(2)]
    plan, a, b, c = Told(2, 2, 1, 1), *(value(name, 32, 2) for name in "abc")
    plan.norm("norm", a, np.ones(32, np.float32), b, 1e-5, y=c, rows="outputs")
    plan.matmul("two", b, [(w, out, None, 1.0) for w, out in zip(weights, (a, c), strict=True)], rows="outputs")
    plan.pack("pack", c, b)
    plan.glu("glu", b, [(weights[0], None, 1.0)], c, "silu")
    assert told == [
        ("norm", "x", "a", "tokens"),
        ("norm", "", "b", "outputs"),
        ("two", "b"),
        ("two", "a", "a", "outputs"),
        ("two", "c", "c", "outputs"),
        ("pack", "", "b", "tokens"),
        ("glu", "b"),
        ("glu", "", "c", "tokens"),
    ]
