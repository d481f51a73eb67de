"""Files that appear whole or not at all."""

import os

import pytest

from pyinfer.files import replaced


@pytest.fixture
def old(tmp_path):
    path = tmp_path / "name"
    path.write_bytes(b"old")
    return path


def test_a_file_takes_its_name_when_the_block_ends(old):
    with replaced(old) as file:
        file.write(b"new")
        file.flush()
        assert old.read_bytes() == b"old"
    assert old.read_bytes() == b"new" and list(old.parent.iterdir()) == [old]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_block_that_raises_leaves_the_old_file_and_nothing_else(old, error):
    with pytest.raises(error), replaced(old) as file:
        file.write(b"half")
        raise error
    assert old.read_bytes() == b"old" and list(old.parent.iterdir()) == [old]


def test_two_at_once_do_not_mix(old):
    with replaced(old) as one, replaced(old) as other:
        one.write(b"11")
        other.write(b"22")
    assert old.read_bytes() == b"11"


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize(("mode", "expected"), [(0o666, 0o640), (0o600, 0o600)])
def test_permissions_are_those_asked_for_less_the_umask(old, mode, expected):
    before = os.umask(0o027)
    try:
        with replaced(old, mode):
            pass
    finally:
        os.umask(before)
    assert old.stat().st_mode & 0o777 == expected


def test_a_folder_that_is_not_there_is_an_error_with_a_name(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"), replaced(tmp_path / "nowhere" / "name"):
        pass
