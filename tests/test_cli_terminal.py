"""Strangers' words on a terminal: control characters are shown and do nothing; a pipe gets the bytes as they are."""

import json
import subprocess
import sys
import unicodedata

import pytest
from terminals import Terminal, environment
from tiny_models import TinyModel, write_text_model

from pyinfer.cli.terminal import sanitized

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="terminals of POSIX")

CONTROLS = [chr(c) for c in (*range(0x20), *range(0x7F, 0xA0))]


def as_bpe(text):
    """A text as byte-level vocabularies write it: bytes that are not printable, in order, from U+0100 on."""
    others = [b for b in range(256) if not (33 <= b <= 126 or 161 <= b <= 172 or 174 <= b <= 255)]
    return "".join(chr(256 + others.index(b)) if b in others else chr(b) for b in text.encode())


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model that says every control character."""
    texts = {33 + i: as_bpe(text) for i, text in enumerate([*CONTROLS, "\x1b]52;c;aGk=\x07", "\x9b2J", "ä"])}
    model = TinyModel("llama", n_layers=1, n_vocab=128, n_ctx=4096)
    return str(write_text_model(tmp_path_factory.mktemp("terminal") / "model.gguf", model, texts))


@pytest.fixture
def terminal(tmp_path):
    opened = []

    def start(*args):
        command = [sys.executable, "-m", "pyinfer", *args]
        opened.append(Terminal(command, environment(tmp_path, TERM="dumb", PYTHONIOENCODING="utf-8")))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


def controls(shown):
    """The control characters of what a terminal was sent, but for those that it may be sent."""
    return {c for c in shown.replace("\r\n", "\n") if unicodedata.category(c) == "Cc" and c not in "\n\t"}


class Screen:
    def isatty(self):
        return True


def test_control_characters_become_pictures_and_all_others_stay():
    for c in map(chr, range(0x3000)):
        shown = sanitized(c, Screen())
        if unicodedata.category(c) == "Cc" and c not in "\n\t":
            assert shown.isprintable() and shown != c
        else:
            assert shown == c
    assert sanitized("\x1b[2J\x07\r\x7f \x9b2J \x9d", Screen()) == "␛[2J␇␍␡ ␛[2J ␛]"


def test_run_shows_them_on_a_terminal_and_passes_them_to_a_pipe(model, terminal, tmp_path):
    args = ["run", "--model", model, "--raw", "abc", "-n", "600", "--seed", "1", "--temp", "3", "--min-p", "0"]
    args += ["--top-k", "0", "--top-p", "1"]
    env = environment(tmp_path, PYTHONIOENCODING="utf-8")
    done = subprocess.run([sys.executable, "-m", "pyinfer", *args], capture_output=True, env=env, timeout=60)
    raw = done.stdout.decode()
    assert "\x1b" in raw and len(controls(raw)) > 10
    screen = terminal(*args)
    assert screen.status() == 0
    _, _, text = screen.seen.partition("\r\x1b[K")  # the end of the bar that loading draws
    assert text.replace("\r\n", "\n") == sanitized(raw, Screen()) and not controls(text)


def test_chat_shows_them_in_answers_and_notices(model, terminal, tmp_path):
    dialogue = tmp_path / "chat.json"
    dialogue.write_text(json.dumps([{"role": "user", "content": "\x1b[2J"}]))
    chat = terminal("chat", model, "--template", "chatml", "-n", "300", "--seed", "1", "--temp", "3", "--top-k", "0")
    chat.expect("> ")
    chat.send("/params ignore_eos True\n")
    chat.expect("ignore_eos True\r\n> ")
    chat.send("Hello\n")
    chat.expect("Hello\r\r\n")  # as the line editor shows it
    answer = chat.expect("the answer was cut")
    assert "␛" in answer and not controls(answer)
    chat.expect("> ")
    chat.send(f"/load {dialogue}\n")
    chat.expect("1 messages are loaded\r\n> ")
    chat.send("/undo\n")
    chat.expect("taken back: ␛[2J\r\n")


def test_inspect_and_errors_show_them(terminal, tmp_path):
    odd = tmp_path / "odd.gguf"
    write_text_model(odd, TinyModel("llama", n_layers=1, n_vocab=128, metadata={"\x1b[31mkey": 1}))
    screen = terminal("inspect", str(odd))
    assert screen.status() == 0 and "␛[31mkey" in screen.seen and not controls(screen.seen)
    screen = terminal("inspect", str(tmp_path / "\x1b[2Jmissing.gguf"))
    assert screen.status() == 1 and "␛[2Jmissing.gguf" in screen.seen and not controls(screen.seen)
