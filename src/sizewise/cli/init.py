"""`sizewise init`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sizewise.cli.help import Command
from sizewise.cli.options import DATA, OUTPUT, Json, Label, Prompt, Reference
from sizewise.cli.output import print_line, print_object, print_path, print_points


def register(app: typer.Typer, panel: str) -> None:
    """Add the command."""

    @app.command(cls=Command, rich_help_panel=panel)
    def init(
        domain: Annotated[
            str,
            typer.Option(
                metavar="NAME",
                rich_help_panel=DATA,
                help="medical, legal, financial, support, fraud, compliance, voice, summary or extraction.",
            ),
        ],
        documents: Annotated[
            list[str] | None,
            typer.Option(metavar="PATH", rich_help_panel=DATA, help="Files, folders or demo:NAME."),
        ] = None,
        examples: Annotated[
            list[str] | None,
            typer.Option(metavar="FILE", rich_help_panel=DATA, help="JSONL or CSV files with examples."),
        ] = None,
        prompt: Prompt = "",
        reference: Reference = "",
        label: Label = "",
        out: Annotated[Path, typer.Option(metavar="FILE", rich_help_panel=OUTPUT, help="Study file to write.")] = Path(
            "study.toml"
        ),
        force: Annotated[
            bool, typer.Option("--force", rich_help_panel=OUTPUT, help="Overwrite an existing file.")
        ] = False,
        json: Json = False,
    ) -> None:
        """Write a study file for a domain, and list the decisions that people must make.

        Example: sizewise init --domain legal --documents statutes/
        """
        from sizewise.documents import ReadOptions
        from sizewise.studies.templates import domains
        from sizewise.studies.templates import init as write_study_file

        columns = ReadOptions(prompt=prompt, reference=reference, label=label)
        path = write_study_file(domain, out, tuple(documents or ()), tuple(examples or ()), force, columns)
        known = domains()[domain]
        record = {"domain": domain, "study_file": str(path), "people": known["people"], "groups": known["groups"]}
        if print_object("init", domain, str(path.resolve()), record, json):
            return
        print_line(f"Wrote {path}: {known['title']}.")
        print_points("A person must decide", known["people"])
        if not (documents or examples or known["documents"]):
            print_line(f"\nPut documents into {path.parent / 'documents'}/: {known['text']}.", "  ")
            print_line(f"Put examples into {path.parent / 'examples.jsonl'}: {known['examples']}.", "  ")
        print_path(f"next: sizewise study {path} --dry-run")
