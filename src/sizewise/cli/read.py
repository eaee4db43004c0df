"""`sizewise read`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sizewise.cli.help import Command
from sizewise.cli.options import DATA, LIMITS, Csv, Json, Label, Prompt, Reference, Seed
from sizewise.cli.output import print_csv, print_line, print_notes, print_path, print_saved, print_table

if TYPE_CHECKING:
    from sizewise.records import ContaminationReport


def register(app: typer.Typer, panel: str) -> None:
    """Add the command."""

    @app.command(cls=Command, rich_help_panel=panel)
    def read(
        paths: Annotated[
            list[str], typer.Argument(metavar="PATH...", help="Files, folders, web addresses or demo:NAME.")
        ],
        name: Annotated[
            str | None, typer.Option(metavar="NAME", rich_help_panel=DATA, help="Name of the dataset.")
        ] = None,
        domain: Annotated[
            str | None, typer.Option(metavar="NAME", rich_help_panel=DATA, help="Domain, such as medical.")
        ] = None,
        prompt: Prompt = "",
        reference: Reference = "",
        label: Label = "",
        groups: Annotated[
            list[str] | None,
            typer.Option(
                metavar="COLUMN",
                rich_help_panel=DATA,
                help="Column with a group of people, to compare decisions between; no model sees it; repeatable.",
            ),
        ] = None,
        type: Annotated[
            str,
            typer.Option(
                metavar="TYPE",
                rich_help_panel=DATA,
                help="What the labels decide: predicate, choice, multi (several apply) or score; detected by default.",
            ),
        ] = "",
        max_rejects: Annotated[
            float,
            typer.Option(
                metavar="SHARE",
                min=0,
                max=1,
                rich_help_panel=LIMITS,
                help="Maximum share of unusable rows per file (0 to 1); they are listed in rejected.jsonl.",
            ),
        ] = 0.05,
        personal_data: Annotated[
            str,
            typer.Option(
                metavar="CHOICE", rich_help_panel=DATA, help="What becomes of personal data: keep, mask or drop."
            ),
        ] = "keep",
        allow_host: Annotated[
            list[str] | None,
            typer.Option(
                metavar="HOST", rich_help_panel=DATA, help="Host that web pages may be read from; repeatable."
            ),
        ] = None,
        max_pages: Annotated[
            int,
            typer.Option(metavar="N", min=1, rich_help_panel=LIMITS, help="Maximum number of web pages per address."),
        ] = 1,
        split: Annotated[
            str,
            typer.Option(
                metavar="BY",
                rich_help_panel=DATA,
                help="What is held out: documents, questions, prompts, time, group, or the splits given in the data.",
            ),
        ] = "documents",
        seed: Seed = 0,
        json: Json = False,
        csv: Csv = False,
    ) -> None:
        """Load documents and examples into a dataset: split by document, with a contamination report.

        Example: sizewise read contracts/ examples.jsonl

        Other column names: sizewise read tickets.csv --prompt Frage --reference Antwort --label Kategorie

        Web pages: sizewise read https://example.org/docs/ --allow-host example.org --max-pages 50
        """
        from sizewise.datasets import read as read_dataset
        from sizewise.datasets.label_report import LABEL_ERRORS, label_lines
        from sizewise.documents import ReadOptions, check_choice
        from sizewise.documents.decisions import declared_question

        question = declared_question(type) if type else None
        options = ReadOptions(
            max_rejects,
            prompt,
            reference,
            label,
            check_choice(personal_data),
            tuple(allow_host or ()),
            max_pages,
            groups=tuple(groups or ()),
            question=question,
        )
        saved = read_dataset(paths, name=name, domain=domain, seed=seed, split=split, options=options)
        if print_saved(saved, json):
            return
        record, contamination = saved.record, saved.record.contamination
        headings = ["split", "documents", "characters", "examples"]
        rows = [
            [split, f"{size.documents:,}", f"{size.characters:,}", f"{size.examples:,}"]
            for split, size in record.splits.items()
        ]
        if print_csv(headings, rows, csv):
            return
        print_table(headings, rows)
        for form, count in record.forms.items():
            print_line(f"rows read as {form}: {count:,}")
        if record.rejected:
            print_path(f"rows set aside: {record.rejected:,}, see {saved.path.with_name('rejected.jsonl')}")
        for line in contamination_lines(contamination):
            print_line(line, "  ")
        for line in label_lines(record.labels) if record.labels else ():
            print_line(line, "  ")
        if record.labels and (record.labels.likely_errors or record.labels.conflicts):
            print_path(f"doubtful labels: see {saved.path.with_name(LABEL_ERRORS)}")
        if len(record.languages) > 1 or "en" not in record.languages:
            counts = (f"{name} {count:,}" for name, count in sorted(record.languages.items(), key=lambda one: -one[1]))
            print_line(f"languages: {', '.join(counts)}", "  ")
        print_line(f"duplicates removed: {contamination.duplicates_removed:,}")
        for kind, count in record.not_read.items():
            print_line(f"not read: {count:,} x {kind}")
        print_notes(record.notes)
        print_path(f"dataset: {saved.id}")


def contamination_lines(report: ContaminationReport) -> list[str]:
    """Return what of the test split occurs in training, in words."""
    lines = []
    if report.passages:
        lines.append(
            f"test passages that share nothing with training: {_of(report.uncontaminated_passages, report.passages)}"
        )
    if report.examples:
        lines.append(
            f"test examples that share nothing with training: {_of(report.uncontaminated_examples, report.examples)}"
        )
    seen = [("prompts", report.prompts), ("answers", report.answers), ("prompt and answer together", report.pairs)]
    if report.examples and report.uncontaminated_examples < report.examples:
        lines.append("seen in training: " + ", ".join(f"{name} {count:,}" for name, count in seen if count is not None))
    if report.edited:
        lines.append(f"with an edited copy in training: {report.edited:,}")
    return lines


def _of(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,}"
