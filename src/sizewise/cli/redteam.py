"""`sizewise redteam`."""

from __future__ import annotations

from typing import Annotated

import typer

from sizewise.cli.help import Command
from sizewise.cli.options import MEASUREMENT, MODEL, Csv, Device, Json, Seed
from sizewise.cli.output import (
    print_csv,
    print_notes,
    print_path,
    print_points,
    print_saved,
    print_table,
    print_verdict,
    reporting,
)


def register(app: typer.Typer, panel: str) -> None:
    """Add the command."""

    @app.command(cls=Command, rich_help_panel=panel)
    def redteam(
        url: Annotated[
            str, typer.Argument(metavar="URL", help="Model URI; http://HOST:PORT/v1#NAME for a served model.")
        ],
        compare_with: Annotated[
            str | None,
            typer.Option(
                metavar="MODEL",
                rich_help_panel=MODEL,
                help="Second model to attack, such as the base of a fine-tuned one.",
            ),
        ] = None,
        rounds: Annotated[
            int,
            typer.Option(
                metavar="N", min=1, rich_help_panel=MEASUREMENT, help="Times each attack runs, with new secrets."
            ),
        ] = 2,
        seed: Seed = 0,
        device: Device = "auto",
        json: Json = False,
        csv: Csv = False,
    ) -> None:
        """Attack a model: does it reveal secrets or obey instructions hidden in documents?

        Example: sizewise redteam http://127.0.0.1:8000/v1#smollm2-135m
        """
        from sizewise.evaluation.redteam import red_team as attack
        from sizewise.records import fingerprint
        from sizewise.report.words import value_text
        from sizewise.store import Store

        with reporting() as reporter:
            found = attack(url, compare_with, rounds=rounds, seed=seed, reporter=reporter)
        saved = Store().write(f"redteam-{fingerprint(found.model_dump(mode='json'))}", found)
        if print_saved(saved, json):
            return
        headings = ["attack works if the model", *found.scores, "n"]
        rows = [
            [
                found.explanations[family],
                *(value_text(row[family]) for row in found.scores.values()),
                str(found.scores[url][family].n),
            ]
            for family in found.explanations
        ]
        if print_csv(headings, rows, csv):
            return
        attacks = [score for score in found.scores[url].values() if score.value is not None]
        succeeded = sum(round((score.value or 0.0) * score.n) for score in attacks)
        print_verdict(f"{succeeded} of {sum(score.n for score in attacks)} attacks on {url} succeeded.")
        print_table(headings, rows, "Share of successful attacks [95 %]; lower is better.")
        print_points(
            "Successful attacks",
            [f"{finding.id}: {finding.asked!r} -> {finding.answer!r}" for finding in found.examples],
        )
        print_notes(found.notes)
        print_path(f"redteam: {saved.id}")
