"""Reading and writing GGUF, against the third-party package `gguf` and against damage of every kind."""

import struct
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyinfer.errors import GGUFError, ParameterError
from pyinfer.gguf import GGUFFile, GGUFWriter, TensorType, ValueType

METADATA = {
    "general.architecture": "llama",
    "an.int": 7,
    "a.negative": -7,
    "a.big": 1 << 40,
    "a.float": 0.5,
    "a.bool": True,
    "a.byte": (ValueType.UINT8, 200),
    "a.double": (ValueType.FLOAT64, 0.1),
    "strings": ["a", "", "größer", "日本"],
    "ints": [1, -2, 3],
    "floats": np.array([0.5, 1.5], np.float32),
    "bools": [True, False],
}
TENSORS = {
    "matrix": np.arange(12, dtype=np.float32).reshape(3, 4),
    "vector": np.arange(5, dtype=np.float16),
    "cube": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
}


def write_small(path: Path, **kwargs) -> Path:
    writer = GGUFWriter(path, METADATA, **kwargs)
    for name, data in TENSORS.items():
        writer.add_tensor(name, data)
    writer.write()
    return path


def plain(value):
    """A metadata value as plain Python."""
    return list(value) if hasattr(value, "__len__") and not isinstance(value, str) else value


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    return write_small(tmp_path_factory.mktemp("gguf") / "small.gguf")


def test_types_are_those_of_the_gguf_package():
    for theirs in gguf.GGMLQuantizationType:
        ours = TensorType(int(theirs))
        assert (ours.name, (ours.block_size, ours.block_bytes)) == (theirs.name, gguf.GGML_QUANT_SIZES[theirs])
    assert {t.name: int(t) for t in ValueType} == {t.name: int(t) for t in gguf.GGUFValueType}


@pytest.mark.parametrize("alignment", [1, 8, 32, 4096])
def test_what_is_written_is_read(tmp_path, alignment):
    with GGUFFile(write_small(tmp_path / "a.gguf", alignment=alignment)) as file:
        assert file.alignment == alignment and file.version == 3
        for key, value in METADATA.items():
            expected = value[1] if isinstance(value, tuple) else plain(value)
            assert plain(file.metadata[key]) == expected, key
        for name, data in TENSORS.items():
            info = file.tensors[name]
            assert info.shape == data.shape and info.file_shape == data.shape[::-1]
            assert info.offset % alignment == 0
            np.testing.assert_array_equal(info.rows().view(data.dtype).reshape(data.shape), data)
            assert not info.rows().flags.writeable


def test_the_gguf_package_reads_what_we_write(small):
    reader = gguf.GGUFReader(str(small))
    assert reader.fields["strings"].contents() == METADATA["strings"]
    assert reader.fields["a.byte"].contents() == 200
    for tensor in reader.tensors:
        np.testing.assert_array_equal(tensor.data, TENSORS[tensor.name])


def test_we_read_what_the_gguf_package_writes(tmp_path):
    writer = gguf.GGUFWriter(str(tmp_path / "b.gguf"), "llama")
    writer.add_array("x", ["one", "two"])
    writer.add_float64("y", 0.1)
    blocks = gguf.quants.quantize(np.ones((2, 64), np.float32), gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("q", blocks, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with GGUFFile(tmp_path / "b.gguf") as file:
        assert list(file.metadata["x"]) == ["one", "two"] and file.get_float("y") == 0.1
        assert file.tensors["q"].type == TensorType.Q8_0 and file.tensors["q"].shape == (2, 64)
        np.testing.assert_array_equal(file.tensors["q"].rows(), blocks)


def test_version_2_is_read(tmp_path, small):
    raw = bytearray(small.read_bytes())
    raw[4:8] = struct.pack("<I", 2)
    (tmp_path / "v2.gguf").write_bytes(raw)
    with GGUFFile(tmp_path / "v2.gguf") as file:
        assert file.version == 2 and file.get_int("an.int") == 7


@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8"), min_size=1, max_size=12),
        st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=20) | st.lists(st.text(max_size=5)),
        max_size=6,
    )
)
@settings(max_examples=50, deadline=None)
def test_any_metadata_round_trips(tmp_path_factory, metadata):
    path = tmp_path_factory.mktemp("meta") / "m.gguf"
    metadata = {k: v for k, v in metadata.items() if k != "general.alignment" and not k.startswith("split.")}
    GGUFWriter(path, metadata).write()
    with GGUFFile(path) as file:
        assert {k: plain(v) for k, v in file.metadata.items()} == metadata


def test_split_files_are_one_from_any_part(tmp_path):
    writer = GGUFWriter(tmp_path / "s.gguf", METADATA)
    for name, data in TENSORS.items():
        writer.add_tensor(name, data)
    parts = writer.write(max_tensors=1)
    assert [p.name for p in parts] == [f"s-0000{i}-of-00003.gguf" for i in (1, 2, 3)]
    for part in parts:
        with GGUFFile(part) as file:
            assert list(file.tensors) == list(TENSORS) and file.get_int("an.int") == 7
            np.testing.assert_array_equal(file.tensors["cube"].rows().view(np.float32).ravel(), np.arange(24))
    parts[1].unlink()
    with pytest.raises(GGUFError, match=r"s-00002-of-00003\.gguf is missing"):
        GGUFFile(parts[0])


def test_parts_that_do_not_belong_together_are_refused(tmp_path):
    writer = GGUFWriter(tmp_path / "s.gguf", METADATA)
    for name, data in TENSORS.items():
        writer.add_tensor(name, data)
    parts = writer.write(max_bytes=60)
    parts[1].write_bytes(parts[0].read_bytes())
    with pytest.raises(GGUFError, match=r"split\.no is 0, expected 1|stands twice"):
        GGUFFile(parts[0])


def test_tensor_data_can_come_in_chunks(tmp_path):
    writer = GGUFWriter(tmp_path / "c.gguf")
    data = np.arange(64, dtype=np.float32).reshape(8, 8)
    writer.add_tensor("x", lambda: (data[i : i + 2] for i in range(0, 8, 2)), TensorType.F32, (8, 8))
    writer.write()
    with GGUFFile(tmp_path / "c.gguf") as file:
        np.testing.assert_array_equal(file.tensors["x"].rows().view(np.float32), data)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = write_small(tmp_path / "old.gguf")
    before = path.read_bytes()
    writer = GGUFWriter(path)

    def broken():
        yield np.zeros(4, np.float32)
        raise OSError("disk full")

    writer.add_tensor("x", broken, TensorType.F32, (8,))
    with pytest.raises(OSError, match="disk full"):
        writer.write()
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("x", np.zeros((2, 3), np.int32)), "int32"),
        (("x", np.zeros((2, 3, 1, 1, 1), np.float32)), "dimensions"),
        (("x", np.zeros((2, 33), np.uint8), TensorType.Q8_0, (2, 33)), "multiple of Q8_0's 32"),
        (("x", np.zeros((2, 33), np.uint8), TensorType.Q8_0, (2, 32)), "66 bytes; its shape .* takes 68"),
    ],
)
def test_the_writer_refuses_what_it_cannot_write(tmp_path, arguments, message):
    with pytest.raises(ParameterError, match=message):
        GGUFWriter(tmp_path / "x.gguf").add_tensor(*arguments)


def test_typed_lookups_name_file_key_and_types(small):
    with GGUFFile(small) as file:
        assert file.get_int("an.int") == 7 and file.get_float("an.int") == 7.0 and file.get_bool("a.bool")
        assert file.get_int("absent", 3) == 3
        with pytest.raises(GGUFError, match=r"small\.gguf: the key absent is missing"):
            file.get_int("absent")
        for getter, key, found in (
            (file.get_int, "strings", "array of 4 strings"),
            (file.get_int, "a.bool", "bool"),
            (file.get_str, "an.int", "int"),
            (file.get_float, "floats", "array of 2 float32"),
        ):
            with pytest.raises(GGUFError, match=f"{key} is of type {found}, expected"):
                getter(key)


def test_views_outlive_the_file_but_new_ones_cannot_be_taken(small):
    file = GGUFFile(small)
    info = file.tensors["matrix"]
    view = info.rows()
    file.close()
    file.close()
    assert view.view(np.float32)[2, 3] == 11
    with pytest.raises(GGUFError, match="closed"):
        info.rows()


def test_dropped_pages_come_back(small):
    with GGUFFile(small) as file:
        info = file.tensors["matrix"]
        file.drop_pages(info)
        np.testing.assert_array_equal(info.rows().view(np.float32), TENSORS["matrix"])


def test_a_file_cut_short_anywhere_is_refused(tmp_path, small):
    raw = small.read_bytes()
    with GGUFFile(small) as file:
        needed = max(info.offset + info.n_bytes for info in file.tensors.values())
    path = tmp_path / "cut.gguf"
    for n in range(needed):
        path.write_bytes(raw[:n])
        with pytest.raises(GGUFError, match=r"cut\.gguf"):
            GGUFFile(path)


@given(st.data())
@settings(max_examples=400, deadline=None)
@pytest.mark.filterwarnings("ignore:.*(not UTF-8|truth value)")
def test_a_damaged_file_is_refused_or_read_whole(tmp_path_factory, small, data):
    raw = bytearray(small.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damage") / "d.gguf"
    path.write_bytes(raw)
    try:
        with GGUFFile(path) as file:
            for info in file.tensors.values():
                assert info.rows().nbytes == info.n_bytes
            for value in file.metadata.values():
                plain(value)
    except GGUFError:
        pass


def header(n_tensors=0, n_keys=0, version=3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, n_tensors, n_keys)


def text(s: bytes) -> bytes:
    return struct.pack("<Q", len(s)) + s


def tensor(name=b"t", dims=(4,), kind=0, offset=0) -> bytes:
    return text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)


def pair(key: bytes, kind: int, payload: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + payload


PAD = bytes(4096)


@pytest.mark.parametrize(
    "raw, message",
    [
        (b"", "empty"),
        (b"PK\x03\x04" + PAD, "not a GGUF file"),
        (header(version=1), "version 1 is not supported"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
        (header(n_tensors=2**63), "the number of tensors is 9223372036854775808"),
        (header(n_keys=2**64 - 1), "the number of metadata keys"),
        (header(n_keys=1) + text(b"k" * 70000) + PAD, "expected at most 65535"),
        (header(n_keys=1) + pair(b"k", 99, PAD), "value type 99"),
        (header(n_keys=1) + pair(b"k", 8, struct.pack("<Q", 2**62) + PAD), "takes 4611686018427387904 bytes"),
        (header(n_keys=1) + pair(b"k", 9, struct.pack("<IQ", 4, 2**62) + PAD), "4611686018427387904 elements"),
        (header(n_keys=1) + pair(b"k", 9, struct.pack("<IQ", 9, 1) * 9 + PAD), "nested more than"),
        (header(n_keys=2) + pair(b"k", 7, b"\x01") * 2 + PAD, "'k' stands twice"),
        (header(n_keys=1) + pair(b"general.alignment", 4, struct.pack("<I", 33)) + PAD, "alignment is 33"),
        (header(n_keys=1) + pair(b"general.alignment", 8, text(b"8")) + PAD, "alignment is '8'"),
        (header(n_tensors=2) + tensor() * 2 + PAD, "'t' stands twice"),
        (header(n_tensors=1) + tensor(b"t\xff") + PAD, "the name of tensor 0 at byte 32 is not UTF-8"),
        (header(n_keys=1) + pair(b"split.count", 9, struct.pack("<IQ", 4, 2) + PAD), r"split\.count is \[0 0\]"),
        (header(n_keys=1) + pair(b"split.tensors.count", 8, text(b"x")) + PAD, r"split\.tensors\.count is x"),
        (header(n_tensors=1) + tensor(dims=(0, 4)) + PAD, "expected no zero"),
        (header(n_tensors=1) + tensor(dims=(1,) * 5) + PAD, "5 dimensions"),
        (header(n_tensors=1) + tensor(dims=()) + PAD, "0 dimensions"),
        (header(n_tensors=1) + tensor(kind=4) + PAD, "unknown type 4; there are: 0 F32"),
        (header(n_tensors=1) + tensor(dims=(33,), kind=8) + PAD, "33 values, not a multiple of Q8_0's block of 32"),
        (header(n_tensors=1) + tensor(dims=(2**62, 2**62)) + PAD, "expected at most"),
        (header(n_tensors=1) + tensor(offset=16) + PAD, "not a multiple of the alignment"),
        (header(n_tensors=1) + tensor(offset=1 << 40) + PAD, "the file ends at"),
        (header(n_tensors=2) + tensor(b"a", (16,)) + tensor(b"b", (16,), offset=32) + PAD, "'a' and 'b' overlap"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, raw, message):
    path = tmp_path / "bad.gguf"
    path.write_bytes(raw)
    with pytest.raises(GGUFError, match=message) as error:
        GGUFFile(path)
    assert "bad.gguf" in str(error.value)


# what is wrong, what the warning says of it, and the value that is kept
@pytest.mark.parametrize(
    "raw, warning, key, value",
    [
        (pair(b"k", 8, text("José".encode("latin-1"))), "the key 'k' is not UTF-8", "k", b"Jos\xe9"),
        (pair(b"k", 8, text("日本".encode()[:-1])), "the key 'k' is not UTF-8", "k", "日本".encode()[:-1]),
        (pair(b"k", 7, b"\xff"), "the key 'k' is the byte 255, expected a truth value of 0 or 1", "k", 255),
        (pair(b"k", 9, struct.pack("<IQ", 7, 2) + b"\x01\x02"), "the key 'k' holds bytes other than", "k", [1, 2]),
        (pair(b"k\xff", 4, b"\x01\0\0\0"), "metadata key 0 is not UTF-8", "k\\xff", 1),
    ],
)
def test_a_value_that_nobody_needs_is_kept_with_a_warning(tmp_path, raw, warning, key, value):
    path = tmp_path / "remark.gguf"
    path.write_bytes(header(n_keys=2) + raw + pair(b"last", 4, b"\x07\0\0\0") + PAD)
    with pytest.warns(UserWarning, match=f"remark.gguf: {warning}"), GGUFFile(path) as file:
        found = file.metadata[key]
        assert (found.tolist() if isinstance(found, np.ndarray) else found) == value
        assert file.get_int("last") == 7


def test_a_warning_does_not_grow_with_the_file(tmp_path):
    bad = b"".join(pair(b"%d" % i * 1000, 8, text(b"\xff")) for i in range(50))
    path = tmp_path / "many.gguf"
    path.write_bytes(header(n_keys=50) + bad + PAD)
    with pytest.warns(UserWarning, match=r"\(and 46 more\)$") as caught, GGUFFile(path):
        pass
    assert len(str(caught[0].message)) < 1000


def test_a_needed_value_that_is_kept_with_a_warning_is_refused_by_its_key(tmp_path):
    path = tmp_path / "needed.gguf"
    path.write_bytes(header(n_keys=2) + pair(b"s", 8, text(b"\xff")) + pair(b"b", 7, b"\xff") + PAD)
    with pytest.warns(UserWarning), GGUFFile(path) as file:
        with pytest.raises(GGUFError, match=r"needed\.gguf: s is text that is not UTF-8, expected str"):
            file.get_str("s")
        with pytest.raises(GGUFError, match=r"needed\.gguf: b is of type int, expected bool"):
            file.get_bool("b")


def test_directories_and_missing_files_are_refused(tmp_path):
    with pytest.raises(GGUFError, match="directory"):
        GGUFFile(tmp_path)
    with pytest.raises(GGUFError, match="No such file"):
        GGUFFile(tmp_path / "none.gguf")


def test_strings_of_an_array_that_are_not_text_are_named_when_read(tmp_path):
    raw = header(n_keys=1) + pair(b"k", 9, struct.pack("<IQ", 8, 2) + text(b"a") + text(b"\xff")) + PAD
    (tmp_path / "s.gguf").write_bytes(raw)
    with GGUFFile(tmp_path / "s.gguf") as file:
        assert file.metadata["k"][0] == "a" and file.metadata["k"].raw(1) == b"\xff"
        with pytest.raises(GGUFError, match="the key 'k': string 1 is not UTF-8"):
            file.metadata["k"][1]


def test_a_large_vocabulary_is_not_decoded_when_the_file_is_opened(tmp_path):
    path = tmp_path / "v.gguf"
    GGUFWriter(path, {"tokens": [f"token{i}" for i in range(20_000)]}).write()
    with GGUFFile(path) as file:
        tokens = file.metadata["tokens"]
        assert len(tokens) == 20_000 and tokens[-1] == "token19999" and tokens[5:7] == ["token5", "token6"]
        assert sys.getsizeof(tokens) < 1000
