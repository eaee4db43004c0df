"""`sizewise read`."""

from __future__ import annotations

from typing import Annotated

import typer

from sizewise.cli.help import Command
from sizewise.cli.options import DATA, LIMITS, Csv, Json, Seed
from sizewise.cli.output import print_csv, print_line, print_notes, print_path, print_saved, print_table


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
        prompt: Annotated[
            str, typer.Option(metavar="COLUMN", rich_help_panel=DATA, help="Column of the prompt; detected by default.")
        ] = "",
        reference: Annotated[
            str,
            typer.Option(metavar="COLUMN", rich_help_panel=DATA, help="Column of the answer; detected by default."),
        ] = "",
        label: Annotated[
            str, typer.Option(metavar="COLUMN", rich_help_panel=DATA, help="Column of the class; detected by default.")
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
        from sizewise.documents import ReadOptions, check_choice

        options = ReadOptions(
            max_rejects, prompt, reference, label, check_choice(personal_data), tuple(allow_host or ()), max_pages
        )
        saved = read_dataset(paths, name=name, domain=domain, seed=seed, options=options)
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
        print_line(
            f"uncontaminated (no {contamination.ngram} consecutive words shared with training): "
            f"{contamination.uncontaminated_passages} of {contamination.passages} test passages, "
            f"{contamination.uncontaminated_examples} of {contamination.examples} test examples",
            "  ",
        )
        print_line(f"prompts also in training: {contamination.prompts}")
        print_line(f"duplicates removed: {contamination.duplicates_removed}")
        for kind, count in record.not_read.items():
            print_line(f"not read: {count} x {kind}")
        print_notes(record.notes)
        print_path(f"dataset: {saved.id}")
