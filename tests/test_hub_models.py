"""From names to files; models of the caches are found, listed and removed, and nothing else is."""

import os
import time
from pathlib import Path

import huggingface_hub
import pytest
from hub_server import Hub, Repo, sha256
from tiny_models import TinyModel, write_tiny_model

from pyinfer import LLM
from pyinfer.errors import DownloadError, ParameterError
from pyinfer.hub import pull_model, resolve_model
from pyinfer.hub.cache import blob_lock, hub_cache_dir, repo_folder
from pyinfer.hub.catalogue import CATALOGUE, DEFAULT_MODEL
from pyinfer.hub.models import find_stored, list_models

NAME = "maker/two-GGUF"
Q4, Q8 = b"4" * 4000, b"8" * 200_000


@pytest.fixture
def hub(hub) -> Hub:
    """A hub with one repository of two models."""
    hub.repos[NAME] = Repo({"config.json": b"{}", "two-Q4_K_M.gguf": Q4, "two-Q8_0.gguf": Q8})
    return hub


def files_below(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file() or path.is_symlink()}


def fetched() -> dict[str, int]:
    return {entry.name: entry.n_bytes for entry in list_models() if entry.stored is not None}


def test_a_path_is_its_own_model(tmp_path):
    path = tmp_path / "model.gguf"
    for name in (path, str(path)):
        assert resolve_model(name) == path


def test_llm_takes_a_name(hub, tmp_path):
    content = write_tiny_model(tmp_path / "tiny.gguf", TinyModel("llama")).read_bytes()
    hub.repos["maker/tiny"] = Repo({"tiny-F32.gguf": content})
    seen: list[tuple[int, int]] = []
    with LLM("hf:maker/tiny", n_ctx=32, progress=lambda done, total: seen.append((done, total))) as llm:
        assert llm.path.name == "tiny-F32.gguf"
        assert llm.logits([1, 2]).shape == (2, 96)
    assert (len(content), len(content)) in seen


def test_a_short_name_is_its_entry_in_the_catalogue(hub, monkeypatch):
    monkeypatch.setitem(CATALOGUE, "two:q8", f"hf:{NAME}:Q8_0")
    assert resolve_model("two:q8").read_bytes() == Q8
    (entry,) = (entry for entry in list_models() if entry.stored is not None)
    assert (entry.name, entry.quant, entry.in_catalogue, entry.n_bytes) == ("two:q8", "Q8_0", True, len(Q8))
    assert find_stored("two:q8") == entry


def test_the_default_model_comes_out_of_its_own_cache(hub, monkeypatch, tmp_path):
    model = CATALOGUE[DEFAULT_MODEL]
    path = tmp_path / "packaged" / Path(model.member).name
    path.parent.mkdir()
    with path.open("wb") as file:
        file.truncate(model.n_bytes)
    assert resolve_model("smollm2:135m") == pull_model("smollm2:135m") == path
    assert fetched() == {"smollm2:135m": model.n_bytes}
    assert find_stored("smollm2:135m").stored.remove() == model.n_bytes
    assert fetched() == {} and files_below(path.parent) == set()
    with pytest.raises(ParameterError, match=r"smollm2:135m is not in the cache \(.*packaged\)"):
        find_stored("smollm2:135m")


def test_the_list_has_cached_models_and_then_the_catalogue(hub):
    pull_model(f"{NAME}:Q8_0")
    pull_model(f"{NAME}:Q4_K_M")
    entries = list_models()
    assert [entry.name for entry in entries[:2]] == [f"hf:{NAME}:Q4_K_M", f"hf:{NAME}:Q8_0"]
    assert [entry.quant for entry in entries[:2]] == ["Q4_K_M", "Q8_0"]
    assert {entry.name for entry in entries[2:]} == set(CATALOGUE)
    assert all(entry.in_catalogue and entry.path is None and entry.quant for entry in entries[2:])
    for entry in entries[:2]:
        assert resolve_model(entry.name) == entry.path


def test_the_list_knows_what_huggingface_hub_downloaded_and_leaves_out_what_is_no_model(hub):
    huggingface_hub.hf_hub_download(NAME, "config.json")
    assert fetched() == {}
    huggingface_hub.hf_hub_download(NAME, "two-Q8_0.gguf")
    assert fetched() == {f"hf:{NAME}:Q8_0": len(Q8)}


def test_the_list_needs_neither_the_library_nor_a_cache(hub, monkeypatch):
    monkeypatch.setattr("pyinfer.hub.models.is_installed", lambda: False)
    assert {entry.name for entry in list_models()} == set(CATALOGUE)
    assert not hub_cache_dir().exists()


def test_a_use_of_a_model_is_recorded(hub):
    path = pull_model(f"{NAME}:Q8_0")
    written = path.stat().st_mtime
    os.utime(path, (1000, written))
    resolve_model(f"{NAME}:Q8_0")
    (entry,) = (entry for entry in list_models() if entry.stored is not None)
    assert abs(entry.last_used - time.time()) < 60 and path.stat().st_mtime == written


def test_removing_frees_the_bytes_of_this_model_alone(hub):
    pull_model(f"{NAME}:Q8_0")
    q4 = pull_model(f"{NAME}:Q4_K_M")
    assert find_stored(f"{NAME}:q8_0").stored.remove() == len(Q8)
    assert fetched() == {f"hf:{NAME}:Q4_K_M": len(Q4)} and q4.read_bytes() == Q4
    assert huggingface_hub.hf_hub_download(NAME, "two-Q4_K_M.gguf", local_files_only=True)


def test_the_last_file_takes_the_repositorys_folder_with_it(hub):
    pull_model(f"{NAME}:Q8_0")
    find_stored(f"hf:{NAME}").stored.remove()
    assert not repo_folder(NAME).exists() and hub_cache_dir().exists()


def test_other_files_of_a_repository_stay(hub):
    huggingface_hub.hf_hub_download(NAME, "config.json")
    pull_model(f"{NAME}:Q8_0")
    assert find_stored(f"hf:{NAME}").stored.remove() == len(Q8)
    assert Path(huggingface_hub.hf_hub_download(NAME, "config.json", local_files_only=True)).read_text() == "{}"


def test_all_versions_of_a_model_are_removed(hub):
    pull_model(f"{NAME}:Q8_0")
    hub.repos[NAME] = Repo({"two-Q8_0.gguf": Q4}, commit="ab" * 20)
    pull_model(f"{NAME}:Q8_0")
    assert find_stored(f"{NAME}:Q8_0").stored.remove() == len(Q4) + len(Q8)
    assert not repo_folder(NAME).exists()


def test_bytes_that_another_model_shares_stay(hub):
    hub.repos[NAME].files["copy-Q5_0.gguf"] = Q8
    pull_model(f"{NAME}:Q8_0")
    copy = pull_model(f"{NAME}:Q5_0")
    assert find_stored(f"{NAME}:Q8_0").stored.remove() == 0
    assert copy.read_bytes() == Q8


def test_a_link_that_leads_elsewhere_is_removed_and_not_what_it_leads_to(hub, tmp_path):
    path = pull_model(f"{NAME}:Q8_0")
    mine = tmp_path / "mine.gguf"
    mine.write_bytes(Q8)
    path.unlink()
    path.symlink_to(mine)
    find_stored(f"{NAME}:Q8_0").stored.remove()
    assert mine.read_bytes() == Q8 and not path.is_symlink()


def test_without_links_the_file_itself_is_removed(hub, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no links here")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    pull_model(f"{NAME}:Q8_0")
    assert find_stored(f"{NAME}:Q8_0").stored.remove() == len(Q8)
    assert not repo_folder(NAME).exists()


def test_an_interrupted_download_is_listed_and_removed(hub):
    hub.cuts = [100_000] + 5 * [0]
    with pytest.raises(DownloadError):
        pull_model(f"{NAME}:Q8_0")
    ((name, n_bytes),) = fetched().items()
    assert name == f"hf:{NAME}:incomplete" and 0 < n_bytes <= 100_000
    entry = find_stored(name)
    assert entry.path is None and entry.stored.remove() == n_bytes
    assert fetched() == {} and not repo_folder(NAME).exists()


def test_an_interrupted_download_and_a_whole_model_have_names_of_their_own(hub):
    whole = pull_model(f"{NAME}:Q4_K_M")
    hub.cuts = [100_000] + 5 * [0]
    with pytest.raises(DownloadError):
        pull_model(f"{NAME}:Q8_0")
    with pytest.raises(ParameterError, match=rf"which has hf:{NAME}:Q4_K_M, hf:{NAME}:incomplete"):
        find_stored(f"hf:{NAME}")
    find_stored(f"hf:{NAME}:incomplete").stored.remove()
    assert fetched() == {f"hf:{NAME}:Q4_K_M": len(Q4)} and whole.read_bytes() == Q4


def test_a_running_download_is_not_removed(hub):
    hub.cuts = [100_000] + 5 * [0]
    with pytest.raises(DownloadError):
        pull_model(f"{NAME}:Q8_0")
    entry = find_stored(f"hf:{NAME}")
    with blob_lock(NAME, sha256(Q8)):
        assert entry.stored.remove() == 0
    assert find_stored(f"hf:{NAME}") == entry


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (f"hf:{NAME}", f"is not one model in the cache, which has hf:{NAME}:Q4_K_M, hf:{NAME}:Q8_0"),
        (f"{NAME}:Q2_K", f"is not one model in the cache, which has hf:{NAME}:Q4_K_M"),
        (f"{NAME}:two", "is not one model in the cache"),
        (f"{NAME}:incomplete", "is not one model in the cache"),
        ("maker/none:Q2_K", "is not one model in the cache, which has nothing of this repository"),
        ("./model.gguf", "./model.gguf is a path; expected a name that `pyinfer list` shows"),
    ],
)
def test_the_error_says_what_cannot_be_removed(hub, name, message):
    pull_model(f"{NAME}:Q8_0")
    pull_model(f"{NAME}:Q4_K_M")
    before = files_below(hub_cache_dir())
    with pytest.raises(ParameterError, match=message):
        find_stored(name)
    assert files_below(hub_cache_dir()) == before


def test_a_path_cannot_be_pulled():
    with pytest.raises(ParameterError, match=r"model.gguf is a path; expected a name"):
        pull_model("model.gguf")
