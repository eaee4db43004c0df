"""What identifies a training run: its recipe, its data, and the content of everything else that it reads."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sizewise.lm.packing import ROWS_VERSION
from sizewise.models.identity import split_recorded
from sizewise.models.opening import former_revision, revision_of
from sizewise.models.recordings import DEMO
from sizewise.records import Recipe, fingerprint
from sizewise.retrieval.searching import SEARCH_VERSION
from sizewise.store import Store
from sizewise.training.context_training import CONTEXT_VERSION

_BLOCK = 2**20
_DEFAULTS = {name: field.default for name, field in Recipe.model_fields.items()}


def run_id_of(recipe: Recipe, data: str) -> str:
    """Compute the id of a run from everything that determines its outcome.

    Recorded answers of a teacher and control text count by content, also in subfolders; models on the Hub by commit;
    folders with weights by the names, sizes and times of their files.
    """
    return _id_of(recipe, data, _teacher_revision, _control_revision)


def inputs_of(recipe: Recipe, data: str) -> list[Any]:
    """Return what several runs of a recipe are made from, as part of an id: settings, data, and states of all models.

    The states are left out where none of them can change.

    Args:
        recipe: settings of the runs.
        data: dataset id.
    """
    revisions = _revisions(recipe, _teacher_revision, _control_revision)
    return [recipe.model_dump(mode="json"), data, *([revisions] if any(revisions) else [])]


def former_run_note(recipe: Recipe, data: str, store: Store) -> str:
    """Explain why a run that an earlier version of Sizewise made isn't taken for this one; "" if there is none.

    Args:
        recipe: settings of the run.
        data: dataset id.
        store: where runs are kept.
    """
    former = _id_of(recipe, data, former_revision, former_revision)
    if former == run_id_of(recipe, data) or not store.folder("checkpoint", former).is_dir():
        return ""
    changed = [
        f"{title} {uri}"
        for title, uri, now in (
            ("the starting model", recipe.start, _teacher_revision),
            ("the teacher", recipe.teacher, _teacher_revision),
            ("the tokenizer", recipe.tokenizer, _teacher_revision),
            ("the control text", recipe.control, _control_revision),
        )
        if uri and now(uri) != former_revision(uri)
    ]
    return (
        f"{former} has the same settings, but its id doesn't cover the content of {' and '.join(changed)}, which may "
        "have changed since. It is kept and not reused; this is a new run."
    )


def _revisions(recipe: Recipe, of_model: Callable[[str], str], of_control: Callable[[str], str]) -> list[str]:
    """Return the states of everything that a run reads besides its dataset."""
    revisions = [of_model(uri) for uri in (recipe.start, recipe.teacher, recipe.tokenizer) if uri]
    revisions += [of_control(recipe.control)] if recipe.control else []
    return revisions + ([f"passages {CONTEXT_VERSION}.{SEARCH_VERSION}"] if recipe.passage_share else [])


def _id_of(recipe: Recipe, data: str, of_model: Callable[[str], str], of_control: Callable[[str], str]) -> str:
    revisions = _revisions(recipe, of_model, of_control)
    # settings of later versions, whose default is as before
    later = {name for name in ("optimizer", "passage_share") if getattr(recipe, name) == _DEFAULTS[name]}
    settings = recipe.model_dump(mode="json", exclude=later)
    return f"run-{fingerprint([settings, data, revisions, ROWS_VERSION])}"


def _teacher_revision(uri: str) -> str:
    """Return what distinguishes two states of a model under the same URI."""
    kind, _, name = uri.partition(":")
    if kind == "rag":
        return _teacher_revision(name.partition(":")[2])
    if kind != "recorded":
        return revision_of(uri)
    path, _ = split_recorded(name)
    return "" if str(path).startswith(DEMO) or not path.is_file() else _content_of(path)


def _control_revision(source: str) -> str:
    """Return a hash of the content of control text; "" for text that ships with the package."""
    path = Path(source).expanduser()
    return _content_of(path) if path.exists() else ""


def _content_of(path: Path) -> str:
    """Compute a hash of a file, or of all files in a folder and its subfolders with their names."""
    found = hashlib.sha256()
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    for file in files:
        name = b"" if file == path else file.relative_to(path).as_posix().encode()
        found.update(b"%d:%s:%d:" % (len(name), name, file.stat().st_size))
        with file.open("rb") as content:
            while block := content.read(_BLOCK):
                found.update(block)
    return found.hexdigest()
