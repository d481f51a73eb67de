"""Chat templates by name, and what a template writes after an answer.

A template comes from the model's file, from a text, or by name from `builtin/`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.abc import Traversable
from importlib.resources import files

from pyinfer.chat.quirks import TemplateQuirks, template_quirks
from pyinfer.chat.rendering import render, template_variables
from pyinfer.errors import ParameterError, TemplateError
from pyinfer.tokenizer import Tokenizer

__all__ = [
    "TemplateQuirks",
    "builtin_templates",
    "choose_template",
    "render",
    "template_quirks",
    "template_variables",
    "turn_ends",
]

PROBE = "pyinfer-probe"
# The mark of a turn, where it is no token of the model: "</s>", "<|user|>", "[INST]", "USER:".
TURN_MARK = re.compile(r"<[^<>\s]+>|\[[^\[\]\s]+\]|\w+:|#+ *\w+")


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


def _builtin() -> Traversable:
    return files("pyinfer.chat") / "builtin"


def _listed(own: Mapping[str, str]) -> str:
    return ", ".join(sorted({*own, *builtin_templates()}))
