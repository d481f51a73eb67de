"""The messages of a chat, those of them that the model still sees, and files that keep them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyinfer.errors import ParameterError
from pyinfer.files import atomic_write

Message = dict[str, Any]


class Dialogue:
    """A system message and turns. A turn begins with a user's message.

    `n_dropped`: how many of the first messages the model does not see any more.
    """

    def __init__(self, system: str | None = None) -> None:
        self.system = system
        self.messages: list[Message] = []
        self.n_dropped = 0

    def reset(self) -> None:
        self.messages, self.n_dropped = [], 0

    def add(self, message: Message) -> None:
        self.messages.append(message)

    def take_back_turn(self) -> str | None:
        """Remove the user's last message and all that follows. Return its text, or None if there is none."""
        for i in range(len(self.messages) - 1, -1, -1):
            if self.messages[i]["role"] == "user":
                text: str = self.messages[i]["content"]
                del self.messages[i:]
                self.n_dropped = min(self.n_dropped, i)
                return text
        return None

    def seen(self) -> list[Message]:
        """Return the messages that the model sees."""
        return self._system_message() + self.messages[self.n_dropped :]

    def _system_message(self) -> list[Message]:
        return [] if self.system is None else [{"role": "system", "content": self.system}]

    def fit(self, count: Callable[[list[Message]], int], n_ctx: int, n_answer: int) -> int:
        """Drop the oldest turns if the prompt leaves no room for an answer of n_answer tokens. Return how many.

        Turns are dropped until half of the context is free, so that the prompts of the next turns share a prefix with
        this one. The last turn stays whatever its length. `count` returns the number of tokens of messages.
        """
        if count(self.seen()) + n_answer <= n_ctx:
            return 0
        n_turns = 0
        while (following := self._second_turn()) is not None and count(self.seen()) > n_ctx // 2:
            self.n_dropped = following
            n_turns += 1
        return n_turns

    def _second_turn(self) -> int | None:
        users = [i for i in range(self.n_dropped, len(self.messages)) if self.messages[i]["role"] == "user"]
        return users[1] if len(users) > 1 else None

    def save(self, path: Path) -> None:
        """Write all messages as JSON, to a file that only its owner can read.

        Raises OSError, and then leaves the file as it was.
        """
        text = json.dumps({"messages": self._system_message() + self.messages}, ensure_ascii=False, indent=2) + "\n"
        with atomic_write(path, 0o600) as file:
            file.write(text.encode())

    def load(self, path: Path) -> None:
        """Replace the messages by those of a file that `save` wrote, or of a JSON list of messages.

        Raises OSError, and ParameterError for any other file, with nothing changed.
        """
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:  # of JSON and of UTF-8
            raise ParameterError(f"{path} is not JSON: {error}") from None
        messages = data.get("messages") if isinstance(data, dict) else data
        if not isinstance(messages, list):
            raise ParameterError(f'{path}: expected {{"messages": […]}} or a list of messages')
        for i, message in enumerate(messages):
            fits = isinstance(message, dict) and isinstance(message.get("content"), str)
            if not fits or message.get("role") not in ("user", "assistant", "system")[: 3 if i == 0 else 2]:
                raise ParameterError(f"{path}: message {i} is {message!r:.60}; expected a role and a content, as text")
        first_is_system = bool(messages) and messages[0]["role"] == "system"
        self.system = messages[0]["content"] if first_is_system else None
        self.messages, self.n_dropped = messages[first_is_system:], 0
