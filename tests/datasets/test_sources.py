from __future__ import annotations

import pytest

from sizewise.datasets.sources import describe_collections, find_collections, without_collection
from sizewise.records import Example, Message


def rows(count: int, sources: list[str]) -> list[tuple[str, str]]:
    return [(f"q{i}", sources[i % len(sources)]) for i in range(count)]


@pytest.mark.parametrize(
    ("given", "documents", "expected"),
    [
        (rows(400, ["NHS", "MedlinePlus", "GARD"]), [], {"NHS", "MedlinePlus", "GARD"}),
        (rows(12, ["服务台"]), [], {"服务台"}),
        (rows(12, ["Telefon", "E-Mail"]), ["handbuch.txt"], {"Telefon", "E-Mail"}),
        (rows(400, ["handbook.pdf", "leave.pdf"]), [], set()),  # files that weren't read
        (rows(400, ["https://example.org/a"]), [], set()),
        (rows(400, ["leave"]), ["leave"], set()),
        (rows(40, [f"case {i}" for i in range(20)]), [], set()),
        ([(f"q{i}", f"q{i}") for i in range(50)], [], set()),
    ],
)
def test_few_names_for_many_rows_are_collections(
    given: list[tuple[str, str]], documents: list[str], expected: set[str]
) -> None:
    assert find_collections(given, documents) == expected


def test_the_name_of_a_collection_becomes_a_tag() -> None:
    example = Example(id="q1", messages=(Message(role="user", content="Q?"),), tags=("a",), source="NHS")
    changed = without_collection(example, {"NHS"})
    assert (changed.source, changed.tags) == ("q1", ("a", "NHS"))
    assert without_collection(changed, {"NHS"}) is changed
    assert without_collection(example, set()) is example
    assert "'NHS'" in describe_collections(frozenset({"NHS"}))
