"""Models by any spelling: one catalog entry, a family with its current members first, or close names."""

from __future__ import annotations

import difflib
import re
from functools import lru_cache
from typing import NamedTuple

from sizewise.errors import UsageError
from sizewise.models.catalog import load_catalog, load_families
from sizewise.models.name_words import SOFT, words_of_name
from sizewise.models.names import plain, spellings_of
from sizewise.models.price_lists import list_version, listed_models, today
from sizewise.records import CatalogModel, ModelFamily

CLOSE = 5
"""Names to propose for an unknown one."""
_SIMILAR = 0.6


class Found(NamedTuple):
    """What a name stands for. One of `model`, `members` and `close` is filled; all are empty for a hopeless name."""

    asked: str
    """The name as given."""
    model: CatalogModel | None = None
    """The model, if the name stands for one."""
    family: str = ""
    """Name of the family, if the name stands for one."""
    members: tuple[CatalogModel, ...] = ()
    """Models that the name may mean: the current ones first, then newer before older, models that were shut down
    last."""
    close: tuple[str, ...] = ()
    """Similar names."""


class _Index(NamedTuple):
    """Every known model by its spellings."""

    models: dict[str, CatalogModel]
    """Name -> model: the catalog, then the models of their makers in the price list."""
    by_name: dict[str, CatalogModel]
    """Letters and digits of a name -> model."""
    by_words: dict[frozenset[str], CatalogModel]
    """Words of a name -> model."""


def known_models() -> dict[str, CatalogModel]:
    """Load the catalog, and what the makers' models of the price list add to it, keyed by name."""
    return _index(list_version()).models


def find_entry(name: str) -> CatalogModel | None:
    """Look up the one model that a name stands for, whatever its spelling; None for a family and for an unknown name.

    A name with words of its own (`our-gpt-4o-tuned`) stands for no known model.
    """
    index = _index(list_version())
    spellings = spellings_of(name)
    for spelling in spellings:
        if plain(spelling) in index.by_name:
            return index.by_name[plain(spelling)]
    for spelling in spellings:
        words = words_of_name(spelling)
        if words and words in index.by_words:
            return index.by_words[words]
    if find_family(name) is not None:
        return None
    found = (_with_soft_words(words_of_name(spelling), index) for spelling in spellings)
    return next((model for model in found if model is not None), None)


def resolve(name: str) -> Found:
    """Find out what a name stands for: a family, one model, several, or none with similar names."""
    family = find_family(name)
    entry = find_entry(name)
    members = members_of(family) if family is not None else ()
    if entry is not None and (family is None or plain(entry.name) == plain(name) or len(members) < 2):
        return Found(name, model=entry)
    if family is not None and members:
        return Found(name, family=family.name, members=members)
    candidates = _containing(name)
    if len(candidates) == 1 and words_of_name(name) - SOFT <= words_of_name(candidates[0].name):
        return Found(name, model=candidates[0])
    if candidates:  # one that has a later version than asked for, 3.1 for 3, is listed and not taken for it
        return Found(name, members=candidates)
    return Found(name, close=_close_names(name))


def resolve_one(name: str, retry: str = "sizewise models") -> CatalogModel:
    """Look up the one model that a name stands for.

    Args:
        name: name in any spelling.
        retry: command to propose in an error.

    Raises:
        UsageError: the name stands for several models, or for none that is known.
    """
    found = resolve(name)
    if found.model is not None:
        return found.model
    raise unresolved(found, retry)


def unresolved(found: Found, retry: str = "sizewise models") -> UsageError:
    """Build the error for a name that stands for several models, or for none that is known."""
    if found.members:
        names = ", ".join(model.name for model in found.members[:8])
        more = f" and {len(found.members) - 8} more" if len(found.members) > 8 else ""
        what = f"'{found.asked}' names {len(found.members)} models: {names}{more}."
        if len(found.members) == 1:
            what = f"'{found.asked}' isn't known; {names} is similar."
        return UsageError(what, "one of them", f"{retry} {found.members[0].name}")
    similar = f"; similar names: {', '.join(found.close)}" if found.close else ""
    return UsageError(
        f"'{found.asked}' doesn't name a model that Sizewise knows.",
        f"a name as in `sizewise models`, or a model's URI{similar}",
        f"{retry} {found.close[0]}" if found.close else "sizewise models",
    )


def find_family(name: str) -> ModelFamily | None:
    """Look up a family by its name or another name for it."""
    words = {plain(spelling) for spelling in spellings_of(name)}
    bare = words_of_name(name)
    for family in load_families():
        known = (family.name, *family.aliases)
        if words & {plain(one) for one in known} or (bare and bare in [words_of_name(one) for one in known]):
            return family
    return None


def family_of(name: str) -> ModelFamily | None:
    """Look up the family that a model belongs to, the narrowest one first."""
    found = [family for family in load_families() if name in {model.name for model in members_of(family)}]
    return min(found, key=lambda family: len(members_of(family)), default=None)


def members_of(family: ModelFamily) -> tuple[CatalogModel, ...]:
    """List the models of a family: the current ones first, those that were shut down last."""
    begins = tuple(family.begins)
    members = [model for model in known_models().values() if model.name.startswith(begins)]
    return _in_order(members, family.current)


def _in_order(
    models: list[CatalogModel], current: tuple[str, ...] = (), asked: frozenset[str] = frozenset()
) -> tuple[CatalogModel, ...]:
    """Sort models: current ones first, models that were shut down last, names close to what was asked before others."""
    place = {name: i for i, name in enumerate(current)}
    newest = sorted(models, key=lambda model: (_version(model.name), model.released or ""), reverse=True)

    def rank(model: CatalogModel) -> tuple[bool, int, int]:
        others = len(words_of_name(model.name) - SOFT - asked) if asked else 0
        return is_retired(model), place.get(model.name, len(place)), others

    return tuple(sorted(newest, key=rank))


def is_retired(model: CatalogModel) -> bool:
    """Return whether the maker has shut a model down by today."""
    return model.retires_on is not None and model.retires_on <= today()


def _version(name: str) -> tuple[float, ...]:
    """Return the version in a name, so that 5.5 comes after 5 and after 4.6; sizes such as 8b don't count."""
    numbers = (word for word in re.findall(r"\d+(?:[.-]\d+)*(?![\da-z])", name))
    return tuple(float(part) for number in numbers for part in re.split(r"[.-]", number))[:2]


@lru_cache(maxsize=2)
def _index(_version: str) -> _Index:
    """Index all known models; the argument stands for the state of the price list."""
    models = dict(load_catalog())
    by_name: dict[str, CatalogModel] = {}
    by_words: dict[frozenset[str], CatalogModel] = {}

    def add(model: CatalogModel) -> None:
        for known in (model.name, model.uri, model.uri.partition(":")[2], *model.aliases):
            by_name.setdefault(plain(known), model)
            by_words.setdefault(words_of_name(known), model)

    for model in models.values():
        add(model)
    for model in listed_models():
        if plain(model.name) not in by_name and words_of_name(model.name) not in by_words:
            models[model.name] = model
            add(model)
    by_words.pop(frozenset(), None)
    return _Index(models, by_name, by_words)


def _with_soft_words(asked: frozenset[str], index: _Index) -> CatalogModel | None:
    """Find the only model whose name has the asked words, apart from those for its tuning or format."""
    wanted = asked - SOFT
    if not wanted or asked & {"base", "pretrained"}:
        return None
    found = {model.name: model for words, model in index.by_words.items() if words - SOFT == wanted}
    return next(iter(found.values())) if len(found) == 1 else None


def _containing(name: str) -> tuple[CatalogModel, ...]:
    """List the models whose names have all the asked words, and others."""
    wanted = words_of_name(name) - SOFT
    if not wanted or all(word.isdigit() for word in wanted):
        return ()
    index = _index(list_version())
    found = {
        model.name: model
        for words, model in index.by_words.items()
        if all(word in words or _is_version_in(word, words) for word in wanted)
    }
    current = tuple(name for family in load_families() for name in family.current)
    return _in_order(list(found.values()), current, wanted)


def _is_version_in(word: str, words: frozenset[str]) -> bool:
    """Return whether a word is the major version of one of the words: the 3 in `llama 3` of 3.1 and 3.3."""
    return word.isdigit() and any(one.startswith(f"{word}.") and one[-1].isdigit() for one in words)


def _close_names(name: str) -> tuple[str, ...]:
    """List similar names of models and families."""
    known = {plain(one): one for one in known_models()}
    known |= {plain(family.name): family.name for family in load_families()}
    found = difflib.get_close_matches(plain(name), known, n=CLOSE, cutoff=_SIMILAR)
    return tuple(dict.fromkeys(known[one] for one in found))
