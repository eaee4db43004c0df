"""`sizewise doctor`."""

from __future__ import annotations

import typer

from sizewise.cli.options import Json
from sizewise.cli.output import print_line, print_object, print_table

SIGNS = {"good": "good", "absent": "-", "problem": "PROBLEM"}


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def doctor(json: Json = False) -> None:
        """Say whether this machine and installation can do the work, and what mends it.

        Example: sizewise doctor
        """
        from sizewise.studies.doctor import absent_extras
        from sizewise.studies.doctor import doctor as look

        found = look()
        if not print_object("doctor", "doctor", None, found, json):
            rows = [[check.name, SIGNS[check.state], check.message, check.next] for check in found.checks]
            print_table(["what", "state", "found", "mend it"], rows)
            print_line("healthy: nothing is in the way" if found.healthy else "not healthy: see PROBLEM above")
            for extra, lost in absent_extras(found):
                print_line(f"without {extra}: no {lost}")
        if not found.healthy:
            raise typer.Exit(1)
