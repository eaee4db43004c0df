"""`sizewise models`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from sizewise.cli.help import Command
from sizewise.cli.options import Csv, Json, Wide
from sizewise.cli.output import print_csv, print_line, print_object, print_table, reporting

if TYPE_CHECKING:
    from sizewise.records import CatalogModel, ModelSize


def register(app: typer.Typer, panel: str) -> None:
    """Add the command."""

    @app.command(cls=Command, rich_help_panel=panel)
    def models(
        uri: Annotated[str | None, typer.Argument(metavar="NAME|URI", help="Model to describe.")] = None,
        json: Json = False,
        csv: Csv = False,
        wide: Wide = False,
    ) -> None:
        """List models, or describe one: facts with sources, or its size computed from its configuration.

        Example: sizewise models hf:mistralai/Mistral-7B-v0.1
        """
        from sizewise.models import load_catalog

        if uri is not None:
            _describe(uri, json, csv)
            return
        rows = _available()
        if json:
            known = [model.model_dump(mode="json") for model in load_catalog().values()]
            print_object("models", None, None, {"models": rows, "market": known}, json)
            return
        _print(rows, csv, wide)


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
    from sizewise.models import price_of

    price = price_of(model.uri)
    size = f"{model.parameters / 1e9:,.3g}" if model.parameters else "not published"
    if model.active_parameters:
        size += f" ({model.active_parameters / 1e9:,.3g} active)"
    return [
        model.name,
        size,
        f"{model.context:,}" if model.context else "not published",
        f"{price.read:g} in, {price.written:g} out" if price else "-",
        model.maker,
        model.attention or "not published",
    ]


def _facts(model: CatalogModel, as_json: bool, as_csv: bool) -> None:
    """Print the catalog entry of one model, each fact with its source."""
    from sizewise.models import price_of

    if print_object("market", model.name, None, model, as_json):
        return
    rows = [
        [field, ", ".join(value) if isinstance(value, tuple) else _text(value)]
        for field, value in model.model_dump(exclude={"sources"}).items()
        if value not in (None, "", ())
    ]
    price = price_of(model.uri)
    if price:
        rows.append(
            ["price", f"{price.read:g} USD per 1M input tokens, {price.written:g} per 1M output tokens (genai-prices)"]
        )
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

    known = find_model(uri)
    if known and (known.weights == "closed" or not uri.startswith(("hf:", "pkg:"))):
        _facts(known, as_json, as_csv)
        return
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
