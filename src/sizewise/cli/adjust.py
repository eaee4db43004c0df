"""`sizewise adjust`."""

from __future__ import annotations

import math
from typing import Annotated

import typer

from sizewise.cli.help import Command
from sizewise.cli.options import LIMITS, TRAINING, Json
from sizewise.cli.output import print_line, print_object
from sizewise.errors import UsageError


def register(app: typer.Typer, panel: str) -> None:
    """Add the command."""

    @app.command(cls=Command, rich_help_panel=panel)
    def adjust(
        run: Annotated[str, typer.Argument(metavar="RUN", help="Id of a run that is being trained.")],
        learning_rate: Annotated[
            float | None,
            typer.Option(metavar="RATE", min=0, rich_help_panel=TRAINING, help="New peak learning rate."),
        ] = None,
        tokens: Annotated[
            int | None, typer.Option(metavar="N", min=1, rich_help_panel=LIMITS, help="New token budget.")
        ] = None,
        stop: Annotated[
            bool, typer.Option("--stop", rich_help_panel=LIMITS, help="End the run with its best weights so far.")
        ] = False,
        json: Json = False,
    ) -> None:
        """Change the learning rate or budget of a training while it runs, or end it with its best weights.

        Changes take effect at the next step. The record of the run lists them.

        Example: sizewise adjust run-1234567890 --learning-rate 1e-4
        """
        from sizewise.training import adjust_run

        if learning_rate is not None and not 0 < learning_rate < math.inf:
            raise UsageError(
                f"--learning-rate {learning_rate:g} isn't a learning rate.",
                "more than 0, and finite",
                f"sizewise adjust {run} --learning-rate 1e-4",
            )
        given = {"learning_rate": learning_rate, "tokens": tokens, "stop": 1 if stop else None}
        settings = {name: float(value) for name, value in given.items() if value is not None}
        run_id = adjust_run(run, settings)
        if print_object("adjustment", run_id, None, settings, json):
            return
        changes = ", ".join("stop" if name == "stop" else f"{name} {value:,.10g}" for name, value in settings.items())
        print_line(f"{run_id} applies this at its next step: {changes}.")
