"""Models without a vocabulary (`none`, `test`): they take and give ids, not text."""

from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np

from pyinfer.errors import TokenizerError
from pyinfer.gguf.strings import ByteStrings
from pyinfer.tokenizer.base import Tokenizer
from pyinfer.tokenizer.vocabulary import Vocabulary


class IdsOnlyTokenizer(Tokenizer):
    """Knows the number of ids, if the file has it. Every conversion from or to text raises TokenizerError."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        size = metadata.get(f"{metadata.get('general.architecture')}.vocab_size", 0)
        n = int(size) if isinstance(size, (int, np.integer)) and size > 0 else 0
        nothing = np.zeros(0, np.int64)
        texts = ByteStrings(np.zeros(0, np.uint8), nothing, nothing)
        types = nothing.astype(np.int32)
        super().__init__(Vocabulary("default", texts, file_types=types, types=types), add_bos=False)
        self.n_vocab = n

    def encode(
        self, text: str, add_special: bool = True, parse_special: bool = False, continues: bool = False
    ) -> list[int]:
        """Raise TokenizerError."""
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
