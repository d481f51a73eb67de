"""argparse's parser, which also says which option was meant."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from typing import NoReturn

from pyinfer.suggestions import did_you_mean

INVALID_CHOICE = re.compile(r"invalid choice: '([^']*)'")


class Parser(argparse.ArgumentParser):
    """A parser of a command. What it does not know is an error of the command, and not of the program as a whole.

    `words`: the name of a positional argument of any number of words, which may also stand between and behind options.
    """

    words: str | None = None

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        found, rest = super().parse_known_args(args, namespace)
        if self.words is not None:
            getattr(found, self.words).extend(word for word in rest if not is_option(word))
            rest = [word for word in rest if is_option(word)]
        if rest:
            options = [word.partition("=")[0] for word in rest if is_option(word)]
            hint = did_you_mean(options[0], self.option_names()) if options else ""
            self.error(f"unrecognized arguments: {' '.join(rest)}{hint}")
        return found, rest

    def option_names(self) -> list[str]:
        """The long options."""
        return [name for action in self._actions for name in action.option_strings if name.startswith("--")]

    def error(self, message: str) -> NoReturn:
        """End with status 2, the usage and an error; for a wrong choice, it says which is close."""
        wrong = INVALID_CHOICE.search(message)
        choices = [str(name) for action in self._actions for name in action.choices or ()]
        hint = did_you_mean(wrong[1], choices) if wrong else ""
        self.print_usage(sys.stderr)
        self.exit(2, f"{self.prog}: error: {message}{hint}\n")


def is_option(word: str) -> bool:
    return word.startswith("-") and word != "-"
