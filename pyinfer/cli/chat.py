"""`pyinfer chat`: a conversation on the terminal, or with the lines of a pipe as messages."""

from __future__ import annotations

import argparse
import ast
import os
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import IO, Any

from pyinfer.api.llm import LLM
from pyinfer.chat import choose_template, encode_chat
from pyinfer.cli.arguments import add_generation_arguments, load_model, sampling_params
from pyinfer.cli.dialogue import Dialogue, Message
from pyinfer.cli.line_input import LineInput
from pyinfer.cli.parser import Parser
from pyinfer.cli.speed import speed
from pyinfer.cli.terminal import sanitized, show
from pyinfer.errors import ParameterError, PyinferError
from pyinfer.hub.catalogue import DEFAULT_MODEL
from pyinfer.hub.packaged import cache_dir
from pyinfer.sampling.params import SamplingParams

HELP = """\
/reset               forget the conversation, but not the system message
/system [TEXT | -]   show, set or remove the system message
/undo                take back the last turn
/regen               answer the last message anew
/params [NAME [VALUE]]   show or set sampling parameters, such as /params temperature 0.2
/stats               tokens and speed after each answer, or no more
/save FILE, /load FILE   the conversation as JSON
/quit                leave, as Ctrl-D does
A line that ends with \\ goes on in the next; \"\"\" begins and ends a message of several lines. A pasted text is
one message. Ctrl-C stops an answer and keeps what came of it; what is typed meanwhile waits in the next line."""
DIM, PLAIN = "\x1b[2m", "\x1b[0m"
UNUSED_PARAMS = ("n", "best_of", "logprobs", "prompt_logprobs", "logits_processors", "guide")  # of no use in a chat


def add_arguments(p: Parser) -> None:
    p.set_defaults(model=DEFAULT_MODEL)
    p.add_argument(
        "model",
        nargs="?",
        default=argparse.SUPPRESS,
        help=f"a GGUF file or a model's name (default: {DEFAULT_MODEL})",
    )
    # without this, argparse would read -m as short for -md, the draft model
    p.add_argument("-m", "--model", default=argparse.SUPPRESS, help="the same, as `pyinfer run` has it")
    add_generation_arguments(p)
    p.add_argument("--stats", action="store_true", help="tokens and speed after each answer")


def run(args: argparse.Namespace) -> int:
    params = sampling_params(args)
    with load_model(args) as llm:
        llm.engine.check_decoder()
        choose_template(llm.tokenizer, args.template)
        chat = TerminalChat(llm, params, Dialogue(args.system), args.template, args.stats)
        converse(chat, LineInput(cache_dir() / "chat_history", chat.completions))
    return 0


def converse(chat: TerminalChat, lines: LineInput) -> None:
    """Read and answer messages until the input ends.

    Ctrl-C pressed twice at the prompt also ends it; where the input is no terminal, once suffices.
    """
    if lines.interactive:
        notice(f"{chat.llm.path.name}; /help shows what can be done here, Ctrl-D leaves")
    asked_to_leave = False
    while not chat.left:
        try:
            message = lines.message()
            asked_to_leave = False
        except EOFError:
            if lines.interactive:
                notice("")
            return
        except KeyboardInterrupt:
            if asked_to_leave or not lines.interactive:
                raise
            asked_to_leave = True
            notice("\nCtrl-C again leaves")
            continue
        try:
            with lines.quiet():
                chat.handle(message)
        except KeyboardInterrupt:
            if not lines.interactive:
                raise
            notice("stopped, and the message is taken back")
        except PyinferError as error:
            notice(f"error: {error}")
        except OSError as error:
            if error.filename is None:  # an error of the output, not of a file that a command named
                raise
            notice(f"error: {error.filename}: {error.strerror}")


class TerminalChat:
    """A conversation with a model, and the commands that change it. `left`: whether /quit was given."""

    def __init__(
        self, llm: LLM, params: SamplingParams, dialogue: Dialogue, template: str | None, shows_stats: bool
    ) -> None:
        self.llm = llm
        self.params = params
        self.dialogue = dialogue
        self.left = False
        self._template = template
        self._shows_stats = shows_stats
        self._commands: dict[str, Callable[[str], None]] = {
            "help": lambda _: notice(HELP),
            "reset": self._reset,
            "system": self._system,
            "undo": self._undo,
            "regen": self._regen,
            "params": self._params,
            "stats": self._stats,
            "save": self._save,
            "load": self._load,
            "quit": self._quit,
        }

    def handle(self, text: str) -> None:
        """Answer a message or run a command. An error (PyinferError, OSError) leaves the conversation as it was."""
        command, _, rest = text.strip().partition(" ")
        if command.startswith("/") and command[1:].isalpha():
            if command[1:] not in self._commands:
                raise ParameterError(f"{command} is no command; /help shows them")
            self._commands[command[1:]](rest.strip())
        elif text.strip():
            self.answer(text)

    def completions(self, line: str) -> list[str]:
        """Return the commands, or commands with a parameter's name, that begin with this line."""
        if line.startswith("/params "):
            options = [f"/params {name} " for name in self._settable()]
        else:
            options = [f"/{name} " for name in self._commands]
        return [option for option in options if option.startswith(line)] if line.startswith("/") else []

    def answer(self, text: str) -> None:
        """Add a user's message and the model's answer to it, which is shown as it comes."""
        n_before, dropped_before = len(self.dialogue.messages), self.dialogue.n_dropped
        self.dialogue.add({"role": "user", "content": text})
        try:
            n_ctx = self.llm.n_ctx
            n_answer = min(self.params.max_tokens or n_ctx, n_ctx // 4)
            if n_turns := self.dialogue.fit(self._count, n_ctx, n_answer):
                notice(
                    f"the context of {n_ctx} tokens is full: the model does not see the {n_turns} oldest turns any more"
                )
            self.dialogue.add(self._stream())
        except BaseException:
            del self.dialogue.messages[n_before:]
            self.dialogue.n_dropped = dropped_before
            raise

    def _stream(self) -> Message:
        """Show an answer and return it, up to where Ctrl-C stopped it. Raises KeyboardInterrupt if nothing came."""
        stream = self.llm.stream_chat(self.dialogue.seen(), self.params, template=self._template, reasoning=True)
        printer = AnswerPrinter()
        try:
            for delta in stream:
                printer.show(delta.reasoning, delta.content)
        except KeyboardInterrupt:
            stream.close()
            if not printer.began or not sys.stdin.isatty():
                raise
            printer.end()
            notice("stopped")
            return stream.answer.as_dict()
        printer.end()
        done = stream.completion
        if done is not None and done.finish_reason == "length":
            notice("the answer was cut: it has as many tokens as max_tokens or the context allows")
        if self._shows_stats and done is not None:
            notice(speed(done.completion))
        return stream.answer.as_dict()

    def _count(self, messages: list[Message]) -> int:
        return len(encode_chat(self.llm.tokenizer, messages, self._template))

    def _reset(self, _: str) -> None:
        self.dialogue.reset()
        notice("the conversation begins anew")

    def _system(self, text: str) -> None:
        if text:
            self.dialogue.system = None if text == "-" else text
        notice("no system message" if self.dialogue.system is None else f"system: {self.dialogue.system}")

    def _undo(self, _: str) -> None:
        text = self.dialogue.take_back_turn()
        notice("there is nothing to take back" if text is None else f"taken back: {text}")

    def _regen(self, _: str) -> None:
        messages = list(self.dialogue.messages)
        text = self.dialogue.take_back_turn()
        if text is None:
            raise ParameterError("there is no message to answer")
        try:
            self.answer(text)
        except BaseException:
            self.dialogue.messages = messages
            raise

    def _params(self, text: str) -> None:
        name, _, value = text.partition(" ")
        settable = self._settable()
        if name and name not in settable:
            raise ParameterError(f"{name!r:.60} is no parameter; expected one of {', '.join(settable)}")
        if value.strip():
            self.params = replace(self.params, **{name: parsed(value.strip())})
        for shown in [name] if name else settable:
            notice(f"{shown} {getattr(self.params, shown)!r}")

    def _settable(self) -> list[str]:
        return [field.name for field in fields(self.params) if field.name not in UNUSED_PARAMS]

    def _stats(self, _: str) -> None:
        self._shows_stats = not self._shows_stats
        notice(f"tokens and speed are {'' if self._shows_stats else 'not '}shown")

    def _save(self, name: str) -> None:
        self.dialogue.save(file_named(name, "/save"))
        notice(f"{len(self.dialogue.messages)} messages are saved in {name}")

    def _load(self, name: str) -> None:
        self.dialogue.load(file_named(name, "/load"))
        notice(f"{len(self.dialogue.messages)} messages are loaded")

    def _quit(self, _: str) -> None:
        self.left = True


class AnswerPrinter:
    """Shows an answer on standard output while it is generated; on a terminal its reasoning, too, dimmed.

    `began`: whether anything of the answer has come.
    """

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._dims = colours(sys.stdout)
        self._in_reasoning = False
        self.began = False

    def show(self, reasoning: str, content: str) -> None:
        self.began = True
        if reasoning and self._terminal:
            if not self._in_reasoning:
                self._mark(DIM if self._dims else "reasoning: ")
            self._in_reasoning = True
            show(reasoning)
        if content:
            self._end_reasoning("\n\n")
            show(content)

    def end(self) -> None:
        self._end_reasoning("")
        show("\n")

    def _end_reasoning(self, gap: str) -> None:
        if self._in_reasoning:
            self._mark((PLAIN if self._dims else "") + gap)
            self._in_reasoning = False

    def _mark(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


def colours(file: IO[Any]) -> bool:
    """Whether a file is a terminal that shows colours (https://no-color.org)."""
    return file.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def notice(text: str) -> None:
    """Show a message of the program on standard error, apart from the model's text."""
    text = sanitized(text, sys.stderr)
    sys.stderr.write(f"{DIM}{text}{PLAIN}\n" if text and colours(sys.stderr) else f"{text}\n")
    sys.stderr.flush()


def parsed(value: str) -> Any:
    """Return the value that Python reads from a text, or else the text itself."""
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return value


def file_named(name: str, command: str) -> Path:
    if not name:
        raise ParameterError(f"{command} needs the name of a file")
    return Path(name).expanduser()
