"""What a model's name means."""

import string
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinfer.errors import ParameterError
from pyinfer.hub.catalogue import CATALOGUE, DEFAULT_MODEL
from pyinfer.hub.names import HubModel, parse_name
from pyinfer.hub.packaged import PackagedModel

letters = st.sampled_from(string.ascii_letters + string.digits + "_")
words = st.builds(
    lambda first, rest: first + rest,
    letters,
    st.text(string.ascii_letters + string.digits + "_-.", max_size=20),
).filter(lambda word: word[-1] not in "-." and "--" not in word and ".." not in word)
hub_models = st.builds(
    HubModel,
    st.builds(lambda org, repo: f"{org}/{repo}", words, words),
    st.none() | st.lists(words, min_size=1, max_size=3).map("/".join),
)


@given(hub_models)
def test_a_hub_name_is_read_as_it_is_written(model):
    assert parse_name(str(model)) == model
    if model.quant is not None:
        assert parse_name(str(model).removeprefix("hf:")) == model


@given(st.text())
def test_any_text_is_a_model_or_a_parameter_error(text):
    try:
        model = parse_name(text)
    except ParameterError as error:
        assert repr(text) in str(error) and "expected" in str(error)
    else:
        assert isinstance(model, Path | HubModel | PackagedModel)


@given(st.text())
def test_what_follows_hf_never_is_a_path(text):
    with suppress(ParameterError):
        assert isinstance(parse_name("hf:" + text), HubModel)


@pytest.mark.parametrize("name", ["smollm2:135m", "org/repo:Q4_K_M", "org/repo", "plain"])
def test_a_file_that_exists_wins(monkeypatch, tmp_path, name):
    monkeypatch.chdir(tmp_path)
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).touch()
    assert parse_name(name) == Path(name)


def test_hf_says_that_the_hub_is_meant(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("hf:org").mkdir()
    Path("hf:org/repo").touch()
    assert parse_name("hf:org/repo") == HubModel("org/repo")
    assert parse_name("./hf:org/repo") == Path("hf:org/repo")


@pytest.mark.parametrize("name", ["nowhere.gguf", "a/nowhere.gguf", "/a/b/c", "../model", "a/b/c.bin", Path("plain")])
def test_what_can_only_be_a_path_is_one_if_it_is_there_or_not(name):
    assert parse_name(name) == Path(name)


def test_case_does_not_matter_in_the_catalogue():
    assert parse_name("SmolLM2:135M") == CATALOGUE[DEFAULT_MODEL]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "'', which is no file"),
        ("smollm2:999b", "'smollm2:999b', which is no file; expected a GGUF file, hf:ORG/REPO"),
        ("org/repo", r"did you mean hf:org/repo\?"),
        ("hf:repo", "'hf:repo'; expected hf:ORG/REPO"),
        ("hf:a/b/c", "expected hf:ORG/REPO"),
        ("hf:org/repo:", "expected hf:ORG/REPO"),
        ("hf:org/../etc", "expected hf:ORG/REPO"),
        ("hf:org/a--b", "expected hf:ORG/REPO"),
        ("hf:org/repo:../../x", "expected hf:ORG/REPO"),
        ("hf:org/" + "a" * 93, "expected hf:ORG/REPO"),
        ("hf:org/repo\n", "expected hf:ORG/REPO"),
        (None, "the model is a NoneType; expected a GGUF file"),
        (b"model.gguf", "the model is a bytes"),
        (7, "the model is a int"),
    ],
)
def test_what_is_no_name_is_refused_with_what_was_expected(name, message):
    with pytest.raises(ParameterError, match=message):
        parse_name(name)


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_entry_of_the_catalogue_is_complete(name):
    model = parse_name(name)
    assert name == name.lower() and ":" in name
    if isinstance(model, PackagedModel):
        assert "==" in model.package and len(model.sha256) == 64
    else:
        assert isinstance(model, HubModel) and model.quant is not None


def test_the_names_of_the_catalogue_are_of_different_models():
    assert len(set(CATALOGUE.values())) == len(CATALOGUE)
