"""A hook of MkDocs: docs/command-line.md lists all commands and their options, as their parsers have them.

In the page's text, `<!-- commands -->` stands where the list belongs.
"""

import argparse
import re
from collections.abc import Iterator
from typing import Any

from pyinfer.cli.main import build_parser

PAGE = "command-line.md"
MARK = "<!-- commands -->"
WIDTH = 78  # characters of a usage line


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Called by MkDocs for each page."""
    return markdown.replace(MARK, commands_as_markdown(build_parser())) if page.file.src_uri == PAGE else markdown


def commands_of(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    """Name, purpose and parser of each command."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for listed in action._choices_actions:
                yield listed.dest, listed.help or "", action.choices[listed.dest]


def commands_as_markdown(parser: argparse.ArgumentParser) -> str:
    return "\n".join(command_as_markdown(*command) for command in commands_of(parser))


def command_as_markdown(name: str, purpose: str, parser: argparse.ArgumentParser) -> str:
    """Return a section: what the command does, how it is called, and a table of its arguments."""
    parser.formatter_class = lambda prog: argparse.HelpFormatter(prog, width=WIDTH)
    usage = re.sub(r"\n +", "\n    ", parser.format_usage().removeprefix("usage: "))
    does = parser.description or f"{purpose[:1].upper()}{purpose[1:]}."
    lines = [f"## pyinfer {name}", "", does, "", "```text", usage.rstrip(), "```", ""]
    lines += ["| argument | |", "| --- | --- |"]
    formatter = parser._get_formatter()
    for action in parser._actions:
        if action.help is not argparse.SUPPRESS and not isinstance(action, argparse._HelpAction):
            meaning = formatter._expand_help(action) if action.help else ""
            lines.append(f"| {', '.join(map(code, spellings(action, formatter)))} | {cell(meaning)} |")
    return "\n".join([*lines, "", *([parser.epilog, ""] if parser.epilog else [])])


def spellings(action: argparse.Action, formatter: argparse.HelpFormatter) -> list[str]:
    """How an argument is written: an option by each of its names, the last one with what follows it."""
    if not action.option_strings:
        return [formatter._metavar_formatter(action, action.dest)(1)[0]]
    *short, long = action.option_strings
    if action.nargs == 0:
        return [*short, long]
    default = formatter._get_default_metavar_for_optional(action)
    return [*short, f"{long} {formatter._format_args(action, default)}"]


def code(text: str) -> str:
    return f"`{cell(text)}`"


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
