"""`sizewise choose`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sizewise.cli.options import Json
from sizewise.cli.output import print_line, print_stored


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def choose(
        comparison: Annotated[str, typer.Argument(help="Comparison id.")],
        needs: Annotated[Path | None, typer.Option(help="TOML file with the needs.")] = None,
        json: Json = False,
    ) -> None:
        """Recommend a model for given needs, and say why.

        Example: sizewise choose comparison-1234567890 --needs needs.toml
        """
        from sizewise.choice import choose as choose_model
        from sizewise.choice import read_needs

        stored = choose_model(comparison, read_needs(needs) if needs else None)
        if print_stored(stored, json):
            return
        record = stored.record
        print_line(record.sentence)
        for heading, lines in (
            ("why", record.why),
            ("why not", [f"{name}: {reason}" for name, reason in record.why_not.items()]),
            ("what would change it", record.would_change),
        ):
            if lines:
                print_line(f"{heading}:")
                for line in lines:
                    print_line(f"  - {line}")
        print_line(f"outcome: {record.outcome}")
        print_line(f"recommendation: {stored.id}")
