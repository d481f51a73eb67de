"""Chat templates: Jinja programs that turn messages into the text that a model was trained on.

A template comes from the model's file, from a text, or by name from `builtin/`. The rendered text is that of
`transformers.apply_chat_template`. `pyinfer/chat/sandbox.py` says why templates can do no harm.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache, partial
from importlib.abc import Traversable
from importlib.resources import files
from types import CodeType
from typing import Any, NoReturn

import jinja2
from jinja2.meta import find_undeclared_variables

from pyinfer.chat.sandbox import BoundedEnvironment, Meter
from pyinfer.errors import ParameterError, TemplateError
from pyinfer.tokenizer import Tokenizer

PROBE = "pyinfer-probe"
PROBE_SECONDS = 0.8  # of processor time for all tries, with garbage collection; most templates need a few milliseconds
# The mark of a turn, where it is no token of the model: "</s>", "<|user|>", "[INST]", "USER:".
TURN_MARK = re.compile(r"<[^<>\s]+>|\[[^\[\]\s]+\]|\w+:|#+ *\w+")
MAX_TEMPLATE = 1 << 17  # characters; published ones have up to 20,000

Message = Mapping[str, Any]


def render(
    template: str,
    messages: Sequence[Message],
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
    documents: Sequence[Mapping[str, Any]] | None = None,
    add_generation_prompt: bool = True,
    **variables: Any,
) -> str:
    """Render messages by a template.

    - `template`: its source.
    - `messages`: a list of {"role": …, "content": …}.
    - `tools`, `documents` (None), `add_generation_prompt` (True): variables that most templates have.
    - `variables`: further variables, such as bos_token or enable_thinking.

    Returns the text. Raises TemplateError if the template is not valid, fails, refuses the messages, or takes too much
    time or memory.

        render(tokenizer.chat_template, [{"role": "user", "content": "Hello"}])
    """
    given = {"messages": messages, "tools": tools, "documents": documents}
    return _rendered(template, {**variables, **given, "add_generation_prompt": add_generation_prompt})


def _rendered(template: str, variables: Mapping[str, Any], **limits: float) -> str:
    """Render a template with these variables. `limits` are as for BoundedEnvironment."""
    names = {"bos_token": "", "eos_token": "", "tools": None, "documents": None, **variables}
    try:
        code = _compile(template)  # before the clock starts
        environment = _environment(Meter().weight(list(names.values())), **limits)
        loaded = environment.template_class.from_code(environment, code, environment.make_globals(None), None)
        pieces, size = [], 0
        for piece in loaded.generate(names):
            size += len(piece)
            environment.meter.check(size)
            pieces.append(piece)
        return "".join(pieces)
    except TemplateError:
        raise
    # A template is a program: it can divide by zero, add a string to a number or recurse without end.
    except Exception as error:
        raise _template_error(error) from error


def template_variables(template: str) -> frozenset[str]:
    """Return the names that a template reads but does not set, such as "tools". Raises TemplateError if invalid."""
    return _variables(template)


def builtin_templates() -> tuple[str, ...]:
    """Return the names of the templates that come with pyinfer, sorted."""
    return tuple(sorted(path.name.removesuffix(".jinja") for path in _builtin().iterdir()))


def choose_template(tokenizer: Tokenizer, template: str | None = None, with_tools: bool = False) -> str:
    """Choose a template and return its source.

    - `tokenizer`: the model's, with the templates of its file.
    - `template` (None): a name from the model's file ("default" is the main one) or from `builtin_templates()`, or the
      source of a template; None: the model's own.
    - `with_tools` (False): without `template`, prefer the one that the file calls "tool_use".

    Raises ParameterError if there is no such template or, without `template`, none in the file.

        choose_template(tokenizer, "chatml")
    """
    own = dict(tokenizer.chat_templates)
    if tokenizer.chat_template is not None:
        own["default"] = tokenizer.chat_template
    if template is None:
        preferred = ("tool_use", "default") if with_tools else ("default",)
        chosen = next((own[name] for name in preferred if name in own), None)
        if chosen is None:
            raise ParameterError(
                f"the model's file has no chat template; template can be the source of one or one of {_listed(own)}"
            )
        return chosen
    if not isinstance(template, str):
        raise ParameterError(f"template is a {type(template).__name__}; expected a name or the source of a template")
    if template in own:
        return own[template]
    if template in builtin_templates():
        return (_builtin() / f"{template}.jinja").read_text("utf-8")
    if "{" not in template:
        raise ParameterError(f"template is {template!r:.60}; expected Jinja or one of {_listed(own)}")
    return template


@dataclass(frozen=True)
class TemplateQuirks:
    """The form of messages that a template expects, which is found by rendering a few.

    - `takes_text`: a content may be a text.
    - `takes_parts`: a content may be a list of {"type": "text", "text": …}.
    - `text_arguments`: the arguments of a tool call are a JSON text; otherwise they are a dict.
    - `takes_none`: the content beside tool calls may be None.
    """

    takes_text: bool
    takes_parts: bool
    text_arguments: bool
    takes_none: bool


@lru_cache(maxsize=16)
def template_quirks(template: str) -> TemplateQuirks:
    """Find the form of messages that a template expects. A template that fails with all forms gets the usual one."""
    word, end = PROBE, time.thread_time() + PROBE_SECONDS
    attempt = partial(_try, template, end)
    as_text = attempt(word)
    as_parts = attempt([{"type": "text", "text": word}])
    takes_parts = word in as_parts and not any(f"{q}text{q}" in as_parts for q in "'\"")
    arguments = {"probe_key": word}
    as_dict = attempt("", arguments)
    # If a dict makes the template fail, or appears in Python's notation, the template expects JSON.
    good = word in as_dict and "'probe_key'" not in as_dict
    text_arguments = not good and word in attempt("", json.dumps(arguments))
    none = attempt(None, json.dumps(arguments) if text_arguments else arguments)
    return TemplateQuirks(
        takes_text=word in as_text or not takes_parts,
        takes_parts=takes_parts,
        text_arguments=text_arguments,
        takes_none=word in none and "None" not in none,
    )


def turn_ends(tokenizer: Tokenizer, template: str) -> tuple[frozenset[int], tuple[str, ...]]:
    """Find what a template writes after an answer. Returns control tokens, and the first mark of a turn that is text.

    A model that was not trained on the template may end its turn with one of them and then write the user's turn, too.
    Both results are empty if the template fails.
    """
    eos = "" if tokenizer.eos_id is None else tokenizer.special_texts.get(tokenizer.eos_id, "")
    first, answer, second = (f"{PROBE}-{i}" for i in range(3))
    messages = [
        {"role": "user", "content": first},
        {"role": "assistant", "content": answer},
        {"role": "user", "content": second},
    ]
    try:
        text = render(template, messages, eos_token=eos)
    except TemplateError:
        return frozenset(), ()
    after = text.partition(answer)[2].partition(second)[0]
    control = [
        (start, end, token) for start, end, token in tokenizer.find_special(after) if tokenizer.is_special(token)
    ]
    borders = [0, *(at for start, end, _ in control for at in (start, end)), len(after)]
    texts = (after[start:end].strip() for start, end in zip(borders[::2], borders[1::2], strict=True))
    mark = next(filter(None, map(TURN_MARK.match, texts)), None)
    return frozenset(token for _, _, token in control), () if mark is None else (mark.group(),)


def _try(template: str, end: float, content: Any, arguments: Any = None) -> str:
    messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
    if arguments is not None:
        function = {"name": "probe", "arguments": arguments}
        call = {"id": "probe1234", "type": "function", "function": function}
        messages = [{"role": "user", "content": ""}, {"role": "assistant", "content": content, "tool_calls": [call]}]
    try:
        left = max(0.0, end - time.thread_time())
        return _rendered(template, {"messages": messages, "add_generation_prompt": False}, max_seconds=left)
    except TemplateError:
        return ""


def _builtin() -> Traversable:
    return files("pyinfer.chat") / "builtin"


def _listed(own: Mapping[str, str]) -> str:
    return ", ".join(sorted({*own, *builtin_templates()}))


def _environment(input_size: int = 0, **limits: float) -> BoundedEnvironment:
    environment = BoundedEnvironment(input_size, **limits)
    environment.add_filter("tojson", _to_json)
    environment.globals.update(raise_exception=_raise_exception, strftime_now=_strftime_now)
    return environment


@lru_cache(maxsize=16)
def _compile(template: str) -> CodeType:
    if len(template) > MAX_TEMPLATE:
        raise TemplateError(f"chat template: it has {len(template)} characters; at most {MAX_TEMPLATE} are compiled")
    return _environment().compile(template)


@lru_cache(maxsize=16)
def _variables(template: str) -> frozenset[str]:
    try:
        _compile(template)
        return frozenset(find_undeclared_variables(_environment().parse(template)))
    except TemplateError:
        raise
    except Exception as error:
        raise _template_error(error) from error


def _template_error(error: Exception) -> TemplateError:
    if isinstance(error, jinja2.TemplateError):
        lineno = getattr(error, "lineno", None)  # syntax errors have it
        return TemplateError(
            f"chat template: {error.message or type(error).__name__}{f' (line {lineno})' * bool(lineno)}"
        )
    return TemplateError(f"chat template: {type(error).__name__}: {error}")


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Write plain JSON. Jinja's own filter escapes <, > and & for HTML, which models were not trained on."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)
