"""A search index on disk: new, changed and removed documents are brought up to date, the others stay as they are.

An index is a folder with `index.json` and one folder of files, which `index.json` names. An update writes a new folder
beside the old one and replaces `index.json` last: a process that is killed leaves the old index.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock, Timeout

from sizewise.errors import MissingExtraError, SizewiseError
from sizewise.progress import Reporter, Silent
from sizewise.records import Document, fingerprint
from sizewise.retrieval.answerability import (
    AnswerProbability,
    Asked,
    QuestionCheck,
    Taught,
    learn_answerability,
    question_check_of,
    teach,
)
from sizewise.retrieval.lines import Lines
from sizewise.retrieval.meaning import BLOCK, Meaning, TextEncoder, Vectors, text_to_encode
from sizewise.retrieval.passages import Cutting, Passage, cut_document
from sizewise.retrieval.search_index import SearchIndex
from sizewise.retrieval.searching import Library
from sizewise.retrieval.spellings import index_terms
from sizewise.retrieval.stored_passages import OFFSETS, PASSAGES, StoredPassages
from sizewise.retrieval.term_index import TermIndex
from sizewise.retrieval.terms import stop_words_of
from sizewise.store import cannot_write, make_folder, write_atomically

SCHEMA = 1
INDEX_VERSION = 2
"""Incremented when documents are cut or split into terms in another way: then an update keeps nothing of before."""
MANIFEST, DOCUMENTS, VECTORS, LINES, QUESTIONS = (
    "index.json",
    "documents.json",
    "vectors.npy",
    "lines.json",
    "questions.json",
)
PENDING, BUILDING = "pending", ".building-"
KEY_DIGITS = 32
SAMPLED_CHARACTERS = 4_000_000
"""Text from which the languages and the boilerplate of a large collection are learned."""
WORDS, MEANING = "words", "meaning"


class DamagedIndexError(SizewiseError):
    """The files of an index don't fit each other."""


class NamedEncoder(NamedTuple):
    """An encoder, and the URI that opens it again."""

    uri: str
    encoder: TextEncoder


class Update(NamedTuple):
    """What an update of an index did."""

    added: int
    changed: int
    removed: int
    unchanged: int
    """Numbers of documents."""
    passages: int
    """Passages in the index."""
    encoded: int
    """Passages that were encoded; the others were encoded before."""
    check: QuestionCheck | None = None
    """How well the index answers the questions that came with it, if they were enough."""


@dataclass(frozen=True)
class _Stored:
    """An index as it is on disk."""

    folder: Path
    manifest: dict[str, Any]
    documents: list[tuple[str, str, int]]
    """Id, fingerprint and number of passages of each document."""
    passages: StoredPassages
    terms: TermIndex
    vectors: Vectors | None

    def spans(self) -> dict[str, tuple[str, range]]:
        """Map the id of each document to its fingerprint and its passages."""
        spans, start = {}, 0
        for name, key, count in self.documents:
            spans[name] = key, range(start, start + count)
            start += count
        return spans


def is_index(folder: Path) -> bool:
    """Check whether a folder is a search index."""
    return (folder / MANIFEST).is_file()


def open_index(
    folder: Path,
    open_encoder: Callable[[str], TextEncoder],
    say: Callable[[str], None] = lambda line: None,
) -> Library:
    """Open an index; passages, terms and vectors are read from disk as they are needed.

    Args:
        folder: the folder of the index.
        open_encoder: opens the encoder by the URI that the index names. Where onnxruntime isn't installed, the index
            is searched by words only.
        say: called with one line about that.

    Raises:
        SizewiseError: the folder is not an index, it is damaged, or its vectors were made by another encoder.
    """
    stored = _read(folder)
    manifest = stored.manifest
    meaning = None
    if manifest["encoder"] is not None and stored.vectors is not None:
        try:
            encoder = open_encoder(manifest["encoder"]["uri"])
        except MissingExtraError as error:
            say(f"{folder} is searched by words only. {error.what}")
        else:
            _check_encoder(folder, manifest, encoder.fingerprint, manifest["encoder"]["uri"])
            meaning = Meaning(encoder, stored.vectors, float(manifest["encoder"]["words_share"]))
    documents = {name: span for name, (_, span) in stored.spans().items() if span}
    index = SearchIndex(stored.passages, frozenset(manifest["stop_words"]), stored.terms, documents, meaning)
    written = json.loads((stored.folder / LINES).read_text(encoding="utf-8"))
    learned = manifest["answerability"].get(WORDS if meaning is None else MEANING)
    probability = None if learned is None else AnswerProbability.of_lists(learned)
    return Library.of_index(index, Lines(written["lines"], written["keys"]), probability)


def update_index(
    folder: Path,
    documents: Sequence[Document],
    encoder: NamedEncoder | None,
    *,
    cutting: Cutting | None = None,
    rebuild: bool = False,
    asked: Sequence[Asked] | None = (),
    reporter: Reporter | None = None,
    wait_s: float = 0.0,
) -> Update:
    """Make an index of documents, or bring it up to date.

    Args:
        folder: the folder of the index.
        documents: all documents; those in the index that are not among them are removed.
        encoder: encodes passages; None for an index that is searched by words only.
        cutting: how documents are split into passages; by default as the index was made.
        rebuild: make the index anew.
        asked: questions that people asked, from which the probability of an answer is learned, besides those that the
            index has. None learns none.
        reporter: receives progress.
        wait_s: how long to wait for another process that updates the index.

    Raises:
        SizewiseError: there is no text, the index was made by another encoder, another process updates it, or it can't
            be written.
        DamagedIndexError: the index is damaged.
    """
    reporter = reporter or Silent()
    try:
        make_folder(folder)
        with FileLock(folder / ".lock", timeout=wait_s):
            for left in folder.glob(f"{BUILDING}*"):
                shutil.rmtree(left, ignore_errors=True)
            old = None if rebuild or not is_index(folder) else _read(folder)
            before = _questions_before(folder, old)
            if old is not None:
                name = None if encoder is None else encoder.encoder.fingerprint
                _check_encoder(folder, old.manifest, name, None if encoder is None else encoder.uri)
            if cutting is None:
                cutting = Cutting() if old is None else Cutting(**old.manifest["cutting"])
            cutting.check()
            return _Updating(folder, old, documents, encoder, cutting, reporter, asked, before).run()
    except Timeout as error:
        raise SizewiseError(
            f"Another process updates the index {folder}.", "one process for each index", "wait for it to end"
        ) from error
    except OSError as error:
        raise cannot_write(folder, error) from error


class _Updating:
    """One update of an index."""

    def __init__(
        self,
        folder: Path,
        old: _Stored | None,
        documents: Sequence[Document],
        encoder: NamedEncoder | None,
        cutting: Cutting,
        reporter: Reporter,
        asked: Sequence[Asked] | None,
        before: Sequence[Asked],
    ) -> None:
        later = {one.question: one for one in [*before, *(asked or ())]}
        self._learns, self._asked = asked is not None, list(later.values())
        self._asks_others = self._learns and self._asked != list(before)
        self._folder, self._old, self._documents = folder, old, documents
        self._named, self._cutting, self._reporter = encoder, cutting, reporter
        self._known = old.spans() if old else {}
        self._keys = [fingerprint([INDEX_VERSION, one.title, one.text, list(cutting)], KEY_DIGITS) for one in documents]
        self._rows: list[tuple[str, str, int]] = []
        self._kept: list[tuple[int, int]] = []  # positions of passages that the old index has: (new, old)

    def run(self) -> Update:
        """Write the new files, then the manifest."""
        names = [document.id for document in self._documents]
        if len(set(names)) < len(names):
            raise ValueError("documents with the same id")
        same = [self._is_known(i) for i in range(len(names))]
        added = sum(name not in self._known for name in names)
        removed = len(self._known.keys() - set(names))
        changed = len(names) - added - sum(same)
        same_documents = not (added or removed or changed) and names == list(self._known)
        if self._old is not None and same_documents and not self._asks_others:
            check = question_check_of(self._old.manifest.get("check"))
            return Update(0, 0, 0, len(names), len(self._old.passages), 0, check)
        stop_words = stop_words_of(self._sampled_texts())
        building = self._folder / f"{BUILDING}{os.getpid()}"
        building.mkdir()
        try:
            passages = self._write_passages(building, same)
            terms = self._index_terms(passages, stop_words)
            terms.save(building)
            encoded, vectors = self._encode(building, passages)
            lines = Lines.of_passages(passages[i] for i in self._sampled_positions())
            written = {"lines": sorted(lines.lines), "keys": sorted(lines.keys)}
            (building / LINES).write_text(json.dumps(written, ensure_ascii=False), encoding="utf-8")
            if self._asked:
                (building / QUESTIONS).write_text(json.dumps(self._asked, ensure_ascii=False), encoding="utf-8")
            index = SearchIndex(passages, stop_words, terms, self._spans(), None)
            check = self._publish(building, index, vectors)
        except BaseException:
            shutil.rmtree(building, ignore_errors=True)
            raise
        return Update(added, changed, removed, sum(same), len(passages), encoded, check)

    def _is_known(self, i: int) -> bool:
        known = self._known.get(self._documents[i].id)
        return known is not None and known[0] == self._keys[i]

    def _write_passages(self, building: Path, same: Sequence[bool]) -> StoredPassages:
        """Write the passages; those of documents that didn't change are taken from the old index."""
        offsets = [0]
        with (building / PASSAGES).open("wb") as file:
            for document, key, is_same in zip(self._documents, self._keys, same, strict=True):
                span = self._known[document.id][1] if is_same else range(0)
                passages: Sequence[Passage] = (
                    self._old.passages[span.start : span.stop]
                    if is_same and self._old
                    else list(cut_document(document, self._cutting))
                )
                self._kept += [(len(offsets) - 1 + i, position) for i, position in enumerate(span)]
                self._rows.append((document.id, key, len(passages)))
                for passage in passages:
                    line = json.dumps(list(passage), ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"
                    offsets.append(offsets[-1] + file.write(line))
        if len(offsets) == 1:
            raise SizewiseError("There is no text to search.", "a folder of documents", "sizewise read FOLDER")
        np.save(building / OFFSETS, np.array(offsets, dtype=np.int64))
        (building / DOCUMENTS).write_text(json.dumps(self._rows, ensure_ascii=False), encoding="utf-8")
        return StoredPassages(building)

    def _index_terms(self, passages: Sequence[Passage], stop_words: frozenset[str]) -> TermIndex:
        """Index the terms; those of old passages are not split again, unless other words are left out of the index."""
        old = self._old
        same_words = old is not None and frozenset(old.manifest["stop_words"]) == stop_words
        before = dict(self._kept) if same_words else {}

        def terms() -> Iterator[list[str]]:
            for i in range(len(passages)):
                if i % 1_000 == 0:
                    self._reporter.advance("indexing words", i, len(passages))
                if old is not None and i in before:
                    yield old.terms.terms_of(before[i])
                else:
                    yield index_terms(passages[i].full_text, stop_words)

        return TermIndex.of_terms(terms())

    def _encode(self, building: Path, passages: Sequence[Passage]) -> tuple[int, Vectors | None]:
        """Write the vectors; blocks of passages that a stopped update encoded are not encoded again."""
        if self._named is None:
            return 0, None
        encoder = self._named.encoder
        shape = (len(passages), encoder.width)
        vectors = np.lib.format.open_memmap(building / VECTORS, mode="w+", dtype=np.float32, shape=shape)
        old = self._old.vectors if self._old else None
        known = np.zeros(len(passages), dtype=np.bool_)
        if old is not None and self._kept:
            new, before = np.array(self._kept).T
            vectors[new] = old[before]
            known[new] = True
        absent = np.flatnonzero(~known)
        pending = self._folder / PENDING
        for start in range(0, len(absent), BLOCK):
            block = absent[start : start + BLOCK]
            texts = [text_to_encode(passages[i]) for i in block.tolist()]
            vectors[block] = _encode_once(encoder, texts, pending)
            self._reporter.advance("encoding passages", start + len(block), len(absent))
        vectors.flush()
        return len(absent), vectors

    def _publish(self, building: Path, index: SearchIndex, vectors: Vectors | None) -> QuestionCheck | None:
        """Learn the probability of an answer, name the folder and write the manifest; return what questions say."""
        learned, check = {}, None
        if self._learns:
            learned[WORDS], check = self._learn(index)
        encoder: dict[str, Any] | None = None
        if self._named is not None and vectors is not None:
            meaning = index.add_meaning(self._named.encoder, vectors)
            state = {"fingerprint": meaning.encoder.fingerprint, "width": meaning.encoder.width}
            encoder = {"uri": self._named.uri, **state, "words_share": meaning.words_share}
            if self._learns:
                learned[MEANING], check = self._learn(index)
        if self._asked and self._learns and check is None:
            self._reporter.say(f"the questions teach the index nothing: {teach(index, self._asked)}")
        _sync_files(building)
        name = f"files-{fingerprint([self._rows, list(self._cutting), os.urandom(8).hex()])}"
        building.rename(self._folder / name)
        manifest = {
            "schema": SCHEMA,
            "files": name,
            "documents": len(self._rows),
            "passages": len(index.passages),
            "cutting": self._cutting._asdict(),
            "encoder": encoder,
            "stop_words": sorted(index.stop_words),
            "check": check and check.as_json(),
            "answerability": {kind: one.as_lists() for kind, one in learned.items() if one is not None},
        }
        write_atomically(self._folder / MANIFEST, json.dumps(manifest, ensure_ascii=False, indent=1) + "\n")
        for left in [*self._folder.glob("files-*"), self._folder / PENDING]:
            if left.name != name:
                shutil.rmtree(left, ignore_errors=True)
        return check

    def _learn(self, index: SearchIndex) -> tuple[AnswerProbability | None, QuestionCheck | None]:
        """Learn from the questions, or else from sentences of the documents."""
        taught = teach(index, self._asked)
        return taught if isinstance(taught, Taught) else (learn_answerability(index, random.Random(0)), None)

    def _spans(self) -> dict[str, range]:
        spans, start = {}, 0
        for name, _, count in self._rows:
            spans[name] = range(start, start + count)
            start += count
        return spans

    def _sample(self) -> Iterator[int]:
        """Yield documents in an order that depends on their text only, up to the sampled characters."""
        room = SAMPLED_CHARACTERS
        for i in sorted(range(len(self._documents)), key=self._keys.__getitem__):
            yield i
            room -= len(self._documents[i].text)
            if room <= 0:
                break

    def _sampled_texts(self) -> Iterator[str]:
        return (self._documents[i].text for i in self._sample())

    def _sampled_positions(self) -> Iterator[int]:
        spans = self._spans()
        return (position for i in self._sample() for position in spans[self._documents[i].id])


def _encode_once(encoder: TextEncoder, texts: list[str], pending: Path) -> Vectors:
    """Encode a block of texts, or read the vectors that a stopped update left."""
    path = pending / f"{fingerprint([encoder.fingerprint, texts], KEY_DIGITS)}.npy"
    if path.is_file():
        try:
            found: Vectors = np.load(path)
            if found.shape == (len(texts), encoder.width):
                return found
        except (OSError, ValueError):
            pass
    vectors = encoder.encode_passages(texts)
    make_folder(pending)
    temporary = path.with_suffix(f".{os.getpid()}")
    with temporary.open("wb") as file:
        np.save(file, vectors)
    os.replace(temporary, path)
    return vectors


def _read(folder: Path) -> _Stored:
    """Read an index.

    Raises:
        SizewiseError: it is none, or it is damaged.
    """
    if not is_index(folder):
        raise SizewiseError(
            f"{folder} is not a search index.", f"a folder with {MANIFEST}", f"sizewise index DOCUMENTS --out {folder}"
        )
    for attempt in (1, 2):  # another process may have replaced the index between the two reads
        try:
            return _read_files(folder)
        except FileNotFoundError as error:
            if attempt == 2:
                raise _damaged(folder, error) from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _damaged(folder, error) from error
    raise AssertionError


def _read_files(folder: Path) -> _Stored:
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    if manifest["schema"] != SCHEMA:
        raise SizewiseError(
            f"The index {folder} has schema {manifest['schema']}.",
            f"schema {SCHEMA}, which this version reads",
            f"sizewise index DOCUMENTS --out {folder} --rebuild",
        )
    files = folder / Path(manifest["files"]).name
    passages, terms = StoredPassages(files), TermIndex.open(files)
    rows = [
        (str(name), str(key), int(count)) for name, key, count in json.loads((files / DOCUMENTS).read_text("utf-8"))
    ]
    vectors: Vectors | None = None
    if manifest["encoder"] is not None:
        vectors = np.asarray(np.load(files / VECTORS, mmap_mode="r"))
        if vectors.shape != (len(passages), manifest["encoder"]["width"]) or vectors.dtype != np.float32:
            raise ValueError("the vectors don't fit the passages")
    if len(terms) != len(passages) or sum(count for _, _, count in rows) != len(passages):
        raise ValueError("the terms or the documents don't fit the passages")
    Cutting(**manifest["cutting"]), manifest["answerability"], manifest["stop_words"]
    return _Stored(files, manifest, rows, passages, terms, vectors)


def _questions_before(folder: Path, old: _Stored | None) -> list[Asked]:
    """Read the questions that an index learned from; those of one that is made anew as well, if they can be read.

    Raises:
        DamagedIndexError: the questions of an index that is updated can't be read.
    """
    paths = [old.folder / QUESTIONS] if old is not None else sorted(folder.glob(f"files-*/{QUESTIONS}"))
    for path in paths:
        try:
            rows = json.loads(path.read_text(encoding="utf-8"))
            return [Asked(str(question), str(document)) for question, document in rows]
        except FileNotFoundError:
            continue
        except (OSError, ValueError, TypeError) as error:
            if old is not None:
                raise _damaged(folder, error) from error
    return []


class IndexFacts(NamedTuple):
    """How an index was made."""

    encoder: str | None
    """URI of the encoder; None for an index that is searched by words only."""
    cutting: Cutting
    """How documents were split into passages."""
    documents: frozenset[str]
    """Ids of the documents."""


def facts_of(folder: Path) -> IndexFacts:
    """Return how an index was made.

    Raises:
        SizewiseError: The folder is not an index, or it is damaged.
    """
    found = _read(folder)
    made_by = found.manifest["encoder"]
    encoder = None if made_by is None else str(made_by["uri"])
    return IndexFacts(encoder, Cutting(**found.manifest["cutting"]), frozenset(found.spans()))


def _check_encoder(folder: Path, manifest: dict[str, Any], found: str | None, uri: str | None) -> None:
    """Refuse vectors of another encoder: similarities to them mean nothing."""
    made_by = manifest["encoder"]
    if (made_by and made_by["fingerprint"]) == found:
        return
    by = "words only, without an encoder" if made_by is None else f"{made_by['uri']} ({made_by['fingerprint'][:12]})"
    here = "no encoder" if found is None else f"{uri} ({found[:12]})"
    raise SizewiseError(
        f"The index {folder} was made by {by}, not by {here}.",
        "the encoder that made the vectors of the index",
        f"sizewise index DOCUMENTS --out {folder} --rebuild, or another folder",
    )


def _damaged(folder: Path, error: Exception) -> DamagedIndexError:
    return DamagedIndexError(
        f"The index {folder} is damaged: {error}.",
        "the files that `sizewise index` wrote",
        f"sizewise index DOCUMENTS --out {folder} --rebuild",
    )


def _sync_files(folder: Path) -> None:
    """Flush files to disk before the manifest names them."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
