"""pull, list and rm, as a person runs them, with the variables that huggingface_hub reads."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hub_server import Hub, Repo, environment
from tiny_models import TinyModel, write_tiny_model

import pyinfer
from pyinfer.cli.main import main

PACKAGE = Path(pyinfer.__file__).parent.parent
NAME = "maker/tiny-GGUF"


@pytest.fixture(scope="module")
def content(tmp_path_factory) -> bytes:
    return write_tiny_model(tmp_path_factory.mktemp("hub") / "tiny.gguf", TinyModel("llama")).read_bytes()


@pytest.fixture
def hub(hub, content) -> Hub:
    """A hub with one repository of two models."""
    hub.repos[NAME] = Repo({"tiny-Q4_K_M.gguf": content, "tiny-Q8_0.gguf": content[::-1]})
    return hub


def start(hub: Hub, home: Path, *args: str, **variables: str) -> subprocess.Popen[str]:
    env = {**environment(hub, home), "PYTHONPATH": str(PACKAGE), **variables}
    command = [sys.executable, "-m", "pyinfer", *args]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


def test_the_variables_of_the_hub_are_respected(hub, tmp_path, content):
    hub.repos[NAME].gated, hub.token = True, "hf_secret"
    out, err = start(hub, tmp_path, "pull", f"{NAME}:Q4_K_M", HF_TOKEN="hf_secret").communicate()
    path = Path(out.strip())
    assert err == "" and path.read_bytes() == content
    assert path.is_relative_to(tmp_path / "hub" / "models--maker--tiny-GGUF")
    n_requests = len(hub.requests)
    offline = start(hub, tmp_path, "inspect", f"hf:{NAME}", HF_HUB_OFFLINE="1")
    assert offline.communicate()[1] == "" and offline.returncode == 0
    absent = start(hub, tmp_path, "inspect", f"{NAME}:Q8_0", HF_HUB_OFFLINE="1")
    assert absent.communicate()[1] == f"pyinfer: error: {NAME} is not in the cache, and HF_HUB_OFFLINE is set\n"
    assert absent.returncode == 1 and len(hub.requests) == n_requests


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_ctrl_c_ends_a_pull_within_a_second_and_the_next_goes_on(hub, tmp_path, content):
    hub.pause = threading.Event()
    process = start(hub, tmp_path, "pull", f"hf:{NAME}")
    assert hub.half_way.wait(20)
    while not any(file.stat().st_size for file in tmp_path.rglob("*.incomplete")):
        time.sleep(0.01)
    sent = time.perf_counter()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (130, "", "")
    assert time.perf_counter() - sent < 3  # a second, and what a busy machine adds
    hub.pause.set()
    hub.requests.clear()
    out, err = start(hub, tmp_path, "pull", f"hf:{NAME}").communicate()
    assert Path(out.strip()).read_bytes() == content
    (asked,) = hub.downloads()
    assert asked is not None and asked != "bytes=0-"


def test_commands_take_names(hub, capsys):
    assert main(["bench", f"hf:{NAME}", "-p", "4", "-n", "0", "-r", "1", "-t", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"].endswith("tiny-Q4_K_M.gguf")
    assert main(["inspect", f"{NAME}:q4_k_m"]) == 0
    assert "tiny-Q4_K_M.gguf: GGUF version 3" in capsys.readouterr().out
    assert main(["run", "--model", f"{NAME}:Q5_0", "hi"]) == 1
    assert "has no model Q5_0; it has Q4_K_M, Q8_0" in capsys.readouterr().err


def test_list_as_a_table_and_as_json(hub, capsys, content):
    assert main(["pull", f"{NAME}:Q8_0"]) == 0
    path = capsys.readouterr().out.strip()
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["name", "quant", "size", "last", "used", "path"]
    assert lines[1].split()[:4] == [f"hf:{NAME}:Q8_0", "Q8_0", f"{len(content) / 1e6:.0f}", "MB"]
    assert lines[1].endswith(path)
    assert all(line.startswith("* ") for line in lines[2:])
    assert ["*", "smollm2:360m", "Q8_0", "not", "fetched"] in [line.split() for line in lines]
    assert main(["list", "--json"]) == 0
    first, *others = json.loads(capsys.readouterr().out)
    assert first.pop("last_used").startswith("20")
    assert first == {
        "name": f"hf:{NAME}:Q8_0",
        "quant": "Q8_0",
        "bytes": len(content),
        "path": path,
        "catalogue": False,
    }
    assert all(other["catalogue"] and other["path"] is None and other["bytes"] == 0 for other in others)


def test_rm_says_what_it_freed(hub, capsys, content):
    main(["pull", f"{NAME}:Q8_0"])
    path = Path(capsys.readouterr().out.strip())
    assert main(["rm", "-y", f"{NAME}:Q8_0"]) == 0
    assert capsys.readouterr().out == f"hf:{NAME}:Q8_0: {len(content):,} bytes freed\n"
    assert not path.exists()
    assert main(["rm", "-y", f"{NAME}:Q8_0"]) == 1
    assert "is not one model in the cache" in capsys.readouterr().err


@pytest.mark.parametrize(("answer", "removed"), [("y", True), ("YES", True), ("", False), ("no", False)])
def test_rm_asks_on_a_terminal(hub, capsys, monkeypatch, answer, removed):
    main(["pull", f"{NAME}:Q8_0"])
    path = Path(capsys.readouterr().out.strip())
    asked: list[str] = []
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda text: (asked.append(text), answer)[1])
    assert main(["rm", f"{NAME}:Q8_0"]) == (0 if removed else 1)
    assert asked[0].startswith(f"remove hf:{NAME}:Q8_0 (") and path.exists() != removed


def test_rm_never_takes_a_path(hub, capsys, tmp_path):
    mine = tmp_path / "mine.gguf"
    mine.write_bytes(b"mine")
    main(["pull", f"{NAME}:Q8_0"])
    fetched = capsys.readouterr().out.strip()
    for path in (str(mine), fetched, os.path.relpath(mine)):
        assert main(["rm", "-y", path]) == 1
        assert "is a path; expected a name" in capsys.readouterr().err
    assert mine.exists() and Path(fetched).exists()


@pytest.mark.parametrize("command", ["pull", "rm", "inspect", "bench"])
def test_an_unknown_name_is_one_line(capsys, command):
    assert main([command, "smollm9:1b"]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "'smollm9:1b', which is no file; expected a GGUF file, hf:ORG/REPO" in err
