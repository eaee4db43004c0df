"""Passages keep whole sentences; what is found, supported and known."""

from __future__ import annotations

import random

import pytest

pytest.importorskip("bm25s")

from sizewise.documents.reading import make_document
from sizewise.errors import SizewiseError
from sizewise.records import Document
from sizewise.retrieval import Library, cut, sentences_of

PARTS = [
    "boiler",
    "pump",
    "valve",
    "hinge",
    "drawer",
    "lantern",
    "bracket",
    "spindle",
    "gasket",
    "flange",
    "rotor",
    "nozzle",
]
DOES = ["leaks", "rattles", "sticks", "overheats", "squeaks", "vibrates", "corrodes", "stalls"]
CURES = ["tighten", "replace", "clean", "oil", "drain", "realign", "reset", "descale"]


def document(name: str, text: str) -> Document:
    return Document(id=name, title=name, text=text, origin="test", sha256="0" * 64)


def manual(count: int, seed: int = 0) -> list[Document]:
    draw = random.Random(seed)
    made = []
    for number in range(count):
        part, other = draw.choice(PARTS), f"{draw.choice(PARTS)}{number}"
        lines = [
            f"The {part} of model {other} {draw.choice(DOES)} when the {draw.choice(PARTS)} is worn or old.",
            f"To mend it {draw.choice(CURES)} the {other} with tool number {number + 100} and wait a minute.",
            f"Then {draw.choice(CURES)} the {draw.choice(PARTS)} and close the {part} of {other} again by hand.",
        ]
        made.append(document(f"m{number}", f"# Model {other}\n\n" + " ".join(lines)))
    return made


def test_passages_keep_headings_and_whole_sentences() -> None:
    text = "Before.\n\n# One\n\n" + "A sentence of five words. " * 60 + "\n\n## Two\n\nShort."
    passages = cut([document("a", text)], words=50)
    assert {one.heading for one in passages} == {"", "One", "Two"}
    assert all(len(one.text.split()) <= 50 for one in passages)
    assert all(one.text.endswith(".") for one in passages)
    assert sum(one.text.count("A sentence") for one in passages) == 60


def test_sentences() -> None:
    assert sentences_of("One. Two is 3.5 long! Three?\nFour") == ["One.", "Two is 3.5 long!", "Three?", "Four"]


def test_the_right_passage_comes_first() -> None:
    library = Library(cut(manual(60)))
    documents = manual(60)
    found = library.find(f"how do I mend {documents[7].text.split()[2]}")
    assert found.hits[0].passage.document == "m7"
    assert found.chance is not None
    assert library.find("zzz qqq").hits == ()
    assert library.find("zzz qqq").chance == 0.0


def test_the_chance_tells_what_is_there_from_what_is_not() -> None:
    """Of documents held out, questions about their own model have lower chances than of documents that are there."""
    documents = manual(120)
    library = Library(cut(documents[:80]))

    def chance(one: Document) -> float:
        found = library.find(sentences_of(one.text)[2]).chance
        assert found is not None
        return found

    there = sorted(chance(one) for one in documents[:40])
    gone = sorted(chance(one) for one in documents[80:])
    assert there[len(there) // 4] > gone[3 * len(gone) // 4]


def test_support_needs_the_words_and_the_numbers() -> None:
    library = Library(cut([document("a", "The refund arrives within 5 working days."), document("b", "Boats float.")]))
    passages = [hit.passage for hit in library.find("refund boats").hits]
    place, share = library.support("Your refund arrives in 5 working days.", passages)
    assert passages[place].document == "a"
    assert share > 0.6
    assert library.support("Your refund arrives in 9 working days.", passages)[1] == 0.0
    assert library.support("Unicorns are free.", passages)[1] == 0.0
    assert library.support("The refund does not arrive within 5 working days.", passages)[1] == 0.0
    assert library.support("The refund arrives within 5 working days, see https://x.example.", passages)[1] == 0.0


def test_few_documents_give_no_chance_and_none_are_refused() -> None:
    assert Library(cut([document("a", "Boats float.")])).find("boats").chance is None
    with pytest.raises(SizewiseError, match="no text to search"):
        Library([])


def test_a_list_without_full_stops_is_cut_too() -> None:
    long = make_document("a", "A", "; ".join(f"({i}) item number {i} of the list" for i in range(400)), "test")
    passages = cut([long])
    assert max(len(one.text.split()) for one in passages) <= 320
    assert " ".join(one.text.replace("\n", " ") for one in passages).split() == long.text.split()
