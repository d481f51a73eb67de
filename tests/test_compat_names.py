"""What programs import from llama_cpp is there, with llama.cpp's numbers; what is lacking raises if it is called."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import gguf
import pytest

from pyinfer import GGUFError, ModelError, PyinferError
from pyinfer.compat.absent import AbsentError
from pyinfer.compat.constants import CONSTANTS

ROOT = Path(__file__).parent.parent
MESSAGES = [{"role": "user", "content": "Hello"}]
NAMES = """
Llama LlamaGrammar LlamaState LlamaCache LlamaRAMCache LlamaDiskCache LlamaTokenizer LlamaHFTokenizer
LogitsProcessor LogitsProcessorList StoppingCriteria StoppingCriteriaList MinTokensLogitsProcessor
BaseLlamaCache BaseLlamaTokenizer LlamaDraftModel
ChatCompletionMessageToolCall ChatCompletionRequestAssistantMessage ChatCompletionRequestMessage
ChatCompletionRequestMessageContentPart ChatCompletionResponseChoice ChatCompletionStreamResponseDelta
ChatCompletionStreamResponseDeltaEmpty ChatCompletionTool ChatCompletionFunction ChatCompletionToolChoiceOption
CreateChatCompletionResponse CreateChatCompletionStreamResponse CreateCompletionResponse Completion CompletionChunk
CreateEmbeddingResponse EmbeddingData JsonType
llama_backend_init llama_backend_free llama_numa_init llama_log_set llama_log_callback llama_supports_gpu_offload
llama_supports_mmap llama_supports_mlock llama_print_system_info llama_max_devices llama_time_us
llama_model_default_params llama_context_default_params llama_token llama_token_data llama_model_p
llama_model_quantize llama_sampler_chain_init llama_vocab_bos llama_n_ctx llama_kv_cache_clear
""".split()  # noqa: SIM905
MODULES = """
llama llama_cpp llama_cache llama_chat_format llama_grammar llama_speculative llama_tokenizer llama_types
llava_cpp mtmd_cpp _internals _logger _utils server server.app server.settings server.types server.model
""".split()  # noqa: SIM905


@pytest.fixture(autouse=True)
def no_server(monkeypatch):
    """The path has no folder with llama-cpp-python's server."""
    monkeypatch.setattr(
        sys, "path", [folder for folder in sys.path if not Path(folder, "llama_cpp", "server").is_dir()]
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_there(llama_cpp, name):
    assert hasattr(llama_cpp, name) and name in llama_cpp.__all__


@pytest.mark.parametrize("module", MODULES)
def test_a_module_can_be_imported(llama_cpp, module):
    importlib.import_module(f"llama_cpp.{module}")


def test_a_star_gives_every_name(llama_cpp):
    names = {}
    exec("from llama_cpp import *", names)
    assert {*NAMES, *CONSTANTS} <= set(names)


def test_a_module_has_the_names_of_its_own(llama_cpp):
    from llama_cpp._logger import set_verbose
    from llama_cpp._utils import suppress_stdout_stderr
    from llama_cpp.llama import LlamaGrammar, LogitsProcessorList
    from llama_cpp.llama_cpp import GGML_TYPE_Q8_0, llama_get_logits
    from llama_cpp.llama_tokenizer import LlamaHFTokenizer, LlamaTokenizer

    assert LlamaGrammar is llama_cpp.LlamaGrammar and LogitsProcessorList is llama_cpp.LogitsProcessorList
    assert GGML_TYPE_Q8_0 == 8 and callable(llama_get_logits)
    assert issubclass(LlamaTokenizer, llama_cpp.BaseLlamaTokenizer) and LlamaHFTokenizer is llama_cpp.LlamaHFTokenizer
    set_verbose(False)
    with suppress_stdout_stderr(disable=False):
        print("not shown")


def test_the_version_is_one_that_programs_accept(llama_cpp):
    version = importlib.import_module("packaging.version")
    assert version.parse(llama_cpp.__version__) >= version.parse("0.3.16")


def test_numbers_are_those_of_the_gguf_package():
    for kind in gguf.GGMLQuantizationType:
        assert CONSTANTS[f"GGML_TYPE_{kind.name}"] == kind
    for kind in gguf.LlamaFileType:
        name = f"LLAMA_FTYPE_{kind.name}"
        assert CONSTANTS.get(name, kind) == kind
    for kind in gguf.TokenType:
        assert CONSTANTS[f"LLAMA_TOKEN_TYPE_{kind.name}"] == kind
    for kind in gguf.PoolingType:
        assert CONSTANTS[f"LLAMA_POOLING_TYPE_{kind.name}"] == kind


@pytest.mark.parametrize(
    "name, number",
    [
        ("LLAMA_POOLING_TYPE_UNSPECIFIED", -1),
        ("LLAMA_SPLIT_MODE_NONE", 0),
        ("LLAMA_SPLIT_MODE_ROW", 2),
        ("LLAMA_ROPE_SCALING_TYPE_YARN", 2),
        ("LLAMA_FTYPE_MOSTLY_Q4_K_M", 15),
        ("LLAMA_FTYPE_MOSTLY_BF16", 32),
        ("LLAMA_FTYPE_GUESSED", 1024),
        ("LLAMA_TOKEN_ATTR_CONTROL", 8),
        ("LLAMA_VOCAB_TYPE_BPE", 2),
        ("LLAMA_DEFAULT_SEED", 0xFFFFFFFF),
        ("GGML_NUMA_STRATEGY_MIRROR", 4),
        ("LLAMA_KV_OVERRIDE_TYPE_STR", 3),
        ("GGML_TYPE_COUNT", 43),
    ],
)
def test_numbers_are_those_of_llama_h(llama_cpp, name, number):
    assert getattr(llama_cpp, name) == getattr(llama_cpp.llama_cpp, name) == number


def test_a_program_can_start_up(llama_cpp):
    llama_cpp.llama_backend_init()
    llama_cpp.llama_backend_init(numa=False)
    llama_cpp.llama_numa_init(llama_cpp.GGML_NUMA_STRATEGY_DISABLED)

    @llama_cpp.llama_log_callback
    def log(level, text, user_data):
        """Nothing is logged."""

    llama_cpp.llama_log_set(log, None)
    assert llama_cpp.llama_supports_mmap() and not llama_cpp.llama_supports_gpu_offload()
    assert not llama_cpp.llama_supports_mlock() and llama_cpp.llama_max_devices() >= 1
    assert b" = 1" in llama_cpp.llama_print_system_info()
    params = llama_cpp.llama_context_default_params()
    assert (params.n_ctx, params.type_k, params.rope_freq_base) == (512, llama_cpp.GGML_TYPE_F16, 0.0)
    params.n_ctx = 64
    assert llama_cpp.llama_context_default_params().n_ctx == 512
    llama_cpp.llama_backend_free()


def test_what_pyinfer_lacks_can_be_imported_and_raises_when_it_is_called(llama_cpp):
    from llama_cpp.llama_chat_format import Llava15ChatHandler, MTMDChatHandler, Qwen25VLChatHandler
    from llama_cpp.llava_cpp import llava_image_embed_make_with_file
    from llama_cpp.server.app import create_app

    class Own(Llava15ChatHandler):
        """Programs derive from these classes."""

    calls = (Own, MTMDChatHandler, Qwen25VLChatHandler.from_pretrained, create_app, llava_image_embed_make_with_file)
    for call in (*calls, llama_cpp.llama_model_quantize, llama_cpp.llama_sampler_init_greedy):
        with pytest.raises(AbsentError) as raised:
            call("x")
        assert isinstance(raised.value, PyinferError) and isinstance(raised.value, NotImplementedError)
    with pytest.raises(AttributeError):
        llama_cpp.llama_no_such_function  # noqa: B018
    with pytest.raises(ImportError):
        from llama_cpp.llama_chat_format import NoSuchHandler  # noqa: F401


def test_a_server_on_the_path_is_found(tmp_path):
    package = tmp_path / "llama_cpp" / "server"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "app.py").write_text("import llama_cpp\nLlama = llama_cpp.Llama\n")
    code = (
        f"import sys; sys.path.append({str(tmp_path)!r}); import pyinfer.compat; pyinfer.compat.install()\n"
        "import llama_cpp.server.app as app; import llama_cpp; assert app.Llama is llama_cpp.Llama\n"
        "try:\n    import llama_cpp.server.settings\nexcept ImportError:\n    print('only what is there')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.stdout == "only what is there\n", done.stderr


def test_damaged_files_and_unknown_models_are_value_errors():
    assert issubclass(GGUFError, ValueError) and issubclass(ModelError, ValueError)


def test_pydantic_takes_the_types(llama_cpp):
    pydantic = pytest.importorskip("pydantic")
    check = pydantic.TypeAdapter(list[llama_cpp.ChatCompletionRequestMessage]).validate_python
    assert check(MESSAGES) == MESSAGES
    with pytest.raises(pydantic.ValidationError):
        check([{"role": "nobody", "content": 5}])
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    assert pydantic.TypeAdapter(llama_cpp.ChatCompletionTool).validate_python(tool) == tool
