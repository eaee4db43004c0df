"""`sizewise deploy`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from sizewise.cli.help import Command
from sizewise.cli.options import OUTPUT, Json
from sizewise.cli.output import print_line, print_object


def register(app: typer.Typer, panel: str) -> None:
    """Add the command."""

    @app.command(cls=Command, rich_help_panel=panel)
    def deploy(
        study: Annotated[str, typer.Argument(metavar="STUDY", help="Id of a study that picked a model.")],
        to: Annotated[
            Literal["compose", "kubernetes", "helm", "kuberay", "skypilot"],
            typer.Option(
                metavar="TARGET", rich_help_panel=OUTPUT, help="compose, kubernetes, helm, kuberay, skypilot."
            ),
        ],
        out: Annotated[Path, typer.Option(metavar="DIR", rich_help_panel=OUTPUT, help="New folder to write to.")],
        image: Annotated[
            str,
            typer.Option(
                metavar="NAME",
                rich_help_panel=OUTPUT,
                help="Container image.",
                show_default="sizewise:VERSION",
            ),
        ] = "",
        json: Json = False,
    ) -> None:
        """Write the files that run a study's pick elsewhere: gateways, database and metrics. No secret is written.

        Example: sizewise deploy study-1234567890 --to compose --out deployment
        """
        from sizewise.service.deployment import deploy as write

        found = write(study, to, out, image=image)
        record = {"model": found.uri, "to": to, "files": [str(path) for path in found.paths]}
        if print_object("deployment", study, str(out), record, json):
            return
        for path in found.paths:
            print_line(str(path))
