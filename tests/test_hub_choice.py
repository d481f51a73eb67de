"""Which files of a repository a quant means."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinfer.hub.choice import choose, exact_choice, labels, models_in, quant_of

# as repositories of different makers name their files
FILES = [
    "README.md",
    "imatrix_unsloth.gguf_file",
    "model-imatrix.gguf",
    "mmproj-F16.gguf",
    "mtp-model-Q8_0.gguf",
    "Model-8B-BF16.gguf",
    "Model-8B-IQ4_XS.gguf",
    "Model-8B-Q4_K_M.gguf",
    "Model-8B-Q4_K_S.gguf",
    "Model-8B-UD-Q4_K_XL.gguf",
    "Q6_K/Model-8B-Q6_K-00001-of-00002.gguf",
    "Q6_K/Model-8B-Q6_K-00002-of-00002.gguf",
    "Q8_0/Model-8B-Q8_0-00001-of-00002.gguf",
]


def chosen(quant: str | None, files=FILES) -> tuple[str, ...] | None:
    model = choose(models_in(files), quant)
    return None if model is None else model.paths


def test_models_are_whole_and_nothing_that_accompanies_them():
    assert labels(models_in(FILES)) == ["BF16", "IQ4_XS", "Q4_K_M", "Q4_K_S", "UD-Q4_K_XL", "Q6_K"]


@pytest.mark.parametrize(
    "name",
    ["Model-27B-MTP-Q4_K_M", "Model-8B-Imatrix-Q4_K_M", "Model-EAGLE3-Q8_0", "Qwen3-8B-DFlash-Q4_K_M", "x/MTP-a-F16"],
)
def test_the_marks_of_companions_are_in_lower_case(name):
    assert [model.name for model in models_in([f"{name}.gguf"])] == [name]
    assert models_in([f"{name.lower()}.gguf"]) == []


@pytest.mark.parametrize(
    ("quant", "file"),
    [
        ("Q4_K_M", "Model-8B-Q4_K_M.gguf"),
        ("q4_k_m", "Model-8B-Q4_K_M.gguf"),
        ("bf16", "Model-8B-BF16.gguf"),
        ("UD-Q4_K_XL", "Model-8B-UD-Q4_K_XL.gguf"),
        ("Q4_K_XL", "Model-8B-UD-Q4_K_XL.gguf"),
        ("Model-8B-Q4_K_S", "Model-8B-Q4_K_S.gguf"),
        ("model-8b-q4_k_s.gguf", "Model-8B-Q4_K_S.gguf"),
    ],
)
def test_a_quant_or_a_file_name_in_any_case(quant, file):
    assert chosen(quant) == (file,)


@pytest.mark.parametrize("quant", ["Q4_K", "Q4_XS", "Q4", "Q2_K", "F16", "Q8_0", "mmproj-F16", "8"])
def test_a_part_of_a_quant_a_companion_or_half_a_model_is_no_answer(quant):
    assert chosen(quant) is None


@pytest.mark.parametrize("quant", ["Q6_K", "Q6_K/Model-8B-Q6_K", "Q6_K/Model-8B-Q6_K-00002-of-00002.gguf"])
def test_all_parts_of_a_split_model_in_their_order(quant):
    assert chosen(quant) == tuple(FILES[10:12])


def test_without_a_quant_the_usual_ones_come_first():
    files = ["m-F16.gguf", "m-Q2_K.gguf", "m-Q8_0.gguf", "m-Q4_K_M.gguf"]
    assert chosen(None, files) == ("m-Q4_K_M.gguf",)
    assert chosen(None, files[:3]) == ("m-Q8_0.gguf",)
    assert chosen(None, files[:2]) == ("m-F16.gguf",)
    assert chosen(None, ["README.md"]) is None


def test_the_plain_quant_comes_before_variants_of_it():
    assert chosen("Q4_K_M", ["m-UD-Q4_K_M.gguf", "z-Q4_K_M.gguf"]) == ("z-Q4_K_M.gguf",)
    assert chosen("Q4_K_M", ["m-UD-Q4_K_M.gguf"]) == ("m-UD-Q4_K_M.gguf",)
    assert exact_choice(models_in(["m-UD-Q4_K_M.gguf"]), "Q4_K_M") is None


@pytest.mark.parametrize(
    ("name", "quant"),
    [
        ("tinyllama-1.1b-chat-v1.0.Q4_K_M", "Q4_K_M"),
        ("qwen2.5-0.5b-instruct-fp16", "F16"),
        ("model.i1-IQ2_XXS", "IQ2_XXS"),
        ("gpt-oss-20b-mxfp4", "MXFP4"),
        ("model_TQ1_0", "TQ1_0"),
        ("Q5_K_S/model", "Q5_K_S"),
        ("model-q4", "Q4"),
        ("Qwen3-8B", None),
        ("model", None),
    ],
)
def test_the_quant_that_a_file_name_says(name, quant):
    assert quant_of(name) == quant


def test_models_of_the_same_quant_are_asked_for_by_their_names():
    files = ["a-Q4_0.gguf", "b-Q4_0.gguf", "c.gguf"]
    assert labels(models_in(files)) == ["a-Q4_0", "b-Q4_0", "c"]


quants = st.sampled_from(["Q4_K_M", "q8_0", "UD-Q4_K_M", "fp16", "F16", "IQ1_S", "v2"])
names = st.builds("{}{}-{}{}.gguf".format, st.sampled_from(["", "x/", "Q8_0/"]), st.sampled_from("ab"), quants, quants)


@given(st.lists(names, unique=True))
def test_each_label_means_its_model(files):
    models = models_in(files)
    for label, model in zip(labels(models), models, strict=True):
        assert choose(models, label) == model == exact_choice(models, label)
