"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else on stdout.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.", min=0)]
