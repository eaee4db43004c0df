"""`--launch`: run a command in several processes or on a cluster."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from sizewise.cli.options import MODEL, TRAINING, given
from sizewise.errors import SizewiseError, UsageError
from sizewise.launch import parse_launch, use_launch

if TYPE_CHECKING:
    from sizewise.records import Recipe
    from sizewise.store import Store

SETTLING_S = 90.0
"""Time in which a lost process ends and a shared disk shows what another machine wrote; NFS may keep that it doesn't
exist for a minute."""

LaunchOption = Annotated[
    str | None,
    typer.Option(
        "--launch",
        metavar="PLACE",
        rich_help_panel=TRAINING,
        help="Train in several processes together: torchrun:N, or ray:ADDRESS for one on each node of a Ray cluster.",
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
    """Run the training in the processes of --launch, unless the run has finished before.

    After torchrun the command exits. After a training on a cluster it goes on, here, with the finished run.

    Raises:
        UsageError: the command does more than one training, there are more processes than rows in a step, or FSDP was
            asked for in one process.
        SizewiseError: the dataset doesn't exist, another process is working on the run, or a worker failed.
    """
    from sizewise.training import run_id_of

    place, started = context.params["launch"], int(os.environ.get("WORLD_SIZE", "0"))
    launch = None if place is None else parse_launch(place)
    if launch is None and not started:
        if context.params["fsdp"]:
            raise _fsdp_alone("there is only one")
        return
    _check_several(context, recipe, (launch.processes or 1) if launch else started)
    run_id = run_id_of(recipe, data)
    if launch is None or store.exists("checkpoint", run_id):
        return
    with _alone(run_id, data, store):
        if launch.engine == "ray":
            _run_on_cluster(context, launch.address, recipe, run_id, store)
        else:
            _run_in_processes(context, launch.processes, run_id, store)


def _fsdp_alone(found: str) -> UsageError:
    return UsageError(
        f"--fsdp splits a training over processes, but {found}.",
        "several processes",
        "sizewise train ... --fsdp --launch torchrun:2",
    )


def _check_several(context: typer.Context, recipe: Recipe, processes: int) -> None:
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


@contextmanager
def _alone(run_id: str, data: str, store: Store) -> Iterator[None]:
    """Be the only launcher of a run; one that another process works on is refused before anything starts.

    Raises:
        SizewiseError: the dataset is missing, or there is another process or launcher.
    """
    from filelock import FileLock, Timeout

    from sizewise.records import Dataset

    store.get(Dataset, data)
    with store.lock("checkpoint", run_id):
        pass
    lock = FileLock(store.folder("checkpoint", run_id) / ".launcher")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:  # its processes may not have come to work yet
        raise SizewiseError(
            f"Another launcher is starting or running checkpoint {run_id}.",
            "one launcher for each run",
            "wait for it, or stop it; then run the same command again",
        ) from error
    try:
        yield
    finally:
        lock.release()


def _run_in_processes(context: typer.Context, processes: int, run_id: str, store: Store) -> NoReturn:
    from sizewise.launch.torchrun import run_processes
    from sizewise.training import steps_saved

    arguments = ["-m", "sizewise", *arguments_of(context, {"launch"})]
    raise typer.Exit(run_processes(arguments, processes, lambda: steps_saved(store, run_id)))


def _run_on_cluster(context: typer.Context, address: str, recipe: Recipe, run_id: str, store: Store) -> None:
    """Train on the nodes of a cluster; the folder of --out is written here afterwards."""
    from sizewise.cli.terminal import TerminalReporter
    from sizewise.launch.ray_training import ClusterRun
    from sizewise.training import steps_saved

    arguments = ["-m", "sizewise", *arguments_of(context, {"launch", "out"})]
    say = TerminalReporter().say
    on_cards = recipe.device != "cpu"
    run = ClusterRun(address, arguments, store.home, recipe.rows_per_step, on_cards=on_cards, say=say)
    if context.params["fsdp"] and run.processes < 2:
        raise _fsdp_alone("the cluster has a single place, or a step a single row")
    code = run.run(lambda: steps_saved(store, run_id), lambda: _wait(lambda: _is_free(run_id, store), "is locked"))
    if code:
        raise typer.Exit(code)
    _wait(lambda: store.exists("checkpoint", run_id), "can't be seen")


def _is_free(run_id: str, store: Store) -> bool:
    try:
        with store.lock("checkpoint", run_id):
            return True
    except SizewiseError:
        return False


def _wait(true: Callable[[], bool], what: str) -> None:
    """Wait until a lost process has let go of the run, or until a shared disk shows what another node has written.

    Raises:
        SizewiseError: it takes too long.
    """
    end = time.monotonic() + SETTLING_S
    while not true():
        if time.monotonic() > end:
            raise SizewiseError(
                f"The run {what} on this machine, {SETTLING_S:g} s after its processes have ended.",
                "SIZEWISE_HOME on a disk that all nodes share, with locks that end with their process",
                "run the same command again",
            )
        time.sleep(0.5)
