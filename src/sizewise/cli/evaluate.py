"""`sizewise evaluate`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sizewise.cli.options import Json, Seed
from sizewise.cli.output import print_line, print_object, print_stored, print_table, reporting

if TYPE_CHECKING:
    from sizewise.records import Evaluation
    from sizewise.store import Saved

Engine = Literal["transformers", "openvino", "auto"]
MISSED = 3


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def evaluate(
        model: Annotated[str | None, typer.Argument(help="Model URI.")] = None,
        data: Annotated[
            str | None, typer.Option(help="Dataset id, or a JSONL file of test data; of a suite the path of its data.")
        ] = None,
        suite: Annotated[
            str | None,
            typer.Option(
                help="In the package: bias, language-nuance; on your test set: counterfactuals; with their data: crows-pairs, stereoset, "
                "winobias, winogender, bbq, bold; or lm-eval:TASK."
            ),
        ] = None,
        metrics: Annotated[
            str | None,
            typer.Option(help="Names with commas (bits_per_byte,bleu,...); if none, those that fit the data."),
        ] = None,
        limit: Annotated[int | None, typer.Option(help="At most so many examples, and passages.")] = None,
        max_usd: Annotated[float | None, typer.Option(help="Most to spend on a remote model.", min=0)] = None,
        max_tokens: Annotated[
            int | None,
            typer.Option(
                help="Most tokens of an answer; by default no reference answer is cut, at least 64.",
                min=1,
            ),
        ] = None,
        count_failures_as_wrong: Annotated[
            bool, typer.Option(help="Score refused requests (content filter, too long) as wrong; else not at all.")
        ] = False,
        new_run: Annotated[
            bool, typer.Option("--new-run", help="Measure once more, beside the earlier runs; no kept answer is used.")
        ] = False,
        engine: Annotated[
            Engine, typer.Option(help="What runs a model of this machine: transformers is the reference.")
        ] = "transformers",
        reproduce: Annotated[
            str | None, typer.Option(help="Id of an evaluation: measure it once more; exit 3 if it does not come out.")
        ] = None,
        seed: Seed = 0,
        json: Json = False,
    ) -> None:
        """Measure a model; every score has its interval, n and signature.

        Example: sizewise evaluate pkg:smollm2-135m --data data-1234567890 --metrics bits_per_byte,bleu
        """
        from sizewise.errors import UsageError
        from sizewise.evaluation import EvaluationOptions, evaluate_suite
        from sizewise.evaluation import evaluate as evaluate_model

        if reproduce is not None:
            _reproduce(reproduce, data, max_usd, json)
            return
        if model is None:
            raise UsageError("No model was named.", "a model URI", "sizewise models")
        names = [name.strip() for name in metrics.split(",") if name.strip()] if metrics else []
        if suite is None and data is None:
            raise UsageError("Nothing to measure with was named.", "--data ID, or --suite NAME", "sizewise runs")
        if suite is not None and (max_tokens is not None or count_failures_as_wrong or new_run):
            raise UsageError(
                "--max-tokens, --count-failures-as-wrong and --new-run do not apply to a suite.",
                "--data ID with them, or --suite NAME alone",
                f"sizewise evaluate {model} --suite {suite}",
            )
        options = EvaluationOptions(max_tokens, count_failures_as_wrong, new_run, seed, engine, max_usd)
        with reporting() as reporter:
            if suite is not None:
                stored = evaluate_suite(model, suite, data, limit=limit, options=options, reporter=reporter)
            else:
                stored = evaluate_model(model, str(data), names, limit=limit, options=options, reporter=reporter)
        if not print_stored(stored, json):
            _print(stored, suite is not None)


def _print(stored: Saved[Evaluation], of_suite: bool) -> None:
    """Print scores and notes."""
    from sizewise.report.words import measure_of, value_text

    rows = []
    for name, score in stored.record.scores.items():
        measure = measure_of(name)
        said = value_text(score) if score.value is not None else f"missing: {score.missing_reason}"
        rows.append([name, said, measure.unit or score.unit, str(score.n), score.signature])
    print_table(["score", "value [95 %]", "unit", "n", "signature"], rows, stored.record.model.origin)
    if not of_suite:
        print_line(
            "@all: on all items; without: on items that are no copies of training text, whole, in part or edited"
        )
    if stored.record.failed:
        print_line(f"{stored.record.failed} items had an error: see items.jsonl")
    for name in stored.record.metrics if of_suite else ():
        print_line(f"{name}: {measure_of(name).description}")
    for note in stored.record.notes:
        print_line(f"note: {note}")
    print_line(f"evaluation: {stored.id}")


def _reproduce(evaluation: str, path: str | None, max_usd: float | None, as_json: bool) -> None:
    """Measure once more and print both values of each score."""
    from sizewise.evaluation.reproduce import rerun
    from sizewise.report.words import value_text

    with reporting() as reporter:
        found = rerun(evaluation, path, max_usd=max_usd, reporter=reporter)
    if not print_object("reproduction", evaluation, None, found, as_json):
        state = dict.fromkeys(found.equal, "equal") | dict.fromkeys(found.within, "within the interval")
        print_table(
            ["score", "then [95 %]", "now [95 %]", ""],
            [
                [
                    name,
                    *(value_text(s) if s.value is not None else "missing" for s in (score, found.after[name])),
                    state.get(name, "OUTSIDE the interval"),
                ]
                for name, score in found.before.items()
            ],
        )
        print_line(f"{found.answers_changed} answers are other than then")
        for package, said in found.versions_changed.items():
            print_line(f"{package}: {said}")
        print_line("reproduced" if not found.outside else f"not reproduced: {', '.join(found.outside)}")
    if found.outside:
        raise typer.Exit(MISSED)
