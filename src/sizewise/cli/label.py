"""`sizewise label`."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sizewise.cli.help import Command
from sizewise.cli.launching import LaunchMeasuring
from sizewise.cli.options import DATA, LIMITS, MODEL, OUTPUT, Csv, Device, Json, Label, MaxUsd, Prompt, Seed
from sizewise.cli.output import print_csv, print_line, print_object, print_path, print_table, reporting
from sizewise.errors import UsageError

if TYPE_CHECKING:
    from sizewise.records import Labeling, Option, Score


def register(app: typer.Typer, panel: str) -> None:
    """Add the command."""

    @app.command(cls=Command, rich_help_panel=panel)
    def label(
        paths: Annotated[
            list[str], typer.Argument(metavar="PATH...", help="Texts or traces: files, folders or the id of a dataset.")
        ],
        by: Annotated[
            list[str] | None,
            typer.Option(metavar="MODEL", rich_help_panel=MODEL, help="Model that labels the texts; repeatable."),
        ] = None,
        options: Annotated[
            str,
            typer.Option(
                metavar="LABELS",
                rich_help_panel=DATA,
                help="The labels, as 'spam|ham' or a JSON file of values with descriptions.",
            ),
        ] = "",
        prompt: Prompt = "",
        label: Label = "",
        question: Annotated[
            str, typer.Option(metavar="QUESTION", rich_help_panel=DATA, help="What is asked of each text.")
        ] = "",
        out: Annotated[
            Path, typer.Option(metavar="FILE", rich_help_panel=OUTPUT, help="JSONL file of labeled texts to write.")
        ] = Path("labels.jsonl"),
        ask: Annotated[
            int, typer.Option(metavar="N", min=0, rich_help_panel=LIMITS, help="Number of texts for people to label.")
        ] = 50,
        min_probability: Annotated[
            float,
            typer.Option(
                metavar="P", min=0, max=1, rich_help_panel=LIMITS, help="Leave out texts without so likely a label."
            ),
        ] = 0.5,
        max_usd: MaxUsd = None,
        seed: Seed = 0,
        device: Device = "auto",
        launch: LaunchMeasuring = None,
        json: Json = False,
        csv: Csv = False,
    ) -> None:
        """Label texts with a committee of models; people settle the disagreements that matter most.

        Example: sizewise label tickets.csv --by openai:gpt-4o --options 'card|loan'

        People fill in the column 'label' of labels.ask.csv; the same command takes their labels and asks for more.
        """
        from sizewise.records import Question
        from sizewise.synthesis.label_files import LabelOptions
        from sizewise.synthesis.labeling import label_texts

        asked = Question(type="choice", instructions=question, options=_options(options)) if options else None
        if question and asked is None:
            raise UsageError("A question without labels was given.", "the labels in --options", "sizewise label -h")
        how = LabelOptions(ask, min_probability, max_usd, seed, prompt, label)
        with reporting() as reporter:
            made = label_texts(paths, by or [], out, question=asked, options=how, reporter=reporter)
        if not print_object("labeled", out.name, made.file, made, json):
            _print(made, csv)


def _options(given: str) -> tuple[Option, ...]:
    """Parse the labels of an option, or of a JSON file.

    Raises:
        UsageError: They can't be parsed.
    """
    from sizewise.documents.decisions import options_of

    try:
        if given.endswith(".json"):
            return options_of(json_module.loads(Path(given).expanduser().read_text(encoding="utf-8-sig")))
        return options_of(given)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"The labels '{given:.80}' can't be used: {error}.",
            "labels separated by |, or a JSON file with a list of {value, description}",
            "--options 'spam|ham'",
        ) from error


def _print(made: Labeling, csv: bool) -> None:
    headings = ["model", "estimated accuracy", "unanswered"]
    rows = [
        [uri, "-" if share is None else f"{share:.1%}", f"{made.unanswered[uri]:,}"]
        for uri, share in made.accuracies.items()
    ]
    if print_csv(headings, rows, csv):
        return
    print_table(headings, rows, f"{made.texts:,} texts, {len(made.options):,} labels")
    print_line(f"all models agree: {_share(made.unanimous)}")
    print_line(f"agreed labels that people confirmed: {_share(made.checked)}")
    print_line(f"settled by people or labeled before: {made.settled:,}")
    print_line(f"labeled texts: {made.written:,}; left out: {made.left_out:,} without a likely label")
    if made.asked:
        print_path(f"for people: {made.ask_file} ({made.asked:,} texts; fill in 'label' and run this command again)")
    print_path(f"next: sizewise read {made.file}")


def _share(score: Score) -> str:
    if score.value is None:
        return f"- ({score.missing_reason})"
    return f"{score.value:.1%} [{score.ci_low:.1%}, {score.ci_high:.1%}] of {score.n:,}"
