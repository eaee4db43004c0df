"""`sizewise init`."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import Annotated

import typer

from sizewise.cli.options import Json
from sizewise.cli.output import print_line


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def init(
        domain: Annotated[
            str,
            typer.Option(help="medical, legal, financial, support, fraud, compliance, voice or summary."),
        ],
        documents: Annotated[list[str] | None, typer.Option(help="Files, folders or demo:NAME.")] = None,
        examples: Annotated[list[str] | None, typer.Option(help="JSONL or CSV files with examples.")] = None,
        out: Annotated[Path, typer.Option(help="Study file to write.")] = Path("study.toml"),
        force: Annotated[bool, typer.Option("--force", help="Write over a file that exists.")] = False,
        json: Json = False,
    ) -> None:
        """Write a study file that fits a kind of work, and say what a person must decide.

        Example: sizewise init --domain legal --documents statutes/
        """
        from sizewise.studies.templates import domains
        from sizewise.studies.templates import init as write_study_file

        path = write_study_file(domain, out, tuple(documents or ()), tuple(examples or ()), force)
        known = domains()[domain]
        if json:
            record = {"domain": domain, "study_file": str(path), "people": known["people"], "groups": known["groups"]}
            whole = {"schema": 1, "kind": "init", "id": domain, "path": str(path.resolve()), "record": record}
            print_line(json_format.dumps(whole, ensure_ascii=False))
            return
        print_line(f"wrote {path}: {known['title']}")
        print_line("a person must decide:")
        for line in known["people"]:
            print_line(f"  - {line}")
        if not (documents or examples or known["documents"]):
            print_line(f"put text into {path.parent / 'documents'}/: {known['text']}")
            print_line(f"put examples into {path.parent / 'examples.jsonl'}: {known['examples']}")
        print_line(f"next: sizewise study {path} --dry-run")
