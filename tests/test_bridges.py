"""What other programs hand over and show: columns of prompts, lists of chats, paths with a tilde, short reprs."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
from tiny_models import TinyModel, write_text_model

import pyinfer
from pyinfer import LLM, AsyncLLM, ContextError, GGUFError, ParameterError, SamplingParams, load_tokenizer
from pyinfer.gguf import GGUFFile

GREEDY = SamplingParams(temperature=0, max_tokens=6)
TEXTS = ["Hello", "Good day", "Hi"]
PLAIN = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
CHATS = [[{"role": "user", "content": text}] for text in TEXTS]


@pytest.fixture(scope="module")
def llm(tmp_path_factory):
    """A random model whose tokens are characters."""
    path = write_text_model(tmp_path_factory.mktemp("llm") / "model.gguf", TinyModel("llama", n_vocab=128, n_ctx=96))
    with LLM(path, kv_type="f32") as model:
        yield model


def pandas_series(texts, **options):
    return pytest.importorskip("pandas").Series(texts, **options)


COLUMNS = {
    "list": list,
    "tuple": tuple,
    "generator": lambda texts: (text for text in texts),
    "dict values": lambda texts: dict(enumerate(texts)).values(),
    "NumPy str": np.array,
    "NumPy object": lambda texts: np.array(texts, object),
    "pandas": pandas_series,
    "pandas, from a filter": lambda texts: pandas_series([*texts, "dropped"], index=[7, 3, 9, 1]).drop(1),
    "pandas, category": lambda texts: pandas_series(texts, dtype="category"),
    "PyArrow": lambda texts: pytest.importorskip("pyarrow").array(texts),
    "PyArrow, chunked": lambda texts: pytest.importorskip("pyarrow").chunked_array([texts[:1], texts[1:]]),
}


@pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS)
def test_prompts_of_any_column_are_generated_in_its_order(llm, column):
    done = llm.generate(column(TEXTS), GREEDY)

    assert [each.text for each in done] == [llm.generate(text, GREEDY).text for text in TEXTS]
    assert [each.prompt for each in done] == [tuple(llm.tokenizer.encode(text)) for text in TEXTS]


@pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS)
def test_embeddings_and_scores_take_the_same_columns(llm, column):
    np.testing.assert_array_equal(llm.embed(column(TEXTS)), llm.embed(TEXTS))
    assert llm.score("A", column(TEXTS)) == llm.score("A", TEXTS)


def test_a_column_is_awaited_as_a_list_is(llm):
    async def texts():
        return await AsyncLLM(llm).generate(pandas_series(TEXTS), GREEDY)

    assert [done.text for done in asyncio.run(texts())] == [done.text for done in llm.generate(TEXTS, GREEDY)]


@pytest.mark.parametrize(
    "ids",
    [
        [72, 101, 108],
        (72, 101, 108),
        np.array([72, 101, 108], np.int32),
        (i for i in [72, 101, 108]),
        range(72, 75),
        pandas_series([72, 101, 108]) if "pandas" in COLUMNS else None,
    ],
    ids=lambda ids: type(ids).__name__,
)
def test_whole_numbers_are_the_token_ids_of_one_prompt(llm, ids):
    expected = tuple(ids) if isinstance(ids, range) else (72, 101, 108)
    assert llm.generate(ids, GREEDY).prompt == expected


def test_rows_of_an_array_of_ids_are_prompts(llm):
    done = llm.generate(np.array([[72, 101], [108, 111]]), GREEDY)
    assert [each.prompt for each in done] == [(72, 101), (108, 111)]


def test_a_prompt_may_be_an_array_of_no_dimension(llm):
    assert llm.generate(np.array("Hello"), GREEDY).text == llm.generate("Hello", GREEDY).text


@pytest.mark.parametrize("none", [np.array([], str), np.array([], object)], ids=["str", "object"])
def test_a_column_of_no_texts_gives_no_completions(llm, none):
    assert llm.generate(none, GREEDY) == []


def test_a_missing_value_is_named_by_its_place(llm):
    for missing in (None, float("nan")):
        with pytest.raises(ParameterError, match=f"prompt 1 is {missing}; expected text or token ids"):
            llm.generate(np.array(["Hello", missing, "Hi"], object), GREEDY)
        with pytest.raises(ParameterError, match=f"prompt 0 is {missing}"):
            llm.generate([missing, "Hi"], GREEDY)


def test_an_error_says_which_prompt_it_is_about(llm):
    with pytest.raises(ContextError, match=r"^prompt 2: the prompt has \d+ tokens"):
        llm.generate(["a", "b", "c" * 200], GREEDY)
    with pytest.raises(ParameterError, match=r"^prompt 1: the prompt is empty"):
        llm.generate(["a", ""], GREEDY)
    with pytest.raises(ParameterError, match=r"^the prompt is empty"):
        llm.generate("", GREEDY)


@pytest.mark.parametrize(
    "given",
    [{"a", "b"}, {"a": 1}, 5, np.array([["a", "b"], ["c", "d"]]), b"bytes"],
    ids=["set", "dict", "number", "table", "bytes"],
)
def test_what_has_no_order_or_is_a_table_is_refused(llm, given):
    with pytest.raises(ParameterError, match=f"the prompt is a {type(given).__name__}; expected text"):
        llm.generate(given, GREEDY)


def test_a_data_frame_is_refused_and_not_read_as_the_names_of_its_columns(llm):
    frame = pytest.importorskip("pandas").DataFrame({"text": TEXTS})
    with pytest.raises(ParameterError, match="the prompt is a DataFrame; expected text or token ids"):
        llm.generate(frame, GREEDY)
    with pytest.raises(ParameterError, match="texts is"):
        llm.embed(frame)


CHAT_COLUMNS = {
    "list": list,
    "tuple": tuple,
    "generator": lambda chats: (chat for chat in chats),
    "tuples": lambda chats: [tuple(chat) for chat in chats],
    "pandas": pandas_series,
}


@pytest.mark.parametrize("column", CHAT_COLUMNS.values(), ids=CHAT_COLUMNS)
def test_a_list_of_chats_gives_a_list_of_answers(llm, column):
    expected = [llm.chat(chat, GREEDY, template=PLAIN).content for chat in CHATS]

    assert [done.content for done in llm.chat(column(CHATS), GREEDY, template=PLAIN)] == expected


def test_chats_of_a_list_run_together(llm, monkeypatch):
    calls = []
    run = llm.scheduler.run
    monkeypatch.setattr(llm.scheduler, "run", lambda tasks, *rest: calls.append(len(tasks)) or run(tasks, *rest))

    llm.chat(CHATS, GREEDY, template=PLAIN)

    assert calls == [len(CHATS)]


def test_a_list_of_one_chat_gives_a_list_of_one_answer(llm):
    one = llm.chat(CHATS[:1], GREEDY, template=PLAIN)
    assert [done.content for done in one] == [llm.chat(CHATS[0], GREEDY, template=PLAIN).content]


def test_each_chat_may_have_parameters_of_its_own(llm):
    params = [SamplingParams(temperature=0, max_tokens=n) for n in (1, 2, 3)]
    done = llm.chat(CHATS, params, template=PLAIN)
    assert [each.completion.completion_tokens for each in done] == [1, 2, 3]
    with pytest.raises(ParameterError, match="there are 3 params for 2 chats"):
        llm.chat(CHATS[:2], params, template=PLAIN)
    with pytest.raises(ParameterError, match="params is a list"):
        llm.chat(CHATS[0], params, template=PLAIN)


def test_an_error_says_which_chat_it_is_about(llm):
    with pytest.raises(ParameterError, match=r"^chat 1: message"):
        llm.chat([CHATS[0], [{"content": "no role"}]], GREEDY, template=PLAIN)
    with pytest.raises(ContextError, match=r"^chat 2: "):
        llm.chat([*CHATS[:2], [{"role": "user", "content": "x" * 300}]], GREEDY, template=PLAIN)


def test_a_list_of_chats_is_awaited(llm):
    async def answers():
        return await AsyncLLM(llm).chat(CHATS, GREEDY, template=PLAIN)

    expected = [done.content for done in llm.chat(CHATS, GREEDY, template=PLAIN)]
    assert [done.content for done in asyncio.run(answers())] == expected


def test_a_completion_shows_its_beginning_and_counts():
    done = pyinfer.Completion("word " * 400, tuple(range(2000)), "length", tuple(range(5)), 0, 0.1, 0.2)

    assert repr(done) == (
        f"Completion(text='{('word ' * 400)[:59]}…', finish_reason='length', prompt_tokens=5, completion_tokens=2000)"
    )


def test_choices_are_counted_in_a_completion(llm):
    done = llm.generate("Hello", SamplingParams(n=3, max_tokens=2))
    assert repr(done).endswith("completion_tokens=2, choices=3)")


def test_a_chat_completion_shows_its_answer_and_counts(llm):
    done = llm.chat(CHATS[0], GREEDY, template=PLAIN)

    assert repr(done) == (
        f"ChatCompletion(content={done.content!r}, finish_reason='length', "
        f"prompt_tokens={done.completion.prompt_tokens}, completion_tokens=6)"
    )


def test_a_model_shows_its_name_architecture_size_and_context(tmp_path):
    path = write_text_model(tmp_path / "some.gguf", TinyModel("llama", n_vocab=128, n_ctx=96))
    with GGUFFile(path) as file:
        n_bytes = sum(tensor.n_bytes for tensor in file.tensors.values())
    llm = LLM(path)
    shown = f"LLM('some.gguf', architecture='llama', size='{n_bytes / 1e6:.3g} MB', n_ctx=96)"
    assert repr(llm) == shown
    assert repr(AsyncLLM(llm)) == f"AsyncLLM({shown})"
    llm.close()
    assert repr(llm) == shown[:-1] + ", closed)"


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_text_model(tmp_path / "models.gguf", TinyModel("llama", n_vocab=128, n_ctx=96))
    return tmp_path


@pytest.mark.parametrize("kind", [str, Path])
def test_a_tilde_is_the_users_folder_wherever_a_path_is_taken(home, kind):
    path = kind("~/models.gguf")
    with LLM(path, draft_model=path) as llm:
        assert llm.path == home / "models.gguf"
        done = llm.generate("Hello", GREEDY)
        llm.save_state(kind("~/session"), done)
        assert (home / "session").is_file()
        assert llm.load_state(kind("~/session")) == [*done.prompt, *done.tokens][:-1]
    assert load_tokenizer(path).encode("Hi") == [72, 105]
    with GGUFFile(path) as file:
        assert file.path == home / "models.gguf"


def test_a_missing_file_is_named_by_its_whole_path(home):
    with pytest.raises(GGUFError, match=str(home / "other.gguf")):
        LLM("~/other.gguf")


def test_llama_cpp_pythons_class_takes_a_tilde(home):
    from pyinfer.compat import Llama, LlamaGrammar

    llama = Llama("~/models.gguf", verbose=False)
    assert len(llama("Hi", max_tokens=2)["choices"]) == 1
    (home / "yes.gbnf").write_text('root ::= "yes"')
    assert LlamaGrammar.from_file("~/yes.gbnf").guide == pyinfer.Guide.gbnf('root ::= "yes"')
