"""Chat templates: Jinja programs in a model's metadata that turn messages into the text the model was trained on.

Templates come from files of strangers, so they run in a sandbox that cannot reach Python objects or change its input.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

from pyinfer.errors import TokenizerError

if TYPE_CHECKING:
    from jinja2 import Template


def render(
    template: str,
    messages: Sequence[Mapping[str, Any]],
    add_generation_prompt: bool = True,
    bos_token: str = "",
    eos_token: str = "",
    **extra: Any,
) -> str:
    """The prompt for a list of {"role": …, "content": …}; `extra`: further variables, such as `tools`.

    Raises TokenizerError if the template is not valid, fails, or refuses the messages.

        render(tokenizer.chat_template, [{"role": "user", "content": "Hello"}])
    """
    from jinja2 import TemplateError

    try:
        return _compile(template).render(
            messages=messages,
            add_generation_prompt=add_generation_prompt,
            bos_token=bos_token,
            eos_token=eos_token,
            **extra,
        )
    except TemplateError as error:
        lineno = getattr(error, "lineno", None)  # syntax errors have it
        line = f" (line {lineno})" if lineno else ""
        raise TokenizerError(f"chat template: {error.message or type(error).__name__}{line}") from error
    # A template is a program: it can divide by zero, add a string to a number or recurse without end.
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise TokenizerError(f"chat template: {type(error).__name__}: {error}") from error


@lru_cache(maxsize=8)
def _compile(template: str) -> "Template":
    # Jinja takes tens of milliseconds to import, and most programs never render a template.
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json
    environment.globals.update(raise_exception=_raise_exception, strftime_now=_strftime_now)
    return environment.from_string(template)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as it is: Jinja's own filter escapes <, > and & for HTML, which models have not seen."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> NoReturn:
    from jinja2 import TemplateError

    raise TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)
