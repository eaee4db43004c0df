"""The models that somebody asks to see side by side: known ones, files and URIs, and models that were trained here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from sizewise.errors import SizewiseError, UsageError
from sizewise.models import PACKAGED, PROVIDERS, plugins
from sizewise.models.resolving import Found, find_entry, resolve, unresolved
from sizewise.records import CatalogModel, Checkpoint, Classifier, Evaluation, ModelDescription
from sizewise.store import Saved, Store

KINDS = ("hf", "pkg", "gguf", "run", "http", "https", "fake", "recorded", *PROVIDERS)
MAX_MODELS = 6


class Subject(NamedTuple):
    """A model, and where its facts and measurements are."""

    asked: str
    """The name as given."""
    name: str
    """Heading of its column."""
    entry: CatalogModel | None = None
    """Catalog entry."""
    uris: frozenset[str] = frozenset()
    """URIs whose measurements are its own."""
    run: Saved[Checkpoint] | Saved[Classifier] | None = None
    """Record of its training, if it was trained here."""
    candidate: str = ""
    """Name of evaluations, if it is known by that alone."""
    note: str = ""
    """What a reader must know about the choice of this model."""

    def matches(self, model: ModelDescription, name: str = "") -> bool:
        """Return whether a description, or the evaluation that has this name, is of this model."""
        if model.uri in self.uris or (self.candidate and name == self.candidate):
            return True
        if self.entry is None or model.start is not None or model.role == "baseline":
            return False
        found = find_entry(model.of or model.uri)
        return found is not None and found.name == self.entry.name

    def config(self, store: Store) -> dict[str, Any] | None:
        """Read the configuration of a network that is on this machine; None if there is none."""
        for uri in self.uris:
            kind, _, name = uri.partition(":")
            folder = Path(uri).expanduser()
            if kind == "run":
                folder = store.folder("checkpoint", name) / "model"
            elif kind == "pkg":
                folder = store.weights_folder(name)
            try:
                found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            except (OSError, ValueError):
                continue
            if isinstance(found, dict):
                text = found.get("text_config")
                return text if isinstance(text, dict) else found
        return None


def find_subjects(names: list[str], store: Store) -> list[Subject]:
    """Look up the models to set side by side.

    Raises:
        UsageError: a name stands for none or for several models, two names for the same one, or there are too many.
    """
    if len(names) > MAX_MODELS:
        raise UsageError(
            f"{len(names)} models don't fit side by side.", f"2 to {MAX_MODELS} models", "run the command with fewer"
        )
    found = [find_subject(name, store) for name in names]
    for i, one in enumerate(found):
        same = next((other for other in found[:i] if other.name == one.name), None)
        if same is not None:
            raise UsageError(
                f"'{same.asked}' and '{one.asked}' are the same model, {one.name}.",
                "different models",
                "sizewise models",
            )
    return found


def find_subject(asked: str, store: Store) -> Subject:
    """Look up one model.

    Raises:
        UsageError: the name stands for none that is known, or for several models outside a family.
        SizewiseError: there is no such run.
    """
    kind, colon, rest = asked.partition(":")
    own = _trained(rest if kind == "run" else asked, store)
    if own is not None:
        return own
    if kind == "run":
        raise SizewiseError(f"There is no run with the id '{rest}'.", "the id of a checkpoint", "sizewise runs")
    if (colon and kind in (*KINDS, *plugins())) or (Path(asked).expanduser() / "config.json").is_file():
        return _of_uri(asked)
    found = resolve(asked)
    if found.model is not None:
        return _of_entry(asked, found.model)
    if any(saved.record.name == asked for saved in store.saved(Evaluation)):
        return Subject(asked, asked, candidate=asked)
    if found.family:
        return _first_of_family(found)
    raise unresolved(found)


def _trained(name: str, store: Store) -> Subject | None:
    """Look up a model that was trained here."""
    for kind, record_type in (("checkpoint", Checkpoint), ("classifier", Classifier)):
        try:
            if store.exists(kind, name):
                run: Any = store.get(record_type, name)
                return Subject(name, name, uris=frozenset([f"run:{name}"]), run=run)
        except SizewiseError as error:
            if "is not a record id" not in error.what:
                raise
    return None


def _of_uri(uri: str) -> Subject:
    """Look up a model by its URI; that of a known model has the facts of the catalog."""
    entry = None if uri.startswith(("fake:", "gguf:")) else find_entry(uri)
    if entry is not None and uri.partition(":")[0] not in ("recorded", "http", "https"):
        return _of_entry(uri, entry)
    return Subject(uri, uri, entry=entry, uris=frozenset([uri]))


def _of_entry(asked: str, entry: CatalogModel) -> Subject:
    uris = {asked, entry.uri} if ":" in asked else {entry.uri}
    packaged = [f"pkg:{name}" for name in PACKAGED if entry.uri == f"pkg:{name}"]
    return Subject(asked, entry.name, entry, frozenset([*uris, *packaged]))


def _first_of_family(found: Found) -> Subject:
    first = found.members[0]
    others = ", ".join(model.name for model in found.members[1:4])
    note = f"'{found.asked}' names {len(found.members)} models; {first.name} is shown (others: {others})"
    return _of_entry(found.asked, first)._replace(note=note)
