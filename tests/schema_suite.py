"""The JSON-Schema-Test-Suite: its cases, and what guides do with them."""

import json
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyinfer.errors import ParameterError
from pyinfer.guides.guide import Guide
from pyinfer.tokenizer import Tokenizer

DRAFTS = {
    "draft7": "http://json-schema.org/draft-07/schema#",
    "draft2019-09": "https://json-schema.org/draft/2019-09/schema",
    "draft2020-12": "https://json-schema.org/draft/2020-12/schema",
}
# the folder `tests` of the suite, as in the source distribution of `jsonschema` (json/tests)
SUITE = os.environ.get("JSON_SCHEMA_TEST_SUITE", "")


@dataclass
class Case:
    """A schema, and texts with what the suite says of them."""

    name: str
    schema: Any
    texts: list[tuple[str, str, bool]]


def cases(draft: str) -> Iterator[Case]:
    """The cases of a draft, those of formats included."""
    folder = Path(SUITE) / draft
    for path in sorted([*folder.glob("*.json"), *folder.glob("optional/format/*.json")]):
        for group in json.loads(path.read_text("utf-8")):
            schema = group["schema"]
            if isinstance(schema, dict) and "$schema" not in schema:
                schema = {"$schema": DRAFTS[draft], **schema}
            texts = [
                (test["description"], json.dumps(in_order(test["data"], schema), ensure_ascii=False), test["valid"])
                for test in group["tests"]
            ]
            yield Case(f"{path.relative_to(folder)}: {group['description']}", schema, texts)


def in_order(data: Any, schema: Any) -> Any:
    """Data with the properties that any part of a schema lists, in that order, before others."""
    order: dict[str, None] = {}

    def collect(node: Any) -> None:
        if isinstance(node, dict):
            properties = node.get("properties")
            order.update(dict.fromkeys(properties if isinstance(properties, dict) else ()))
            required = node.get("required")
            order.update(dict.fromkeys(required if isinstance(required, list) else ()))
        for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            collect(child)

    def sort(value: Any) -> Any:
        if isinstance(value, list):
            return [sort(item) for item in value]
        if isinstance(value, dict):
            names = sorted(value, key=lambda name: list(order).index(name) if name in order else len(order))
            return {name: sort(value[name]) for name in names}
        return value

    collect(schema)
    return sort(data)


def accepts(guide: Guide, tokenizer: Tokenizer, text: str) -> bool:
    """Whether a guide lets a model write the text."""
    matcher = guide.matcher(tokenizer)
    try:
        for token in tokenizer.encode(text, add_special=False, continues=True):
            if matcher.finished:
                return False
            matcher.accept(token)
    except ParameterError:
        return False
    return matcher.complete


def outcomes(case: Case, tokenizer: Tokenizer) -> Iterator[tuple[str, str, bool, bool, str]]:
    """(description, text, valid, accepted, "exact", "warned" or an error) of each text of a case."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            guide = Guide.json(case.schema)
            guide.matcher(tokenizer)
        except ParameterError as error:
            yield from ((what, text, valid, False, str(error)) for what, text, valid in case.texts)
            return
    kind = "warned" if caught else "exact"
    for what, text, valid in case.texts:
        yield what, text, valid, accepts(guide, tokenizer, text), kind
