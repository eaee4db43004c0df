"""Render the help of commands: an example first, then options grouped by purpose."""

from __future__ import annotations

import inspect
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable
from typing import Any

from typer.core import TyperCommand, TyperGroup

from sizewise.cli.renamed import renamed_command
from sizewise.errors import UsageError

WIDTH = 80
INDENT = 2
NAME_COLUMN = 26
"""Widest column of option names; a longer name gets a line of its own."""
EXAMPLE = "Example: "


class Command(TyperCommand):
    """A command with help that starts with an example, and options that exclude each other."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help text of the command."""
        formatter.write(command_help(self, ctx))

    def invoke(self, ctx: Any) -> Any:
        """Run the command.

        Raises:
            UsageError: --json and --csv were both given.
        """
        if ctx.params.get("json") and ctx.params.get("csv"):
            raise UsageError("--json and --csv were both given.", "one output format", f"{ctx.command_path} ... --json")
        return super().invoke(ctx)


class Group(TyperGroup):
    """A group of commands; a command name from before version 2 fails with a message that states the new one."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help text of the group."""
        formatter.write(group_help(self, ctx))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find a command by its name.

        Raises:
            UsageError: the command was renamed.
        """
        new = renamed_command(args[0]) if args and ctx.parent is None and not ctx.resilient_parsing else None
        if new is not None:
            raise UsageError(
                f"`sizewise {args[0]}` is now `sizewise {new}`.", f"the command {new}", f"sizewise {new} --help"
            )
        return super().resolve_command(ctx, args)


def command_help(command: Any, ctx: Any) -> str:
    """Render the help of one command."""
    arguments = [
        parameter for parameter in command.params if parameter.param_type_name == "argument" and not parameter.hidden
    ]
    options = [
        parameter
        for parameter in command.get_params(ctx)
        if parameter.param_type_name == "option" and not parameter.hidden
    ]
    usage = " ".join(
        [
            ctx.command_path,
            "[OPTIONS]",
            *(parameter.metavar if parameter.required else f"[{parameter.metavar}]" for parameter in arguments),
        ]
    )
    examples, description = _split(command.help or "")
    groups = {"Arguments": [(parameter.metavar, _described(parameter, ctx)) for parameter in arguments]}
    for option in options:
        panel = getattr(option, "rich_help_panel", None) or "Other"
        groups.setdefault(panel, []).append((_option_name(option), _described(option, ctx)))
    other = groups.pop("Other", [])
    return _page([*examples, "", *description, "", *_wrapped(f"Usage: {usage}", "       ")], groups | {"Other": other})


def group_help(group: Any, ctx: Any) -> str:
    """Render the help of a group of commands."""
    examples, description = _split(group.help or "")
    groups: dict[str, list[tuple[str, str]]] = {}
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        panel = getattr(command, "rich_help_panel", None)
        summary = _split(command.help or "")[1]
        groups.setdefault(panel if isinstance(panel, str) else "Commands", []).append(
            (name, re.split(r"(?<=\.)\s", " ".join(summary))[0])
        )
    options = [
        (_option_name(parameter), _described(parameter, ctx))
        for parameter in group.get_params(ctx)
        if parameter.param_type_name == "option" and not parameter.hidden
    ]
    usage = f"Usage: {ctx.command_path} [OPTIONS] COMMAND ..."
    return _page([*examples, "", *description, "", usage], groups | {"Options": options})


def _split(text: str) -> tuple[list[str], list[str]]:
    """Split a docstring into the lines of its examples and its wrapped description."""
    examples: list[str] = []
    description: list[str] = []
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        if paragraph.startswith(EXAMPLE):
            examples += paragraph.splitlines()
        elif paragraph:
            description += ["", *_wrapped(" ".join(paragraph.split()))]
    return examples, description[1:]


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, help_width(), subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def help_width() -> int:
    """Return the width of help text: the terminal's, but at most 80; 80 through a pipe."""
    return min(WIDTH, max(40, shutil.get_terminal_size((WIDTH, 24)).columns))


def _option_name(option: Any) -> str:
    names = ", ".join(sorted(option.opts, key=len))
    return names if option.is_flag or option.count else f"{names} {option.metavar or 'VALUE'}"


def _described(parameter: Any, ctx: Any) -> str:
    """Return the help of a parameter with its default and whether it is required or repeatable."""
    notes = []
    if parameter.param_type_name == "option":
        if parameter.multiple:
            notes.append("repeatable")
        if parameter.required:
            notes.append("required")
        default = parameter.get_default(ctx, call=False)
        if not (parameter.is_flag or default in (None, "", (), []) or callable(default)):
            notes.append(f"default:\u00a0{default}")  # stays on one line
    return " ".join([parameter.help or "", *([f"[{'; '.join(notes)}]"] if notes else [])])


def _page(head: list[str], groups: dict[str, list[tuple[str, str]]]) -> str:
    """Render a page of help; a column of names on the left, wrapped descriptions on the right."""
    lines = list(head)
    names = [name for rows in groups.values() for name, _ in rows if len(name) <= NAME_COLUMN]
    column = INDENT + max(map(len, names), default=0) + INDENT
    for title, rows in groups.items():
        if rows:
            lines += ["", _bold(title)]
        for name, description in rows:
            lines += _row(name, description, column)
    return "\n".join(lines).strip("\n") + "\n"


def _row(name: str, description: str, column: int) -> Iterable[str]:
    wrapped = textwrap.wrap(description, help_width() - column, break_long_words=False, break_on_hyphens=False)
    text = [line.replace("\u00a0", " ") for line in wrapped] or [""]
    first = " " * INDENT + name
    if len(first) > column - INDENT:
        return [first, *(" " * column + line for line in text)]
    return [(first.ljust(column) + text[0]).rstrip(), *(" " * column + line for line in text[1:])]


def _bold(text: str) -> str:
    return f"\x1b[1m{text}\x1b[0m" if sys.stdout.isatty() and "NO_COLOR" not in os.environ else text
