"""`sizewise export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sizewise.cli.help import Command
from sizewise.cli.options import DATA, LIMITS, OUTPUT, Csv, Json, Wide
from sizewise.cli.output import print_csv, print_line, print_notes, print_path, print_saved, print_table, reporting

if TYPE_CHECKING:
    from sizewise.records import Export, Score
    from sizewise.store import Saved


def register(app: typer.Typer, panel: str) -> None:
    """Add the command."""

    @app.command(cls=Command, rich_help_panel=panel)
    def export(
        model: Annotated[str, typer.Argument(metavar="MODEL", help="Run id or model URI.")],
        to: Annotated[
            str,
            typer.Option(
                metavar="FORMAT",
                rich_help_panel=OUTPUT,
                help="hf, gguf-f16, gguf-q8_0, gguf-q6_k, gguf-q5_k_m, gguf-q4_k_m, openvino, openvino-q8_0, ...; "
                "onnx for classifiers.",
            ),
        ],
        out: Annotated[Path, typer.Option(metavar="DIR", rich_help_panel=OUTPUT, help="New folder to write to.")],
        data: Annotated[
            str | None,
            typer.Option(
                metavar="ID", rich_help_panel=DATA, help="Dataset to verify with; default: the one it was trained on."
            ),
        ] = None,
        prompts: Annotated[
            int, typer.Option(metavar="N", min=1, rich_help_panel=DATA, help="Prompts to verify with.")
        ] = 100,
        min_agreement: Annotated[
            float | None,
            typer.Option(
                metavar="SHARE",
                min=0,
                max=1,
                rich_help_panel=LIMITS,
                help="Minimum share of identical greedy tokens (0 to 1).",
            ),
        ] = None,
        max_bits_increase: Annotated[
            float | None,
            typer.Option(
                metavar="SHARE",
                min=0,
                rich_help_panel=LIMITS,
                help="Maximum change in bits per byte, as a share of the model's own.",
            ),
        ] = None,
        json: Json = False,
        csv: Csv = False,
        wide: Wide = False,
    ) -> None:
        """Export a model and verify that its outputs match.

        Example: sizewise export run-1234567890 --to gguf-f16 --out my-model
        """
        from sizewise.exporting import FORMATS, Bounds
        from sizewise.exporting import export as export_model

        usual = FORMATS.get(to, FORMATS["hf"])
        bounds = None
        if min_agreement is not None or max_bits_increase is not None:
            bounds = Bounds(
                usual.agreement if min_agreement is None else min_agreement,
                usual.bits if max_bits_increase is None else max_bits_increase,
            )
        with reporting() as reporter:
            saved = export_model(model, to, out, data=data, prompts=prompts, bounds=bounds, reporter=reporter)
        if not print_saved(saved, json):
            _print(saved, csv, wide)
            if to.startswith("gguf") and not csv:
                print_path(f"next: ollama create NAME -f {saved.record.folder}/Modelfile")


def _print(saved: Saved[Export], csv: bool, wide: bool) -> None:
    """Print how far the export matches the model, and its files."""
    record = saved.record
    headings = ["reader", "same greedy tokens [95 %]", "minimum", "bits per byte [95 %]", "prompts", "precision"]
    rows = [
        [
            parity.reader,
            _with_interval(parity.agreement, ".2%"),
            f"{parity.min_agreement:.0%}",
            _with_interval(parity.bits, "+z.5f"),
            str(parity.prompts),
            parity.precision,
        ]
        for parity in record.parity
    ]
    if print_csv(headings, rows, csv):
        return
    columns = len(headings) if wide else len(headings) - 1
    print_table(headings[:columns], [row[:columns] for row in rows], f"{record.model} compared with its export")
    for name in record.files:
        print_path(f"{record.folder}/{name}")
    print_notes(record.notes)
    print_line(f"{record.bytes / 1e6:,.0f} MB; license: {record.license}")
    print_path(f"export: {saved.id}")


def _with_interval(score: Score, form: str) -> str:
    """Format a value and its interval, which no items give if all of them are alike."""
    if score.value is None:
        return f"missing: {score.missing_reason}"
    if score.ci_low is None or score.ci_high is None:
        return f"{score.value:{form}}"
    return f"{score.value:{form}} [{score.ci_low:{form}}, {score.ci_high:{form}}]"
