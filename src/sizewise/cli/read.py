"""`sizewise read`."""

from __future__ import annotations

from typing import Annotated

import typer

from sizewise.cli.options import Json, Seed
from sizewise.cli.output import print_line, print_stored, print_table


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def read(
        paths: Annotated[list[str], typer.Argument(help="Files, folders, or demo:fhir.")],
        domain: Annotated[str | None, typer.Option(help="Field of work.")] = None,
        name: Annotated[str | None, typer.Option(help="Name of the dataset.")] = None,
        seed: Seed = 0,
        max_rejects: Annotated[
            float,
            typer.Option(
                help="Share of the rows of a file that may be unusable; they are set aside and told.", min=0, max=1
            ),
        ] = 0.05,
        json: Json = False,
    ) -> None:
        """Load documents and examples into a dataset, split, with a report of what the test shares with training.

        Example: sizewise read contracts/ examples.jsonl
        """
        from sizewise.datasets import read as read_dataset

        stored = read_dataset(paths, name=name, domain=domain, seed=seed, max_rejects=max_rejects)
        if print_stored(stored, json):
            return
        record, contamination = stored.record, stored.record.contamination
        print_table(
            ["split", "documents", "characters", "examples"],
            [
                [split, f"{size.documents:,}", f"{size.characters:,}", f"{size.examples:,}"]
                for split, size in record.splits.items()
            ],
        )
        for form, count in record.forms.items():
            print_line(f"rows read as {form}: {count:,}")
        if record.rejected:
            print_line(f"rows set aside: {record.rejected:,}, see {stored.path.with_name('rejected.jsonl')}")
        print_line(
            f"uncontaminated (share no {contamination.ngram} words in a row with training): {contamination.uncontaminated_passages} of "
            f"{contamination.passages} test passages, {contamination.uncontaminated_examples} of {contamination.examples} test examples "
            f"({contamination.prompts} have a prompt that training has seen); {contamination.duplicates_removed} duplicates removed"
        )
        for kind, count in record.not_read.items():
            print_line(f"not read: {count} x {kind}")
        for note in record.notes:
            print_line(f"note: {note}")
        print_line(f"dataset: {stored.id}")
