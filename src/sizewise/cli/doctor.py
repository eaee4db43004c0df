"""`sizewise doctor`."""

from __future__ import annotations

import typer

from sizewise.cli.help import Command
from sizewise.cli.options import Csv, Json
from sizewise.cli.output import print_csv, print_object, print_points, print_table, print_verdict

SIGNS = {"good": "good", "absent": "-", "problem": "PROBLEM"}


def register(app: typer.Typer, panel: str) -> None:
    """Add the command."""

    @app.command(cls=Command, rich_help_panel=panel)
    def doctor(json: Json = False, csv: Csv = False) -> None:
        """Check this machine and installation, and list fixes for every problem.

        Example: sizewise doctor
        """
        from sizewise.studies.doctor import absent_extras
        from sizewise.studies.doctor import doctor as check_machine

        found = check_machine()
        if not print_object("doctor", "doctor", None, found, json):
            headings = ["check", "state", "result", "fix"]
            rows = [[check.name, SIGNS[check.state], check.message, check.next or "-"] for check in found.checks]
            if not print_csv(headings, rows, csv):
                print_verdict("Healthy." if found.healthy else "Not healthy. Fix each PROBLEM below.")
                print_table(headings, rows)
                print_points("Not available", [f"{lost} (extra {extra})" for extra, lost in absent_extras(found)])
        if not found.healthy:
            raise typer.Exit(1)
