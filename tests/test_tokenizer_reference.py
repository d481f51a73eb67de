"""Token ids of real vocabularies equal those of llama.cpp."""

import json

import pytest

from pyinfer.tokenizer import load_tokenizer

VOCABULARIES = [
    "bert-bge",
    "deepseek-coder",
    "deepseek-llm",
    "falcon",
    "gpt-2",
    "llama-bpe",
    "llama-spm",
    "phi-3",
    "qwen2",
    "starcoder",
]
NORMALIZING = ["bert-bge"]  # case, accents and spaces are lost
SEPARATOR = "\n__ggml_vocab_test__\n"
REAL_MODELS = ["smollm2-135m-q4_1", "gemma-3-270m-q4_k_m", "qwen2.5-coder-0.5b-q4_k_m", "qwen2.5-coder-1.5b-q4_k_m"]


@pytest.mark.parametrize("name", VOCABULARIES)
def test_reference_texts_give_the_ids_of_llama_cpp(reference, name):
    path = reference / "vocab" / f"ggml-vocab-{name}.gguf"
    texts = path.with_name(path.name + ".inp").read_bytes().decode().removesuffix(SEPARATOR).split(SEPARATOR)
    lines = path.with_name(path.name + ".out").read_text().splitlines()
    tokenizer = load_tokenizer(path)

    ids = [tokenizer.encode(text, add_special=False) for text in texts]

    assert len(texts) == len(lines) > 40
    assert ids == [[int(i) for i in line.split()] for line in lines]
    if name not in NORMALIZING:
        assert [tokenizer.decode(i) for i in ids] == texts


@pytest.mark.parametrize("name", REAL_MODELS)
def test_prompts_of_real_models_give_the_ids_of_llama_cpp(reference, real_model, name):
    expected = json.loads((reference / "real" / f"{name}.json").read_text())["prompts"]
    prompts = expected.values() if isinstance(expected, dict) else expected
    tokenizer = load_tokenizer(real_model(name))

    for prompt in prompts:
        assert tokenizer.encode(prompt["text"]) == prompt["tokens"]
        assert tokenizer.decode(prompt["greedy"]) == prompt["greedy_text"]
