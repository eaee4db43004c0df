"""A newer price list and the providers' model lists, fetched on request and kept in SIZEWISE_HOME."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sizewise.errors import MissingExtraError, SizewiseError
from sizewise.models.providers import PROVIDERS
from sizewise.store import Store, offline, write_atomically

FORMAT = 1
ADDRESS = "SIZEWISE_PRICES_URL"
"""Environment variable of another address of the price list, such as a mirror."""
TIMEOUT_S = 20.0
MAX_BYTES = 64_000_000
LISTS = {
    "openai": ("/models", "data", "id", "created"),
    "anthropic": ("/v1/models?limit=1000", "data", "id", "created_at"),
    "google": ("/v1beta/models?pageSize=1000", "models", "name", ""),
    "deepseek": ("/models", "data", "id", "created"),
    "mistral": ("/models", "data", "id", "created"),
}
"""Provider -> path of its list of models, and the keys of the list, of a model's name and of its day."""


class PriceUpdate(NamedTuple):
    """What the newest update says."""

    fetched: str = ""
    """Day of the update (ISO date); empty without one."""
    providers: list[Any] | None = None
    """Price list, as genai-prices takes it."""
    listed: dict[str, dict[str, str]] = {}  # noqa: RUF012
    """Provider -> model -> day of its release as the provider states it; empty if it doesn't."""
    first_seen: dict[str, str] = {}  # noqa: RUF012
    """`PROVIDER:MODEL` -> day of the first update that listed a model, which no earlier list had."""
    problem: str = ""
    """Why the file of an update isn't used."""


_loaded: tuple[tuple[str, float], PriceUpdate] | None = None
_in_use = False
"""Whether genai-prices uses an update rather than its packaged list."""


def current_update() -> PriceUpdate:
    """Load the newest update, which genai-prices then uses; an empty one without a file, or if it is damaged."""
    global _loaded
    path = Store().price_update_path()
    try:
        state = (str(path), path.stat().st_mtime)
    except OSError:
        state = (str(path), 0.0)
    if _loaded is not None and _loaded[0] == state:
        return _loaded[1]
    update = _read() if state[1] else PriceUpdate()
    if update.providers is not None or _in_use:
        _use(update)
    _loaded = (state, update)
    return update


def refresh(say: Callable[[str], None] = lambda line: None) -> PriceUpdate:
    """Fetch the newest price list, and the model lists of the providers whose keys are set.

    Args:
        say: receives what was fetched, and which provider's list could not be.

    Raises:
        SizewiseError: connections are forbidden, the price list can't be reached, or it can't be interpreted.
        MissingExtraError: genai-prices isn't installed.
    """
    try:
        from genai_prices.update_prices import DEFAULT_UPDATE_URL
    except ImportError as error:
        raise MissingExtraError("genai-prices", "study") from error
    address = os.environ.get(ADDRESS) or DEFAULT_UPDATE_URL
    if offline() and not address.startswith(("http://127.0.0.1", "http://localhost", "http://[::1]")):
        raise SizewiseError(
            "SIZEWISE_OFFLINE forbids the connection that --refresh needs.",
            "a network; without one, the packaged price list stays in use",
            "unset SIZEWISE_OFFLINE",
        )
    providers = _fetch(address, {}, "the price list")
    names = _names_of(providers, address)
    before = current_update()
    today = datetime.now(UTC).date().isoformat()
    listed = dict(before.listed)
    for provider in LISTS:
        found = _fetch_list(provider, say)
        if found is not None:
            listed[provider] = found
    known = set(before.first_seen) | _names_before(before)
    every = names | {f"{provider}:{name}" for provider, models in listed.items() for name in models}
    first_seen = before.first_seen | dict.fromkeys(sorted(every - known), today)
    content = {"fetched": today, "source": address, "listed": listed, "first_seen": first_seen, "providers": providers}
    body = json.dumps(content, sort_keys=True, separators=(",", ":"))
    text = json.dumps({"format": FORMAT, "sha256": hashlib.sha256(body.encode()).hexdigest()}) + "\n" + body + "\n"
    write_atomically(Store().price_update_path(), text)
    say(f"Price list of {today}: {len(names):,} models of {len(providers)} providers")
    return current_update()


def _read() -> PriceUpdate:
    """Read the file of an update; a file that was edited or damaged isn't used."""
    path = Store().price_update_path()
    try:
        head, _, body = path.read_text(encoding="utf-8").partition("\n")
        stated = json.loads(head)
        if stated["format"] != FORMAT:
            return _unused(f"has format {stated['format']}, which this version can't read")
        if hashlib.sha256(body.removesuffix("\n").encode()).hexdigest() != stated["sha256"]:
            return _unused("was changed after it was written")
        content = json.loads(body)
        _names_of(content["providers"], str(path))
        return PriceUpdate(content["fetched"], content["providers"], content["listed"], content["first_seen"])
    except SizewiseError as error:
        return _unused(f"can't be interpreted: {error.what}")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        return _unused(f"is damaged ({error.__class__.__name__})")


def _unused(why: str) -> PriceUpdate:
    path = Store().price_update_path()
    repair = "Run `sizewise models --refresh`, or remove the file"
    return PriceUpdate(problem=f"{path} {why}, so the packaged price list is used. {repair}.")


def _use(update: PriceUpdate) -> None:
    """Make genai-prices use an update, or the packaged list without one."""
    global _in_use
    _in_use = update.providers is not None
    try:
        from genai_prices import data_snapshot
    except ImportError:
        return
    if update.providers is None:
        data_snapshot.set_custom_snapshot(None)
        return
    fetched = datetime.fromisoformat(update.fetched).replace(tzinfo=UTC)
    parsed = _parse(update.providers)
    data_snapshot.set_custom_snapshot(
        data_snapshot.DataSnapshot(providers=parsed, from_auto_update=True, timestamp=fetched)
    )


def _parse(providers: Any) -> list[Any]:
    from genai_prices.types import _providers_from_raw  # the only way to read a list that wasn't just fetched

    return list(_providers_from_raw(providers))


def _names_of(providers: Any, source: str) -> set[str]:
    """List the models of a price list as `PROVIDER:MODEL`.

    Raises:
        SizewiseError: the list can't be interpreted.
    """
    try:
        if not isinstance(providers, list) or not providers:
            raise ValueError("it isn't a list of providers")
        return {f"{provider.id}:{model.id}" for provider in _parse(providers) for model in provider.models}
    except (ValueError, TypeError, KeyError, AttributeError, ImportError) as error:
        raise SizewiseError(
            f"{source} isn't a price list of genai-prices: {str(error).splitlines()[0]:.200}.",
            "the data.json that genai-prices publishes",
            "pip install --upgrade genai-prices; then the same command again",
        ) from error


def _names_before(before: PriceUpdate) -> set[str]:
    """List what the packaged list and the last update name, as `PROVIDER:MODEL`."""
    from genai_prices.data import providers

    names = {f"{provider.id}:{model.id}" for provider in providers for model in provider.models}
    if before.providers is not None:
        names |= _names_of(before.providers, "the last update")
    return names | {f"{provider}:{name}" for provider, models in before.listed.items() for name in models}


def _fetch_list(provider: str, say: Callable[[str], None]) -> dict[str, str] | None:
    """Fetch the models that a provider lists, with their days; None without a key, or without an answer."""
    known = PROVIDERS[provider]
    key = os.environ.get(known.key, "")
    if not key:
        return None
    path, items, name_key, day_key = LISTS[provider]
    address = (os.environ.get(known.address) or known.default or "").rstrip("/") + path
    headers = {
        "anthropic": {"x-api-key": key, "anthropic-version": "2023-06-01"},
        "google": {"x-goog-api-key": key},
    }.get(provider, {"Authorization": f"Bearer {key}"})
    try:
        found = _fetch(address, headers, f"the model list of {known.title}")
        models = {str(one[name_key]).removeprefix("models/"): _day(one.get(day_key)) for one in found[items]}
    except (SizewiseError, LookupError, TypeError, AttributeError) as error:
        say(f"{known.title}: its list of models can't be read ({getattr(error, 'what', error)})")
        return None
    say(f"{known.title} lists {len(models)} models")
    return models


def _day(value: Any) -> str:
    """Return the day of a time as a provider writes it; empty if it isn't one."""
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, UTC).date().isoformat()
        return datetime.fromisoformat(str(value)).date().isoformat()
    except (ValueError, OverflowError, OSError):
        return ""


def _fetch(address: str, headers: dict[str, str], what: str) -> Any:
    """Fetch JSON.

    Raises:
        SizewiseError: the address can't be reached, answers with an error, or sends something else.
    """
    try:
        import httpx2
    except ImportError as error:
        raise MissingExtraError("httpx2", "remote") from error
    try:
        with httpx2.stream("GET", address, headers=headers, timeout=TIMEOUT_S, follow_redirects=not headers) as answer:
            answer.raise_for_status()
            content = _limited(answer.iter_bytes())
        return json.loads(content)
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else error.__class__.__name__
        raise SizewiseError(
            f"{address.partition('?')[0]} can't be read: {reason:.200}.",
            f"{what} as JSON; the lists in use stay as they are",
            f"check the network, or set {ADDRESS} to a mirror" if not headers else "check the key and the network",
        ) from error


def _limited(parts: Iterable[bytes]) -> bytes:
    content = bytearray()
    for part in parts:
        content += part
        if len(content) > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES:,} bytes")
    return bytes(content)
