"""`sizewise evaluate`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from sizewise.cli.options import Json, Seed
from sizewise.cli.output import print_line, print_stored, print_table, reporting

Engine = Literal["transformers", "openvino", "auto"]


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def evaluate(
        model: Annotated[str, typer.Argument(help="Model URI.")],
        data: Annotated[
            str | None, typer.Option(help="Dataset id, or a JSONL file of test data; of a suite the path of its data.")
        ] = None,
        suite: Annotated[
            str | None,
            typer.Option(
                help="Bias: bias (in the package), crows-pairs, stereoset, winobias, winogender, bbq; or lm-eval:TASK."
            ),
        ] = None,
        metrics: Annotated[
            str | None,
            typer.Option(help="Names with commas (bits_per_byte,bleu,...); if none, those that fit the data."),
        ] = None,
        limit: Annotated[int | None, typer.Option(help="At most so many examples, and passages.")] = None,
        max_usd: Annotated[float | None, typer.Option(help="Most to spend on a remote model.", min=0)] = None,
        engine: Annotated[
            Engine, typer.Option(help="What runs a model of this machine: transformers is the reference.")
        ] = "transformers",
        seed: Seed = 0,
        json: Json = False,
    ) -> None:
        """Measure a model; every score has its interval, n and signature.

        Example: sizewise evaluate pkg:smollm2-135m --data data-1234567890 --metrics bits_per_byte,bleu
        """
        from sizewise.errors import UsageError
        from sizewise.evaluation import evaluate as evaluate_model
        from sizewise.evaluation import evaluate_suite
        from sizewise.report.words import measure_of, value_text

        names = [name.strip() for name in metrics.split(",") if name.strip()] if metrics else []
        if suite is None and data is None:
            raise UsageError("Nothing to measure with was named.", "--data ID, or --suite NAME", "sizewise runs")
        with reporting() as reporter:
            if suite is not None:
                stored = evaluate_suite(model, suite, data, limit=limit, seed=seed, engine=engine, reporter=reporter)
            else:
                stored = evaluate_model(
                    model, str(data), names, limit=limit, seed=seed, max_usd=max_usd, engine=engine, reporter=reporter
                )
        if print_stored(stored, json):
            return
        rows = []
        for name, score in stored.record.scores.items():
            measure = measure_of(name)
            said = value_text(score) if score.value is not None else f"missing: {score.missing}"
            rows.append([name, said, measure.unit or score.unit, str(score.n), score.signature])
        print_table(["score", "value [95 %]", "unit", "n", "signature"], rows, stored.record.model.origin)
        if suite is None:
            print_line(
                "@all: on all items; without: on items that are no copies of training text, whole, in part or edited"
            )
        if stored.record.failed:
            print_line(f"{stored.record.failed} items had an error: see items.jsonl")
        for name in stored.record.metrics if suite is not None else ():
            print_line(f"{name}: {measure_of(name).sentence}")
        for note in stored.record.notes:
            print_line(f"note: {note}")
        print_line(f"evaluation: {stored.id}")
