"""The types that a prompt may have, and its token ids."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pyinfer.arguments import checked_ids
from pyinfer.errors import ParameterError
from pyinfer.tokenizer import Tokenizer

Prompt = str | Sequence[int] | NDArray[np.integer]


def prompt_ids(prompt: Prompt, tokenizer: Tokenizer, n_vocab: int) -> list[int]:
    """Return a prompt's token ids. Raises ParameterError if there are none, or one is not from 0 to n_vocab - 1."""
    if isinstance(prompt, str):
        ids = tokenizer.encode(prompt)
        if not ids:
            raise ParameterError("the prompt is empty; expected at least one token")
        return ids
    ids = checked_ids(prompt, n_vocab)
    if not ids:
        raise ParameterError("there are no tokens; expected at least one")
    return ids
