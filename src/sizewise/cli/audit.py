"""`sizewise audit`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sizewise.cli.help import Command
from sizewise.cli.options import MEASUREMENT, OUTPUT, Json
from sizewise.cli.output import print_line, print_object, print_path, print_verdict
from sizewise.cli.run_ids import newest_of

if TYPE_CHECKING:
    from sizewise.records import Audit

MISSED = 3


def register(app: typer.Typer, panel: str) -> None:
    """Add the command."""

    @app.command(cls=Command, rich_help_panel=panel)
    def audit(
        root: Annotated[
            str, typer.Argument(metavar="ID|FILE", help="Id of a saved record, or an audit pack (FILE.zip).")
        ],
        verify: Annotated[
            bool,
            typer.Option(
                "--verify",
                rich_help_panel=MEASUREMENT,
                help="Score the stored answers again and recompute scores, differences and the verdict, without "
                "running a model; exit 3 if one differs.",
            ),
        ] = False,
        out: Annotated[
            Path | None,
            typer.Option(
                metavar="FILE", rich_help_panel=OUTPUT, help="Audit pack to write; default without --verify: ID.zip."
            ),
        ] = None,
        json: Json = False,
    ) -> None:
        """Pack all records and files behind a result, or recompute its numbers.

        Example: sizewise audit study-1234567890 --verify
        """
        from sizewise.studies.audit import audit as run_audit

        root = newest_of(root)
        if out is None and not verify and not root.endswith(".zip"):
            out = Path(f"{root}.zip")
        found = run_audit(root, out=out, verify=verify)
        if not print_object("audit", found.root, str(out.resolve()) if out else None, found, json):
            _print(found, out, verify)
        if not found.sound:
            raise typer.Exit(MISSED)


def _print(found: Audit, out: Path | None, verify: bool) -> None:
    """Print what a result is based on and whether its numbers hold."""
    if verify:
        print_verdict("Sound." if found.sound else "NOT sound.")
    kinds = list(found.records.values())
    counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds)))
    print_line(f"{found.root} is based on {counts} (files: {len(found.files)}).")
    for what, license in found.licenses.items():
        print_line(f"  license of {what}: {license}", "    ")
    versions = ", ".join(f"{package} {version}" for package, version in found.versions.items())
    if versions:
        print_line(f"Created with {versions}.", "  ")
    for record in found.recomputed:
        copied = f"; not recomputed: {', '.join(record.not_computed)}" if record.not_computed else ""
        state = "all equal" if not record.differing else f"{len(record.differing)} DIFFER"
        scored = f" and {record.from_answers:,} statistics of answers" if record.from_answers else ""
        print_line(f"{record.id}: {record.numbers} numbers{scored} recomputed, {state}{copied}", "  ")
        for line in record.differing:
            print_line(f"  {line}", "    ")
    for name in found.changed:
        print_path(f"CHANGED after packing: {name}")
    if out:
        print_path(f"pack: {out}")
