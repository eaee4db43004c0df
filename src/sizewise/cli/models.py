"""`sizewise models`."""

from __future__ import annotations

import json as json_format
from typing import TYPE_CHECKING, Annotated

import typer

from sizewise.cli.options import Json
from sizewise.cli.output import print_line, print_object, print_table, reporting

if TYPE_CHECKING:
    from sizewise.records import CatalogModel


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def models(
        uri: Annotated[str | None, typer.Argument(help="Model URI to open and describe.")] = None,
        json: Json = False,
    ) -> None:
        """List models, or say what is known of one: facts with sources, and its size from its config alone.

        Example: sizewise models hf:mistralai/Mistral-7B-v0.1
        """
        from sizewise.models import PACKAGED, load_catalog, plugins
        from sizewise.models.fake import NAMES
        from sizewise.store import Store

        if uri is not None:
            _describe(uri, json)
            return
        store = Store()
        rows = [
            {
                "uri": f"pkg:{name}",
                "parameters": model.parameters,
                "license": model.license,
                "origin": model.origin,
                "fetched": (store.weights_folder(name) / "config.json").is_file(),
            }
            for name, model in PACKAGED.items()
        ]
        rows += [
            {"uri": f"fake:{name}", "parameters": 0, "license": "Apache-2.0", "origin": rule, "fetched": True}
            for name, rule in NAMES.items()
        ]
        if json:
            known = [model.model_dump(mode="json") for model in load_catalog().values()]
            record = {"models": rows, "market": known}
            print_line(json_format.dumps({"schema": 1, "kind": "models", "id": None, "path": None, "record": record}))
            return
        print_table(
            ["model", "parameters", "license", "here", "origin"],
            [
                [
                    str(row["uri"]),
                    f"{row['parameters']:,}",
                    str(row["license"]),
                    "yes" if row["fetched"] else "will be fetched",
                    str(row["origin"]),
                ]
                for row in rows
            ],
        )
        print_table(
            ["asked about", "maker", "parameters (billion)", "attention", "context", "USD for a million tokens"],
            [_market_row(model) for model in load_catalog().values()],
        )
        for kind, point in plugins().items():
            print_line(f"{kind}:NAME is opened by the plug-in {point.dist.name if point.dist else point.value}")
        print_line("what is known of one, and from where: sizewise models NAME")
        print_line("also: hf:ORG/NAME, a Hugging Face folder, gguf:FILE, run:ID (trained here; see `sizewise runs`)")


def _market_row(model: CatalogModel) -> list[str]:
    from sizewise.models import price_of

    price = price_of(model.uri)
    size = f"{model.parameters / 1e9:,.3g}" if model.parameters else "not published"
    if model.active_parameters:
        size += f" ({model.active_parameters / 1e9:,.3g} at work)"
    return [
        model.name,
        model.maker,
        size,
        model.attention or "not published",
        f"{model.context:,}" if model.context else "not published",
        f"{price.read:g} read, {price.written:g} written" if price else "",
    ]


def _facts(model: CatalogModel, as_json: bool) -> None:
    from sizewise.models import price_of

    if print_object("market", model.name, None, model, as_json):
        return
    for field, value in model.model_dump(exclude={"sources"}).items():
        if value not in (None, "", ()):
            print_line(f"{field}: {', '.join(value) if isinstance(value, tuple) else _said(value)}")
    price = price_of(model.uri)
    if price:
        print_line(f"price: {price.read:g} USD for a million tokens read, {price.written:g} written (genai-prices)")
    for source in model.sources:
        read, note = "read" if source.verified else "not read", f"; {source.note}" if source.note else ""
        print_line(f"source of {source.fact}: {source.url} ({read} on {source.seen}{note})")


def _describe(uri: str, as_json: bool) -> None:
    from sizewise.models import PROVIDERS, find_model, model_size, open_model, plugins

    known = find_model(uri)
    if known and (known.weights == "closed" or not uri.startswith(("hf:", "pkg:"))):
        _facts(known, as_json)
        return
    if uri.partition(":")[0] in ("fake", "recorded", "http", "https", *PROVIDERS, *plugins()):
        described = open_model(uri).describe()
        if print_object("model", uri, None, described, as_json):
            return
        for field, value in described.model_dump().items():
            if value not in (None, ""):
                print_line(f"{field}: {_said(value)}")
        return
    with reporting() as reporter:
        size, origin, license = model_size(uri, say=reporter.say)
    if print_object("model", uri, None, size, as_json):
        return
    print_line(f"{origin}; licence: {license}")
    active = f", {size.active_parameters:,} at work on each token" if size.active_parameters < size.parameters else ""
    print_line(f"{size.architecture}: {size.parameters:,} parameters{active}")
    print_line(f"attention: {size.attention}; context: {size.context or 'not stated'} tokens")
    print_line(f"{size.operations / 1e9:,.2f} billion operations a token (after 1,024 others)")
    print_table(
        ["weights in", "memory (GB)", "with one user, fits here"],
        [
            [name, f"{count / 1e9:,.2f}", {True: "yes", False: "no", None: "unknown"}[size.fits.get(name)]]
            for name, count in size.weight_bytes.items()
        ],
    )
    rows = [[f"{tokens:,}", f"{count / 1e6:,.1f}"] for tokens, count in size.cache_bytes.items()]
    if size.full_cache_bytes != size.cache_bytes:
        rows = [[*row, f"{full / 1e6:,.1f}"] for row, full in zip(rows, size.full_cache_bytes.values(), strict=True)]
    headings = ["tokens of a user", "cache (MB, bf16)", "without windows"]
    print_table(headings[: len(rows[0])], rows)
    if size.free_bytes is not None:
        print_line(f"free here: {size.free_bytes / 1e9:.1f} GB")


def _said(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
