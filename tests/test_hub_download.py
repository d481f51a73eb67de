"""Downloads from the hub: a server on the loopback speaks its protocol; huggingface_hub reads what was downloaded."""

import errno
import io
import os
import shutil
import sys
import threading
from pathlib import Path

import hub_server
import huggingface_hub
import pytest
from filelock import Timeout
from hub_server import Hub, Repo, git_sha1, sha256
from huggingface_hub import constants

from pyinfer.errors import DownloadError, ParameterError
from pyinfer.hub import resolve_model
from pyinfer.hub.cache import blob_lock, cached_models, hub_cache_dir, incomplete_downloads
from pyinfer.hub.download import fetch_from_hub
from pyinfer.hub.names import HubModel

NAME = "maker/small-GGUF"
Q4 = bytes(range(256)) * 1200
Q8 = bytes(reversed(range(256))) * 1300


@pytest.fixture
def hub(hub) -> Hub:
    """A hub with one repository."""
    hub.repos[NAME] = Repo({"README.md": b"# small", "small-q4_k_m.gguf": Q4, "small-q8_0.gguf": Q8})
    return hub


def partial(content: bytes, name: str = NAME) -> Path:
    return blob(content, name).with_suffix(".incomplete")


def blob(content: bytes, name: str = NAME) -> Path:
    return hub_cache_dir() / f"models--{name.replace('/', '--')}" / "blobs" / sha256(content)


@pytest.mark.parametrize(("quant", "content"), [("Q8_0", Q8), ("q4_K_m", Q4), (None, Q4), ("small-q8_0.gguf", Q8)])
def test_the_model_of_a_quant_arrives_whole_and_alone(hub, quant, content):
    path = fetch_from_hub(HubModel(NAME, quant))
    assert path.read_bytes() == content
    assert [len(c.model.paths) for c in cached_models(NAME)] == [1]
    assert len(hub.downloads()) == 1


def test_huggingface_hub_finds_what_was_downloaded(hub):
    path = fetch_from_hub(HubModel(NAME))
    found = huggingface_hub.hf_hub_download(NAME, "small-q4_k_m.gguf", local_files_only=True)
    assert Path(found) == path
    (repo,) = huggingface_hub.scan_cache_dir(hub_cache_dir()).repos
    assert repo.repo_id == NAME and repo.size_on_disk == len(Q4)
    n_downloads = len(hub.downloads())
    assert Path(huggingface_hub.hf_hub_download(NAME, "small-q4_k_m.gguf")) == path
    assert len(hub.downloads()) == n_downloads


def test_what_huggingface_hub_downloaded_is_found(hub):
    path = huggingface_hub.hf_hub_download(NAME, "small-q8_0.gguf")
    n_requests = len(hub.requests)
    assert resolve_model(f"{NAME}:Q8_0") == Path(path)
    assert len(hub.requests) == n_requests


def test_small_files_in_git_itself_have_its_checksum(hub):
    hub.repos["maker/tiny"] = Repo({"tiny-q8_0.gguf": b"GGUF"}, in_git=frozenset({"tiny-q8_0.gguf"}))
    path = fetch_from_hub(HubModel("maker/tiny"))
    found = huggingface_hub.hf_hub_download("maker/tiny", "tiny-q8_0.gguf", local_files_only=True)
    assert Path(found) == path
    assert path.resolve().name == git_sha1(b"GGUF")


def test_all_parts_of_a_split_model_are_downloaded(hub):
    parts = {f"Q6_K/big-Q6_K-{i:05}-of-00003.gguf": bytes([i]) * 1000 * i for i in (1, 2, 3)}
    hub.repos["maker/big"] = Repo({**parts, "mmproj-big-Q6_K.gguf": b"projector"})
    seen: list[tuple[int, int]] = []
    path = fetch_from_hub(HubModel("maker/big", "Q6_K"), lambda done, total: seen.append((done, total)))
    assert path.name == "big-Q6_K-00001-of-00003.gguf"
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == {
        name.rsplit("/")[-1]: content for name, content in parts.items()
    }
    assert seen[-1] == (6000, 6000) and seen == sorted(seen)


def test_progress_grows_to_the_size(hub, monkeypatch):
    monkeypatch.setattr("pyinfer.hub.progress.REPORT_SECONDS", 0)
    seen: list[tuple[int, int]] = []
    fetch_from_hub(HubModel(NAME), lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen) and len(set(seen)) > 3
    assert {total for _, total in seen} == {len(Q4)} and seen[-1][0] == len(Q4)


def test_after_a_broken_connection_a_new_one_continues(hub):
    hub.cuts = [100_000, 80_000]
    assert fetch_from_hub(HubModel(NAME)).read_bytes() == Q4
    ranges = hub.downloads()
    assert ranges[0] is None and len(ranges) == 3
    starts = [int(asked.removeprefix("bytes=").removesuffix("-")) for asked in ranges[1:]]
    assert 0 < starts[0] <= 100_000 and starts[0] < starts[1] <= starts[0] + 80_000


def test_the_next_call_continues_a_download_that_ended_early(hub):
    hub.cuts = [200_000] + 5 * [0]
    with pytest.raises(DownloadError, match=r"small-q4_k_m.gguf stopped at 0 of 0 MB .*; the next one goes on"):
        fetch_from_hub(HubModel(NAME))
    have = partial(Q4).stat().st_size
    assert 0 < have <= 200_000 and not cached_models(NAME)
    assert incomplete_downloads(NAME).n_bytes == have
    hub.requests.clear()
    assert fetch_from_hub(HubModel(NAME)).read_bytes() == Q4
    assert hub.downloads() == [f"bytes={have}-"]
    assert not partial(Q4).exists()


def test_a_server_without_ranges_sends_all_again(hub):
    hub.ignores_ranges = True
    hub.cuts = [100_000]
    assert fetch_from_hub(HubModel(NAME)).read_bytes() == Q4


def test_a_busy_server_is_asked_again_and_a_forbidding_one_is_not(hub):
    hub.statuses = [503, 429]
    assert fetch_from_hub(HubModel(NAME)).read_bytes() == Q4
    hub.requests.clear()
    hub.statuses = [403]
    with pytest.raises(DownloadError, match="403"):
        fetch_from_hub(HubModel(NAME, "Q8_0"))
    assert len(hub.downloads()) == 1


def test_other_bytes_than_the_hub_describes_are_refused(hub):
    hub.tampered = True
    with pytest.raises(DownloadError, match=rf"small-q4_k_m.gguf has sha256 [0-9a-f]+; expected {sha256(Q4)}"):
        fetch_from_hub(HubModel(NAME))
    assert not cached_models(NAME) and not partial(Q4).exists() and not blob(Q4).exists()
    hub.tampered = False
    assert fetch_from_hub(HubModel(NAME)).read_bytes() == Q4


def test_a_partial_file_of_other_bytes_is_noticed_and_removed(hub):
    partial(Q4).parent.mkdir(parents=True)
    partial(Q4).write_bytes(b"not the beginning of this file")
    with pytest.raises(DownloadError, match="has sha256"):
        fetch_from_hub(HubModel(NAME))
    assert fetch_from_hub(HubModel(NAME)).read_bytes() == Q4


def test_a_newer_version_replaces_the_reference(hub):
    old = fetch_from_hub(HubModel(NAME))
    hub.repos[NAME] = Repo({"small-q4_k_m.gguf": Q8}, commit="ab" * 20)
    assert resolve_model(f"hf:{NAME}:Q4_K_M") == old  # not asked
    new = fetch_from_hub(HubModel(NAME))
    assert new.read_bytes() == Q8 and new.parent.name == "ab" * 20
    assert resolve_model(f"hf:{NAME}:Q4_K_M") == new


def test_a_newer_version_with_the_same_file_is_not_downloaded_again(hub):
    fetch_from_hub(HubModel(NAME))
    hub.repos[NAME].commit = "cd" * 20
    n_downloads = len(hub.downloads())
    assert fetch_from_hub(HubModel(NAME)).parent.name == "cd" * 20
    assert len(hub.downloads()) == n_downloads


def test_a_cached_model_needs_no_server(hub, monkeypatch):
    path = fetch_from_hub(HubModel(NAME))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    for name in (f"hf:{NAME}", f"{NAME}:q4_k_m", f"{NAME}:small"):
        assert resolve_model(name) == path


def test_without_a_connection_the_nearest_cached_model_is_taken(hub, monkeypatch):
    path = fetch_from_hub(HubModel(NAME, "Q8_0"))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert resolve_model(f"hf:{NAME}") == path
    with pytest.raises(DownloadError, match=r"http://127.0.0.1:9 cannot be reached: "):
        resolve_model(f"hf:{NAME}:Q4_K_M")


def test_the_error_of_an_unknown_quant_lists_the_known_ones(hub):
    with pytest.raises(DownloadError, match=rf"{NAME} has no model Q5_K_M; it has Q4_K_M, Q8_0$"):
        fetch_from_hub(HubModel(NAME, "Q5_K_M"))
    hub.repos["maker/torch"] = Repo({"model.safetensors": b"x"})
    with pytest.raises(DownloadError, match="maker/torch has no model at all; it has no GGUF model"):
        fetch_from_hub(HubModel("maker/torch"))


def test_the_error_of_an_unknown_repository_names_it(hub):
    with pytest.raises(DownloadError, match=rf"{hub.endpoint} has no model repository maker/none, or it is private"):
        fetch_from_hub(HubModel("maker/none"))


def test_a_gated_repository_asks_for_a_token_which_goes_nowhere_else(hub, monkeypatch):
    hub.repos[NAME].gated = True
    hub.token = "hf_secret"
    with pytest.raises(DownloadError, match=rf"{NAME} is gated: ask for access at {hub.endpoint}/{NAME}, then"):
        fetch_from_hub(HubModel(NAME))
    assert incomplete_downloads(NAME).files == ()
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.requests.clear()
    assert fetch_from_hub(HubModel(NAME)).read_bytes() == Q4
    with_token = {path.split("/")[1] for _, path, headers in hub.requests if "hf_secret" in str(headers)}
    assert with_token == {"api", "maker"}


@pytest.mark.parametrize(
    ("path", "commit"), [("../../m-Q4_K_M.gguf", None), ("a//m.gguf", None), ("..\\m.gguf", None), ("m.gguf", "../x")]
)
def test_a_hub_cannot_make_files_outside_the_cache(hub, tmp_path, path, commit):
    hub.repos["maker/bad"] = Repo({path: b"x"}, commit=commit or "00" * 20)
    with pytest.raises(DownloadError, match=r"the hub (lists a file|names commit)"):
        fetch_from_hub(HubModel("maker/bad"))
    assert not (tmp_path / "hub").exists()


def test_a_server_that_is_no_hub_is_an_error(hub, monkeypatch):
    monkeypatch.setattr(hub_server, "description", lambda repo, name: {"hello": "world"})
    with pytest.raises(DownloadError, match=f"{NAME}: no list of files from {hub.endpoint}: "):
        fetch_from_hub(HubModel(NAME))
    monkeypatch.setattr(hub_server, "description", lambda repo, name: [1])
    with pytest.raises(DownloadError, match=f"{NAME}: no list of files from {hub.endpoint}: "):
        fetch_from_hub(HubModel(NAME))


def test_a_disk_without_room_is_noticed_before_the_download(hub, monkeypatch):
    free = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    with pytest.raises(DownloadError, match=r"small-q4_k_m.gguf needs 0 MB more in .*blobs, where 0 MB are free"):
        fetch_from_hub(HubModel(NAME))
    assert hub.downloads() == []


def test_a_disk_that_fills_up_keeps_what_arrived(hub, monkeypatch):
    class Full(io.FileIO):
        def write(self, chunk):
            if self.tell() + len(chunk) > 150_000:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(chunk)

    real = Path.open
    monkeypatch.setattr(
        Path, "open", lambda path, mode="r", **k: (Full if mode in ("ab", "wb") else real)(path, mode, **k)
    )
    with pytest.raises(DownloadError, match="blobs: the disk is full; what came so far is kept"):
        fetch_from_hub(HubModel(NAME))
    assert 0 < partial(Q4).stat().st_size <= 150_000


def test_a_cache_that_cannot_be_made_is_named(hub, tmp_path):
    (tmp_path / "hub").write_text("a file where the folder should be")
    with pytest.raises(DownloadError, match=r"cannot be kept in the cache: .*hub"):
        fetch_from_hub(HubModel(NAME))


def test_ctrl_c_keeps_what_arrived(hub, monkeypatch):
    monkeypatch.setattr("pyinfer.hub.progress.REPORT_SECONDS", 0)
    hub.pause = threading.Event()

    def interrupt(done: int, total: int) -> None:
        if done > 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch_from_hub(HubModel(NAME), interrupt)
    have = partial(Q4).stat().st_size
    assert 0 < have <= len(Q4) // 2
    hub.pause.set()
    hub.requests.clear()
    assert fetch_from_hub(HubModel(NAME)).read_bytes() == Q4
    assert hub.downloads() == [f"bytes={have}-"]


def test_two_at_once_download_once(hub):
    hub.pause = threading.Event()
    paths: list[Path] = []
    threads = [threading.Thread(target=lambda: paths.append(fetch_from_hub(HubModel(NAME)))) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert hub.half_way.wait(10)
    hub.pause.set()
    for thread in threads:
        thread.join()
    assert len(set(paths)) == 1 and len(paths) == 2 and len(hub.downloads()) == 1


def test_huggingface_hub_holds_the_same_lock(hub, monkeypatch):
    class Held(Exception):
        pass

    def download(*args, **kwargs):
        with pytest.raises(Timeout):
            blob_lock(NAME, sha256(Q4)).acquire(timeout=0)
        raise Held

    monkeypatch.setattr(huggingface_hub.file_download, "http_get", download)
    with pytest.raises(Held):
        huggingface_hub.hf_hub_download(NAME, "small-q4_k_m.gguf")


def test_without_links_the_file_itself_is_in_the_snapshot(hub, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no links here")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    path = fetch_from_hub(HubModel(NAME))
    assert path.read_bytes() == Q4 and not path.is_symlink()
    assert resolve_model(f"{NAME}:Q4_K_M") == path


def test_a_link_whose_blob_is_gone_is_repaired(hub):
    path = fetch_from_hub(HubModel(NAME))
    blob(Q4).unlink()
    assert cached_models(NAME) == []
    assert resolve_model(f"hf:{NAME}") == path and path.read_bytes() == Q4


def test_without_the_library_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ParameterError, match=r"need huggingface_hub: pip install 'pyinfer-gguf\[hub\]'"):
        resolve_model(f"hf:{NAME}")
