"""Files are written whole or not at all; the folder of caches is that of the system."""

import os
import sys
from pathlib import Path

import pytest

from pyinfer.files import atomic_write, user_cache_dir, user_path


@pytest.fixture
def old(tmp_path):
    path = tmp_path / "name"
    path.write_bytes(b"old")
    return path


def test_a_file_takes_its_name_when_the_block_ends(old):
    with atomic_write(old) as file:
        file.write(b"new")
        file.flush()
        assert old.read_bytes() == b"old"
    assert old.read_bytes() == b"new" and list(old.parent.iterdir()) == [old]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_block_that_raises_leaves_the_old_file_and_nothing_else(old, error):
    with pytest.raises(error), atomic_write(old) as file:
        file.write(b"half")
        raise error
    assert old.read_bytes() == b"old" and list(old.parent.iterdir()) == [old]


def test_two_at_once_do_not_mix(old):
    with atomic_write(old) as one, atomic_write(old) as other:
        one.write(b"11")
        other.write(b"22")
    assert old.read_bytes() == b"11"


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize(("mode", "expected"), [(0o666, 0o640), (0o600, 0o600)])
def test_permissions_are_those_asked_for_less_the_umask(old, mode, expected):
    before = os.umask(0o027)
    try:
        with atomic_write(old, mode):
            pass
    finally:
        os.umask(before)
    assert old.stat().st_mode & 0o777 == expected


def test_a_folder_that_is_not_there_is_an_error_with_a_name(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"), atomic_write(tmp_path / "nowhere" / "name"):
        pass


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="XDG is for Linux and its like")
@pytest.mark.parametrize(("xdg", "expected"), [("/x/cache", "/x/cache"), ("rel", "/h/.cache"), ("", "/h/.cache")])
def test_cache_dir_follows_xdg_if_absolute(monkeypatch, xdg, expected):
    monkeypatch.setenv("XDG_CACHE_HOME", xdg)
    monkeypatch.setenv("HOME", "/h")
    assert user_cache_dir() == Path(expected)


def test_a_tilde_is_the_folder_of_a_user(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~/models/x.gguf") == tmp_path / "models" / "x.gguf"
    assert user_path(Path("~")) == tmp_path
    assert user_path("~root/x") == Path("~root").expanduser() / "x"
    assert user_path("a~/~b") == Path("a~/~b")


def test_a_tilde_before_no_users_name_is_a_character():
    assert user_path("~nobody-has-this-name.gguf") == Path("~nobody-has-this-name.gguf")
    assert user_path("~\0") == Path("~\0")
