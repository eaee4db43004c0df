"""The model that a run's adapters belong to: found from every working directory, and only as training knew it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sizewise.errors import SizewiseError
from sizewise.models.opening import OF_BASE, former_revision, resolve_folder, revision_of
from sizewise.records import Checkpoint
from sizewise.store import Store


def full_uri(uri: str) -> str:
    """Return the URI of a model with the full path of its folder or GGUF file; other URIs as they are."""
    kind, _, name = uri.partition(":")
    path = Path(name if kind == "gguf" else uri).expanduser()
    if kind == "gguf" and path.is_file():
        return f"gguf:{path.resolve()}"
    return str(path.resolve()) if ":" not in uri and uri != "scratch" and path.is_dir() else uri


def start_of(made: Checkpoint) -> str:
    """Return the URI of the model that a run started from, with the full path of a folder or file."""
    return full_uri(made.start_uri or made.start)


def start_folder(name: str, made: Checkpoint, store: Store, say: Callable[[str], None]) -> tuple[Path, str, str]:
    """Return folder, origin and license of the model that a run's adapters were trained on.

    Args:
        name: id of the run.
        made: its record.
        store: where models are kept.
        say: receives progress.

    Raises:
        SizewiseError: the model is gone, or has changed since, so that the adapters no longer fit it.
    """
    _check_unchanged(name, made)
    return resolve_folder(start_of(made), store, say)


def _check_unchanged(name: str, made: Checkpoint) -> None:
    start, then = start_of(made), made.start_revision
    now = revision_of(start)
    if not then or then in (now, now.partition(OF_BASE)[0], former_revision(start)):  # as versions compute it
        return
    if not now and start.startswith("hf:"):  # the Hub can't be asked; whether its cache will do, opening finds out
        return
    what = "has changed since" if now else "is no longer there"
    raise SizewiseError(
        f"The adapters of {name} were trained on {start}, which {what}.",
        f"the files as they were, with their times (revision {then}{f', not {now}' if now else ''})",
        f"restore {start}, or train again; run:{name} alone opens the merged weights that the run saved",
    )
