"""`sizewise models`."""

from __future__ import annotations

import json as json_format
from typing import Annotated

import typer

from sizewise.cli.options import Json
from sizewise.cli.output import print_line, print_table, reporting


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def models(
        uri: Annotated[str | None, typer.Argument(help="Model URI to open and describe.")] = None,
        json: Json = False,
    ) -> None:
        """List the models that can be opened by pip alone, or describe one.

        Example: sizewise models pkg:smollm2-135m
        """
        from sizewise.models import PACKAGED, open_model
        from sizewise.models.fake import NAMES
        from sizewise.store import Store

        if uri is not None:
            with reporting() as reporter:
                described = open_model(uri, say=reporter.say).describe()
            if json:
                print_line(
                    json_format.dumps(
                        {
                            "schema": 1,
                            "kind": "model",
                            "id": uri,
                            "path": None,
                            "record": described.model_dump(mode="json"),
                        }
                    )
                )
                return
            for field, value in described.model_dump().items():
                if value not in (None, ""):
                    said = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
                    print_line(f"{field}: {said}")
            return
        store = Store()
        rows = [
            {
                "uri": f"pkg:{name}",
                "parameters": model.parameters,
                "licence": model.licence,
                "origin": model.origin,
                "fetched": (store.weights_folder(name) / "config.json").is_file(),
            }
            for name, model in PACKAGED.items()
        ]
        rows += [
            {"uri": f"fake:{name}", "parameters": 0, "licence": "Apache-2.0", "origin": rule, "fetched": True}
            for name, rule in NAMES.items()
        ]
        if json:
            print_line(
                json_format.dumps({"schema": 1, "kind": "models", "id": None, "path": None, "record": {"models": rows}})
            )
            return
        print_table(
            ["model", "parameters", "licence", "here", "origin"],
            [
                [
                    str(row["uri"]),
                    f"{row['parameters']:,}",
                    str(row["licence"]),
                    "yes" if row["fetched"] else "will be fetched",
                    str(row["origin"]),
                ]
                for row in rows
            ],
        )
        print_line("also: hf:ORG/NAME, a Hugging Face folder, run:ID (trained here; see `sizewise runs`)")
