"""Saved sessions: what was cached goes on elsewhere to the bit; anything but a whole file of this model is refused."""

import hashlib
import json
import resource
import signal

import pytest
from tiny_models import TinyModel, longrope_keys, write_text_model

from pyinfer import LLM, ContextError, ModelError, ParameterError, PyinferError, SamplingParams, StateError
from pyinfer.memory.manager import Memory
from pyinfer.memory.prefix_key import PrefixKey
from pyinfer.memory.session_file import START, Layout, read_state, write_state
from pyinfer.memory.spec import AttentionSpec, StateSpec

PROMPT = "It was a dark and stormy night, and the rain fell in torrents, except at occasional intervals. " * 2
PARAMS = SamplingParams(temperature=0, max_tokens=20, ignore_eos=True, logprobs=2)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    model = TinyModel("qwen2", n_layers=2, n_vocab=128, n_ctx=512)
    return write_text_model(tmp_path_factory.mktemp("state") / "model.gguf", model)


@pytest.fixture
def llm(path):
    with LLM(path, n_threads=1) as model:
        yield model


@pytest.fixture(params=["f16", "q8_0"])
def saved(path, tmp_path, request):
    """A model that has a completion in its cache, saved; and a fresh one."""
    with (
        LLM(path, n_threads=1, kv_type=request.param) as llm,
        LLM(path, n_threads=1, kv_type=request.param) as fresh,
    ):
        done = llm.generate(PROMPT, PARAMS)
        file = tmp_path / "session.kv"
        assert llm.save_state(file, done) == len(done.prompt) + 19
        yield llm, fresh, done, file


def test_a_session_goes_on_in_another_process_with_the_same_bits(saved):
    llm, fresh, done, file = saved
    tokens = fresh.load_state(file)
    assert tokens == [*done.prompt, *done.tokens][:-1]
    more = [*done.prompt, *done.tokens, 65, 66]
    found, expected = fresh.generate(more, PARAMS), llm.generate(more, PARAMS)
    assert found.cached_tokens == len(tokens)
    assert (found.tokens, found.logprobs) == (expected.tokens, expected.logprobs)


def test_a_session_of_a_longrope_model_fits_contexts_that_rotate_alike(tmp_path):
    factors = [1.0] * 32, [4.0] * 32
    model = TinyModel("llama", n_vocab=128, n_ctx=512, longrope_factors=factors, metadata=longrope_keys(128))
    path = write_text_model(tmp_path / "m.gguf", model)
    file = tmp_path / "session.kv"
    with LLM(path, n_threads=1, n_ctx=300) as llm:
        llm.save_state(file, llm.generate(PROMPT[:50], PARAMS))
    with LLM(path, n_threads=1, n_ctx=512) as long, LLM(path, n_threads=1, n_ctx=128) as short:
        assert long.load_state(file)
        with pytest.raises(StateError, match="another model"):
            short.load_state(file)


def test_windows_and_states_are_saved_and_loaded(tmp_path):
    layers = [AttentionSpec(1, 32, 32), AttentionSpec(1, 32, 32, window=100), StateSpec((3, 5))]
    memory = Memory(layers, 1, 1024)
    tokens = [*range(600)]
    memory.begin(0, key := PrefixKey(tokens), 0)
    assert memory.reserve(0, 0, 600)
    for value, array in enumerate([*(group.pages for group in memory.groups), *memory.states.rows]):
        array[:] = value + 1
    memory.publish(0, key, 600)
    snapshot, file = memory.snapshot(key, 600), tmp_path / "s.kv"
    layout = Layout("0" * 64, "f16", memory.group_sizes, memory.state_bytes)
    write_state(file, layout, tokens, snapshot)
    found, loaded = read_state(file, layout, 1024, 600)
    assert (found, loaded.n) == (tokens, 600)
    assert [pages.shape[0] for pages in loaded.pages] == [10, 3] and loaded.states.view("f4").tolist() == [3.0] * 15
    for one, other in zip(loaded.pages, snapshot.pages, strict=True):
        assert (one == other).all()
    for change in ({"groups": memory.group_sizes[:1]}, {"state_bytes": 64}):
        with pytest.raises(StateError, match="a cache with"):
            read_state(file, layout._replace(**change), 1024, 600)


def test_a_session_is_loaded_beside_running_texts(saved):
    _, fresh, done, file = saved
    with fresh.stream("other", SamplingParams(temperature=0, max_tokens=100, ignore_eos=True)) as stream:
        next(stream)
        fresh.load_state(file)
        assert fresh.generate(list(done.prompt), PARAMS).tokens == done.tokens
        assert next(stream).text


def test_only_what_is_cached_is_saved(llm, tmp_path):
    file = tmp_path / "s.kv"
    with pytest.raises(StateError, match=r"none of these \d+ tokens"):
        llm.save_state(file, PROMPT)
    assert not file.exists()
    done = llm.generate(PROMPT, PARAMS)
    assert llm.save_state(file, [*done.prompt[:70], 65, 65]) == 70
    assert llm.load_state(file) == list(done.prompt[:70])


def test_an_older_file_stays_until_the_new_one_is_whole(llm, tmp_path, monkeypatch):
    file = tmp_path / "s.kv"
    done = llm.generate(PROMPT, PARAMS)
    llm.save_state(file, done)
    before = file.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        llm.save_state(file, PROMPT)
    assert file.read_bytes() == before and list(tmp_path.iterdir()) == [file]


def with_parts(data, header=None, body=None):
    """The file with another header (bytes) or with another body, and a checksum that fits."""
    magic, version, size = START.unpack(data[: START.size])
    header = data[START.size : START.size + size] if header is None else header
    body = data[START.size + size : -32] if body is None else body
    data = START.pack(magic, version, len(header)) + header + body
    return data + hashlib.sha256(data).digest()


def json_header(data):
    _, _, size = START.unpack(data[: START.size])
    return json.loads(data[START.size : START.size + size])


def with_header(data, **changes):
    """The file with other values in its header."""
    return with_parts(data, json.dumps({**json_header(data), **changes}).encode())


def with_token(data, token):
    """The file with another token in the third place."""
    _, _, size = START.unpack(data[: START.size])
    body = data[START.size + size : -32]
    return with_parts(data, body=body[:8] + token.to_bytes(4, "little", signed=True) + body[12:])


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda d: b"", "not a saved session"),
        (lambda d: b"GGUF" + d[4:], "not a saved session"),
        (lambda d: d[:8] + b"\x01" + d[9:], "version 1; this pyinfer reads version 2"),
        (lambda d: d[:8] + b"\x03" + d[9:], "version 3; this pyinfer reads version 2"),
        (lambda d: d[:20] + b"\xff" + d[21:], "header is damaged"),
        (lambda d: d[:12] + b"\xff\xff\xff\xff" + d[16:], "header is damaged"),
        (lambda d: with_header(d, n_tokens=-1), "header is damaged"),
        (lambda d: with_header(d, n_tokens=1 << 60), "header is damaged"),
        (lambda d: with_header(d, n_tokens="many"), "header is damaged"),
        (lambda d: with_header(d, n_tokens=1000), "bytes, expected"),
        (lambda d: with_header(d, groups=[]), "bytes, expected"),
        (lambda d: with_header(d, groups=7), "header is damaged"),
        (lambda d: with_header(d, groups=[[0, 0]]), "header is damaged"),
        (lambda d: with_header(d, groups=[[0, 0, 0]]), "header is damaged"),
        (lambda d: with_header(d, groups=[[-1, 0, 64]]), "header is damaged"),
        (lambda d: with_header(d, groups=[[0, 0, 64]] * 300), "header is damaged"),
        (lambda d: with_header(d, state_bytes=-1), "header is damaged"),
        (lambda d: with_header(d, state_bytes=4), "bytes, expected"),
        (lambda d: with_header(d, groups=[[1 << 30, *json_header(d)["groups"][0][1:]]]), "a cache with groups"),
        (lambda d: d[:-1], "bytes, expected"),
        (lambda d: d + b"x", "bytes, expected"),
        (lambda d: d[:-5000] + bytes([d[-5000] ^ 1]) + d[-4999:], "checksum"),
        (lambda d: with_header(d, fingerprint="0" * 64), "another model"),
        (lambda d: with_header(d, kv_type="bf16"), "kv_type 'bf16'"),
        (lambda d: with_header(d, page=32, n_tokens=1), "bytes, expected"),
        (lambda d: with_parts(d, header=b"[" * 60000), "header is damaged"),
        (lambda d: with_parts(d, header=b'{"n_tokens":' * 5000), "header is damaged"),
        (lambda d: with_token(d, -1), "tokens that are none of 0 to 127"),
        (lambda d: with_token(d, 128), "tokens that are none of 0 to 127"),
    ],
)
def test_files_that_are_not_whole_or_not_of_this_model_are_refused(saved, change, message):
    _, fresh, _, file = saved
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(StateError, match=message) as error:
        fresh.load_state(file)
    assert "session.kv" in str(error.value)
    assert fresh.generate(PROMPT, PARAMS).cached_tokens == 0  # nothing of it came into the cache


@pytest.mark.parametrize("begin", [lambda data: b"", lambda data: data], ids=["empty", "a session"])
def test_a_huge_file_is_refused_without_being_read(llm, tmp_path, begin):
    file = tmp_path / "s.kv"
    llm.save_state(file, llm.generate(PROMPT, PARAMS))
    data = begin(file.read_bytes())
    with file.open("wb") as sparse:
        sparse.write(data)
        sparse.truncate(1 << 42)
    with pytest.raises(StateError, match=r"not a saved session|the file has 4398046511104 bytes, expected"):
        llm.load_state(file)


def test_a_session_of_more_tokens_than_the_context_is_refused_without_being_read(llm, tmp_path):
    file, n = tmp_path / "s.kv", 1 << 30
    llm.save_state(file, llm.generate(PROMPT, PARAMS))
    data = with_header(file.read_bytes(), n_tokens=n)
    _, _, size = START.unpack(data[: START.size])
    with file.open("wb") as sparse:
        sparse.write(data[: START.size + size])
        sparse.truncate(START.size + size + 4 * n + n // 64 * llm.engine.memory.page_bytes + 32)
    with pytest.raises(ContextError, match=f"{n} tokens; the context has 512"):
        llm.load_state(file)


def test_a_session_of_keys_that_are_no_numbers_is_an_error_and_the_model_goes_on(path, tmp_path):
    file = tmp_path / "s.kv"
    with LLM(path, n_threads=1) as llm:
        expected = llm.generate("other", PARAMS)
        n_ids = 4 * llm.save_state(file, done := llm.generate(PROMPT, PARAMS))
    data = file.read_bytes()
    _, _, size = START.unpack(data[: START.size])
    body = data[START.size + size : -32]
    file.write_bytes(with_parts(data, body=body[:n_ids] + b"\xff" * (len(body) - n_ids)))
    with LLM(path, n_threads=1) as llm:
        llm.load_state(file)
        with pytest.raises(ModelError, match="a logit of nan"):
            llm.generate([*done.prompt, *done.tokens], PARAMS)
        assert llm.generate("other", PARAMS).tokens == expected.tokens


def test_a_disk_that_fills_up_leaves_the_older_file_and_nothing_else(llm, tmp_path):
    file = tmp_path / "s.kv"
    done = llm.generate(PROMPT, PARAMS)
    llm.save_state(file, list(done.prompt[:70]))
    before = file.read_bytes()
    handler, limit = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 1, limit[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            llm.save_state(file, done)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    assert file.read_bytes() == before and list(tmp_path.iterdir()) == [file]
    assert llm.save_state(file, done) > 70


def test_a_model_of_other_weights_is_another_model(saved, tmp_path):
    _, _, _, file = saved
    other = write_text_model(tmp_path / "o.gguf", TinyModel("qwen2", n_layers=2, n_vocab=128, n_ctx=512, seed=1))
    with LLM(other, n_threads=1) as llm, pytest.raises(StateError, match="another model"):
        llm.load_state(file)


def test_a_session_that_does_not_fit_is_refused_with_both_numbers(saved, path):
    llm, _, done, file = saved
    n = len(done.prompt) + 19
    kind = llm.engine.memory.kv_type
    with LLM(path, n_ctx=128, kv_type=kind) as small, pytest.raises(ContextError, match=f"{n} tokens; .* 128"):
        small.load_state(file)
    memory = 4 * llm.engine.memory.page_bytes
    with LLM(path, kv_cache_memory=memory, kv_type=kind, n_threads=1) as small, small.stream("x" * 100) as stream:
        next(stream)
        with pytest.raises(ContextError, match="4 pages are needed; the cache has 2"):
            small.load_state(file)


def test_sessions_need_the_prefix_cache_and_an_open_model(path, tmp_path):
    with LLM(path, prefix_cache=False) as llm:
        for call in (lambda: llm.save_state(tmp_path / "s", "x"), lambda: llm.load_state(tmp_path / "s")):
            with pytest.raises(ParameterError, match="prefix_cache is False"):
                call()
    with LLM(path) as llm, pytest.raises(FileNotFoundError):
        llm.load_state(tmp_path / "nothing")
    with pytest.raises(PyinferError, match="closed"):
        llm.save_state(tmp_path / "s", "x")
