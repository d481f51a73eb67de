"""benchmarks/compare.py: commands and outputs of the programs it compares, its figures, its rounds and its failures."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import compare
import pytest
from peers import IkLlama, LlamaCpp, LlamaCppPython, Pyinfer, Settings, Workload, batched_speed, llama_bench_speed
from ratios import Sample, Spread, format_tables, summarize

LLAMA_BENCH = """warning: a line before
[
  {
    "build_commit": "unknown",
    "model_type": "llama 256M Q4_1",
    "n_threads": 2,
    "tensor_split": "0.00",
    "n_prompt": 32,
    "n_gen": 0,
    "n_depth": 0,
    "avg_ns": 527899051,
    "avg_ts": 60.617650,
    "samples_ns": [ 527899051 ],
    "samples_ts": [ 60.6177 ]
  }
]
"""
BATCHED_BENCH = """
llama_batched_bench: n_kv_max = 2048, n_batch = 2048, n_ubatch = 512, flash_attn = 1, is_pp_shared = 0, n_threads = 2

|    PP |     TG |    B |   N_KV |   T_PP s | S_PP t/s |   T_TG s | S_TG t/s |      T s |    S t/s |
|-------|--------|------|--------|----------|----------|----------|----------|----------|----------|
|    16 |      8 |    4 |     96 |    0.482 |   132.90 |    0.487 |    65.76 |    0.968 |    99.16 |

"""
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="scripts as programs")
SETTINGS = Settings(2, "f16", ["-fa", "1"])
PREFILL, DECODE = Workload("prefill", 512), Workload("decode", 64)
DEEP, DEEP_DECODE = Workload("prefill", 128, 4096), Workload("decode", 64, 4096)
PARALLEL = Workload("parallel", 64, 32, 8)


def test_speeds_are_read_from_what_the_programs_print():
    assert llama_bench_speed(LLAMA_BENCH) == 60.61765
    assert batched_speed(BATCHED_BENCH) == 65.76
    pyinfer = Pyinfer("python", Settings(2))
    assert pyinfer.tokens_per_second('{"prefill_tps": 7.5}', PREFILL) == 7.5
    assert pyinfer.tokens_per_second('{"decode_tps": 1, "parallel": {"8": 9}}', PARALLEL) == 9
    assert LlamaCppPython("python", SETTINGS).tokens_per_second('noise\n{"tps": 3.5}\n', DECODE) == 3.5


@pytest.mark.parametrize(
    "work, options",
    [
        (PREFILL, "-p 512 -n 0 -d 0 -r 1 -t 2 --kv-type f16 --json"),
        (DEEP_DECODE, "-p 0 -n 64 -d 4096 -r 1 -t 2 --kv-type f16 --json"),
        (PARALLEL, "-p 0 -n 64 -d 32 -r 1 -t 2 --parallel 8 --kv-type f16 --json"),
    ],
)
def test_pyinfer_is_run_as_a_command(work, options):
    assert Pyinfer("py", Settings(2)).command("m", work) == ["py", "-m", "pyinfer", "bench", "m", *options.split()]


@pytest.mark.parametrize(
    "work, command",
    [
        (PREFILL, "bench -m m -t 2 -ctk f16 -ctv f16 -fa 1 -p 512 -n 0 -r 1 -o json"),
        (DEEP, "bench -m m -t 2 -ctk f16 -ctv f16 -fa 1 -p 128 -n 0 -r 1 -o json -d 4096"),
        (PARALLEL, "batched -m m -t 2 -ctk f16 -ctv f16 -fa 1 -c 2048 -npp 32 -ntg 64 -npl 8"),
    ],
)
def test_llama_cpp_has_a_program_for_one_sequence_and_one_for_many(work, command):
    assert LlamaCpp("bench", "batched", SETTINGS).command("m", work) == command.split()
    assert LlamaCpp(None, None, SETTINGS).command("m", work) is None


def test_ik_llama_generates_behind_a_prompt():
    ik = IkLlama("bench", SETTINGS)
    assert " ".join(ik.command("m", DEEP_DECODE)).endswith("-p 0 -n 0 -gp 4096,64 -r 1 -o json")
    assert " ".join(ik.command("m", DECODE)).endswith("-p 0 -n 64 -r 1 -o json")
    assert ik.command("m", DEEP) is None and ik.command("m", PARALLEL) is None


def test_workloads_without_tokens_are_left_out():
    names = list(map(str, compare.workloads(512, 64, [4096], [1, 8])))
    assert names == [
        "prefill 512", "decode 64", "prefill 128 at 4096", "decode 64 at 4096", "decode 64, 1 at once",
        "decode 64, 8 at once",
    ]  # fmt: skip
    assert list(map(str, compare.workloads(0, 64, [100], []))) == ["decode 64", "decode 64 at 100"]


def samples(engine, speeds, workload="decode 64"):
    return [Sample(i, "m.gguf", workload, engine, tps) for i, tps in enumerate(speeds) if tps]


def test_ratios_are_taken_within_rounds():
    own, peer = summarize([*samples("peer", [5, 10, 40, 10]), *samples("pyinfer", [10, 10, 20, None])])
    assert (own.engine, own.n, own.tps, own.ratio) == ("pyinfer", 3, Spread(10, 10, 20), None)
    assert (peer.engine, peer.n, peer.tps, peer.ratio) == ("peer", 4, Spread(10, 5, 40), Spread(1, 0.5, 2))


def test_tables_have_every_engine_of_a_workload():
    rows = summarize([*samples("pyinfer", [10]), *samples("peer", [5]), *samples("peer", [8], "prefill 9")])
    text = format_tables(rows)
    assert [line.split()[0] for line in text.splitlines() if line] == [
        "m.gguf,", "tokens/s", "pyinfer", "peer", "m.gguf,", "tokens/s", "peer",
    ]  # fmt: skip
    assert "2.000 (2.000..2.000)" in text
    assert format_tables([]) == ""


@pytest.fixture
def program(tmp_path):
    """A function that makes a program of Python lines; it also appends its name to the file `log`."""

    def make(name: str, body: str) -> str:
        path = tmp_path / name
        log = f"open({str(tmp_path / 'log')!r}, 'a').write('{name} ')"
        path.write_text(f"#!{sys.executable}\nimport sys, time\n{log}\n{body}\n")
        path.chmod(0o755)
        return str(path)

    return make


@pytest.fixture
def model(tmp_path):
    (tmp_path / "m.gguf").write_bytes(b"")
    return str(tmp_path / "m.gguf")


@pytest.fixture(autouse=True)
def quiet_machine(monkeypatch):
    monkeypatch.setattr(compare.os, "getloadavg", lambda: (0.0, 0.0, 0.0), raising=False)


@POSIX
def test_engines_take_turns_and_figures_are_saved(program, model, tmp_path, capsys):
    own = program("own", """print('{"prefill_tps": 121.2353, "decode_tps": 10, "parallel": {"4": 131.52}}')""")
    one = program("one", f"print({LLAMA_BENCH!r})")
    many = program("many", f"print({BATCHED_BENCH!r})")
    options = ["--pyinfer", own, "--llama-bench", one, "--llama-batched-bench", many, "-n", "8", "--parallel", "4"]
    out = tmp_path / "out.json"
    assert compare.main([model, *options, "-r", "2", "--json", str(out)]) == 0
    assert (tmp_path / "log").read_text() == "own one own one own many one own one own many own "
    result = json.loads(out.read_text())
    assert len(result["samples"]) == 12
    ratios = {row["workload"]: row["ratio"]["median"] for row in result["summary"] if row["ratio"]}
    assert ratios["prefill 512"] == pytest.approx(2) and ratios["decode 8, 4 at once"] == pytest.approx(2)
    captured = capsys.readouterr()
    assert "2.000 (2.000..2.000)" in captured.out
    assert captured.err.count("\n") == 12 and "round 2/2, m.gguf, prefill 512, llama.cpp: 60.62" in captured.err


@POSIX
@pytest.mark.parametrize(
    "body, message",
    [
        ("sys.stderr.write('first\\nout of luck\\n'); sys.exit(3)", "ended with status 3: out of luck"),
        ("print('[]')", "printed no figure"),
        ("", "printed no figure"),
    ],
)
def test_a_failing_program_is_one_line_and_not_run_again(program, model, tmp_path, capsys, body, message):
    own = program("own", """print('{"decode_tps": 10}')""")
    bad = program("bad", body)
    assert compare.main([model, "--pyinfer", own, "--llama-bench", bad, "-p", "0", "-r", "3"]) == 1
    assert (tmp_path / "log").read_text().split() == ["own", "bad", "own", "own"]
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("compare: error: "))
    assert message in line and f"llama.cpp: `{bad} -m" in line


@POSIX
def test_a_busy_machine_is_worth_a_warning(program, model, capsys, monkeypatch):
    monkeypatch.setattr(compare.os, "getloadavg", lambda: (3.25, 2.0, 1.0))
    own = program("own", """print('{"decode_tps": 10}')""")
    assert compare.main([model, "--pyinfer", own, "-p", "0", "-r", "1"]) == 0
    assert "warning: the load average is 3.2" in capsys.readouterr().err


def test_what_is_missing_is_said_at_once(model, capsys):
    assert compare.main([model, "--llama-bench", "/nowhere/llama-bench"]) == 1
    assert capsys.readouterr().err == "compare: error: llama.cpp: there is no program /nowhere/llama-bench\n"
    assert compare.main([model, "/nowhere/m.gguf"]) == 1
    assert capsys.readouterr().err == "compare: error: there is no file /nowhere/m.gguf\n"


@POSIX
def test_ctrl_c_keeps_what_was_measured(program, model, tmp_path):
    own = program("own", """print('{"decode_tps": 10}')""")
    slow = program("slow", "time.sleep(60)")
    out = tmp_path / "out.json"
    options = ["--pyinfer", own, "--llama-bench", slow, "-p", "0", "--json", str(out)]
    process = subprocess.Popen(
        [sys.executable, compare.__file__, model, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    log = tmp_path / "log"
    until = time.monotonic() + 20
    while not (log.exists() and "slow" in log.read_text()) and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    text, _ = process.communicate(timeout=10)
    assert process.returncode == 130 and "pyinfer (1)" in text
    assert len(json.loads(out.read_text())["samples"]) == 1


@POSIX
def test_llama_cpp_python_is_driven_by_eval(tmp_path, monkeypatch):
    stub = """
class Llama:
    def __init__(self, path, **kwargs):
        assert (path, kwargs["n_ctx"], kwargs["type_k"]) == ("m.gguf", 15, 1)
        self.passed = []
    def n_vocab(self): return 10
    def reset(self): self.passed = []
    def eval(self, tokens):
        self.passed.append(len(tokens))
        assert self.passed == [10, 1, 1, 1, 1][: len(self.passed)]
"""
    (tmp_path / "llama_cpp.py").write_text(stub)
    engine = LlamaCppPython(sys.executable, SETTINGS)
    work = Workload("decode", 4, 10)
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(engine.command("m.gguf", work), capture_output=True, text=True, env=env)
    assert done.stderr == ""
    assert engine.tokens_per_second(done.stdout, work) > 0


def test_a_plot_is_written(tmp_path):
    pytest.importorskip("matplotlib")
    rows = summarize([*samples("pyinfer", [10, 11]), *samples("peer", [5, 6])])
    compare.plot(rows, str(tmp_path / "ratios.png"))
    assert Path(tmp_path / "ratios.png").stat().st_size > 1000


def test_a_baseline_is_another_pyinfer_with_the_same_settings():
    args = compare.parse_arguments(["m.gguf", "--baseline", "other-python", "--isa", "avx2", "-t", "2"])

    own, baseline = compare.engines_of(args)

    assert (own.name, baseline.name) == ("pyinfer", "baseline")
    assert baseline.command("m.gguf", DECODE)[1:] == own.command("m.gguf", DECODE)[1:]
    assert (baseline.programs(), baseline.env) == (["other-python"], own.env)
