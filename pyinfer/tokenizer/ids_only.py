"""Models without a vocabulary (`none`, `test`): they take and give ids, not text."""

from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np

from pyinfer.errors import TokenizerError
from pyinfer.tokenizer.base import Tokenizer
from pyinfer.tokenizer.vocabulary import Strings, Vocabulary


class IdsOnlyTokenizer(Tokenizer):
    """Knows how many ids there are, if the file says so; every text is a TokenizerError."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        size = metadata.get(f"{metadata.get('general.architecture')}.vocab_size", 0)
        n = int(size) if isinstance(size, (int, np.integer)) and size > 0 else 0
        nothing = np.zeros(0, np.int64)
        texts = Strings(np.zeros(0, np.uint8), nothing, nothing)
        types = nothing.astype(np.int32)
        super().__init__(Vocabulary("default", texts, file_types=types, types=types), add_bos=False)
        self.n_vocab = n

    def encode(
        self, text: str, add_special: bool = True, parse_special: bool = False, continues: bool = False
    ) -> list[int]:
        """Raises TokenizerError."""
        self._refuse()

    def is_special(self, token: int) -> bool:
        """False: no id means anything."""
        self._checked(token)
        return False

    def is_user_defined(self, token: int) -> bool:
        """False: no id means anything."""
        self._checked(token)
        return False

    def _encode_plain(self, text: bytes, after_special: bool) -> list[int]:
        self._refuse()

    def _token_bytes(self, token: int) -> bytes:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise TokenizerError("the model has no vocabulary; it takes and gives token ids only")
