"""LangChain's and LlamaIndex's own classes for llama-cpp-python, on pyinfer.

The libraries are large and not in the test extra; .ci/run installs them.
"""

import pytest
from chats import ZONED_TOOLS

from pyinfer.compat import Llama

MESSAGES = [{"role": "user", "content": "Hello"}]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_langchains_llm(llama_cpp, path):
    llms = pytest.importorskip("langchain_community.llms")
    llm = llms.LlamaCpp(model_path=str(path), temperature=0, max_tokens=6, n_ctx=128, repeat_penalty=1.0)
    with Llama(path) as own:
        expected = own("Hello", max_tokens=6, temperature=0)["choices"][0]["text"]
    assert llm.invoke("Hello") == expected
    assert "".join(llm.stream("Hello")) == expected
    assert llm.batch(["Hello", "Hello"]) == [expected] * 2
    assert llm.get_num_tokens("Hello") == 5
    stopped = llm.invoke("Hello", stop=[expected[2]])
    assert stopped == expected[: expected.index(expected[2])]
    strict = llms.LlamaCpp(model_path=str(path), grammar='root ::= "yes"', streaming=False)
    assert strict.invoke("Well?") == "yes"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_langchains_embeddings(llama_cpp, path):
    embeddings = pytest.importorskip("langchain_community.embeddings")
    model = embeddings.LlamaCppEmbeddings(model_path=str(path))
    one = model.embed_query("Hello")
    assert len(one) == 256 and model.embed_documents(["ab", "Hello"])[1] == one


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_langchains_chat_model(llama_cpp, path):
    models = pytest.importorskip("langchain_community.chat_models")
    options = {"chat_format": "chatml"}
    chat = models.ChatLlamaCpp(model_path=str(path), temperature=0, max_tokens=100, n_ctx=1024, model_kwargs=options)
    with Llama(path, chat_format="chatml") as own:
        answer = own.create_chat_completion(MESSAGES, temperature=0, max_tokens=100, repeat_penalty=1.1)
    expected = answer["choices"][0]["message"]["content"]
    assert chat.invoke("Hello").content == expected
    assert "".join(chunk.content for chunk in chat.stream("Hello")) == expected
    answer = chat.bind_tools(ZONED_TOOLS, tool_choice="now").invoke("What time is it?")
    assert answer.tool_calls[0]["name"] == "now" and answer.tool_calls[0]["args"]["zone"] in ("a", "b")


def test_llama_indexs_llm(llama_cpp, path):
    module = pytest.importorskip("llama_index.llms.llama_cpp")
    llm = module.LlamaCPP(
        model_path=str(path),
        temperature=0.0,
        max_new_tokens=6,
        context_window=128,
        completion_to_prompt=lambda text: text,
        verbose=False,
    )
    text = llm.complete("Hello").text
    assert llm.metadata.context_window == 128 and text
    assert list(llm.stream_complete("Hello"))[-1].text == text
