"""new_models(): models that appeared since a day, and the stored studies that they might change."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import NamedTuple

from sizewise.errors import SizewiseError, UsageError
from sizewise.models.identity import identify
from sizewise.models.price_updates import PriceUpdate, current_update
from sizewise.models.resolving import family_of, find_entry, is_retired, known_models
from sizewise.records import CatalogModel, Comparison, ListPrice, ModelDescription, NewModel, Study
from sizewise.store import Store

SIZE_CLASSES = (1e9, 4e9, 15e9, 80e9)
"""Limits between sizes that run on different machines."""


class _Appearance(NamedTuple):
    day: str
    """Day or month."""
    basis: str
    """What it is, and its source."""


def new_models(since: str, *, store: Store | None = None) -> list[NewModel]:
    """List the models that appeared since a day, the newest first, each with the studies that it might change.

    Args:
        since: an ISO date. A model whose month of release alone is known counts from that month on.
        store: where studies live; by default SIZEWISE_HOME.

    Raises:
        UsageError: the day isn't an ISO date.
    """
    try:
        day = date.fromisoformat(since).isoformat()
    except ValueError as error:
        raise UsageError(
            f"'{since}' is not a day.", "a date such as 2026-11-01", "sizewise models --new-since 2026-11-01"
        ) from error
    store, update = store or Store(), current_update()
    studies = list(_compared(store))
    found = []
    for model in known_models().values():
        appeared = _appeared(model, update)
        if appeared is None or appeared.day < day[: len(appeared.day)] or is_retired(model):
            continue
        prices = identify(model.uri).prices
        found.append(
            NewModel(
                name=model.name,
                maker=model.maker,
                appeared=appeared.day,
                basis=appeared.basis,
                price=f"{prices[0].input_usd:.3g} in, {prices[0].output_usd:.3g} out" if prices else "",
                studies={name: why for name, models in studies if (why := _why(model, prices, models))},
            )
        )
    return sorted(found, key=lambda one: (one.appeared, one.name), reverse=True)


def _appeared(model: CatalogModel, update: PriceUpdate) -> _Appearance | None:
    """Find out when a model appeared: its release, the provider's list, or the first update that listed it."""
    if model.released:
        sources = [one for one in model.sources if "released" in one.fact]
        return _Appearance(model.released, f"released, {sources[0].url}" if sources else "released")
    provider, _, name = model.uri.partition(":")
    listed = update.listed.get(provider, {}).get(name, "")
    if listed:
        return _Appearance(listed, f"created, as the API of {model.maker} states it")
    seen = update.first_seen.get(f"{provider}:{name}", "")
    return _Appearance(seen, "the first update of the lists that had it") if seen else None


def _compared(store: Store) -> Iterator[tuple[str, list[tuple[str, ModelDescription]]]]:
    """Read the candidates of every stored study; a study whose comparison can't be read is left out."""
    for saved in store.saved(Study):
        try:
            comparison = store.read(Comparison, saved.record.comparison)
        except SizewiseError:
            continue
        yield saved.id, [(name, model) for name, model in comparison.models.items() if model.role == "candidate"]


def _why(model: CatalogModel, prices: tuple[ListPrice, ...], others: list[tuple[str, ModelDescription]]) -> str:
    """Explain why a model might change a study; empty if nothing speaks for it."""
    family, reasons = family_of(model.name), []
    for name, other in others:
        entry = find_entry(other.of or other.uri)
        if entry is not None and entry.name == model.name:
            return ""  # the study has it already
        if entry is not None and family is not None and family_of(entry.name) == family:
            reasons.append(f"is of the same family as {name} ({family.name})")
        if prices and other.prices and _total(prices[0]) < _total(other.prices[0]):
            reasons.append(f"costs less than {name}")
        size = other.parameters or 0
        if model.parameters and size and _size_class(model.parameters) == _size_class(size):
            reasons.append(f"has the size of {name}")
    return ", ".join(dict.fromkeys(reasons))


def _total(price: ListPrice) -> float:
    return price.input_usd + price.output_usd


def _size_class(parameters: int) -> int:
    return sum(parameters >= limit for limit in SIZE_CLASSES)
