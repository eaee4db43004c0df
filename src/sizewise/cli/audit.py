"""`sizewise audit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sizewise.cli.options import Json
from sizewise.cli.output import print_line, print_object

MISSED = 3


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def audit(
        root: Annotated[str, typer.Argument(metavar="ID", help="Id of a result, or a pack made before (FILE.zip).")],
        verify: Annotated[
            bool, typer.Option("--verify", help="Compute every number again, without a model; exit 3 if one differs.")
        ] = False,
        out: Annotated[Path | None, typer.Option(help="Pack to write; without --verify by default ID.zip.")] = None,
        json: Json = False,
    ) -> None:
        """Pack what a result rests on, or compute its numbers again.

        Example: sizewise audit study-1234567890 --verify
        """
        from sizewise.studies.audit import audit as look

        if out is None and not verify and not root.endswith(".zip"):
            out = Path(f"{root}.zip")
        found = look(root, out=out, verify=verify)
        if not print_object("audit", found.root, str(out.resolve()) if out else None, found, json):
            kinds = ", ".join(
                f"{list(found.records.values()).count(kind)} {kind}" for kind in sorted(set(found.records.values()))
            )
            print_line(f"{found.root} rests on {len(found.records)} records ({kinds}) in {len(found.files)} files")
            for what, license in found.licenses.items():
                print_line(f"  licence of {what}: {license}")
            print_line("made with " + ", ".join(f"{package} {version}" for package, version in found.versions.items()))
            for one in found.recomputed:
                taken = f"; taken as they stand: {', '.join(one.not_computed)}" if one.not_computed else ""
                state = "all equal" if not one.differing else f"{len(one.differing)} DIFFER"
                print_line(f"{one.id}: {one.numbers} numbers computed again, {state}{taken}")
                for line in one.differing:
                    print_line(f"  {line}")
            for name in found.changed:
                print_line(f"CHANGED since it was packed: {name}")
            if out:
                print_line(f"pack: {out}")
            if verify:
                print_line("sound" if found.sound else "NOT sound")
        if not found.sound:
            raise typer.Exit(MISSED)
