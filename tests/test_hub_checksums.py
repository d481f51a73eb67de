"""Checksums of files, against values that others publish."""

import pytest

from pyinfer.errors import DownloadError
from pyinfer.hub.checksums import check_digest


@pytest.mark.parametrize(
    ("content", "digest"),
    [
        (b"", "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"),  # git's blob of an empty file
        (b"hello\n", "ce013625030ba8dba906f756967f9e9ca394464a"),  # echo hello | git hash-object --stdin
        (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),  # FIPS 180-4
    ],
)
def test_the_kind_of_a_checksum_follows_from_its_length(tmp_path, content, digest):
    path = tmp_path / "file"
    path.write_bytes(content)
    check_digest(path, digest, "the file")
    path.write_bytes(content + b"!")
    with pytest.raises(DownloadError, match=rf"the file has (git sha1|sha256) [0-9a-f]+; expected {digest}"):
        check_digest(path, digest, "the file")
