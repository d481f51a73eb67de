"""What pyinfer.compat.Llama shows of itself, and what it says to arguments of a wrong type or shape."""

import pytest

from pyinfer.compat import Llama

CHATML = (
    "{% for message in messages %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture(scope="module")
def llama(path):
    with Llama(str(path), n_ctx=256, logits_all=True, chat_format="chatml") as model:
        yield model


@pytest.mark.parametrize(
    "template, name", [(None, "llama-2"), (CHATML, "chatml"), (CHATML + " ", "chat_template.default")]
)
def test_the_chat_format_has_a_name(path, monkeypatch, template, name):
    with Llama(path, vocab_only=True) as model:
        monkeypatch.setattr(model._tokenizer, "chat_template", template)
        assert model.chat_format == name
        model.chat_format = "zephyr"
        assert model.chat_format == "zephyr"
    with Llama(path, vocab_only=True, chat_handler=print) as model:
        assert model.chat_format is None


@pytest.mark.parametrize("vocab_only", [False, True])
def test_arguments_are_attributes(path, vocab_only):
    with Llama(path, vocab_only=vocab_only, n_threads=1, n_ctx=64) as model:
        assert model.n_threads == model.n_threads_batch == model.context_params.n_threads == 1
        assert (model.numa, model.tensor_split, model.kv_overrides) == (0, None, None)
        assert (model.lora_base, model.lora_scale, model.lora_path) == (None, 1.0, None)
        assert (model._n_ctx, model._n_vocab) == (64, 128)
    with pytest.warns(UserWarning, match="numa"), Llama(path, vocab_only=True, numa=True, lora_scale=0.5) as model:
        assert model.n_threads >= 1 and model.numa == 1 and model.lora_scale == 0.5


def test_the_tokenizer_has_llama_cpp_pythons_methods(llama):
    tokenizer = llama.tokenizer_
    assert tokenizer.tokenize(b"a<3>") == tokenizer.encode("a<3>") == [97, 3]
    assert tokenizer.encode("a<3>", special=False) == llama.tokenize(b"a<3>")
    assert tokenizer.detokenize([97, 3]) == b"a" and tokenizer.decode([97, 98]) == "ab"
