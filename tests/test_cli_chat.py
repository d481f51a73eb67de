"""`pyinfer chat`, on a pseudo-terminal and with a pipe."""

import json
import re
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from terminals import READ, READING, Terminal, environment
from tiny_models import TinyModel, write_text_model

import pyinfer
from pyinfer.cli.dialogue import Dialogue
from pyinfer.cli.type_ahead import plain_text
from pyinfer.errors import ParameterError

PACKAGE = Path(pyinfer.__file__).parent.parent

posix = pytest.mark.skipif(sys.platform == "win32", reason="terminals of POSIX")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> str:
    model = TinyModel("llama", n_layers=1, n_vocab=128, n_ctx=32768)
    return str(write_text_model(tmp_path_factory.mktemp("chat") / "tiny.gguf", model))


def command(*args: str) -> list[str]:
    return [sys.executable, "-m", "pyinfer", "chat", *args]


def piped(tmp_path: Path, text: str | bytes, *args: str) -> tuple[str, str]:
    data = text.encode() if isinstance(text, str) else text
    done = subprocess.run(command(*args), input=data, capture_output=True, env=environment(tmp_path), timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode(), done.stderr.decode()


@pytest.fixture
def terminal(tiny, tmp_path):
    opened = []

    def start(*args: str, **more: str) -> Terminal:
        opened.append(Terminal(command(tiny, "--template", "chatml", *args), environment(tmp_path, **more)))
        opened[-1].expect(READING)
        return opened[-1]

    yield start
    for one in opened:
        one.close()


@posix
def test_ctrl_c_stops_the_answer_and_keeps_what_came(terminal, tmp_path):
    chat = terminal("-n", "30000", "-c", "32000", "--seed", "1")
    chat.send("/params ignore_eos True\n")
    chat.expect("ignore_eos True\x1b[0m")
    chat.expect(READING)
    chat.send("Hello\n")
    chat.expect(READ)
    time.sleep(0.5)
    chat.send("\x03\x03")
    chat.expect("stopped")
    chat.expect(READING)
    chat.send(f"/save {tmp_path / 'kept.json'}\n")
    chat.expect("2 messages are saved")
    chat.expect(READING)
    question, answer = json.loads((tmp_path / "kept.json").read_text())["messages"]
    assert question == {"role": "user", "content": "Hello"}
    assert answer["role"] == "assistant" and answer["content"]
    chat.send("/quit\n")
    assert chat.status() == 0


@posix
def test_ctrl_c_at_the_prompt_clears_the_line_and_twice_leaves(terminal):
    chat = terminal()
    chat.send("half a mess")
    chat.interrupt()
    chat.expect("Ctrl-C again leaves")
    chat.expect(READING)
    chat.send("/system\n")  # anything between begins the count anew
    chat.expect("no system message")
    chat.expect(READING)
    chat.interrupt()
    chat.expect("Ctrl-C again leaves")
    chat.expect(READING)
    chat.interrupt()
    assert chat.status() == 130


@posix
def test_lines_are_edited_and_remembered(terminal, tmp_path):
    chat = terminal()
    chat.send("/systex Be brief.\x1b[D" + "\x1b[D" * 10 + "\x1b[3~m\n")  # back to the x, which becomes an m
    chat.expect("system: Be brief.")
    chat.expect(READING)
    chat.send("\x04")
    assert chat.status() == 0
    history = tmp_path / "chat_history"
    assert "/system Be brief." in history.read_text()
    assert stat.S_IMODE(history.stat().st_mode) == 0o600

    again = terminal()
    again.send("\x1b[A\n")
    again.expect("system: Be brief.")
    again.expect(READING)
    again.send("/sta\t\n")
    again.expect("tokens and speed are shown")


def users_messages(chat: Terminal, file: Path) -> list[str]:
    """What the user has said so far, by /save."""
    chat.send(f"/save {file}\r")
    chat.expect("messages are saved")
    chat.expect(READING)
    return [m["content"] for m in json.loads(file.read_text())["messages"] if m["role"] == "user"]


@posix
@pytest.mark.parametrize("line_break", ["\n", "\r", "\r\n"])
def test_a_pasted_text_is_one_message(terminal, tmp_path, line_break):
    chat = terminal("-n", "3")
    pasted = line_break.join(["first", "/quit", "", "  last"])
    chat.send(f"\x1b[200~{pasted}\x1b[201~")
    chat.send(" and more\r")
    chat.expect(READING)
    assert users_messages(chat, tmp_path / "chat.json") == ["first\n/quit\n\n  last and more"]


@posix
def test_what_is_typed_during_an_answer_is_neither_shown_nor_run(terminal, tmp_path):
    chat = terminal("-n", "1500", "-c", "8000", "--seed", "1", "-t", "1")
    chat.send("/params ignore_eos True\r")
    chat.expect(READING)
    chat.send("Hello\r")
    chat.expect(READ)
    time.sleep(0.3)
    chat.send("Ünd nöw\n/quit\x1b[A\r")
    answer = chat.expect("the answer was cut")
    assert "Ü" not in answer and "quit" not in answer
    chat.expect(READING)
    chat.expect("Ünd")  # it stands in the next line
    chat.send("?\x1b[D\x7f\x1b[C\r")  # and can be edited: without the t before the question mark
    chat.expect(READ)
    chat.expect(READING)
    assert users_messages(chat, tmp_path / "chat.json") == ["Hello", "Ünd nöw\n/qui?"]


@pytest.mark.parametrize(
    "typed, text",
    [
        ("abc", "abc"),
        ("abc\r", "abc"),
        ("one\rtwo\n", "one\ntwo"),
        ("ax\x7fb", "ab"),
        ("\x1b[A\x1bOB\x1b[3~a\x1b[200~b\rc\x1b[201~\x04\x07", "ab\nc"),
    ],
)
def test_early_keys_become_the_text_that_they_would_have_typed(typed, text):
    assert plain_text(typed) == text


@posix
def test_old_messages_leave_the_history(terminal, tmp_path):
    (tmp_path / "chat_history").write_text("".join(f"\n# 2026-01-01\n+message {i}\n" for i in range(1500)))
    chat = terminal()
    chat.send("/quit\r")
    assert chat.status() == 0
    lines = [line for line in (tmp_path / "chat_history").read_text().splitlines() if line.startswith("+")]
    assert lines == [*(f"+message {i}" for i in range(500, 1500)), "+/quit"]


@posix
def test_colours_only_where_they_are_wanted(terminal):
    chat = terminal()
    chat.send("/system\n")
    chat.expect("\x1b[2mno system message\x1b[0m")
    plain = terminal(NO_COLOR="1")
    plain.send("/system\n")
    assert "\x1b[2m" not in plain.expect("no system message")


def test_a_pipe_gives_answers_and_nothing_else(tiny, tmp_path):
    out, err = piped(tmp_path, "Hello\nAnd now?\n", tiny, "--template", "chatml", "-n", "5", "--seed", "1")
    assert out.count("\n") >= 2 and "> " not in out and "\x1b" not in out + err
    assert not (tmp_path / "chat_history").exists()


def test_messages_of_several_lines(tiny, tmp_path):
    text = 'one \\\ntwo\n"""\nthree\n\nfour"""\n/save chat.json\n'
    piped(tmp_path, text.replace("chat.json", str(tmp_path / "chat.json")), tiny, "--template", "chatml", "-n", "1")
    messages = json.loads((tmp_path / "chat.json").read_text())["messages"]
    assert [m["content"] for m in messages if m["role"] == "user"] == ["one \ntwo", "three\n\nfour"]


def test_commands_change_the_conversation(tiny, tmp_path):
    file = tmp_path / "chat.json"
    text = f"/system Be brief.\nA\nB\n/undo\n/regen\n/save {file}\n/reset\n/undo\n/load {file}\n/undo\n/load {file}x\n"
    _, err = piped(tmp_path, text + "/nonsense\n/params top_p 2\n/save\n", tiny, "--template", "chatml", "-n", "2")
    messages = json.loads(file.read_text())["messages"]
    assert [m["role"] for m in messages] == ["system", "user", "assistant"] and messages[1]["content"] == "A"
    expected = ["system: Be brief.", "taken back: B", "3 messages", "begins anew", "nothing to take back"]
    expected[2] = "2 messages are saved"
    expected += ["2 messages are loaded", "taken back: A", "No such file", "/nonsense is no command"]
    at = 0
    for part in [*expected, "top_p is 2; expected", "/save needs the name"]:
        at = err.find(part, at)
        assert at >= 0, f"{part!r} is not in its place in {err!r}"


def test_statistics_show_that_only_new_turns_are_passed(tiny, tmp_path):
    text = "Hello there, this is a message\nAnd another\n"
    _, err = piped(tmp_path, text, tiny, "--template", "chatml", "-n", "3", "--stats")
    (new_1, all_1), (new_2, all_2) = (map(int, m) for m in re.findall(r"prompt: (\d+) new of (\d+)", err))
    assert new_1 == all_1 and all_2 - new_2 >= all_1 - 1


def test_the_oldest_turns_go_when_the_context_is_full(tiny, tmp_path):
    text = "".join(f"{i} {'x' * 60}\n" for i in range(4))
    _, err = piped(tmp_path, text, tiny, "--template", "chatml", "-n", "9", "-c", "320", "--system", "S")
    assert "the context of 320 tokens is full" in err and "error" not in err


def test_a_message_that_does_not_fit_is_an_error_and_the_chat_goes_on(tiny, tmp_path):
    out, err = piped(tmp_path, "x" * 600 + "\nHello\n", tiny, "--template", "chatml", "-n", "3", "-c", "256")
    assert "error: the prompt has" in err and out


def test_bytes_that_are_no_text_are_replaced(tiny, tmp_path):
    file = tmp_path / "chat.json"
    _, err = piped(tmp_path, b"\xff\n/save " + str(file).encode(), tiny, "--template", "chatml", "-n", "1")
    # the tiny model has no token for U+FFFD; others do
    assert "error" in err or json.loads(file.read_text())["messages"][0]["content"] == "\ufffd"


def test_a_model_without_a_template_needs_one(tiny, tmp_path):
    done = subprocess.run(command(tiny), input=b"", capture_output=True, env=environment(tmp_path), timeout=60)
    assert done.returncode == 1 and b"no chat template; template can be" in done.stderr


def test_a_real_model_remembers_the_conversation(real_model, tmp_path):
    model = str(real_model("smollm2-135m-q4_1"))
    out, err = piped(tmp_path, "Say hello.\nWhat did I ask you?\n", model, "-n", "12", "--temp", "0", "--stats")
    assert "ello" in out and len(re.findall("new of", err)) == 2


def turns(n: int) -> Dialogue:
    dialogue = Dialogue("system")
    for i in range(n):
        dialogue.add({"role": "user", "content": f"q{i}"})
        dialogue.add({"role": "assistant", "content": f"a{i}"})
    return dialogue


def test_whole_turns_are_dropped_after_the_system_message():
    dialogue = turns(6)
    n_dropped = dialogue.fit(lambda messages: 10 * len(messages), n_ctx=120, n_answer=20)
    assert n_dropped == 4
    assert [m["content"] for m in dialogue.seen()] == ["system", "q4", "a4", "q5", "a5"]
    assert dialogue.fit(lambda messages: 10 * len(messages), 120, 20) == 0
    assert len(dialogue.messages) == 12


def test_the_last_turn_is_never_dropped():
    dialogue = turns(2)
    assert dialogue.fit(lambda messages: 10**6, 100, 10) == 1
    assert [m["content"] for m in dialogue.seen()] == ["system", "q1", "a1"]


@pytest.mark.parametrize(
    "text, message",
    [
        ("{", "is not JSON"),
        ("{}", "expected"),
        ('[{"role": "user"}]', "message 0"),
        ('[{"role": "user", "content": "a"}, {"role": "system", "content": "b"}]', "message 1"),
    ],
)
def test_files_that_are_no_conversation_are_refused(tmp_path, text, message):
    (tmp_path / "chat.json").write_text(text)
    dialogue = turns(1)
    with pytest.raises(ParameterError, match=message):
        dialogue.load(tmp_path / "chat.json")
    assert len(dialogue.messages) == 2


def test_a_saved_conversation_is_the_one_that_is_loaded(tmp_path):
    turns(2).save(tmp_path / "chat.json")
    dialogue = Dialogue()
    dialogue.load(tmp_path / "chat.json")
    assert dialogue.seen() == turns(2).seen()
    assert [path.name for path in tmp_path.iterdir()] == ["chat.json"]
