"""The examples of docs/structured-output.md, run one after the other."""

import re

import pytest
from conftest import ROOT
from guided_texts import MERGES
from tiny_vocabularies import CONTROL, bpe_metadata

from pyinfer.gguf import GGUFWriter

for extra in ("llguidance", "pydantic"):
    pytest.importorskip(extra, reason=f"{extra} is not installed")
PAGE = ROOT / "docs" / "structured-output.md"


def test_examples_run(tmp_path, monkeypatch, capsys):
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    metadata = bpe_metadata(MERGES, {"<|im_end|>": CONTROL})
    GGUFWriter(tmp_path / "model.gguf", {"general.architecture": "llama", **metadata}).write()
    monkeypatch.chdir(tmp_path)
    names = {}

    for example in examples:
        exec(compile(example, str(PAGE), "exec"), names)

    message, answer = capsys.readouterr().out.splitlines()
    assert message.startswith("json guide") and message.endswith("minItems (3) is greater than maxItems (2)")
    assert answer in ("yes", "no", "I don't know")
    assert names["guide"].matcher(names["tokenizer"]).forced()
    for grammar in ("sums", "call", "person", "phone"):
        names[grammar].matcher(names["tokenizer"])
