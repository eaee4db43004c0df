"""`sizewise models`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sizewise.cli.help import Command
from sizewise.cli.model_tables import (
    price_text,
    print_members,
    print_models,
    print_new,
    print_proposals,
    size_text,
)
from sizewise.cli.options import OUTPUT, Csv, Json, Wide
from sizewise.cli.output import print_csv, print_line, print_object, print_path, print_table, reporting
from sizewise.errors import UsageError

if TYPE_CHECKING:
    from sizewise.records import CatalogModel, ModelSize

LISTS = "Lists and proposals"
OLD_DAYS = 90


def register(app: typer.Typer, panel: str) -> None:
    """Add the command."""

    @app.command(cls=Command, rich_help_panel=panel)
    def models(
        names: Annotated[
            list[str] | None,
            typer.Argument(
                metavar="[NAME|URI]...",
                show_default=False,
                help="Model or family in any spelling, a URI, or the id of a training run; two or more are set side by "
                "side.",
            ),
        ] = None,
        page: Annotated[
            Path | None,
            typer.Option(
                metavar="FILE.html",
                rich_help_panel=OUTPUT,
                help="Write the models side by side as a page, with full and sliding-window attention explained.",
            ),
        ] = None,
        sentence: Annotated[
            str,
            typer.Option(
                metavar="SENTENCE", rich_help_panel=OUTPUT, help="With --page: the sentence that explains attention."
            ),
        ] = "",
        refresh: Annotated[
            bool,
            typer.Option(
                "--refresh",
                rich_help_panel=LISTS,
                help="Fetch the newest price list, and the model lists of providers whose API keys are set.",
            ),
        ] = False,
        new_since: Annotated[
            str | None,
            typer.Option(
                metavar="DATE",
                rich_help_panel=LISTS,
                help="List models that appeared since a day, and the stored studies that they might change.",
            ),
        ] = None,
        task: Annotated[
            str | None,
            typer.Option(
                "--for",
                metavar="TASK",
                rich_help_panel=LISTS,
                help="Propose candidates for a task on this machine, before anything is measured.",
            ),
        ] = None,
        needs: Annotated[
            Path | None,
            typer.Option(metavar="FILE", rich_help_panel=LISTS, help="With --for: TOML file with the needs."),
        ] = None,
        json: Json = False,
        csv: Csv = False,
        wide: Wide = False,
    ) -> None:
        """List models, describe one with its sources, or set several side by side.

        Example: sizewise models gpt-4o "claude sonnet 5.5" --page models.html
        """
        from sizewise.models.price_updates import current_update

        asked = names or []
        _check(asked, page, sentence, (new_since, task, needs))
        if refresh:
            _refresh()
        elif problem := current_update().problem:
            _warn(problem)
        if new_since is not None:
            _new_models(new_since, json, csv)
        elif task is not None:
            _propose(task, needs, json, csv)
        elif page is not None or len(asked) > 1:
            _side_by_side(asked, page, sentence, json, csv)
        elif asked:
            _describe(asked[0], json, csv)
        elif not refresh or json or csv:
            _list(json, csv, wide)


def _check(
    names: list[str], page: Path | None, sentence: str, others: tuple[str | None, str | None, Path | None]
) -> None:
    """Refuse options that would be ignored.

    Raises:
        UsageError: options don't belong together.
    """
    new_since, task, needs = others
    if page is not None and not names:
        raise UsageError(
            "--page shows models, and none was named.", "one or more names", "sizewise models A B --page FILE"
        )
    if sentence and page is None:
        raise UsageError(
            "--sentence is shown on a page, and --page wasn't given.",
            "--page FILE.html with it",
            "sizewise models A B --page FILE.html --sentence SENTENCE",
        )
    if needs is not None and task is None:
        raise UsageError(
            "--needs belongs to --for, which wasn't given.",
            "--for TASK with it",
            f"sizewise models --for TASK --needs {needs}",
        )
    if (new_since is not None or task is not None) and (names or page is not None):
        option = "--new-since" if new_since is not None else "--for"
        raise UsageError(
            f"{option} can't be combined with names of models.", f"{option} alone", f"sizewise models {option} ..."
        )
    if new_since is not None and task is not None:
        raise UsageError(
            "--new-since can't be combined with --for.", "one of them", f"sizewise models --new-since {new_since}"
        )


def _warn(line: str) -> None:
    with reporting() as reporter:
        reporter.say(f"warning: {line}")


def _refresh() -> None:
    """Fetch newer lists; what was fetched is told on stderr."""
    from sizewise.models.price_updates import refresh

    with reporting() as reporter:
        refresh(reporter.say)


def _list(json: bool, csv: bool, wide: bool) -> None:
    """Print models to run and models in the catalog."""
    from sizewise.models import load_catalog
    from sizewise.models.price_lists import checked_on, list_age_days

    rows = _available()
    if json:
        known = [model.model_dump(mode="json") for model in load_catalog().values()]
        print_object("models", None, None, {"models": rows, "market": known}, json)
        return
    _print(rows, csv, wide)
    days = list_age_days()
    if not csv and days is not None and days > OLD_DAYS:
        _warn(f"The price list is {days} days old ({checked_on()}). Newer prices: sizewise models --refresh")


def _side_by_side(names: list[str], page: Path | None, sentence: str, json: bool, csv: bool) -> None:
    """Print models side by side, or write them as a page."""
    from sizewise.report.model_page import write_model_page
    from sizewise.studies.side_by_side import compare_models
    from sizewise.studies.tokens import split_sentence

    record = compare_models(names)
    if page is not None:
        write_model_page(record, page, sentence, split_sentence(record, sentence))
        if not print_object("side_by_side", None, str(page), record, json):
            print_path(f"page: {page}")
        return
    print_models(record, json, csv)


def _new_models(day: str, json: bool, csv: bool) -> None:
    from sizewise.studies.new_models import new_models

    print_new(new_models(day), day, json, csv)


def _propose(task: str, needs: Path | None, json: bool, csv: bool) -> None:
    from sizewise.choice import read_needs
    from sizewise.records import Needs
    from sizewise.studies.proposals import propose

    print_proposals(propose(task, read_needs(needs) if needs is not None else Needs()), json, csv)


def _available() -> list[dict[str, Any]]:
    """List models that come with a package, and the fake ones for tests."""
    from sizewise.models import PACKAGED, PackagedModel
    from sizewise.models.fake import NAMES
    from sizewise.retrieval import ENCODERS
    from sizewise.retrieval.packaged_encoders import PackagedEncoder
    from sizewise.store import Store

    store = Store()
    known: dict[str, PackagedModel | PackagedEncoder] = {**PACKAGED, **ENCODERS}
    packaged: list[dict[str, Any]] = [
        {
            "uri": f"pkg:{name}",
            "parameters": model.parameters,
            "license": model.license,
            "origin": model.origin,
            "fetched": (store.weights_folder(name) / "config.json").is_file(),
        }
        for name, model in known.items()
    ]
    return packaged + [
        {"uri": f"fake:{name}", "parameters": 0, "license": "Apache-2.0", "origin": rule, "fetched": True}
        for name, rule in NAMES.items()
    ]


def _print(rows: list[dict[str, Any]], csv: bool, wide: bool) -> None:
    """Print models to run and models in the catalog."""
    from sizewise.models import load_catalog, plugins

    headings = ["model", "parameters", "license", "downloaded", "origin"]
    table = [
        [
            row["uri"],
            f"{row['parameters']:,}",
            row["license"],
            "yes" if row["fetched"] else "on first use",
            row["origin"],
        ]
        for row in rows
    ]
    if print_csv(headings, table, csv):
        return
    columns = len(headings) if wide else len(headings) - 1
    print_table(headings[:columns], [row[:columns] for row in table])
    print_line("")
    catalog = ["catalog", "parameters (billions)", "context", "USD per 1M tokens", "maker", "attention"]
    columns = len(catalog) if wide else len(catalog) - 2
    print_table(catalog[:columns], [_catalog_row(model)[:columns] for model in load_catalog().values()])
    print_line("")
    for kind, point in plugins().items():
        print_line(f"{kind}:NAME is opened by the plug-in {point.dist.name if point.dist else point.value}.")
    print_line("Facts and sources of one model: sizewise models NAME")
    print_line(
        "Other models: hf:ORG/NAME, a Hugging Face folder, gguf:FILE, run:ID (trained here; see `sizewise runs`)"
    )


def _catalog_row(model: CatalogModel) -> list[str]:
    return [
        model.name,
        size_text(model),
        f"{model.context:,}" if model.context else "not published",
        price_text(model),
        model.maker,
        model.attention or "not published",
    ]


def _facts(model: CatalogModel, as_json: bool, as_csv: bool) -> None:
    """Print the catalog entry of one model, each fact with its source."""
    from sizewise.models.identity import identify
    from sizewise.models.resolving import is_retired

    if print_object("market", model.name, None, model, as_json):
        return
    rows = [
        [field, ", ".join(value) if isinstance(value, tuple) else _text(value)]
        for field, value in model.model_dump(exclude={"sources"}).items()
        if value not in (None, "", ())
    ]
    if is_retired(model):
        rows.append(["price", f"none: it was shut down on {model.retires_on}"])
    for price in identify(model.uri).prices:
        text = f"{price.input_usd:.3g} USD per 1M input tokens, {price.output_usd:.3g} per 1M output tokens"
        rows.append([f"price of {price.provider}", f"{text} (genai-prices, {price.as_of or 'no date'})"])
    if print_csv(["fact", "value"], rows, as_csv):
        return
    for field, text in rows:
        print_line(f"{field}: {text}", "  ")
    for source in model.sources:
        state, note = "read" if source.verified else "not read", f"; {source.note}" if source.note else ""
        print_line(f"source of {source.fact}: {source.url} ({state} on {source.seen}{note})", "  ")


def _describe(uri: str, as_json: bool, as_csv: bool) -> None:
    """Print a catalog entry, the description of an opened model, or a size computed from a configuration."""
    from sizewise.models import PROVIDERS, find_model, model_size, open_model, plugins
    from sizewise.models.resolving import find_entry, resolve, unresolved
    from sizewise.store import Store

    known = find_model(uri)
    if known and (known.weights == "closed" or not uri.startswith(("hf:", "pkg:"))):
        _facts(known, as_json, as_csv)
        return
    entry = find_entry(uri) if uri.partition(":")[0] in PROVIDERS else None
    if entry is not None:
        _facts(entry, as_json, as_csv)
        return
    if not _is_uri(uri):
        found = resolve(uri)
        if found.model is not None:
            _facts(found.model, as_json, as_csv)
            return
        if found.members:
            print_members(found, as_json, as_csv)
            return
        if not any(Store().exists(kind, uri) for kind in ("checkpoint", "classifier") if "/" not in uri):
            raise unresolved(found)
        uri = f"run:{uri}"
    if uri.partition(":")[0] in ("fake", "recorded", "http", "https", *PROVIDERS, *plugins()):
        described = open_model(uri).describe()
        if print_object("model", uri, None, described, as_json):
            return
        rows = [[field, _text(value)] for field, value in described.model_dump().items() if value not in (None, "")]
        if print_csv(["fact", "value"], rows, as_csv):
            return
        for field, text in rows:
            print_line(f"{field}: {text}", "  ")
        return
    with reporting() as reporter:
        size, origin, license = model_size(uri, say=reporter.say)
    if not print_object("model", uri, None, size, as_json):
        _print_size(size, f"{origin}; license: {license}", as_csv)


def _print_size(size: ModelSize, origin: str, as_csv: bool) -> None:
    """Print parameters, memory and cache of a model."""
    headings = ["weights in", "memory (GB)", "fits here (one user)"]
    rows = [
        [name, f"{count / 1e9:,.2f}", {True: "yes", False: "no", None: "unknown"}[size.fits.get(name)]]
        for name, count in size.weight_bytes.items()
    ]
    if print_csv(headings, rows, as_csv):
        return
    print_line(origin)
    active = f", {size.active_parameters:,} active per token" if size.active_parameters < size.parameters else ""
    print_line(f"{size.architecture}: {size.parameters:,} parameters{active}")
    print_line(f"attention: {size.attention}; context: {size.context or 'not stated'} tokens")
    print_line(f"{size.operations / 1e9:,.2f} billion operations per token (at position 1,024)")
    print_table(headings, rows)
    print_line("")
    cache = [[f"{tokens:,}", f"{count / 1e6:,.1f}"] for tokens, count in size.cache_bytes.items()]
    if size.full_cache_bytes != size.cache_bytes:
        cache = [[*row, f"{full / 1e6:,.1f}"] for row, full in zip(cache, size.full_cache_bytes.values(), strict=True)]
    cache_headings = ["context (tokens per user)", "cache (MB, bf16)", "cache with full attention"]
    print_table(cache_headings[: len(cache[0])] if cache else cache_headings, cache)
    if size.free_bytes is not None:
        print_line(f"free memory here: {size.free_bytes / 1e9:.1f} GB")


def _text(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _is_uri(name: str) -> bool:
    """Return whether a name is a URI or a folder rather than a model's name."""
    from sizewise.models import PROVIDERS, plugins

    kinds = ("hf", "pkg", "gguf", "run", "fake", "recorded", "http", "https", *PROVIDERS, *plugins())
    path = Path(name).expanduser()
    here = (path / "config.json").is_file() or ("/" in name and path.exists())
    return (":" in name and name.partition(":")[0] in kinds) or here
