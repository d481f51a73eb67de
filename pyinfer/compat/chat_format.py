"""What programs import from `llama_cpp.llama_chat_format`: formatters, handlers, templates, and their registry."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any

from pyinfer.chat.templates import render
from pyinfer.compat.absent import absent_class
from pyinfer.compat.chat import Chats, completed, template_handler
from pyinfer.compat.chat_choices import format_name
from pyinfer.compat.formats import FORMATS
from pyinfer.compat.handlers import (
    OWN_HANDLERS,
    ChatFormatter,
    ChatFormatterResponse,
    LlamaChatCompletionHandler,
    LlamaChatCompletionHandlerNotFoundException,
    LlamaChatCompletionHandlerRegistry,
    Messages,
    chat_formatter_to_chat_completion_handler,
    register_chat_completion_handler,
    register_chat_format,
)
from pyinfer.compat.sampling import StoppingCriteriaList
from pyinfer.errors import ParameterError

__all__ = [
    "ChatFormatter",
    "ChatFormatterResponse",
    "Jinja2ChatFormatter",
    "LlamaChatCompletionHandler",
    "LlamaChatCompletionHandlerNotFoundException",
    "LlamaChatCompletionHandlerRegistry",
    "chat_formatter_to_chat_completion_handler",
    "get_chat_completion_handler",
    "guess_chat_format_from_gguf_metadata",
    "hf_autotokenizer_to_chat_completion_handler",
    "hf_autotokenizer_to_chat_formatter",
    "hf_tokenizer_config_to_chat_completion_handler",
    "hf_tokenizer_config_to_chat_formatter",
    "register_chat_completion_handler",
    "register_chat_format",
]

# Handlers of images and of sounds, which can be imported only
WITH_IMAGES = frozenset(
    f"{name}ChatHandler"
    for name in (
        *("Llava15", "Llava16", "Obsidian", "Moondream", "NanoLlava", "Llama3VisionAlpha", "MiniCPMv26", "Qwen25VL"),
        *("MTMD", "Gemma3", "Gemma4", "Qwen3VL", "GLM41V", "GLM46V", "LFM2VL", "Granite", "Generic"),
    )
) | {"Llama3VisionAlpha"}
NAMES_OF_TEMPLATES = {
    "CHATML": "chatml",
    "MISTRAL_INSTRUCT": "mistral-instruct",
    "MIXTRAL_INSTRUCT": "mistral-instruct",
    "LLAMA3_INSTRUCT": "llama-3",
}
FUNCTION_NAMES = {  # functions whose name is not "format_" and the format's name
    "format": "vicuna",
    "format_llama2": "llama-2",
    "format_llama3": "llama-3",
    "format_baichuan2": "baichuan-2",
    "chatml_function_calling": "chatml-function-calling",
    "functionary_chat_handler": "functionary",
    "functionary_v1_v2_chat_handler": "functionary-v2",
}


TEMPLATES = {
    **{f"{name}_CHAT_TEMPLATE": FORMATS[own].template() for name, own in NAMES_OF_TEMPLATES.items()},
    "CHATML_BOS_TOKEN": "<s>",
    "CHATML_EOS_TOKEN": "<|im_end|>",
    "MISTRAL_INSTRUCT_BOS_TOKEN": "<s>",
    "MISTRAL_INSTRUCT_EOS_TOKEN": "</s>",
}


class Jinja2ChatFormatter(ChatFormatter):
    """Make prompts by a template in Jinja. A call raises TemplateError for messages that the template refuses.

    - `template`: its source.
    - `eos_token`, `bos_token`: the texts of its special tokens.
    - `add_generation_prompt` (True): end the prompt where the model's answer begins.
    - `stop_token_ids` (None): ids that end the answer.

        Llama("model.gguf", chat_handler=Jinja2ChatFormatter(source, "</s>", "<s>").to_chat_handler())
    """

    def __init__(
        self,
        template: str,
        eos_token: str,
        bos_token: str,
        add_generation_prompt: bool = True,
        stop_token_ids: Sequence[int] | None = None,
    ) -> None:
        self.template, self.eos_token, self.bos_token = template, eos_token, bos_token
        self.add_generation_prompt = add_generation_prompt
        self.stop_token_ids = None if stop_token_ids is None else set(stop_token_ids)

    @property
    def _variables(self) -> dict[str, Any]:
        names = ("eos_token", "bos_token", "add_generation_prompt")
        return {name: getattr(self, name) for name in names}

    def __call__(self, *, messages: Messages, **variables: Any) -> ChatFormatterResponse:
        """Render messages. `variables` are further variables of the template, such as tools."""
        prompt = render(self.template, messages, **{**variables, **self._variables})
        ends = self.stop_token_ids
        criteria = None if ends is None else StoppingCriteriaList([lambda tokens, logits: int(tokens[-1]) in ends])
        return ChatFormatterResponse(prompt, [self.eos_token], criteria, added_special=True)

    def to_chat_handler(self) -> LlamaChatCompletionHandler:
        """Return a chat_handler that uses this template, with tools and streams, in place of the file's template."""

        def handler(*, llama: Chats, messages: Messages, **arguments: Any) -> Any:
            given, variables = completed({**arguments, "messages": messages})
            ends = tuple(self.stop_token_ids or ())
            return llama.chat_by(self.template, given, ends, **{**variables, **self._variables})

        return handler


def get_chat_completion_handler(name: str) -> LlamaChatCompletionHandler:
    """Return the handler of a chat format: one that was registered, or one of pyinfer's.

    Raises LlamaChatCompletionHandlerNotFoundException, a ParameterError, if there is none.
    """
    registered = LlamaChatCompletionHandlerRegistry().registered(name)
    if registered is not None:
        return registered
    if name not in (*FORMATS, *OWN_HANDLERS, "chat_template.default"):
        known = ", ".join(sorted({*FORMATS, *OWN_HANDLERS, *LlamaChatCompletionHandlerRegistry._chat_handlers}))
        raise LlamaChatCompletionHandlerNotFoundException(f"chat handler {name!r:.60}; expected one of {known}")
    return template_handler(name)


def hf_autotokenizer_to_chat_formatter(pretrained_model_name_or_path: str | PathLike[str]) -> ChatFormatter:
    """Return a formatter that uses the template of a tokenizer of transformers, of the hub or of a folder."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(pretrained_model_name_or_path)

    def format_autotokenizer(*, messages: Messages, **variables: Any) -> ChatFormatterResponse:
        given = {"add_generation_prompt": True, **variables}
        prompt = tokenizer.apply_chat_template(list(messages), tokenize=False, **given)
        return ChatFormatterResponse(str(prompt), stop=tokenizer.eos_token, added_special=True)

    return format_autotokenizer


def hf_autotokenizer_to_chat_completion_handler(
    pretrained_model_name_or_path: str | PathLike[str],
) -> LlamaChatCompletionHandler:
    """Return a chat handler that uses the template of a tokenizer of transformers."""
    return chat_formatter_to_chat_completion_handler(hf_autotokenizer_to_chat_formatter(pretrained_model_name_or_path))


def _of_config(tokenizer_config: Mapping[str, Any], add_generation_prompt: bool) -> Jinja2ChatFormatter:
    names = ("chat_template", "eos_token", "bos_token")
    values = [tokenizer_config.get(name) if isinstance(tokenizer_config, Mapping) else None for name in names]
    texts = [value.get("content") if isinstance(value, Mapping) else value for value in values]  # added tokens
    if not all(isinstance(text, str) for text in texts):
        raise ParameterError(
            f"tokenizer_config has not the texts {', '.join(names)}, which a tokenizer_config.json has"
        )
    return Jinja2ChatFormatter(str(texts[0]), str(texts[1]), str(texts[2]), add_generation_prompt)


def hf_tokenizer_config_to_chat_formatter(
    tokenizer_config: Mapping[str, Any], add_generation_prompt: bool = True
) -> ChatFormatter:
    """Return a formatter that uses the template of a tokenizer_config.json.

    With `add_generation_prompt` an empty answer is put behind the messages, as llama-cpp-python does. Raises
    ParameterError for a configuration without template, eos_token or bos_token.
    """
    by_template = _of_config(tokenizer_config, add_generation_prompt=False)

    def format_tokenizer_config(*, messages: Messages, **variables: Any) -> ChatFormatterResponse:
        opened = [*messages, {"role": "assistant", "content": ""}] if add_generation_prompt else messages
        made = by_template(messages=opened, **variables)
        made.stop = [by_template.eos_token, by_template.bos_token]
        return made

    return format_tokenizer_config


def hf_tokenizer_config_to_chat_completion_handler(
    tokenizer_config: Mapping[str, Any], add_generation_prompt: bool = True
) -> LlamaChatCompletionHandler:
    """Return a chat handler that uses the template of a tokenizer_config.json, which begins the answer."""
    return _of_config(tokenizer_config, add_generation_prompt).to_chat_handler()


def guess_chat_format_from_gguf_metadata(metadata: Mapping[str, str]) -> str | None:
    """Return the name of the file's template, if it is one that has a name."""
    found = format_name(metadata.get("tokenizer.chat_template"))
    return None if found in ("llama-2", "chat_template.default") else found


def _formatter(name: str) -> Callable[..., ChatFormatterResponse]:
    form = FORMATS[name]

    def format_messages(messages: Messages, **variables: Any) -> ChatFormatterResponse:
        return ChatFormatterResponse(render(form.template(), list(messages)), stop=form.stop[0] if form.stop else None)

    return format_messages


def __getattr__(name: str) -> Any:
    known = {f"format_{one.replace('-', '_')}": one for one in FORMATS} | FUNCTION_NAMES
    if name in WITH_IMAGES:
        value: Any = absent_class(name, "pyinfer reads texts, no images and no sounds")
    elif name in TEMPLATES:
        value = TEMPLATES[name]
    elif name in known:
        value = _formatter(known[name]) if known[name] in FORMATS else template_handler(known[name])
    else:
        raise AttributeError(f"module 'pyinfer.compat.chat_format' has no attribute {name!r}")
    globals()[name] = value
    return value
