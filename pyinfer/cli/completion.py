"""`pyinfer completion`: prints a script by which bash, zsh or fish completes commands, options and models.

The scripts are made of the commands' own parsers, so they know what the commands know. Files are completed as well.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from dataclasses import dataclass

from pyinfer.cli.parser import Parser
from pyinfer.cli.terminal import show
from pyinfer.hub.catalogue import CATALOGUE

MODELS = tuple(CATALOGUE)
COLON = r"\:"  # in the values of zsh's _arguments
TAKES_MODEL = {"model", "name", "words", "draft_model"}  # arguments that may be the name of a model
USES = {
    "bash": 'eval "$(pyinfer completion bash)" in ~/.bashrc',
    "zsh": 'eval "$(pyinfer completion zsh)" in ~/.zshrc, after compinit',
    "fish": "pyinfer completion fish > ~/.config/fish/completions/pyinfer.fish",
}


@dataclass(frozen=True)
class Option:
    """An option of a command, or what stands without one (no flags). `values`: what it may be, if that is known."""

    flags: tuple[str, ...]
    does: str
    values: tuple[str, ...]
    takes_value: bool


@dataclass(frozen=True)
class Command:
    does: str
    options: tuple[Option, ...]
    words: tuple[str, ...]  # values of its arguments without an option


def add_arguments(p: Parser) -> None:
    p.add_argument("shell", choices=tuple(USES), help="; ".join(f"{shell}: {use}" for shell, use in USES.items()))


def run(args: argparse.Namespace) -> int:
    show(SCRIPTS[args.shell](commands_of(args.whole_parser())))
    return 0


def commands_of(parser: argparse.ArgumentParser) -> dict[str, Command]:
    """The commands of the program's parser, by name."""
    (commands,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    does = {choice.dest: choice.help or "" for choice in commands._choices_actions}
    found = {}
    for name, p in commands.choices.items():
        options = [option_of(action) for action in p._actions]
        words = tuple(value for option in options if not option.flags for value in option.values)
        found[name] = Command(does[name], tuple(option for option in options if option.flags), words)
    return found


def option_of(action: argparse.Action) -> Option:
    known = action.choices or (MODELS if action.dest in TAKES_MODEL else ())
    does = re.sub(r" \(default.*", "", (action.help or "").replace("%%", "%"))
    return Option(tuple(action.option_strings), does, tuple(map(str, known)), action.nargs != 0)


def quoted(text: str) -> str:
    """A text in single quotes, as all three shells read it."""
    return "'" + text.replace("'", r"'\''") + "'"


def bash(commands: dict[str, Command]) -> str:
    cases = []
    for name, command in commands.items():
        for option in command.options:
            if option.takes_value:
                flags = "|".join(quoted(f"{name} {flag}") for flag in option.flags)
                cases.append(f"{flags}) words={quoted(' '.join(option.values))} ;;")
        long = [flag for option in command.options for flag in option.flags if flag.startswith("--")]
        cases.append(f"{quoted(f'{name} -')}) words={quoted(' '.join(long))} ;;")
        cases.append(f"{quoted(f'{name} ')}*) words={quoted(' '.join(command.words))} ;;")
    return BASH % (quoted(" ".join(commands)), "\n        ".join(cases))


def zsh(commands: dict[str, Command]) -> str:
    described = "\n        ".join(quoted(f"{name}:{command.does}") for name, command in commands.items())
    cases = []
    for name, command in commands.items():
        specs = []
        for option in command.options:
            does = re.sub(r"([\[\]:\\])", r"\\\1", option.does)
            values = f"({' '.join(option.values)})".replace(":", COLON) if option.values else "_files"
            specs += [quoted(f"{flag}[{does}]" + f":value:{values}" * option.takes_value) for flag in option.flags]
        words = " ".join(map(quoted, command.words))
        specs.append(quoted(f"*:argument:{{ compadd -- {words}; _files }}" if words else "*:argument:_files"))
        cases.append(f"{name}) _arguments {' '.join(specs)} ;;")
    return ZSH % (described, "\n    ".join(cases))


def fish(commands: dict[str, Command]) -> str:
    lines = []
    for name, command in commands.items():
        lines.append(f"complete -c pyinfer -f -n __fish_use_subcommand -a {name} -d {quoted(command.does)}")
        here = f"complete -c pyinfer -n '__fish_seen_subcommand_from {name}'"
        for option in command.options:
            # two dashes: a long option; one and several letters: -o in fish
            names = [
                f"-l {f[2:]}" if f.startswith("--") else f"-{'s' if len(f) == 2 else 'o'} {f[1:]}" for f in option.flags
            ]
            takes = (" -x -a " + quoted(" ".join(option.values)) if option.values else " -r") * option.takes_value
            lines.append(f"{here} {' '.join(names)}{takes} -d {quoted(option.does)}")
        if command.words:
            lines.append(f"{here} -a {quoted(' '.join(command.words))}")
    return "\n".join(lines) + "\n"


# words are split at blanks only: bash's own words end at colons, which models' names have
BASH = """\
_pyinfer() {
    local line=${COMP_LINE:0:COMP_POINT} words
    local -a typed
    read -ra typed <<<"$line"
    [[ $line == *' ' ]] && typed+=('')
    local n=${#typed[@]}
    local cur=${typed[n-1]} before=${typed[n-2]}
    if ((n == 2)); then
        words=%s
    else
        [[ $cur == -* ]] && before=-
        case "${typed[1]} $before" in
        %s
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
    if [[ $cur == *:* && $COMP_WORDBREAKS == *:* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${cur%%"${cur##*:}"}"}")
    fi
}
complete -o bashdefault -o default -F _pyinfer pyinfer
"""
ZSH = """\
#compdef pyinfer
_pyinfer() {
    local -a commands=(
        %s
    )
    if ((CURRENT == 2)); then
        _describe command commands
        return
    fi
    shift words
    ((CURRENT--))
    case $words[1] in
    %s
    esac
}
if [[ $funcstack[1] == _pyinfer ]]; then
    _pyinfer
else
    compdef _pyinfer pyinfer
fi
"""
SCRIPTS: dict[str, Callable[[dict[str, Command]], str]] = {"bash": bash, "zsh": zsh, "fish": fish}
