"""Options and option groups that several commands share."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sizewise.errors import UsageError, expected_of
from sizewise.lm.placement import DEVICES, PRECISION_NAMES, use_device, use_precision
from sizewise.seeds import MAX_SEED

if TYPE_CHECKING:
    from pydantic import ValidationError

DATA = "Data"
MODEL = "Model"
TRAINING = "Training"
CLASSIFIERS = "Classifiers"
MEASUREMENT = "Measurement"
LIMITS = "Limits"
COST = "Cost"
SERVER = "Server"
PRIVACY = "Privacy"
ROUTING = "Routing"
OUTPUT = "Output"
"""Headings under which the help groups options."""

Prompt = Annotated[
    str, typer.Option(metavar="COLUMN", rich_help_panel=DATA, help="Column of the prompt; detected by default.")
]
Reference = Annotated[
    str, typer.Option(metavar="COLUMN", rich_help_panel=DATA, help="Column of the answer; detected by default.")
]
Label = Annotated[
    str, typer.Option(metavar="COLUMN", rich_help_panel=DATA, help="Column of the class; detected by default.")
]
Json = Annotated[
    bool, typer.Option("--json", rich_help_panel=OUTPUT, help="Print one JSON object to stdout and nothing else.")
]
Csv = Annotated[bool, typer.Option("--csv", rich_help_panel=OUTPUT, help="Print the main table as CSV.")]
Wide = Annotated[bool, typer.Option("--wide", rich_help_panel=OUTPUT, help="Show all columns of the table.")]
Page = Annotated[
    Literal["auto", "on", "off"],
    typer.Option(
        metavar="on|off",
        rich_help_panel=OUTPUT,
        show_default=False,
        help="Show the running study in the browser, on this machine only; default: on, where stderr is a terminal.",
    ),
]
Seed = Annotated[
    int,
    typer.Option(metavar="N", min=0, max=MAX_SEED, rich_help_panel=MEASUREMENT, help="Seed for everything random."),
]
MaxUsd = Annotated[
    float | None,
    typer.Option(
        metavar="USD", min=0, rich_help_panel=LIMITS, help="Spending limit for a remote model, in US dollars."
    ),
]


def _place(context: typer.Context, value: str) -> str:
    """Run the models of a command on the device of --device, until the command ends.

    Raises:
        UsageError: there is no such device.
    """
    if value not in DEVICES:
        raise UsageError(f"--device '{value}' isn't a device.", ", ".join(DEVICES), "--device auto")
    if not context.resilient_parsing:
        context.with_resource(use_device(value))
    return value


def _round(context: typer.Context, value: str) -> str:
    """Open the local models of a command in the precision of --precision, until the command ends.

    Raises:
        UsageError: there is no such precision.
    """
    if value not in PRECISION_NAMES:
        raise UsageError(f"--precision '{value}' isn't a precision.", ", ".join(PRECISION_NAMES), "--precision auto")
    if not context.resilient_parsing:
        context.with_resource(use_precision(value))
    return value


Device = Annotated[
    str,
    typer.Option(
        metavar="DEVICE",
        rich_help_panel=MODEL,
        callback=_place,
        help="Device of local models: auto, cpu, cuda or mps; auto takes SIZEWISE_DEVICE or the fastest.",
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        rich_help_panel=MODEL,
        callback=_round,
        help="Weights of local models: auto, bf16, fp16, fp32, or nf4 for 4 bits (bitsandbytes).",
    ),
]
"""Both act by themselves: commands don't pass them on."""
Host = Annotated[str, typer.Option(metavar="ADDRESS", rich_help_panel=SERVER, help="Address to listen on.")]


def given(context: typer.Context) -> Iterator[str]:
    """Yield the parameters set on the command line, by their Python names."""
    for name in context.params:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            yield name


def refuse_others(context: typer.Context, accepted: Collection[str], what: str) -> None:
    """Refuse options that would be silently ignored.

    Args:
        context: the context of the command.
        accepted: parameters that apply, by their Python names.
        what: subject of the error, such as `--new-key`.

    Raises:
        UsageError: another option was set.
    """
    options = {
        parameter.name: max(parameter.opts, key=len)
        if parameter.param_type_name == "option"
        else parameter.metavar or parameter.name
        for parameter in context.command.params
    }
    others = [options[name] for name in given(context) if name not in accepted]
    if others:
        known = ", ".join(options[name] for name in options if name in accepted and options[name].startswith("-"))
        raise UsageError(
            f"{what} can't be combined with {' and '.join(others)}.",
            f"only these options: {known}",
            f"remove {others[0]}",
        )


def refused_setting(error: ValidationError, command: str) -> UsageError:
    """Return the error of a setting that a recipe refuses, under the name of its option.

    Args:
        error: what pydantic found.
        command: the command as typed, such as `sizewise train`.
    """
    first = error.errors()[0]
    wanted = expected_of(first["msg"])
    if not first["loc"]:
        return UsageError(
            f"These options don't fit together: {wanted}.", "options that fit together", f"{command} --help"
        )
    name = str(first["loc"][0])
    option = "MODEL" if name == "start" else f"--{name.replace('_', '-')}"
    return UsageError(f"{option} {first['input']} isn't possible.", wanted, f"{command} --help")
