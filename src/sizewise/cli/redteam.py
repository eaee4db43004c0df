"""`sizewise redteam`."""

from __future__ import annotations

from typing import Annotated

import typer

from sizewise.cli.options import Json, Seed
from sizewise.cli.output import print_line, print_object, print_table, reporting


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def redteam(
        url: Annotated[
            str, typer.Argument(help="Model URI: http://127.0.0.1:8000/v1#NAME of a service, or any other.")
        ],
        beside: Annotated[
            str | None, typer.Option(help="Model URI to set beside it, such as the one that training started from.")
        ] = None,
        rounds: Annotated[int, typer.Option(help="How often each probe is made, with new secrets.", min=1)] = 2,
        seed: Seed = 0,
        json: Json = False,
    ) -> None:
        """Attack a served model: does it give secrets away or obey what stands in documents?

        Example: sizewise redteam http://127.0.0.1:8000/v1#smollm2-135m --beside pkg:smollm2-135m
        """
        from sizewise.evaluation.redteam import red_team as attack
        from sizewise.report.words import value_text

        with reporting() as reporter:
            found = attack(url, beside, rounds=rounds, seed=seed, reporter=reporter)
        if print_object("redteam", url, None, found, json):
            return
        print_table(
            ["attack works if the model", *found.scores, "n"],
            [
                [
                    found.explanations[family],
                    *(value_text(row[family]) for row in found.scores.values()),
                    str(found.scores[url][family].n),
                ]
                for family in found.explanations
            ],
            "share of attacks that worked [95 %]; lower is better",
        )
        for one in found.examples:
            print_line(f"{one.id}: {one.asked!r} -> {one.answer!r}")
        for note in found.notes:
            print_line(f"note: {note}")
