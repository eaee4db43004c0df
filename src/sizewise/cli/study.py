"""`sizewise study`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sizewise.cli.options import Json
from sizewise.cli.output import print_line, print_stored, print_table, reporting
from sizewise.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def study(
        source: Annotated[
            Path | None, typer.Argument(help="A study file (TOML) or a folder of text; nothing: the demo.")
        ] = None,
        example: Annotated[bool, typer.Option("--example", help="Print a study file to start from.")] = False,
        json: Json = False,
    ) -> None:
        """Take documents to a decision: read, train, evaluate, compare, choose, report.

        Example: sizewise study my-documents/
        """
        from sizewise.records import Comparison
        from sizewise.report import table_rows
        from sizewise.report.words import measure_of, shown_metrics
        from sizewise.store import Store
        from sizewise.studies import demo_config, folder_config, read_config
        from sizewise.studies import study as run_study
        from sizewise.studies.config import config_text

        if source is None:
            config = demo_config()
        elif source.is_dir():
            config = folder_config(source)
        elif source.exists():
            config = read_config(source)
        else:
            raise UsageError(f"There is no {source}.", "a study file or a folder of text", "sizewise study --example")
        if example:
            print_line(config_text(config).rstrip())
            return
        with reporting() as reporter:
            stored = run_study(config, reporter=reporter)
        if print_stored(stored, json):
            return
        record = stored.record
        comparison = Store().read(Comparison, record.comparison)
        metrics = [metric for metric in shown_metrics(comparison) if metric not in ("perplexity", "parameters")]
        print_table(
            [
                "candidate",
                *(measure_of(m).title + (f" ({measure_of(m).unit})" * bool(measure_of(m).unit)) for m in metrics),
            ],
            [[row.name, *(row.cells[m].text for m in metrics)] for row in table_rows(comparison)],
            "value [95 % interval], on test items that are no copies of training text",
        )
        print_line(record.sentence)
        for line in record.why:
            print_line(f"  why: {line}")
        for name, reason in record.why_not.items():
            print_line(f"  why not {name}: {reason}")
        for missing in record.missing:
            print_line(f"  not measured: {missing.what}: {missing.command}")
        print_line(f"outcome: {record.outcome}")
        print_line(f"report: {record.report}")
