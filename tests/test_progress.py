"""Progress bars: a line on a terminal, tqdm in a notebook, nothing where nobody looks."""

import io
import sys
from types import SimpleNamespace

import pytest

from pyinfer import LLM, SamplingParams
from pyinfer.progress import in_notebook, progress_bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def notebook(monkeypatch):
    """A process that looks like the kernel of a notebook."""
    shell = SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))


@pytest.fixture
def bars(monkeypatch):
    """The bars that tqdm is asked for, as the calls that each received."""
    made = []

    class Bar:
        def __init__(self, total, desc, leave, **scale):
            self.n, self.total, self.calls = 0, total, [(desc, total, scale)]
            made.append(self.calls)

        def update(self, n):
            self.n += n
            self.calls.append(self.n)

        def close(self):
            self.calls.append("closed")

    monkeypatch.setitem(sys.modules, "tqdm", SimpleNamespace(__spec__=object()))
    monkeypatch.setitem(sys.modules, "tqdm.auto", SimpleNamespace(tqdm=Bar))
    return made


def test_a_line_is_drawn_on_a_terminal_and_removed(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    bar = progress_bar("loading")
    bar(15_000_000, 30_000_000)
    assert sys.stderr.getvalue() == "\rloading [" + "#" * 15 + "." * 15 + "] 15/30 MB"
    bar(30_000_000, 30_000_000)
    assert sys.stderr.getvalue().endswith("\r\x1b[K")


def test_nothing_is_drawn_where_nobody_looks(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert progress_bar("loading") is None


def test_a_notebook_gets_tqdms_bar(notebook, bars):
    bar = progress_bar("loading")
    for done in (10, 60, 100):
        bar(done, 100)
    assert bars == [[("loading", 100, {"unit": "B", "unit_scale": True}), 10, 60, 100, "closed"]]


def test_prompts_are_counted_one_by_one(notebook, bars):
    bar = progress_bar("generating", "", 1)
    for done, total in ((0, 3), (1, 3), (2, 3), (1, 1)):
        bar(done, total)
    assert bars == [[("generating", 3, {"unit": ""}), 0, 1, 2, 3, "closed"]]


def test_a_second_round_of_the_same_bar_begins_anew(notebook, bars):
    bar = progress_bar("loading")
    for done in (50, 100, 30, 100):
        bar(done, 100)
    assert [calls[1:] for calls in bars] == [[50, 100, "closed"], [30, 100, "closed"]]


def test_a_notebook_without_tqdm_gets_a_line(notebook, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    progress_bar("loading")(1, 2)
    assert "loading [###" in sys.stderr.getvalue()


def test_the_real_tqdm_draws_it(notebook, capsys):
    pytest.importorskip("tqdm")
    bar = progress_bar("loading")
    bar(10, 100)
    bar(100, 100)
    assert "loading" in capsys.readouterr().err


def test_ipython_on_a_terminal_is_no_notebook(monkeypatch):
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: SimpleNamespace(config={})))
    assert not in_notebook()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: None))
    assert not in_notebook()


def test_loading_generating_and_answering_draw_bars(notebook, bars, tmp_path):
    from tiny_models import TinyModel, write_text_model

    path = write_text_model(tmp_path / "model.gguf", TinyModel("llama", n_vocab=128, n_ctx=96))
    params = SamplingParams(max_tokens=2)
    with LLM(path, progress=True) as llm:
        llm.generate(["a", "b"], params, progress=True)
        llm.chat([[{"role": "user", "content": "a"}]] * 3, params, template="chatml", progress=True)
    assert [calls[0][:2] for calls in bars][-2:] == [("generating", 2), ("answering", 3)]
    assert all(calls[-1] == "closed" for calls in bars)


def test_false_draws_no_bar(notebook, bars, tmp_path):
    from tiny_models import TinyModel, write_text_model

    path = write_text_model(tmp_path / "model.gguf", TinyModel("llama", n_vocab=128, n_ctx=96))
    LLM(path, progress=False).close()
    assert not bars
