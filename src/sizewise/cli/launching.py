"""`--launch`: run a command in several processes or on a cluster."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from sizewise.cli.options import MODEL, TRAINING, given
from sizewise.errors import UsageError
from sizewise.launch import Launch, parse_launch, use_launch

if TYPE_CHECKING:
    from sizewise.records import Recipe
    from sizewise.store import Store

LaunchOption = Annotated[
    str | None,
    typer.Option(
        "--launch", metavar="PLACE", rich_help_panel=TRAINING, help="Train in N processes together: torchrun:N."
    ),
]
Fsdp = Annotated[
    bool,
    typer.Option(
        "--fsdp", rich_help_panel=TRAINING, help="Split weights and optimizer state over these processes (FSDP2)."
    ),
]


def _place(context: typer.Context, value: str | None) -> str | None:
    """Measure on the cluster of --launch until the command ends."""
    if value is not None and not context.resilient_parsing:
        context.with_resource(use_launch(value))
    return value


LaunchMeasuring = Annotated[
    str | None,
    typer.Option(
        "--launch",
        metavar="PLACE",
        rich_help_panel=MODEL,
        callback=_place,
        help="Measure on a Ray cluster: ray:local, ray:auto or ray:HOST:PORT.",
    ),
]


def arguments_of(context: typer.Context, left_out: Collection[str]) -> list[str]:
    """Return the command and the options that were given, as a command line again.

    Args:
        context: the context of the command.
        left_out: parameters to leave out, by their Python names.
    """
    words = context.command_path.split()[1:]
    wanted = [
        parameter for parameter in context.command.params if parameter.name in set(given(context)) - set(left_out)
    ]
    for parameter in wanted:
        value = context.params[str(parameter.name)]
        if parameter.param_type_name == "argument":
            words += [str(part) for part in value] if isinstance(value, list | tuple) else [str(value)]
        elif getattr(parameter, "is_flag", False):
            words.append(parameter.opts[0] if value else parameter.secondary_opts[0])
        else:
            for part in value if isinstance(value, list | tuple) else [value]:
                words += [max(parameter.opts, key=len), str(part)]
    return words


def launch_training(context: typer.Context, recipe: Recipe, data: str, store: Store) -> None:
    """Run the command in the processes of --launch and exit, unless the run has finished before.

    Raises:
        UsageError: the command does more than one training, the place isn't torchrun, there are more processes than
            rows in a step, or FSDP was asked for in one process.
        SizewiseError: the dataset doesn't exist, another process is working on the run, or a worker failed.
    """
    from sizewise.training import run_id_of

    place, started = context.params["launch"], int(os.environ.get("WORLD_SIZE", "0"))
    launch = None if place is None else parse_launch(place)
    if launch is None and not started:
        if context.params["fsdp"]:
            raise UsageError(
                "--fsdp splits a training over processes, but there is only one.",
                "several processes",
                "sizewise train ... --fsdp --launch torchrun:2",
            )
        return
    _check_several(context, launch, recipe, launch.processes if launch else started)
    if launch is not None and not store.exists("checkpoint", run_id_of(recipe, data)):
        _run_in_processes(context, launch.processes, run_id_of(recipe, data), data, store)


def _check_several(context: typer.Context, launch: Launch | None, recipe: Recipe, processes: int) -> None:
    if launch is not None and launch.engine != "torchrun":
        raise UsageError(
            "One training doesn't run over Ray, which spreads measurements.",
            "--launch torchrun:N",
            "sizewise train ... --launch torchrun:2, or sizewise study ... --launch ray:ADDRESS",
        )
    if context.params["tune"] or context.params["curve"] or context.params["dry_run"]:
        raise UsageError(
            "Several processes run one training; --tune, --curve and --dry-run do more or less than that.",
            "one training",
            "leave out --launch, or train with the recipe that --tune finds",
        )
    if recipe.rows_per_step < processes:
        raise UsageError(
            f"{recipe.rows_per_step} rows per step leave some of {processes} processes without work.",
            "at least one row for each process",
            f"--rows-per-step {processes}",
        )


def _run_in_processes(context: typer.Context, processes: int, run_id: str, data: str, store: Store) -> NoReturn:
    from sizewise.launch.torchrun import run_processes
    from sizewise.records import Dataset
    from sizewise.training import steps_saved

    store.get(Dataset, data)
    with store.lock("checkpoint", run_id):
        pass  # a run that another process works on is refused before anything starts
    arguments = ["-m", "sizewise", *arguments_of(context, {"launch"})]
    raise typer.Exit(run_processes(arguments, processes, lambda: steps_saved(store, run_id)))
