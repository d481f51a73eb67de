"""What the tests share: where reference data and real models are, and skipping with a reason where they are not."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pyinfer.compat import install

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("PYINFER_SHARED", ROOT.parent / "shared"))

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background jobs, whose children inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def reference() -> Path:
    """The folder of reference tokens and logits."""
    path = SHARED / "reference"
    if not path.is_dir():
        pytest.skip(f"no reference data at {path} (set PYINFER_SHARED)")
    return path


@pytest.fixture(scope="session")
def real_model():
    """A function from a model's name to the path of its GGUF file, fetched once and kept."""
    fetch = SHARED / "models" / "fetch.py"
    if not fetch.is_file():
        pytest.skip(f"no {fetch} to fetch real models with (set PYINFER_SHARED)")

    def path_of(name: str) -> Path:
        done = subprocess.run([sys.executable, fetch, name], capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"{name} could not be fetched: {done.stderr.strip()[-300:]}")
        return Path(done.stdout.strip().splitlines()[-1])

    return path_of


@pytest.fixture(scope="session")
def hub_of_session():
    import hub_server

    with hub_server.serve() as hub:
        yield hub


@pytest.fixture
def hub(hub_of_session, monkeypatch, tmp_path):
    """A server that speaks the Hugging Face hub's protocol, with no repository yet, and empty caches."""
    import hub_server

    hub_server.use(hub_of_session, monkeypatch, tmp_path)
    return hub_of_session


@pytest.fixture(scope="session")
def path(tmp_path_factory):
    """A random model whose tokens are characters; a module may have a file of its own in its place."""
    from tiny_models import TinyModel, write_text_model

    model = TinyModel("llama", n_layers=1, n_vocab=128, n_ctx=8192)
    return write_text_model(tmp_path_factory.mktemp("models") / "model.gguf", model)


@pytest.fixture
def load(path):
    """A function from options to a model of the file `path`, closed after the test."""
    from pyinfer import LLM

    models = []

    def load(**options):
        models.append(LLM(path, **{"n_ctx": 512, "kv_type": "f32", "n_threads": 1, **options}))
        return models[-1]

    yield load
    for model in models:
        model.close()


@pytest.fixture
def llama_cpp(monkeypatch):
    """`import llama_cpp` means pyinfer.compat, for a test; what imports it meanwhile is imported anew by the next."""
    for name in [name for name in sys.modules if name.split(".")[0] == "llama_cpp"]:
        monkeypatch.delitem(sys.modules, name)
    before = set(sys.modules)
    install()
    yield sys.modules["llama_cpp"]
    for name in set(sys.modules) - before:
        if name.split(".")[0] in ("llama_cpp", "guidance") or name == "llguidance.llamacpp":
            del sys.modules[name]
