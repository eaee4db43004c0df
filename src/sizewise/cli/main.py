"""The command line application: commands, error messages and exit codes.

Exit codes: 0 done, 1 expected failure, 2 wrong usage, 3 a threshold was missed, 70 unexpected error, 130 interrupted.
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

from sizewise.cli import (
    adjust,
    audit,
    bundle,
    chat,
    choose,
    compare,
    decisions,
    deploy,
    doctor,
    evaluate,
    export,
    index,
    init,
    judge,
    keys,
    label,
    loadtest,
    models,
    read,
    redteam,
    route,
    runs,
    serve,
    sharing,
    study,
    synthesize,
    train,
    watch,
)
from sizewise.cli.failing import INTERRUPTED, fail, interrupted, system_failure
from sizewise.cli.help import Group
from sizewise.cli.renamed import renamed_option
from sizewise.errors import SizewiseError, WorkerStopped, naming_extras
from sizewise.launch.address import LAUNCHED, end_with_launcher

UNEXPECTED = 70  # EX_SOFTWARE of sysexits.h
TRACEBACK = "SIZEWISE_TRACEBACK"
DECIDE, MEASURE, SERVE, RECORDS = "Decide", "Data, training and evaluation", "Serve and check", "Records"


def _require_finite(value: Any) -> Any:
    """Refuse NaN and infinity: every comparison with NaN is false, so a limit would never apply."""
    if isinstance(value, float) and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a finite number.")
    return value


class _Commands(Group):
    """Top-level command group whose options accept only finite numbers."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        found = super().get_command(ctx, cmd_name)
        pending = [found] if found else []
        while pending:
            command = pending.pop()
            pending += getattr(command, "commands", {}).values()
            for parameter in command.params:
                parameter.callback = parameter.callback or (lambda ctx, param, value: _require_finite(value))
        return found


app = typer.Typer(
    name="sizewise",
    cls=_Commands,
    help="Find, train, measure and serve the language model that fits your work.\n\n"
    "Start with: sizewise study (a demo with built-in data) or sizewise study FOLDER (your own text).",
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


COMMANDS: dict[str, tuple[Any, ...]] = {
    DECIDE: (study, init, compare, decisions, choose, judge),
    MEASURE: (read, index, synthesize, label, train, adjust, evaluate, watch, export, models),
    SERVE: (serve, deploy, keys, chat, loadtest, redteam, route),
    RECORDS: (runs, sharing, audit, doctor, bundle),
}
for panel, modules in COMMANDS.items():
    for module in modules:
        module.register(app, panel)


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    as_json = "--json" in sys.argv[1:]
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # half of a surrogate pair is escaped as in JSON
    end_with_launcher()
    try:
        with naming_extras():
            code = app(sys.argv[1:] or ["--help"], prog_name="sizewise", standalone_mode=False)
    except WorkerStopped as error:
        sys.exit(error.exit_code)
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

        fail(*system_failure(error, Store().home), as_json)
        sys.exit(1)
    except Exception as error:
        code = _report_error(error, as_json)
    if code == INTERRUPTED and LAUNCHED not in os.environ:  # typer turns Ctrl-C into this code
        interrupted(as_json)
    sys.exit(code if isinstance(code, int) else 0)


def _report_error(error: Exception, as_json: bool) -> int:
    """Print wrong usage or an unexpected error; return the exit code."""
    if type(error).__name__ == "Abort":  # the input ended at a question
        return INTERRUPTED
    if hasattr(error, "format_message"):
        _report_usage(error, as_json)
        return 2
    if os.environ.get(TRACEBACK, "") not in ("", "0"):
        traceback.print_exception(error)
    first_line = str(error).strip().partition("\n")[0]
    fail(
        f"Unexpected error: {type(error).__name__}{f': {first_line}' if first_line else ''}.",
        "a result; this is a bug in Sizewise",
        f"run the same command with {TRACEBACK}=1 to see where it happened, and report it",
        as_json,
    )
    return UNEXPECTED


def _report_usage(error: Any, as_json: bool) -> None:
    """Print wrong usage; typer raises click's exceptions without exporting their types."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "sizewise"
    option = getattr(error, "option_name", None)
    new = renamed_option(command, str(option)) if option else None
    if new is not None:
        fail(f"`{option}` of `{command}` is now `{new}`.", f"the option {new}", f"{command} --help", as_json)
        return
    fail(error.format_message(), "", f"{command} --help", as_json)
