"""Compounds are found with and without hyphen, words with and without accents, numbers in rows of numbers."""

from __future__ import annotations

import time

import pytest

pytest.importorskip("bm25s")

from sizewise.retrieval import Library, cut
from sizewise.retrieval.spellings import index_terms
from tests.retrieval.test_retrieval import document

TEXTS = {
    "mail": "Send an e-mail to the desk.",
    "post": "Letters go to the post room.",
    "oil": "The XR-2000 needs oil.",
    "limit": "Set max_connections to nine.",
    "noon": "The Café opens at noon.",
    "row": "Plan Basic 100 200 300",
    "login": "The login is your badge.",
    "thesis": "A resume has one page.",
    "note": "This is _important_ for the roof.",
}


@pytest.fixture(scope="module")
def library() -> Library:
    return Library(cut([document(name, text) for name, text in TEXTS.items()]), learn=False)


@pytest.mark.parametrize(
    ("question", "right"),
    [
        ("email", "mail"),
        ("E-Mail", "mail"),
        ("e\u2011mail", "mail"),
        ("XR2000", "oil"),
        ("xr-2000", "oil"),
        ("XR 2000", "oil"),
        ("max connections", "limit"),
        ("max_connections", "limit"),
        ("cafe", "noon"),
        ("CAFÉ", "noon"),
        ("200", "row"),
        ("log-in", "login"),
        ("résumé", "thesis"),
        ("important", "note"),
    ],
)
def test_each_spelling_is_found(library: Library, question: str, right: str) -> None:
    assert [hit.passage.document for hit in library.find(question).hits] == [right]


def test_a_compound_is_covered_by_its_parts() -> None:
    texts = {"a": "Check-in is at three.", "b": "You can check in early, says the desk.", "c": "The pool is open."}
    library = Library(cut([document(name, text) for name, text in texts.items()]), learn=False)
    assert {hit.passage.document for hit in library.find("check-in").hits} == {"a", "b"}
    assert library.overlap("check-in", texts["a"]) == library.overlap("check-in", texts["b"]) == 1.0
    assert library.overlap("checkin", texts["a"]) == 1.0
    assert library.overlap("check-in", texts["c"]) == 0.0


def test_an_exact_spelling_counts_first() -> None:
    texts = {"a": "Die Bar hat ein Büro.", "b": "Das Buro ist ein Esel."}
    library = Library(cut([document(name, text) for name, text in texts.items()]), learn=False)
    assert [hit.passage.document for hit in library.find("Buro").hits] == ["b"]
    assert [hit.passage.document for hit in library.find("Büro").hits] == ["a"]


@pytest.mark.parametrize("text", ["a" * 60_000, "a-" * 30_000, "_a" * 30_000, "-" * 60_000, "1 " * 30_000])
def test_long_words_take_no_square_of_their_length(text: str) -> None:
    begun = time.process_time()
    index_terms(text)
    assert time.process_time() - begun < 5


def test_dates_and_ranges_are_no_compounds() -> None:
    assert index_terms("2024-03-01") == ["2024", "3", "1"]
    assert index_terms("pages 10-12") == ["pag", "10", "12"]
    assert "stateoftheart" in index_terms("state-of-the-art")
