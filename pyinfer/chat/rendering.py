"""Renders chat templates: Jinja programs that turn messages into the text that a model was trained on.

The rendered text is that of `transformers.apply_chat_template`. `pyinfer/chat/sandbox.py` says why templates can do no
harm.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from types import CodeType
from typing import Any, NoReturn

import jinja2
from jinja2.meta import find_undeclared_variables

from pyinfer.chat.sandbox import BoundedEnvironment, Meter
from pyinfer.errors import TemplateError

MAX_TEMPLATE = 1 << 17  # characters; published ones have up to 20,000
TOOLS_VARIABLES = ("tools", "xml_tools")  # the usual name, and SmolLM3's

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
    return render_variables(template, {**variables, **given, "add_generation_prompt": add_generation_prompt})


def render_variables(template: str, variables: Mapping[str, Any], **limits: float) -> str:
    """Render a template with these variables. `limits` are as for BoundedEnvironment. Raises what `render` raises."""
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


def _environment(input_size: int = 0, **limits: float) -> BoundedEnvironment:
    environment = BoundedEnvironment(input_size, **limits)
    environment.add_filter("tojson", _to_json)
    environment.globals.update(raise_exception=_raise_exception, strftime_now=_strftime_now)
    return environment


def tools_variable(template: str) -> str | None:
    """Return the name of the variable by which a template reads tools; None if it reads none."""
    names = template_variables(template)
    return next((name for name in TOOLS_VARIABLES if name in names), None)


@lru_cache(maxsize=64)
def _compile(template: str) -> CodeType:
    if len(template) > MAX_TEMPLATE:
        raise TemplateError(f"chat template: it has {len(template)} characters; at most {MAX_TEMPLATE} are compiled")
    return _environment().compile(template)


@lru_cache(maxsize=64)
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
