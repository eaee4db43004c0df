"""`sizewise runs`."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sizewise.cli.candidates import LEADING_SCORES
from sizewise.cli.help import Command
from sizewise.cli.options import DATA, Csv, Json, Wide
from sizewise.cli.output import print_csv, print_line, print_object, print_path, print_table
from sizewise.cli.table import shorten
from sizewise.errors import SizewiseError, UsageError

if TYPE_CHECKING:
    from sizewise.store import Listed, Store

    pass

HEADINGS = ["id", "kind", "name", "score", "age"]
WIDE_HEADINGS = ["id", "kind", "name", "model", "score", "size", "created (UTC)", "path"]
NAME_LENGTH = 16


def register(app: typer.Typer, panel: str) -> None:
    """Add the command."""

    @app.command(cls=Command, rich_help_panel=panel)
    def runs(
        kind: Annotated[
            str | None,
            typer.Option(metavar="KIND", rich_help_panel=DATA, help="Only this kind: dataset, evaluation, study, ..."),
        ] = None,
        clear_cache: Annotated[
            bool,
            typer.Option(
                "--clear-cache",
                rich_help_panel=DATA,
                help="Delete encoded training text, which is made again when needed. Records are kept.",
            ),
        ] = False,
        json: Json = False,
        csv: Csv = False,
        wide: Wide = False,
    ) -> None:
        """List saved records, oldest first: name, model, score and age.

        Example: sizewise runs
        """
        from sizewise.store import Store

        store = Store()
        _check_kind(kind)
        if clear_cache:
            freed = store.clear_encoded()
            if not print_object("cache", None, str(store.encoded_folder()), {"freed_bytes": freed}, json):
                print_line(f"{freed / 1e6:,.1f} MB of encoded training text deleted. Records are kept.")
            return
        rows = [_row(store, listed) for listed in store.listing() if kind in (None, listed.kind)]
        if print_object("runs", None, str(store.home), {"runs": rows}, json):
            return
        headings = WIDE_HEADINGS if wide or csv else HEADINGS
        table = [_wide_cells(row) if wide or csv else _cells(row) for row in rows]
        if print_csv(headings, table, csv):
            return
        if not rows:
            print_path(f"No records in {store.home}. Start with: sizewise study")
            return
        print_table(headings, table)
        print_path(f"home: {store.home}")


def _check_kind(kind: str | None) -> None:
    """Check that there is such a kind of record.

    Raises:
        UsageError: there is not.
    """
    from sizewise.store.store import FORMER_KINDS, KINDS

    if kind is None or kind in KINDS:
        return
    former = f" The kind '{kind}' is now '{FORMER_KINDS[kind]}'." if kind in FORMER_KINDS else ""
    raise UsageError(f"'{kind}' isn't a kind of record.{former}", ", ".join(KINDS), "sizewise runs")


def _row(store: Store, listed: Listed) -> dict[str, Any]:
    """Collect what the listing shows of one record; a damaged one has no name, model or score."""
    from sizewise.store.store import KINDS

    row: dict[str, Any] = {"created": listed.created, "kind": listed.kind, "id": listed.id, "path": str(listed.path)}
    row |= {"name": None, "model": None, "score": None, "size_bytes": None}
    with contextlib.suppress(OSError):
        row["size_bytes"] = sum(file.stat().st_size for file in listed.path.parent.rglob("*") if file.is_file())
    with contextlib.suppress(SizewiseError):
        row |= _summary(listed.kind, store.read(KINDS[listed.kind], listed.id).model_dump(mode="json"))
    return row


def _summary(kind: str, record: dict[str, Any]) -> dict[str, Any]:
    """Return name, model and score of a record as text, by its kind."""
    if kind == "dataset":
        count = sum(size["documents"] + size["examples"] for size in record["splits"].values())
        return {"name": record["name"], "score": f"{count:,} items"}
    if kind == "checkpoint":
        return {"model": record["recipe"]["start"], "score": f"{record['best_bits_per_byte']:.3f} bits/byte"}
    if kind == "classifier":
        recipe = record["recipe"]
        return {"name": recipe["method"], "model": recipe["start"], "score": _leading(record["scores"])}
    if kind == "evaluation":
        return {"name": record["data"], "model": record["model"]["uri"], "score": _leading(record["scores"])}
    if kind in ("study", "recommendation"):
        pick = record["pick"]
        return {"name": record.get("name"), "model": pick, "score": record["outcome"].replace("_", " ")}
    if kind == "comparison":
        names = list(record["models"])
        more = f" and {len(names) - 2} more" if len(names) > 2 else ""
        return {"name": " vs ".join(names[:2]) + more, "score": f"{len(record['differences'])} differences"}
    if kind == "loadtest":
        most_users = record["max_concurrent_users"]
        return {"name": record["url"], "model": record["model"], "score": f"{most_users} users" if most_users else None}
    if kind == "redteam":
        return {"model": record["model"], "score": f"{record['attacks']} attacks"}
    if kind == "calibration":
        apgr = record["apgr"]["value"]
        return {"name": record["source"], "score": None if apgr is None else f"APGR {apgr:.3f}"}
    if kind == "export":
        return {"name": record["to"], "model": record["model"]}
    if kind == "round":
        return {"name": record.get("comparison"), "score": f"{record['items']} items"}
    return _repeated(kind, record)


def _repeated(kind: str, record: dict[str, Any]) -> dict[str, Any]:
    """Return name and score of a record of repeated measurements or votes."""
    if kind == "reproduction":
        return {"name": record["evaluation"], "score": f"{len(record['outside'])} not reproduced"}
    if kind == "history":
        return {"name": record["name"], "score": f"{len(record['entries'])} evaluations"}
    if kind == "watch":
        return {"name": record["data"], "model": record["model"], "score": record["outcome"]}
    if kind == "ranking":
        return {"name": record["source"], "score": f"{record['votes']} votes"}
    return {}


def _leading(scores: dict[str, Any]) -> str | None:
    """Format the score that represents an evaluation."""
    measured = {name: score["value"] for name, score in scores.items() if score["value"] is not None}
    name = next((metric for metric in (*LEADING_SCORES, *measured) if metric in measured), None)
    return f"{name} {measured[name]:.3g}" if name else None


def _cells(row: dict[str, Any]) -> list[str]:
    name = " ".join(dict.fromkeys(part for part in (row["model"], row["name"]) if part))
    if row["kind"] in ("evaluation", "loadtest"):
        name = row["model"] or name
    short = " ".join(shorten(word, NAME_LENGTH) for word in (name or "-").split())
    return [row["id"], row["kind"], short, row["score"] or "-", _age(row["created"])]


def _wide_cells(row: dict[str, Any]) -> list[str]:
    created = row["created"].removesuffix("+00:00") or "damaged"
    texts = (
        row["id"],
        row["kind"],
        row["name"],
        row["model"],
        row["score"],
        _size(row["size_bytes"]),
        created,
        row["path"],
    )
    return [text or "-" for text in texts]


def _age(created: str) -> str:
    """Format the time since a record was written; `damaged` if its file can't be read."""
    if not created:
        return "damaged"
    seconds = (datetime.now(UTC) - datetime.fromisoformat(created)).total_seconds()
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f}{unit}"
    return f"{max(seconds, 0):.0f}s"


def _size(count: int | None) -> str | None:
    if count is None:
        return None
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count / 1e3:,.1f} kB"
