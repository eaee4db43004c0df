"""`sizewise export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sizewise.cli.options import Json
from sizewise.cli.output import print_line, print_stored, print_table, reporting


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def export(
        model: Annotated[str, typer.Argument(help="Id of a run, or a model URI.")],
        to: Annotated[
            str, typer.Option(help="hf, gguf-f16, gguf-q8_0, gguf-q5_1, gguf-q4_1, openvino or openvino-q8_0.")
        ],
        out: Annotated[Path, typer.Option(help="New folder to write to.")],
        data: Annotated[
            str | None, typer.Option(help="Dataset to check with; by default that of the training.")
        ] = None,
        prompts: Annotated[int, typer.Option(help="Prompts to check with.", min=1)] = 100,
        agreement: Annotated[
            float | None, typer.Option(help="Least share of greedy tokens that are the same.", min=0, max=1)
        ] = None,
        bits: Annotated[
            float | None, typer.Option(help="Most difference in bits a byte, as a share of the model's own.", min=0)
        ] = None,
        json: Json = False,
    ) -> None:
        """Write a model in the format of another program, and refuse it if it does not say what the model says.

        Example: sizewise export run-1234567890 --to gguf-f16 --out my-model
        """
        from sizewise.exporting import FORMATS, Bounds
        from sizewise.exporting import export as export_model

        usual = FORMATS.get(to, FORMATS["hf"])
        bounds = None
        if agreement is not None or bits is not None:
            bounds = Bounds(usual.agreement if agreement is None else agreement, usual.bits if bits is None else bits)
        with reporting() as reporter:
            stored = export_model(model, to, out, data=data, prompts=prompts, bounds=bounds, reporter=reporter)
        if print_stored(stored, json):
            return
        record = stored.record
        print_table(
            ["read by", "computed in", "same greedy tokens [95 %]", "at least", "bits a byte more [95 %]", "prompts"],
            [
                [
                    one.reader,
                    one.precision,
                    f"{one.agreement.value:.2%} [{one.agreement.ci_low:.2%}, {one.agreement.ci_high:.2%}]",
                    f"{one.min_agreement:.0%}",
                    f"{one.bits.value:+.5f} [{one.bits.ci_low:+.5f}, {one.bits.ci_high:+.5f}]"
                    if one.bits.value is not None
                    else f"missing: {one.bits.missing_reason}",
                    str(one.prompts),
                ]
                for one in record.parity
            ],
            f"{record.model} beside its export",
        )
        for name in record.files:
            print_line(f"{record.folder}/{name}")
        for note in record.notes:
            print_line(f"note: {note}")
        print_line(f"{record.bytes / 1e6:,.0f} MB; licence: {record.license}")
        if to.startswith("gguf"):
            print_line(f"run it: ollama create NAME -f {record.folder}/Modelfile")
        print_line(f"export: {stored.id}")
