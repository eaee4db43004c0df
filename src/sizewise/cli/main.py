"""The app: commands, errors and exit codes.

0 done, 1 failed, 2 wrong usage, 3 a threshold was missed, 70 an unexpected error, 130 interrupted.
"""

from __future__ import annotations

import io
import math
import os
import sqlite3
import sys
import traceback
from importlib import metadata
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from sizewise.cli import (
    audit,
    chat,
    choose,
    compare,
    doctor,
    evaluate,
    export,
    init,
    judge,
    loadtest,
    models,
    read,
    redteam,
    route,
    runs,
    serve,
    study,
    synthesize,
    train,
)
from sizewise.cli.failing import INTERRUPTED, fail, interrupted
from sizewise.errors import SizewiseError, naming_extras

UNEXPECTED = 70  # EX_SOFTWARE of sysexits.h
TRACEBACK = "SIZEWISE_TRACEBACK"


def _refuse_no_number(value: Any) -> Any:
    """Refuse NaN and infinity: no limit, price or share is one, and comparisons with NaN are all false."""
    if isinstance(value, float) and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a finite number.")
    return value


class _Commands(TyperGroup):
    """Commands whose numbers are numbers."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        found = super().get_command(ctx, cmd_name)
        pending = [found] if found else []
        while pending:
            command = pending.pop()
            pending += getattr(command, "commands", {}).values()
            for parameter in command.params:
                parameter.callback = parameter.callback or (lambda ctx, param, value: _refuse_no_number(value))
        return found


app = typer.Typer(
    name="sizewise",
    cls=_Commands,
    help="Find, make, prove and serve the language model that is the right size for your work.\n\n"
    "Start with: sizewise study   (the embedded demo), or: sizewise study FOLDER   (your own text).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"sizewise {metadata.version('sizewise')}\n")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    del version


COMMANDS = (
    study,
    init,
    read,
    synthesize,
    train,
    evaluate,
    compare,
    choose,
    judge,
    export,
    models,
    serve,
    chat,
    loadtest,
    route,
    redteam,
    runs,
    audit,
    doctor,
)
for module in COMMANDS:
    module.register(app)


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    as_json = "--json" in sys.argv[1:]
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # half an emoji, as JSON writes it
    try:
        with naming_extras():
            code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
    except SizewiseError as error:
        fail(error.what, error.expected, error.next_step, as_json)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except (OSError, sqlite3.Error) as error:
        from sizewise.store import Store

        fail(
            f"The system refused: {error}.",
            f"room on the disk and folders that can be read and written; records live in {Store().home}",
            "free some room, or export SIZEWISE_HOME=FOLDER; then run the same command again: it goes on",
            as_json,
        )
        sys.exit(1)
    except Exception as error:
        code = _other(error, as_json)
    if code == INTERRUPTED:  # typer turns Ctrl-C into this code
        interrupted(as_json)
    sys.exit(code if isinstance(code, int) else 0)


def _other(error: Exception, as_json: bool) -> int:
    """Say what went wrong that is no error of ours; return the exit code."""
    if type(error).__name__ == "Abort":  # the end of the input where an answer was asked for
        return INTERRUPTED
    if hasattr(error, "format_message"):
        # Wrong usage: typer carries click's exceptions along without naming them in public.
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "sizewise"
        fail(error.format_message(), "", f"{command} --help", as_json)
        return 2
    if os.environ.get(TRACEBACK, "") not in ("", "0"):
        traceback.print_exception(error)
    said = str(error).strip().partition("\n")[0]
    fail(
        f"An unexpected error: {type(error).__name__}{f': {said}' if said else ''}.",
        "no error of this kind: it is a fault of Sizewise",
        f"run the same command with {TRACEBACK}=1 to see where it happened, and report it",
        as_json,
    )
    return UNEXPECTED
