"""`sizewise keys`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sizewise.cli.help import Command, Group
from sizewise.cli.options import DATA, LIMITS, Csv, Json
from sizewise.cli.output import print_csv, print_line, print_object, print_path, print_table

KeysFile = Annotated[
    Path | None,
    typer.Option(
        "--keys",
        metavar="FILE",
        rich_help_panel=DATA,
        show_default="keys.toml, or the database of SIZEWISE_DATABASE_URL",
        help="File of API keys.",
    ),
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the key.")]


def register(app: typer.Typer, panel: str) -> None:
    """Add the commands."""
    keys = typer.Typer(
        cls=Group,
        help="Example: sizewise keys new support-team --keys keys.toml\n\n"
        "Create, list, revoke and rotate API keys, and show their usage.",
    )
    for command in (new, list_, usage, revoke, rotate):
        keys.command(command.__name__.rstrip("_"), cls=Command)(command)
    app.add_typer(keys, name="keys", rich_help_panel=panel)


def new(
    name: Name,
    models: Annotated[
        list[str] | None, typer.Option(metavar="NAME", rich_help_panel=LIMITS, help="Models the key may use, or auto.")
    ] = None,
    requests_per_minute: Annotated[
        int | None, typer.Option(metavar="N", min=1, rich_help_panel=LIMITS, help="Limit of requests.")
    ] = None,
    tokens_per_day: Annotated[
        int | None, typer.Option(metavar="N", min=1, rich_help_panel=LIMITS, help="Budget of tokens.")
    ] = None,
    usd_per_day: Annotated[
        float | None, typer.Option(metavar="USD", min=1e-6, rich_help_panel=LIMITS, help="Budget in US dollars.")
    ] = None,
    staff: Annotated[
        bool, typer.Option("--staff", rich_help_panel=LIMITS, help="May read handovers and metrics of keys.")
    ] = False,
    never_outside: Annotated[
        bool, typer.Option("--never-outside", rich_help_panel=LIMITS, help="Its text never reaches a model outside.")
    ] = False,
    mask_always: Annotated[
        bool, typer.Option("--mask-always", rich_help_panel=LIMITS, help="Mask personal data for models inside, too.")
    ] = False,
    detect: Annotated[
        list[str] | None, typer.Option(metavar="NAME", rich_help_panel=LIMITS, help="More detectors, such as names.")
    ] = None,
    file: KeysFile = None,
    json: Json = False,
) -> None:
    """Create an API key. It is shown once; the file stores its hash only.

    Example: sizewise keys new support-team --tokens-per-day 1000000
    """
    from sizewise.service.key_file import open_keys

    limits = {
        "models": list(models or ()),
        "requests_per_minute": requests_per_minute,
        "tokens_per_day": tokens_per_day,
        "usd_per_day": usd_per_day,
        "staff": staff,
        "never_outside": never_outside,
        "mask_always": mask_always,
        "detect": list(detect or ()),
    }
    store = open_keys(file)
    _print_key(name, store.add(name, {field: value for field, value in limits.items() if value}), file, json)


def list_(file: KeysFile = None, json: Json = False, csv: Csv = False) -> None:
    """List API keys with their models and limits.

    Example: sizewise keys list
    """
    from sizewise.service.key_file import open_keys

    store = open_keys(file)
    keys = store.read()
    fields = ("name", "models", "requests_per_minute", "tokens_per_day", "usd_per_day", "staff")
    record = {"keys": [key.model_dump(mode="json", include=set(fields)) | {"policy": key.policy} for key in keys]}
    if print_object("keys", store.place, _path_of(file), record, json):
        return
    headings = ["name", "models", "requests/min", "tokens/day", "USD/day", "staff", "guard"]
    rows = [[*(_text(getattr(key, field)) for field in fields), ", ".join(key.policy) or "-"] for key in keys]
    if not print_csv(headings, rows, csv):
        print_table(headings, rows)


def usage(
    days: Annotated[
        int, typer.Option(metavar="N", min=1, max=35, rich_help_panel=DATA, help="Number of days, ending now.")
    ] = 1,
    json: Json = False,
    csv: Csv = False,
) -> None:
    """Show requests, tokens and US dollars of each key and model. Budgets of backends are listed as keys.

    Example: sizewise keys usage --days 7
    """
    from sizewise.service.usage import DAY_S, used_since
    from sizewise.store import Store
    from sizewise.store.sharing import shared_url

    path = Store().home / "service" / "usage.sqlite"
    rows = used_since(path, days * DAY_S)
    record = {"days": days, "usage": [row._asdict() for row in rows]}
    if print_object("usage", f"{days} days", None if shared_url() else str(path), record, json):
        return
    headings = ["key", "model", "requests", "tokens", "USD"]
    cells = [[row.key, row.model, f"{row.requests:,}", f"{row.tokens:,}", f"{row.usd:.4f}"] for row in rows]
    if not print_csv(headings, cells, csv):
        print_table(headings, cells)


def revoke(name: Name, file: KeysFile = None, json: Json = False) -> None:
    """Remove an API key. A running service stops accepting it after SIGHUP or a restart.

    Example: sizewise keys revoke support-team
    """
    from sizewise.service.key_file import KeyFile, open_keys

    store = open_keys(file)
    store.revoke(name)
    if print_object("key", name, _path_of(file), {"name": name, "revoked": True}, json):
        return
    when = "Send `sizewise serve` the signal HUP, or restart it, to apply this."
    if not isinstance(store, KeyFile):
        when = "Running services notice it within a few seconds."
    print_line(f"Revoked '{name}' in {store.place}. {when}")


def rotate(name: Name, file: KeysFile = None, json: Json = False) -> None:
    """Replace an API key by a new one with the same name, models and limits.

    Example: sizewise keys rotate support-team
    """
    from sizewise.service.key_file import open_keys

    store = open_keys(file)
    _print_key(name, store.rotate(name), file, json)


def _print_key(name: str, key: str, file: Path | None, as_json: bool) -> None:
    if not print_object("key", name, _path_of(file), {"name": name, "key": key}, as_json):
        print_path(key)


def _path_of(file: Path | None) -> str | None:
    """Return the path of the file of keys; None if they are in the shared database."""
    from sizewise.service.key_file import DEFAULT_FILE
    from sizewise.store.sharing import shared_url

    return None if file is None and shared_url() else str((file or DEFAULT_FILE).resolve())


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(value) or "all"
    if isinstance(value, int | float):
        return f"{value:,}"
    return "no limit" if value is None else str(value)
