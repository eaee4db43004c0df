"""`sizewise runs`."""

from __future__ import annotations

import json as json_format

import typer

from sizewise.cli.options import Json
from sizewise.cli.output import print_line, print_table


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def runs(json: Json = False) -> None:
        """List all records, oldest first.

        Example: sizewise runs
        """
        from sizewise.store import Store

        store = Store()
        rows = [
            {"created": created, "kind": kind, "id": record_id, "path": str(path)}
            for created, kind, record_id, path in store.listing()
        ]
        if json:
            print_line(
                json_format.dumps(
                    {
                        "schema": 1,
                        "kind": "runs",
                        "id": None,
                        "path": str(store.home),
                        "record": {"runs": rows},
                    }
                )
            )
            return
        if not rows:
            print_line(f"no records in {store.home}; start with: sizewise study")
            return
        print_table(
            ["created (UTC)", "kind", "id"],
            [[row["created"] or "damaged", row["kind"], row["id"]] for row in rows],
        )
        print_line(f"home: {store.home}")
