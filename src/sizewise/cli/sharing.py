"""`sizewise push` and `sizewise pull`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sizewise.cli.help import Command
from sizewise.cli.options import DATA, Json
from sizewise.cli.output import print_line, print_object
from sizewise.errors import SizewiseError, UsageError

if TYPE_CHECKING:
    from sizewise.store.artifacts import Artifacts


def register(app: typer.Typer, panel: str) -> None:
    """Add the commands."""

    @app.command(cls=Command, rich_help_panel=panel)
    def push(
        ids: Annotated[list[str] | None, typer.Argument(metavar="[ID...]", help="Records; default: all.")] = None,
        json: Json = False,
    ) -> None:
        """Copy records to the storage at SIZEWISE_ARTIFACTS_URL, with their files: weights, items, documents.

        New records are copied when they are written; this copies earlier ones, and those written without a connection.

        Example: sizewise push
        """
        _push(ids or [], json)

    @app.command(cls=Command, rich_help_panel=panel)
    def pull(
        ids: Annotated[list[str] | None, typer.Argument(metavar="[ID...]", help="Records; default: list them.")] = None,
        kind: Annotated[
            str | None,
            typer.Option(metavar="KIND", rich_help_panel=DATA, help="Only this kind: dataset, evaluation, study, ..."),
        ] = None,
        json: Json = False,
    ) -> None:
        """Copy records from the storage at SIZEWISE_ARTIFACTS_URL to this machine; without an id, list what is there.

        Commands that read a record fetch it by themselves.

        Example: sizewise pull study-1234567890
        """
        if ids:
            _pull(ids, json)
        else:
            _list(kind, json)


def _push(ids: list[str], as_json: bool) -> None:
    """Copy records to the shared storage.

    Raises:
        SizewiseError: there is no such record, or the storage can't be used.
    """
    from sizewise.store import Store

    store, shared = Store(), _shared()
    found = {one.id: one for one in store.listing() if not ids or one.id in ids}
    if unknown := set(ids) - found.keys():
        what = f"There is no record with the id '{min(unknown)}' in {store.home}."
        raise SizewiseError(what, "the id of a record", "sizewise runs")
    pushed = [name for name, one in found.items() if shared.push(one.kind, name, one.path.parent)]
    others = len(found) - len(pushed)
    if print_object("push", None, shared.url, {"records": pushed, "others": others}, as_json):
        return
    for name in pushed:
        print_line(name)
    print_line(f"{len(pushed)} records copied to {shared.url}; {others} were there, or still collect votes.")


def _pull(ids: list[str], as_json: bool) -> None:
    """Copy records to this machine.

    Raises:
        SizewiseError: there is no such record, or the storage can't be used.
    """
    from sizewise.store import Store

    store, shared = Store(), _shared()
    paths = [str(store.record_path(store.kind_of(name), name)) for name in ids]
    if print_object("pull", None, shared.url, {"records": ids, "files": paths}, as_json):
        return
    for path in paths:
        print_line(path)


def _list(kind: str | None, as_json: bool) -> None:
    """List the records in the shared storage.

    Raises:
        UsageError: there is no such kind of record.
        SizewiseError: the storage can't be used.
    """
    from sizewise.store.store import KINDS

    if kind is not None and kind not in KINDS:
        raise UsageError(f"'{kind}' isn't a kind of record.", ", ".join(KINDS), "sizewise pull")
    shared = _shared()
    names = [name for one in KINDS if kind in (None, one) for name in shared.ids(one)]
    if print_object("pull", None, shared.url, {"there": names}, as_json):
        return
    for name in names:
        print_line(name)
    print_line(f"{len(names)} records at {shared.url}. Copy one to this machine with: sizewise pull ID")


def _shared() -> Artifacts:
    """Open the shared storage.

    Raises:
        UsageError: the environment names none.
    """
    from sizewise.store.artifacts import shared_artifacts

    shared = shared_artifacts()
    if shared is None:
        raise UsageError(
            "SIZEWISE_ARTIFACTS_URL isn't set.",
            "storage that machines share: s3://BUCKET/PREFIX or file:///FOLDER",
            "export SIZEWISE_ARTIFACTS_URL=s3://BUCKET/PREFIX",
        )
    return shared
