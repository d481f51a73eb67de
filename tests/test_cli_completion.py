"""Scripts for shells, and suggestions for names that there are not."""

import re
import shutil
import subprocess

import pytest

from pyinfer.cli.main import COMMANDS, main
from pyinfer.hub.catalogue import CATALOGUE
from pyinfer.suggestions import close_names, did_you_mean

TRY = """
complete() { :; }
eval "$1"
COMP_WORDBREAKS=$' :='
COMP_LINE=$2 COMP_POINT=${#2}
_pyinfer
echo "${COMPREPLY[*]}"
"""


@pytest.fixture
def script(capsys):
    def print_script(shell: str) -> str:
        assert main(["completion", shell]) == 0
        return capsys.readouterr().out

    return print_script


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    "line, words",
    [
        ("pyinfer r", "run rm"),
        ("pyinfer run --te", "--template --temp --temperature"),
        ("pyinfer run --weights ", "copy mmap"),
        ("pyinfer run --weights m", "mmap"),
        ("pyinfer run smollm2:", "135m 360m 1.7b"),  # bash replaces what follows the colon
        ("pyinfer run --raw -m lla", "llama3.2:1b llama3.2:3b"),
        ("pyinfer run --raw gemma3:270", "270m"),
        ("pyinfer run -n ", ""),
        ("pyinfer rm --", "--help --yes"),
        ("pyinfer completion ", "bash zsh fish"),
    ],
)
def test_bash_completes(script, line, words):
    done = subprocess.run(["bash", "-c", TRY, "bash", script("bash"), line], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == (words, "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_is_valid_and_knows_commands_options_and_models(script, shell):
    text = script(shell)
    assert all(command in text for command in COMMANDS)
    assert all(name.replace(":", r"\:") in text or name in text for name in CATALOGUE)
    assert "weights" in text and "mmap" in text
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} to check it")
    done = subprocess.run([shell, "-n", "/dev/stdin"], input=text, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "word, names",
    [
        ("llama3.2", ["llama3.2:1b", "llama3.2:3b"]),
        ("smollm2", ["smollm2:135m", "smollm2:360m", "smollm2:1.7b"]),
        ("SmolLM2:1b", ["smollm2:135m", "smollm2:360m", "smollm2:1.7b"]),
        ("lama3.2:3b", ["llama3.2:3b", "llama3.2:1b"]),
        ("mistral", []),
        ("", []),
    ],
)
def test_the_names_that_a_word_may_mean(word, names):
    assert close_names(word, CATALOGUE) == names


def test_suggestions_are_a_question():
    assert did_you_mean("b", ["bc"]) == "; did you mean bc?"
    assert did_you_mean("b", ["b1", "b2", "b3"]) == "; did you mean b1, b2 or b3?"
    assert did_you_mean("x", ["b1"]) == ""


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["rnu", "hi"], r"invalid choice: 'rnu' .*; did you mean run\?"),
        (
            ["run", "hi", "--tempreature", "0"],
            r"run: error: unrecognized arguments: --tempreature; did you mean --te",
        ),
        (["chat", "--speculative", "lokup"], r"invalid choice: 'lokup' .*; did you mean lookup\?"),
        (["inspect", "x", "--tensor-names"], r"unrecognized arguments: --tensor-names; did you mean --tensors\?"),
        (["list", "--xyzzy"], r"unrecognized arguments: --xyzzy\n$"),
    ],
)
def test_the_command_or_option_that_was_meant(capsys, arguments, says):
    with pytest.raises(SystemExit) as error:
        main(arguments)
    assert error.value.code == 2

    assert re.search(says, capsys.readouterr().err, re.DOTALL)


def test_an_unknown_model_suggests_names(capsys):
    assert main(["inspect", "llama3.2"]) == 1
    assert "did you mean llama3.2:1b or llama3.2:3b?" in capsys.readouterr().err
