"""The index on disk: only what changed is encoded, a killed update leaves the old index, another encoder is refused."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from filelock import FileLock

pytest.importorskip("bm25s")

from sizewise.errors import MissingExtraError, SizewiseError
from sizewise.records import Document
from sizewise.retrieval import Cutting, Library, NamedEncoder, cut, open_index, update_index
from sizewise.text import words_of
from tests.retrieval.test_retrieval import document, manual

MEANINGS = {"automobile": "car", "vehicle": "car", "repair": "fix", "mend": "fix", "physician": "doctor"}


class WordEncoder:
    """Vectors of hashed words, after synonyms are replaced by one of them."""

    width = 64

    def __init__(self, name: str = "one") -> None:
        self.fingerprint = name
        self.encoded: list[str] = []

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        self.encoded += texts
        vectors = np.full((len(texts), self.width), 1e-4, dtype=np.float32)
        for row, text in enumerate(texts):
            for term in words_of(text.lower()):
                place = sum(map(ord, MEANINGS.get(term, term))) % self.width
                vectors[row, place] += 1.0
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    encode_passages = encode


def opener(encoder: WordEncoder) -> Callable[[str], WordEncoder]:
    return lambda uri: encoder


FACTS = [
    document("a", "# Garage\n\nThe car is kept in hall seven."),
    document("b", "# Clinic\n\nThe doctor sees patients on Mondays."),
    document("c", "# Canteen\n\nSoup is served at noon."),
]


def found(library: Library, question: str) -> list[str]:
    return [hit.passage.document for hit in library.find(question, 3).hits]


def test_a_question_in_other_words_finds_its_passage(tmp_path: Path) -> None:
    encoder = WordEncoder()
    assert found(Library(cut(FACTS), learn=False), "physician") == []
    assert found(Library(cut(FACTS), learn=False, encoder=encoder), "physician")[0] == "b"
    update_index(tmp_path / "index", FACTS, NamedEncoder("folder", encoder))
    library = open_index(tmp_path / "index", opener(encoder))
    assert library.searches_by_meaning
    assert found(library, "automobile")[0] == "a"
    assert found(library, "when is soup served")[0] == "c"


def test_only_new_and_changed_documents_are_encoded(tmp_path: Path) -> None:
    encoder, folder = WordEncoder(), tmp_path / "index"
    first = update_index(folder, FACTS, NamedEncoder("folder", encoder))
    assert (first.added, first.encoded) == (3, 3)
    encoder.encoded.clear()
    assert update_index(folder, FACTS, NamedEncoder("folder", encoder)).unchanged == 3
    assert encoder.encoded == []
    later = [
        FACTS[0],
        document("c", "# Canteen\n\nSoup is served at one."),
        document("d", "# Pool\n\nThe pool opens in May."),
    ]
    made = update_index(folder, later, NamedEncoder("folder", encoder))
    assert (made.added, made.changed, made.removed, made.unchanged, made.encoded) == (1, 1, 1, 1, 2)
    assert len(encoder.encoded) == 2
    library = open_index(folder, opener(encoder))
    whole = Library(cut(later), learn=False, encoder=encoder)
    for question in ("automobile", "when is soup served", "physician", "pool", "hall seven"):
        assert library.find(question).hits == whole.find(question).hits
    assert sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")) == [
        json.loads((folder / "index.json").read_text())["files"],
        "index.json",
    ]


def test_an_index_on_disk_finds_the_same_as_one_in_memory(tmp_path: Path) -> None:
    documents, encoder = manual(60), WordEncoder()
    update_index(tmp_path, documents, NamedEncoder("folder", encoder))
    stored = open_index(tmp_path, opener(encoder))
    memory = Library(cut(documents), encoder=encoder)
    for one in documents[:20]:
        question = one.text.split(". ")[1]
        assert stored.find(question) == memory.find(question)
    words = open_index(tmp_path, missing, lambda line: None)
    for one in documents[:20]:
        question = one.text.split(". ")[1]
        assert words.find(question) == Library(cut(documents)).find(question)


def missing(uri: str) -> WordEncoder:
    raise MissingExtraError("onnxruntime", "study")


def test_without_the_encoder_the_index_is_searched_by_words_and_says_so(tmp_path: Path) -> None:
    update_index(tmp_path, FACTS, NamedEncoder("folder", WordEncoder()))
    said: list[str] = []
    library = open_index(tmp_path, missing, said.append)
    assert not library.searches_by_meaning
    assert "by words only" in said[0]
    assert "onnxruntime" in said[0]
    assert found(library, "doctor") == ["b"]


class Killed(BaseException):
    """Stands for a process that is killed."""


def test_a_killed_update_leaves_the_old_index_and_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, folder = WordEncoder(), tmp_path / "index"
    update_index(folder, FACTS, NamedEncoder("folder", encoder))
    many = [document(f"n{i}", f"# Note {i}\n\nThe rake of row {i} hangs in the shed.") for i in range(600)]
    encoder.encoded.clear()

    def killed(texts: Sequence[str]) -> npt.NDArray[np.float32]:
        if len(encoder.encoded) >= 256:
            raise Killed
        return WordEncoder.encode(encoder, texts)

    with monkeypatch.context() as patched:
        patched.setattr(encoder, "encode_passages", killed)
        with pytest.raises(Killed):
            update_index(folder, [*FACTS, *many], NamedEncoder("folder", encoder))
    assert found(open_index(folder, opener(encoder)), "physician")[0] == "b"
    encoder.encoded.clear()
    assert update_index(folder, [*FACTS, *many], NamedEncoder("folder", encoder)).added == 600
    again = [text for text in encoder.encoded if "hangs in the shed" in text and "Note 5\n" in text]
    assert again == []  # its block was encoded before the kill
    assert len(open_index(folder, opener(encoder))) == 603


def test_an_update_killed_before_the_manifest_is_written_leaves_the_old_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = WordEncoder()
    update_index(tmp_path, FACTS, NamedEncoder("folder", encoder))

    def killed(source: object, target: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", killed)
        with pytest.raises(Killed):
            update_index(tmp_path, FACTS[:2], None if encoder is None else NamedEncoder("folder", encoder))
    assert len(open_index(tmp_path, opener(encoder))) == 3
    assert update_index(tmp_path, FACTS[:2], NamedEncoder("folder", encoder)).removed == 1


def test_an_index_of_another_encoder_is_refused(tmp_path: Path) -> None:
    update_index(tmp_path, FACTS, NamedEncoder("folder", WordEncoder("one")))
    with pytest.raises(SizewiseError, match=r"was made by folder \(one\), not by folder \(two\)") as refused:
        open_index(tmp_path, opener(WordEncoder("two")))
    assert "--rebuild" in refused.value.next_step
    with pytest.raises(SizewiseError, match="was made by folder"):
        update_index(tmp_path, FACTS, NamedEncoder("other", WordEncoder("two")))
    with pytest.raises(SizewiseError, match="not by no encoder"):
        update_index(tmp_path, FACTS, None)
    update_index(tmp_path, FACTS, NamedEncoder("other", WordEncoder("two")), rebuild=True)
    assert open_index(tmp_path, opener(WordEncoder("two"))).searches_by_meaning


@pytest.mark.parametrize(
    "file", ["index.json", "passages.jsonl", "term_ids.npy", "vectors.npy", "bm25/indptr.csc.index.npy"]
)
def test_a_damaged_index_is_refused(tmp_path: Path, file: str) -> None:
    encoder = WordEncoder()
    update_index(tmp_path, FACTS, NamedEncoder("folder", encoder))
    path = tmp_path / file if file == "index.json" else next(tmp_path.glob(f"files-*/{file}"))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(SizewiseError, match="damaged") as refused:
        open_index(tmp_path, opener(encoder))
    assert "--rebuild" in refused.value.next_step


def test_what_is_no_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SizewiseError, match="not a search index"):
        open_index(tmp_path, opener(WordEncoder()))
    with pytest.raises(SizewiseError, match="no text to search"):
        update_index(tmp_path / "empty", [Document(id="a", title="a", text="", origin="t", sha256="0" * 64)], None)
    assert not list((tmp_path / "empty").glob("[!.]*"))


def test_other_passages_are_cut_when_their_length_changes(tmp_path: Path) -> None:
    text = " ".join(f"Sentence number {i} is about the boiler." for i in range(30))
    documents = [document("long", text), *FACTS]
    short = update_index(tmp_path, documents, None, cutting=Cutting(40, 10))
    same = update_index(tmp_path, [*documents, document("new", "Another text about pumps.")], None)
    assert same.passages == short.passages + 1  # cut as before
    assert update_index(tmp_path, documents, None, cutting=Cutting()).passages < short.passages


def test_texts_without_any_word_are_indexed(tmp_path: Path) -> None:
    update_index(tmp_path, [document("a", "— — —"), document("b", "...")], None)
    assert open_index(tmp_path, missing, print).find("words").hits == ()


def test_documents_without_a_passage_stop_nothing(tmp_path: Path) -> None:
    encoder = WordEncoder()
    update_index(tmp_path, [document("none", ""), *manual(30), document("nothing", " ")], NamedEncoder("f", encoder))
    library = open_index(tmp_path, opener(encoder))
    assert (library.documents, len(library)) == (30, 30)
    assert library.find(manual(30)[3].text.split(". ")[1]).hits


def test_an_index_of_an_earlier_version_is_cut_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = WordEncoder()
    with monkeypatch.context() as patched:
        patched.setattr("sizewise.retrieval.stored.INDEX_VERSION", 1)
        update_index(tmp_path, FACTS, NamedEncoder("folder", encoder))
    made = update_index(tmp_path, FACTS, NamedEncoder("folder", encoder))
    assert (made.changed, made.unchanged, made.encoded) == (3, 0, 3)


def test_an_update_waits_for_another_process_if_it_is_to(tmp_path: Path) -> None:
    update_index(tmp_path, FACTS, None)
    lock = FileLock(tmp_path / ".lock", thread_local=False)
    lock.acquire()
    with pytest.raises(SizewiseError, match="Another process updates the index"):
        update_index(tmp_path, FACTS, None)
    timer = threading.Timer(0.2, lock.release)
    timer.start()
    assert update_index(tmp_path, FACTS, None, wait_s=20).unchanged == 3
    timer.join()
