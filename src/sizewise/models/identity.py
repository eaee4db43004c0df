"""Who a model is: the catalog entry, size, price and terms behind a name, and what users state about it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, urlsplit

from pydantic import ValidationError

from sizewise.errors import UsageError
from sizewise.models.catalog import PRICED
from sizewise.models.names import (
    find_retirement,
    has_tag,
    is_sold_only,
    maker_of,
    provider_in_front,
    seller_named,
    without_arn,
)
from sizewise.models.price_lists import TITLES, find_prices, today
from sizewise.models.providers import is_loopback
from sizewise.models.resolving import find_entry, resolve
from sizewise.records import CatalogModel, ListPrice, StatedFacts

NOT_STATED, HERE = "not stated", "this machine"
LOCAL_KINDS = ("pkg", "run", "gguf")


class Identity(NamedTuple):
    """What is known of a model by its name."""

    name: str
    """Name in the catalog, or else as given."""
    entry: CatalogModel | None
    """Catalog entry, if there is one."""
    seller: str
    """Provider as genai-prices names it; empty if any may be meant."""
    prices: tuple[ListPrice, ...]
    """List prices; empty for a model that was shut down, and where none is known."""
    retires_on: str
    """Day on which the maker shuts the model down, if announced."""
    on_this_machine: bool = False
    """Whether the name is the URI of weights on this machine."""

    @property
    def closed(self) -> bool:
        """Whether the weights can't be downloaded, so that only a provider can run the model."""
        if self.entry is not None:
            return self.entry.weights == "closed"
        return is_sold_only(self.name) or (self.seller in TITLES and self.seller != "mistral")

    @property
    def host(self) -> str:
        """Title of the only provider, if the model has one."""
        if self.seller:
            return TITLES.get(self.seller, self.seller)
        return self.entry.maker if self.entry is not None and self.closed else ""


class Price(NamedTuple):
    """List price in US dollars per million tokens, at noon UTC today."""

    read: float
    """Input tokens."""
    written: float
    """Output tokens."""


def price_of(uri: str) -> Price | None:
    """Look up the list price of a remote model; None if none is known, or if the model was shut down."""
    kind = uri.partition(":")[0]
    if kind not in PRICED:
        return None
    prices = identify(uri.partition("?")[0]).prices
    return Price(prices[0].input_usd, prices[0].output_usd) if prices else None


def identify(name: str) -> Identity:
    """Look up a model by the name that a user or a file gives it."""
    kind, colon, rest = name.partition(":")
    entry = find_entry(name)
    if colon and kind in LOCAL_KINDS:
        return Identity(name, entry, "", (), "", on_this_machine=True)
    if colon and kind in ("http", "https"):
        return _at_address(name)
    named = provider_in_front(name)
    asked = rest.strip() if named else without_arn(name)
    seller = named or seller_named(name)
    if not seller and entry is not None:
        seller = PRICED.get(entry.uri.partition(":")[0], "")
    if not seller and entry is None:
        seller = maker_of(name)
    end = find_retirement(asked, seller)
    retires_on = end.day if end is not None else _end_at_maker(entry, seller)
    prices: tuple[ListPrice, ...] = ()
    unknown_weights = entry is None and has_tag(name)  # a price list would take `deepseek-r1:7b` for the large model
    if (not retires_on or retires_on > today()) and not (name.endswith(":free") or unknown_weights):
        prices = _find_prices(_spellings(asked, entry), seller, entry)
    if not seller and len({price.provider for price in prices} & set(TITLES)) == 1 and entry is None:
        seller = next(price.provider for price in prices if price.provider in TITLES)
        prices = tuple(price for price in prices if price.provider == seller)
    return Identity(entry.name if entry is not None else name, entry, seller, prices, retires_on)


def _at_address(uri: str) -> Identity:
    """Look up a model by the address of its server, which runs it at a price of its own."""
    address, _, model = uri.partition("#")
    found = identify(model) if model else Identity(uri, None, "", (), "")
    try:
        server = "" if is_loopback(address) else urlsplit(address).netloc
    except ValueError:  # no address
        server = ""
    return found._replace(seller=server or found.seller, prices=())


def _end_at_maker(entry: CatalogModel | None, seller: str) -> str:
    """Return the day on which the maker shuts a model down; other providers set days of their own."""
    if entry is None or entry.retires_on is None:
        return ""
    maker = PRICED.get(entry.uri.partition(":")[0], "")
    return entry.retires_on if seller in ("", maker, "openrouter") else ""


def _find_prices(spellings: list[str], seller: str, entry: CatalogModel | None) -> tuple[ListPrice, ...]:
    """Look up what each provider charges for a model, the cheapest first.

    Providers name open weights in their own ways: all of them count that name the same catalog entry.
    """
    if seller or entry is None:
        return next((found for one in spellings if one and (found := find_prices(one, seller))), ())
    by_provider: dict[str, ListPrice] = {}
    for one in dict.fromkeys(filter(None, spellings)):
        for price in find_prices(one):
            known = find_entry(price.model)
            if known is not None and known.name == entry.name:
                by_provider.setdefault(price.provider, price)
    return tuple(sorted(by_provider.values(), key=lambda price: (price.input_usd + price.output_usd, price.provider)))


def _spellings(asked: str, entry: CatalogModel | None) -> list[str]:
    """List the names under which price lists may know a model."""
    tail = asked.rpartition("/")[2]
    dashed = re.sub(r"[\s_]+", "-", tail.strip().lower())
    below = asked.partition("/")[2]
    at = entry.uri.partition(":")[2] if entry else ""
    known = [at, at.rpartition("/")[2]] if entry else []
    return [asked, below, tail, *known, dashed, dashed.replace(".", "-")]


def split_recorded(rest: str) -> tuple[Path, StatedFacts]:
    """Split what follows `recorded:` into the file and the facts stated after `#`: `FILE#gpt-4o&local=true`.

    Raises:
        UsageError: a fact is unknown or has an invalid value.
    """
    whole = Path(rest).expanduser()
    name, mark, told = rest.rpartition("#")
    if not mark or whole.exists():
        return whole, StatedFacts()
    pairs = parse_qsl(f"of={told}" if "=" not in told.partition("&")[0] else told, keep_blank_values=True)
    return Path(name).expanduser(), state_facts(dict(pairs), f"recorded:{rest}")


def recorded_uri(path: str, facts: StatedFacts | None) -> str:
    """Write the URI of recorded answers with the facts stated about them."""
    given = facts.model_dump(exclude_defaults=True) if facts is not None else {}
    parts = [quote(given.pop("of"), safe=":/@") if "of" in given else ""]
    parts += [
        f"{key}={quote(str(value).lower() if isinstance(value, bool) else str(value))}" for key, value in given.items()
    ]
    told = "&".join(part for part in parts if part)
    return f"recorded:{path}" + (f"#{told}" if told else "")


def state_facts(given: dict[str, Any], where: str) -> StatedFacts:
    """Check the facts that a user states about a model.

    Raises:
        UsageError: a fact is unknown or has an invalid value.
    """
    unknown = sorted(set(given) - set(StatedFacts.model_fields))
    if unknown:
        raise UsageError(
            f"Unknown key '{unknown[0]}' in {where}.", ", ".join(StatedFacts.model_fields), f"remove it from {where}"
        )
    try:
        facts = StatedFacts.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UsageError(
            f"{where}: {key} = {first['input']!r} isn't valid: {first['msg'].lower()}.",
            f"a valid {key}",
            f"fix {where}",
        ) from error
    if facts.minutes_per_case is not None and facts.usd_per_hour is None and facts.usd_per_1000 is None:
        raise UsageError(
            f"{where} sets minutes_per_case = {facts.minutes_per_case:g} without a price of that time.",
            "usd_per_hour too, for example 35",
            f"add usd_per_hour to {where}",
        )
    timed = facts.minutes_per_case is not None or facts.usd_per_hour is not None
    if facts.of and (facts.process or timed):
        raise UsageError(
            f"{where} names a model, of = '{facts.of}', and a process of today, and only one of them gave the answers.",
            "of for a model; process, minutes_per_case and usd_per_hour for people or a rules engine",
            f"remove one of them from {where}",
        )
    return facts.model_copy(update={"process": "staff"}) if timed and not facts.process else facts


def _why_unknown(name: str) -> str:
    """Explain why nothing is known about a name: it isn't in the catalog, or stands for several models."""
    members = resolve(name).members
    if not members:
        return "not in the catalog"
    return f"'{name}' may be one of {len(members)} models, such as {members[0].name}: name one of them"


def describe_identity(found: Identity, facts: StatedFacts) -> dict[str, Any]:
    """Build the fields of a description that depend on who the model is."""
    entry = found.entry
    parameters = facts.parameters or (entry.parameters if entry is not None else None)
    source = "counted"
    if facts.parameters:
        source = "stated in the study file"
    elif entry is not None and entry.parameters:
        source = f"published by {entry.maker}"
    elif entry is not None:
        source = entry.parameters_note or "not published"
    elif parameters is None:
        source = _why_unknown(found.name)
    local = found.on_this_machine if facts.local is None else facts.local
    license = facts.license or (entry.license if entry is not None and entry.license else "")
    fields: dict[str, Any] = {
        "of": found.name,
        "parameters": parameters,
        "parameters_source": source,
        "parameters_estimate": None if parameters or entry is None else entry.parameters_estimate,
        "local": local,
        "hosted_by": HERE if facts.local else "" if local else found.host or NOT_STATED,
        "license": license or ("terms of the provider" if found.host and not local else "not stated"),
        "attention": (entry.attention if entry is not None and entry.attention else "not published"),
        "context": entry.context if entry is not None else None,
        "data_policy": facts.data_policy,
        "retires_on": found.retires_on,
        "prices": found.prices,
    }
    if found.prices or found.retires_on:
        fields["described_on"] = today()
    return fields
