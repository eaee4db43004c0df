"""`sizewise compare`."""

from __future__ import annotations

from typing import Annotated

import typer

from sizewise.cli.options import Json, Seed
from sizewise.cli.output import print_line, print_stored, print_table


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def compare(
        ids: Annotated[list[str], typer.Argument(help="Evaluation ids, two or more.")],
        seed: Seed = 0,
        json: Json = False,
    ) -> None:
        """Compare evaluations of the same data, pair by pair, with intervals.

        Example: sizewise compare eval-1111111111 eval-2222222222
        """
        from sizewise.comparison import compare as compare_evaluations
        from sizewise.report import table_rows
        from sizewise.report.words import measure_of, number, shown_metrics

        stored = compare_evaluations(ids, seed=seed)
        if print_stored(stored, json):
            return
        comparison = stored.record
        metrics = shown_metrics(comparison)
        rows = [[row.name, *(row.cells[metric].text for metric in metrics)] for row in table_rows(comparison)]
        print_table(["candidate", *(measure_of(metric).title for metric in metrics)], rows)
        print_table(
            ["left", "right", "measure", "left - right [95 %]", "p (Holm)", "n", "shown to be better"],
            [
                [
                    d.left,
                    d.right,
                    measure_of(d.metric).title,
                    number(d.value)
                    + (f" [{number(d.low)}, {number(d.high)}]" if d.low is not None and d.high is not None else ""),
                    number(d.p_holm, 2) if d.p_holm is not None else "-",
                    str(d.n),
                    d.better or "not decisive",
                ]
                for d in comparison.differences
            ],
        )
        for note in comparison.notes:
            print_line(f"note: {note}")
        print_line(f"comparison: {stored.id}")
