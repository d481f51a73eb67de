"""Programs that constrain texts themselves, on `pyinfer.compat.Llama`: loops by hand, llguidance's and guidance's."""

import ctypes

import numpy as np
import pytest
from tiny_models import TinyModel, write_text_model

from pyinfer import ContextError, ParameterError
from pyinfer.compat import Llama, low_level
from pyinfer.tokenizer import tokenizer_from_metadata

from tiny_vocabularies import CONTROL, bpe_metadata  # isort: skip

ANSWERS = [b"yes", b"no", b"perhaps"]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A random model whose tokens are characters."""
    return write_text_model(tmp_path_factory.mktemp("compat") / "m.gguf", TinyModel("llama", n_vocab=128, n_ctx=1024))


@pytest.fixture(params=[True, False], ids=["logits_all", "last logits"])
def llama(request, path):
    with Llama(path, n_ctx=64, logits_all=request.param) as model:
        yield model


def allowed_after(llama, written):
    """The tokens that lead on to one of ANSWERS, by their bytes; the end of the text behind one."""
    if written in ANSWERS:
        return [llama.token_eos()]
    pieces = [(token, llama.detokenize([token], special=True)) for token in range(llama.n_vocab())]
    return [t for t, piece in pieces if piece and any(answer.startswith(written + piece) for answer in ANSWERS)]


def test_a_loop_of_eval_and_scores_is_constrained_by_hand(llama):
    llama.reset()
    llama.eval(llama.tokenize(b"Is water wet? "))
    n_prompt, written = llama.n_tokens, b""
    while True:
        allowed = allowed_after(llama, written)
        token = max(allowed, key=lambda token: llama._scores[-1, token])
        if token == llama.token_eos():
            break
        written += llama.detokenize([token])
        llama.eval([token])
    assert written in ANSWERS
    assert bytes(llama._input_ids[n_prompt:].tolist()) == written == bytes(llama.eval_tokens)[n_prompt:]
    assert bytes(llama.input_ids[n_prompt : llama.n_tokens].tolist()) == written


def test_a_processor_constrains_sample(llama):
    prompt = llama.tokenize(b"Is water wet? ")

    def only_allowed(tokens, logits):
        masked = np.full_like(logits, -np.inf)
        allowed = allowed_after(llama, bytes(tokens[len(prompt) :].tolist()))
        masked[allowed] = logits[allowed]
        return masked

    llama.reset()
    llama.eval(prompt)
    while (token := llama.sample(temp=1.0, logits_processor=[only_allowed])) != llama.token_eos():
        llama.eval([token])
    assert bytes(llama._input_ids[len(prompt) :].tolist()) in ANSWERS


def test_going_back_and_another_way_gives_the_logits_of_that_way(llama):
    llama.reset()
    llama.eval(llama.tokenize(b"Hello world"))
    llama.n_tokens = 6
    llama.eval(llama.tokenize(b"there"))
    expected = llama.llm.logits(llama.tokenize(b"Hello there"))
    np.testing.assert_allclose(llama._scores[-1], expected[-1], atol=1e-3)


def batch_of(tokens, start):
    batch = low_level.llama_batch_init(16, 0, 1)
    batch.n_tokens = len(tokens)
    for i, token in enumerate(tokens):
        batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, start + i, 1, True
        batch.seq_id[i][0] = 0
    return batch


def test_decode_gives_the_logits_of_a_batch_and_removed_tokens_are_forgotten(llama):
    tokens = llama.tokenize(b"Hello world")
    with pytest.raises(ParameterError, match="llama_decode"):
        low_level.llama_get_logits(llama.ctx)
    assert low_level.llama_decode(llama.ctx, batch_of(tokens[:8], 0)) == 0
    assert low_level.llama_memory_seq_rm(low_level.llama_get_memory(llama.ctx), -1, 6, -1)
    low_level.llama_decode(llama.ctx, batch_of(tokens[6:], 6))
    expected = llama.llm.logits(tokens)[6:]
    np.testing.assert_allclose(low_level.llama_get_logits(llama.ctx), expected, atol=1e-3)
    assert llama.n_tokens == len(tokens)


def test_what_decode_can_not_do_is_said(llama):
    llama.reset()
    with pytest.raises(ParameterError, match="positions"):
        low_level.llama_decode(llama.ctx, batch_of([97], 5))
    for start in range(0, 64, 16):
        low_level.llama_decode(llama.ctx, batch_of([97] * 16, start))
    with pytest.raises(ContextError, match="64"):
        low_level.llama_decode(llama.ctx, batch_of([97], 64))
    assert not low_level.llama_memory_seq_rm(llama.ctx, 0, 2, 4)
    assert not low_level.llama_memory_seq_rm(llama.ctx, 1, 0, -1)
    with pytest.raises(ParameterError, match="embd is 8"):
        low_level.llama_batch_init(1, 8, 1)


def test_the_vocabulary_is_described(llama):
    vocab = low_level.llama_model_get_vocab(llama.model)
    assert low_level.llama_vocab_n_tokens(vocab) == 128 and low_level.llama_vocab_eos(vocab) == 1
    buffer = ctypes.create_string_buffer(8)
    assert low_level.llama_token_to_piece(vocab, 97, buffer, 8, 0, True) == 1 and buffer[:1] == b"a"
    assert low_level.llama_token_to_piece(vocab, 3, buffer, 8, 0, True) == 3 and buffer[:3] == b"<3>"
    assert low_level.llama_token_to_piece(vocab, 3, buffer, 8, 0, False) == 0
    assert low_level.llama_token_to_piece(vocab, 3, buffer, 2, 0, True) == -3
    assert low_level.llama_token_get_attr(vocab, 3) == low_level.LLAMA_TOKEN_ATTR_CONTROL
    assert low_level.llama_token_get_attr(vocab, 97) == low_level.LLAMA_TOKEN_ATTR_NORMAL
    ids = (ctypes.c_int32 * 8)()
    text = ctypes.create_string_buffer(b"ac<3>")
    assert low_level.llama_tokenize(vocab, text, 5, ids, 8, False, True) == 3 and ids[:3] == [97, 99, 3]
    assert low_level.llama_tokenize(vocab, text, 5, ids, 2, False, True) == -3


def test_bytes_that_are_no_utf8_become_tokens_one_by_one():
    tokenizer = tokenizer_from_metadata(bpe_metadata(special={"<|end|>": CONTROL}))
    for raw in (b"a\xff\xfeb", b"\xc3", "é".encode() + b"\x80", b"<|end|>\xe2\x82"):
        ids = low_level.tokens_of_bytes(tokenizer, raw, False, True)
        assert tokenizer.decode_bytes(ids) == raw


def test_llguidance_takes_the_vocabulary(llama_cpp, llama):
    llamacpp = pytest.importorskip("llguidance.llamacpp")
    tokenizer = llamacpp.lltokenizer_from_vocab(llama_cpp.llama_model_get_vocab(llama.model))
    assert tokenizer.tokenize_str("Hello") == list(b"Hello") and tokenizer.vocab_size == 128
    assert tokenizer.eos_token == llama.token_eos() and tokenizer.is_special_token(3)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_guidance_runs(llama_cpp, real_model):
    guidance = pytest.importorskip("guidance", reason="guidance is not installed (.ci/run says how)")
    start = guidance.models.LlamaCpp(str(real_model("smollm2-135m-q4_1")), n_ctx=512, echo=False)
    capital = start + "The capital of France is" + guidance.gen("city", max_tokens=4, temperature=0.0)
    assert capital["city"].startswith(" Paris")
    form = start + "Wet?" + guidance.select([" yes", " no"], name="answer") + guidance.gen("n", regex="[0-9]{3}")
    assert form["answer"] in (" yes", " no") and form["n"].isdigit() and len(form["n"]) == 3
