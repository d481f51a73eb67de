"""Other projects' code for llama-cpp-python on pyinfer: LangChain's, LlamaIndex's, Haystack's, lm-format-enforcer's,
and llama-cpp-python's own server.

The libraries are large and not in the test extra; .ci/run installs them.
"""

import importlib
import json
import re
import sys
from pathlib import Path

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


def test_lm_format_enforcers_processor(llama_cpp, path):
    lmformatenforcer = pytest.importorskip("lmformatenforcer")
    processors = importlib.import_module("lmformatenforcer.integrations.llamacpp")
    with Llama(path, n_ctx=256) as llama:
        tokens = processors.build_token_enforcer_tokenizer_data(llama)
        parser = lmformatenforcer.RegexParser("In the year 20[0-9]{2}")
        one = processors.build_llamacpp_logits_processor(tokens, parser, analyze=True)
        only_texts = {token: -1e9 for token in range(128) if llama._tokenizer.is_special(token) and token != 1}
        answer = llama("?", logits_processor=llama_cpp.LogitsProcessorList([one]), logit_bias=only_texts, max_tokens=30)
        assert re.fullmatch("In the year 20[0-9]{2}", answer["choices"][0]["text"])


@pytest.mark.filterwarnings("ignore:ignored, of no use")
def test_haystacks_chat_generator(llama_cpp, path):
    pytest.importorskip("haystack_integrations.components.generators.llama_cpp")
    module = importlib.import_module("haystack_integrations.components.generators.llama_cpp")
    data = importlib.import_module("haystack.dataclasses")
    tools = importlib.import_module("haystack.tools")
    given = {"max_tokens": 100, "temperature": 0}
    generator = module.LlamaCppChatGenerator(
        str(path), n_ctx=1024, n_batch=128, model_kwargs={"chat_format": "chatml"}, generation_kwargs=given
    )
    generator.warm_up()
    with Llama(path, chat_format="chatml", n_ctx=1024) as own:
        expected = own.create_chat_completion(MESSAGES, **given)["choices"][0]["message"]["content"]
    hello = data.ChatMessage.from_user("Hello")
    assert generator.run([hello])["replies"][0].text == expected
    chunks = []
    assert generator.run([hello], streaming_callback=chunks.append)["replies"][0].text == expected
    assert "".join(chunk.content for chunk in chunks) == expected
    schema = ZONED_TOOLS[0]["function"]["parameters"]
    tool = tools.Tool(name="now", description="The time", parameters=schema, function=lambda zone: "noon")
    choice = {"tool_choice": {"type": "function", "function": {"name": "now"}}}
    called = generator.run([hello], tools=[tool], generation_kwargs=choice)["replies"][0]
    assert called.tool_calls[0].tool_name == "now" and called.tool_calls[0].arguments["zone"] in ("a", "b")
    result = data.ChatMessage.from_tool("noon", origin=called.tool_calls[0])
    assert generator.run([hello, called, result])["replies"]


@pytest.fixture
def client(llama_cpp, path):
    """A client of llama-cpp-python's own server on pyinfer; its folder llama_cpp/server must be on the path."""
    if not any(Path(folder, "llama_cpp", "server").is_dir() for folder in sys.path):
        pytest.skip("no folder of the path has llama-cpp-python's llama_cpp/server (.ci/run says how)")
    testing = pytest.importorskip("fastapi.testclient")
    server = importlib.import_module("llama_cpp.server.app")
    settings = server.Settings(model=str(path), n_ctx=1024, cache=True, chat_format="chatml")
    return testing.TestClient(server.create_app(settings))


def answers(client, address, **body):
    response = client.post(address, json=body)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.filterwarnings("ignore")
def test_llama_cpp_pythons_server(client, path):
    assert client.get("/v1/models").json()["data"][0]["id"] == str(path)
    given = {"max_tokens": 6, "temperature": 0, "repeat_penalty": 1.0}
    text = answers(client, "/v1/completions", prompt="Hello", **given)["choices"][0]["text"]
    with Llama(path, n_ctx=512) as own:
        assert text == own("Hello", **given)["choices"][0]["text"]
    streamed = client.post("/v1/completions", json={"prompt": "Hello", "stream": True, **given}).text
    parts = [json.loads(line[6:]) for line in streamed.splitlines() if line.startswith("data: {")]
    assert "".join(part["choices"][0]["text"] for part in parts) == text and "[DONE]" in streamed
    yes = answers(client, "/v1/completions", prompt="Well?", grammar='root ::= "yes"', min_tokens=1)
    assert yes["choices"][0]["text"] == "yes"
    chat = {"messages": MESSAGES, "max_tokens": 100, "temperature": 0}
    assert answers(client, "/v1/chat/completions", **chat)["choices"][0]["message"]["role"] == "assistant"
    assert "[DONE]" in client.post("/v1/chat/completions", json={**chat, "stream": True}).text
    choice = {"type": "function", "function": {"name": "now"}}
    forced = answers(client, "/v1/chat/completions", **chat, tools=ZONED_TOOLS, tool_choice=choice)
    assert forced["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "now", forced
    ids = answers(client, "/extras/tokenize", input="Hello")["tokens"]
    assert ids == list(b"Hello") and answers(client, "/extras/tokenize/count", input="Hello")["count"] == 5
    assert answers(client, "/extras/detokenize", tokens=ids)["text"] == "Hello"
    assert len(answers(client, "/v1/embeddings", input=["a", "b"])["data"]) == 2
    long = client.post("/v1/completions", json={"prompt": "x" * 1100, "max_tokens": 4})
    assert long.status_code == 400 and long.json()["error"]["code"] == "context_length_exceeded"
