"""`sizewise evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sizewise.cli.help import Command
from sizewise.cli.launching import LaunchMeasuring
from sizewise.cli.options import (
    DATA,
    LIMITS,
    MEASUREMENT,
    MODEL,
    OUTPUT,
    Csv,
    Device,
    Json,
    MaxUsd,
    Precision,
    Seed,
    Wide,
)
from sizewise.cli.output import (
    print_csv,
    print_line,
    print_notes,
    print_path,
    print_saved,
    print_table,
    reporting,
)
from sizewise.cli.run_ids import newest_of
from sizewise.errors import UsageError

if TYPE_CHECKING:
    from sizewise.evaluation.options import Until
    from sizewise.records import Evaluation, Score
    from sizewise.store import Saved

Engine = Literal["transformers", "openvino", "llamacpp", "auto"]
MISSED = 3


def register(app: typer.Typer, panel: str) -> None:
    """Add the command."""

    @app.command(cls=Command, rich_help_panel=panel)
    def evaluate(
        model: Annotated[str | None, typer.Argument(metavar="MODEL", help="Model URI.")] = None,
        data: Annotated[
            str | None,
            typer.Option(
                metavar="ID|FILE",
                rich_help_panel=DATA,
                help="Dataset id or JSONL file with test data; with --suite the folder of the suite's data.",
            ),
        ] = None,
        suite: Annotated[
            str | None,
            typer.Option(
                metavar="NAME",
                rich_help_panel=DATA,
                help="Built in: bias, language-nuance, general-knowledge, arithmetic, reasoning, code. On your tests: "
                "counterfactuals. With data: crows-pairs, stereoset, winobias, winogender, bbq, bold. Or lm-eval:NAME, "
                "a task, group or tag.",
            ),
        ] = None,
        limit: Annotated[
            int | None,
            typer.Option(metavar="N", rich_help_panel=DATA, help="Maximum number of examples, and of passages."),
        ] = None,
        metrics: Annotated[
            str | None,
            typer.Option(
                metavar="NAMES",
                rich_help_panel=MEASUREMENT,
                help="Comma-separated metrics: bits_per_byte,bleu. Default: those that fit the data.",
            ),
        ] = None,
        rubric: Annotated[
            str | None,
            typer.Option(
                metavar="FILE",
                rich_help_panel=MEASUREMENT,
                help="Criteria (TOML) by which --judge grades each answer: name, description, scale.",
            ),
        ] = None,
        judge: Annotated[
            str | None,
            typer.Option(
                metavar="URI",
                rich_help_panel=MEASUREMENT,
                help="With --rubric: the model that grades. --max-usd applies to it separately.",
            ),
        ] = None,
        name: Annotated[
            str | None,
            typer.Option(
                metavar="NAME",
                rich_help_panel=MODEL,
                help="Name of the candidate in compare and choose. Default: the model's URI.",
            ),
        ] = None,
        samples: Annotated[
            int,
            typer.Option(
                metavar="K",
                min=1,
                rich_help_panel=MEASUREMENT,
                help="Sampled answers per item; scores are their mean, with pass@k and the noise of sampling.",
            ),
        ] = 1,
        temperature: Annotated[
            float | None,
            typer.Option(
                metavar="T",
                min=0,
                max=2,
                rich_help_panel=MEASUREMENT,
                help="Sampling temperature. Default: 0 (greedy) for one answer, 0.7 for several.",
            ),
        ] = None,
        until: Annotated[
            Literal["decided"] | None,
            typer.Option(
                metavar="decided",
                rich_help_panel=MEASUREMENT,
                help="Ask items in random order and stop once --against or --min-quality is decided.",
            ),
        ] = None,
        against: Annotated[
            str | None,
            typer.Option(
                metavar="ID",
                rich_help_panel=MEASUREMENT,
                help="With --until: the evaluation that this model must beat.",
            ),
        ] = None,
        margin: Annotated[
            float | None,
            typer.Option(
                metavar="X",
                rich_help_panel=MEASUREMENT,
                help="With --against: decide whether the model loses less than X.",
            ),
        ] = None,
        min_quality: Annotated[
            float | None,
            typer.Option(
                metavar="X",
                rich_help_panel=MEASUREMENT,
                help="With --until: decide whether the metric reaches X.",
            ),
        ] = None,
        count_failures_as_wrong: Annotated[
            bool,
            typer.Option(
                "--count-failures-as-wrong",
                rich_help_panel=MEASUREMENT,
                help="Score refused requests (content filter, too long) as wrong instead of leaving them out.",
            ),
        ] = False,
        letters: Annotated[
            bool,
            typer.Option(
                "--by-prompting",
                "--letters",
                rich_help_panel=MEASUREMENT,
                help="Ask for a suite's choices in words, to compare with models that have no log-likelihoods.",
            ),
        ] = False,
        confirm_run_unsafe_code: Annotated[
            bool,
            typer.Option(
                "--confirm-run-unsafe-code",
                rich_help_panel=MEASUREMENT,
                help="Consent to run the code that a model writes in --suite code, without files and network.",
            ),
        ] = False,
        write_prompts: Annotated[
            Path | None,
            typer.Option(
                metavar="FILE",
                rich_help_panel=OUTPUT,
                help="Write a suite's prompts as JSONL, to have them answered elsewhere; then evaluate recorded:FILE.",
            ),
        ] = None,
        constrained: Annotated[
            bool,
            typer.Option(
                "--constrained",
                rich_help_panel=MEASUREMENT,
                help="Constrain each answer to the JSON schema of its example (rows with a schema; engine openvino).",
            ),
        ] = False,
        new_run: Annotated[
            bool,
            typer.Option(
                "--new-run",
                rich_help_panel=MEASUREMENT,
                help="Measure again without cached answers, as ID.2. Commands take the newest run; ID.1 is the first.",
            ),
        ] = False,
        num_fewshot: Annotated[
            int | None,
            typer.Option(
                metavar="N",
                min=0,
                rich_help_panel=MEASUREMENT,
                help="Examples in each prompt of a harness task. Default: as the task says.",
            ),
        ] = None,
        apply_chat_template: Annotated[
            bool,
            typer.Option(
                "--apply-chat-template",
                rich_help_panel=MEASUREMENT,
                help="Write the prompts of harness tasks in the model's chat template.",
            ),
        ] = False,
        fewshot_in_one_turn: Annotated[
            bool,
            typer.Option(
                "--fewshot-in-one-turn",
                rich_help_panel=MEASUREMENT,
                help="With --apply-chat-template: all examples in one turn, not each as a question and an answer.",
            ),
        ] = False,
        system_instruction: Annotated[
            str | None,
            typer.Option(
                metavar="INSTRUCTION",
                rich_help_panel=MEASUREMENT,
                help="System message of harness tasks; without --apply-chat-template, text before each prompt.",
            ),
        ] = None,
        reproduce: Annotated[
            str | None,
            typer.Option(
                metavar="ID",
                rich_help_panel=MEASUREMENT,
                help="Repeat this evaluation and compare the scores; exit 3 if one isn't reproduced.",
            ),
        ] = None,
        seed: Seed = 0,
        engine: Annotated[
            Engine,
            typer.Option(
                metavar="ENGINE",
                rich_help_panel=MODEL,
                help="transformers (the reference), openvino, llamacpp or auto; runs local models.",
            ),
        ] = "transformers",
        max_tokens: Annotated[
            int | None,
            typer.Option(
                metavar="N",
                min=1,
                rich_help_panel=LIMITS,
                help="Maximum tokens per answer. Default: enough for the longest reference answer, and at least 64.",
            ),
        ] = None,
        max_usd: MaxUsd = None,
        device: Device = "auto",
        launch: LaunchMeasuring = None,
        precision: Precision = "auto",
        json: Json = False,
        csv: Csv = False,
        wide: Wide = False,
    ) -> None:
        """Evaluate a model. Every score comes with its interval, n and signature.

        Example: sizewise evaluate pkg:smollm2-135m --data data-1234567890
        """
        from sizewise.evaluation import EvaluationOptions, evaluate_suite
        from sizewise.evaluation import evaluate as evaluate_model
        from sizewise.evaluation.options import HarnessOptions
        from sizewise.evaluation.rubric import read_rubric
        from sizewise.store import Store
        from sizewise.store.repetitions import newest_saved

        if reproduce is not None:
            _reproduce(newest_of(reproduce), data, max_usd, confirm_run_unsafe_code, json, csv)
            return
        if write_prompts is not None:
            _write_prompts(write_prompts, suite, data, limit, seed)
            return
        if model is None:
            raise UsageError("No model given.", "a model URI", "sizewise models")
        names = [name.strip() for name in metrics.split(",") if name.strip()] if metrics else []
        if suite is None and data is None:
            raise UsageError("No test data given.", "--data ID, or --suite NAME", "sizewise runs")
        sampled = samples > 1 or temperature is not None or constrained
        if suite is None and confirm_run_unsafe_code:
            raise UsageError(
                "--confirm-run-unsafe-code is an option of --suite code, which wasn't given.",
                "--suite code with it",
                f"sizewise evaluate {model} --suite code --confirm-run-unsafe-code",
            )
        _check_suite(model, suite, letters, bool(rubric or judge), max_tokens is not None or sampled or bool(until))
        options = EvaluationOptions(
            max_tokens=max_tokens,
            count_failures_as_wrong=count_failures_as_wrong,
            new_run=new_run,
            seed=seed,
            engine=engine,
            max_usd=max_usd,
            samples=samples,
            temperature=temperature,
            until=_question(until, against, margin, min_quality),
            constrained=constrained,
            letters=letters,
            run_code=confirm_run_unsafe_code,
            rubric=read_rubric(rubric) if rubric else None,
            judge=judge or "",
            name=(name or "").strip(),
            harness=HarnessOptions(num_fewshot, apply_chat_template, not fewshot_in_one_turn, system_instruction),
        )
        if suite is None:
            options.check_harness(str(data))
        with reporting() as reporter:
            if suite is not None:
                saved = evaluate_suite(model, suite, data, limit=limit, options=options, reporter=reporter)
            else:
                saved = evaluate_model(model, str(data), names, limit=limit, options=options, reporter=reporter)
        if not new_run and saved.record.unanswered == 0:
            saved = newest_saved(Store(), saved)
        if not print_saved(saved, json):
            _print(saved, suite is not None, csv, wide)


def _check_suite(model: str, suite: str | None, letters: bool, judged: bool, answered: bool) -> None:
    """Refuse options that belong to a suite, or to a test set.

    Raises:
        UsageError: one of them is set for the other.
    """
    if suite is None and letters:
        raise UsageError(
            "--by-prompting is an option of --suite, which wasn't given.",
            "--suite NAME with it",
            f"sizewise evaluate {model} --suite bias --by-prompting",
        )
    if suite is not None and judged:
        raise UsageError(
            "--rubric and --judge don't apply to a suite.",
            "--data ID with them, or --suite NAME alone",
            f"sizewise evaluate {model} --suite {suite}",
        )
    if suite is not None and answered:
        raise UsageError(
            "--max-tokens, --samples, --temperature, --constrained and --until don't apply to a suite.",
            "--data ID with them, or --suite NAME alone",
            f"sizewise evaluate {model} --suite {suite}",
        )


def _write_prompts(path: Path, suite: str | None, data: str | None, limit: int | None, seed: int) -> None:
    """Write the prompts of a suite to a file.

    Raises:
        UsageError: no suite is given, or it has no questions.
    """
    from json import dumps

    from sizewise.evaluation import EvaluationOptions
    from sizewise.evaluation.suite_run import suite_prompts
    from sizewise.store import write_atomically

    if suite is None:
        raise UsageError(
            "--write-prompts is an option of --suite, which wasn't given.",
            "--suite NAME with it",
            f"sizewise evaluate --suite bias --write-prompts {path}",
        )
    requests = suite_prompts(suite, data, limit=limit, options=EvaluationOptions(seed=seed))
    rows = ({"id": one.id, "prompt": one.messages[-1].content} for one in requests)
    write_atomically(path, "".join(f"{dumps(row, ensure_ascii=False)}\n" for row in rows))
    print_line(f'{len(requests)} prompts. Add a "completion" to each row, then evaluate recorded:FILE --suite {suite}.')
    print_path(str(path))


def _question(until: str | None, against: str | None, margin: float | None, min_quality: float | None) -> Until | None:
    """Build the question that ends the evaluation.

    Raises:
        UsageError: a question is given without --until.
    """
    from sizewise.evaluation.options import Until

    given = [
        name
        for name, value in (("--against", against), ("--margin", margin), ("--min-quality", min_quality))
        if value is not None
    ]
    if until is None and given:
        raise UsageError(f"{given[0]} needs --until decided.", "--until decided with it", f"--until decided {given[0]}")
    return (
        Until(newest_of(against) if against is not None else None, margin, min_quality) if until is not None else None
    )


def _print(saved: Saved[Evaluation], of_suite: bool, csv: bool, wide: bool) -> None:
    """Print scores and notes."""
    from sizewise.report.words import measure_of, value_text

    scores = saved.record.scores
    rows = []
    for name, score in scores.items():
        if not (wide or csv) and _repeats(name, scores):
            continue
        measure = measure_of(name)
        text = value_text(score) if score.value is not None else f"missing: {score.missing_reason}"
        rows.append([name, text, measure.unit or score.unit, str(score.n), score.signature])
    headings = ["score", "value [95 %]", "unit", "n", "signature"]
    if print_csv(headings, rows, csv):
        return
    columns = len(headings) if wide else len(headings) - 1
    print_table(headings[:columns], [row[:columns] for row in rows], saved.record.model.origin)
    _print_fields(saved.record)
    if not of_suite and any(row[0].endswith("@all") for row in rows):
        print_line("@all: all items. Other scores: only items that share nothing with training text.")
    for name in saved.record.metrics if of_suite else ():
        print_line(f"{name}: {measure_of(name).description}", "  ")
    notes = list(saved.record.notes)
    if saved.record.failed:
        notes.append(f"{saved.record.failed} items failed; see {saved.path.with_name('items.jsonl')}")
    print_notes(notes)
    print_path(f"evaluation: {saved.id}")


def _print_fields(record: Evaluation) -> None:
    """Print the scores of each field of JSON answers."""
    from sizewise.report.words import value_text

    rows = [[one.path, *map(value_text, (one.precision, one.recall, one.f1)), str(one.f1.n)] for one in record.fields]
    if rows:
        print_table(["field", "precision [95 %]", "recall [95 %]", "F1 [95 %]", "n"], rows, "Fields of the answers")


def _repeats(name: str, scores: dict[str, Score]) -> bool:
    """Return whether a score on all items covers the same items as the one on uncontaminated items."""
    plain = scores.get(name.removesuffix("@all"))
    return name.endswith("@all") and plain is not None and plain.n == scores[name].n


def _reproduce(
    evaluation: str, path: str | None, max_usd: float | None, run_code: bool, as_json: bool, as_csv: bool
) -> None:
    """Repeat an evaluation and print both values of each score.

    Raises:
        Exit: a score was not reproduced.
    """
    from sizewise.evaluation.reproduce import rerun
    from sizewise.report.words import value_text
    from sizewise.store import Store

    with reporting() as reporter:
        saved = Store().write_new(rerun(evaluation, path, max_usd=max_usd, run_code=run_code, reporter=reporter))
    found = saved.record
    if not print_saved(saved, as_json):
        state = dict.fromkeys(found.equal, "equal") | dict.fromkeys(found.within, "within the interval")
        headings = ["score", "before [95 %]", "now [95 %]", "result"]
        rows = [
            [
                name,
                *(value_text(s) if s.value is not None else "missing" for s in (score, found.after[name])),
                state.get(name, "OUTSIDE the interval"),
            ]
            for name, score in found.before.items()
        ]
        if not print_csv(headings, rows, as_csv):
            print_line("reproduced" if not found.outside else f"not reproduced: {', '.join(found.outside)}")
            print_table(headings, rows)
            print_line(f"{found.answers_changed} answers changed")
            for package, change in found.versions_changed.items():
                print_line(f"{package}: {change}")
            print_path(f"reproduction: {saved.id}")
    if found.outside:
        raise typer.Exit(MISSED)
