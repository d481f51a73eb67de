"""Small files of all declared architectures, and what they mean: a NumPy pass in float64 that is not ours.

Both are the reference folder's (architectures/check): files are written from its records, with chosen keys and optional
tensors, and its pass knows nothing but the records. llama.cpp gives the same logits for each of them.
"""

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyinfer.gguf import GGUFFile, GGUFWriter

# YaRN's further keys are read by llama.cpp for few architectures, and by pyinfer wherever a file has them; so are the
# biases of Nomic BERT's feed-forward, which Hugging Face's model adds
LEFT_OUT = re.compile(r"\.yarn$|^nomic-bert\.(?!bare)")


@dataclass
class Case:
    """A file, and the float64 logits (of encoders: hidden states) of its tokens [n, n_vocab or n_embd]."""

    label: str
    architecture: str
    path: Path
    tokens: list[int]
    expected: NDArray[np.float64]


class Cases:
    """The cases of an architecture, made when they are asked for."""

    def __init__(self, folder: Path, target: Path) -> None:
        with importable(folder / "architectures" / "check", target) as modules:
            self._facts, self._run, self._check, self._special = modules

    def of(self, architecture: str) -> list[Case]:
        special = [(case, compute) for case, compute in self._special.tasks if case["label"] == architecture]
        found = [case for case in self._check.cases if case["arch"] == architecture]
        made = [self._made(case) for case in found if not LEFT_OUT.search(case["label"])]
        return made + [self._computed(case, compute) for case, compute in special]

    def _computed(self, case: dict[str, Any], compute: Callable[[Any], NDArray[np.float64]]) -> Case:
        """A case of an architecture that has a pass of its own."""
        expected = compute(self._special.G(case["path"]))
        return Case(case["label"], case["label"], Path(case["path"]), case["tokens"], expected)

    def _made(self, case: dict[str, Any]) -> Case:
        self._run.GELU16 = False  # llama.cpp's table of GELU in float16
        model = self._run.Model(case["path"], self._facts.DENSE[case["arch"]], False, False)
        expected = model.run(np.array(case["tokens"]))
        return Case(case["label"], case["arch"], Path(case["path"]), case["tokens"], expected)


def with_vocabulary(path: Path, target: Path) -> Path:
    """Copy a file of floats, and give it the characters from "!" on as its tokens, the last of which ends a text."""
    with GGUFFile(path) as file:
        n_vocab = file.tensors["token_embd.weight" if "token_embd.weight" in file.tensors else "output.weight"].shape[0]
        kept = {key: value for key, value in file.metadata.items() if not key.startswith("tokenizer.")}
        vocabulary = {
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.tokens": [chr(33 + i) for i in range(n_vocab - 1)] + ["<end>"],
            "tokenizer.ggml.token_type": np.array([1] * (n_vocab - 1) + [3], np.int32),
            "tokenizer.ggml.merges": [],
            "tokenizer.ggml.eos_token_id": n_vocab - 1,
            "tokenizer.ggml.bos_token_id": n_vocab - 1,
            "tokenizer.ggml.add_bos_token": False,
        }
        writer = GGUFWriter(target, kept | vocabulary)
        for info in file.tensors.values():
            writer.add_tensor(info.name, info.rows().view(np.float32).reshape(info.shape))
        writer.write()
    return target


@contextmanager
def importable(folder: Path, target: Path) -> Iterator[list[ModuleType]]:
    """Import the folder's modules, which write their files to `target`; one would run llama.cpp, but for this."""
    os.environ["ARCH_CHECK_OUT"], os.environ["LLAMA_PYTHON"] = str(target), "false"
    sys.path.insert(0, str(folder))
    try:
        yield [__import__(name) for name in ("facts", "run", "check", "special")]
    finally:
        sys.path.remove(str(folder))
        del os.environ["ARCH_CHECK_OUT"], os.environ["LLAMA_PYTHON"]
