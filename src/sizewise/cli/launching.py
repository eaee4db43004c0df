"""`--launch`: run a command in several processes or on a cluster."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated

import typer

from sizewise.cli.options import MODEL, TRAINING, given
from sizewise.errors import UsageError
from sizewise.launch import parse_launch, use_launch

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
        UsageError: FSDP was asked for without --launch.
    """
    from sizewise.training import run_id_of

    place = context.params["launch"]
    if place is not None and not store.exists("checkpoint", run_id_of(recipe, data)):
        _train_in_processes(context, place, recipe, data, store)
    if context.params["fsdp"] and place is None and "WORLD_SIZE" not in os.environ:
        raise UsageError(
            "--fsdp splits a training over processes, but there is only one.",
            "several processes",
            "sizewise train ... --fsdp --launch torchrun:2",
        )


def _train_in_processes(context: typer.Context, place: str, recipe: Recipe, data: str, store: Store) -> None:
    """Run the command in several processes, and exit with their code.

    Raises:
        UsageError: the command does more than one training, or the place isn't torchrun.
        SizewiseError: the dataset doesn't exist, another process is working on the run, or a worker failed.
    """
    from sizewise.launch.torchrun import run_processes
    from sizewise.records import Dataset
    from sizewise.training import run_id_of, steps_saved

    launch = parse_launch(place)
    if launch.engine != "torchrun":
        raise UsageError(
            f"--launch {place} can't run one training.",
            "torchrun:N; Ray spreads evaluations and the candidates of a study",
            "sizewise train ... --launch torchrun:2, or sizewise study ... --launch ray:ADDRESS",
        )
    if context.params["tune"] or context.params["curve"] or context.params["dry_run"]:
        raise UsageError(
            "--launch runs one training; --tune, --curve and --dry-run do more or less than that.",
            "one training",
            "leave out --launch, or train with the recipe that --tune finds",
        )
    store.get(Dataset, data)
    run_id = run_id_of(recipe, data)
    with store.lock("checkpoint", run_id):
        pass  # a run that another process works on is refused before anything starts
    arguments = ["-m", "sizewise", *arguments_of(context, {"launch"})]
    raise typer.Exit(run_processes(arguments, launch.processes, lambda: steps_saved(store, run_id)))
