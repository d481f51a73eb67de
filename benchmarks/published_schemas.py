"""Compile published JSON schemas: how many compile, how long it takes, and what is not held exactly.

    python benchmarks/published_schemas.py FOLDER MODEL.gguf [--show]

FOLDER holds schemas as `*.json`, such as SchemaStore's `src/schemas/json`, or is the `cache.sqlite` of the package
`schemastore`. MODEL is a GGUF file of which only the vocabulary is read.
"""

from __future__ import annotations

import argparse
import io
import json
import pickle
import sqlite3
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pyinfer import Guide, ParameterError, load_tokenizer

SLOW = 1.0  # seconds of a core


def schemas(path: Path) -> Iterator[tuple[str, str]]:
    """(name, text) of each schema."""
    if path.is_dir():
        for file in sorted(path.glob("*.json")):
            yield file.name, file.read_text("utf-8-sig", errors="replace")
        return
    for key, response in sqlite3.connect(path).execute("select key, value from responses"):
        content = _Responses(io.BytesIO(response)).load()["_content"]
        text = content.decode("utf-8-sig", errors="replace") if isinstance(content, bytes) else str(content)
        try:
            schema = json.loads(text)
        except ValueError:
            continue
        # neither the catalog nor a test of the network
        if isinstance(schema, dict) and not {"schemas", "origin"} & schema.keys():
            yield key, text


class _Responses(pickle.Unpickler):
    """Reads stored responses without the classes, and so without the code, that they name."""

    def find_class(self, module: str, name: str) -> Any:
        return type(name, (dict,), {"__init__": lambda self, *_: None, "__setstate__": lambda self, _: None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("model")
    parser.add_argument("--show", action="store_true", help="print each schema that is refused or slow")
    parser.add_argument("--only", default="", help="a part of the schemas' names")
    given = parser.parse_args()
    tokenizer = load_tokenizer(given.model)
    Guide.regex("a").matcher(tokenizer)
    times: list[float] = []
    counts: Counter[str] = Counter()
    for name, text in schemas(given.folder):
        if given.only not in name:
            continue
        started = time.process_time()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                Guide.json(text).matcher(tokenizer)
                outcome = "with warnings" if caught else "exact"
            except ParameterError as error:
                outcome = "refused"
                if given.show:
                    print(f"{name} ({len(text)}): {str(error)[-300:]}", flush=True)
        took = time.process_time() - started
        times.append(took)
        counts[outcome] += 1
        counts["within a second"] += outcome != "refused" and took <= SLOW
        if took > SLOW and given.show:
            print(f"{name} ({len(text)}): {outcome}, {took:.1f} s", flush=True)
    times.sort()
    print(f"{len(times)} schemas: {dict(counts)}")
    print(
        f"seconds of a core: median {times[len(times) // 2]:.3f}, 99 of 100 below {times[len(times) * 99 // 100]:.2f}"
    )
    print(f"longest {times[-1]:.2f}")


if __name__ == "__main__":
    main()
