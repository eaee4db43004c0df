from __future__ import annotations

import pytest

from sizewise.datasets.sources import describe_collections, describe_few, find_collections, without_collection
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


@pytest.mark.parametrize(
    "sources",
    [
        ["contract-0", "contract-1"],
        ["contract-1"],
        [f"Handbook {i}" for i in range(5)],
        ["2023-04-01", "2023-05-01"],
        ["0", "1"],
        ["§ 12"],
        ["lease", "policy", "terms", "contract 1", "contract 2"],  # one common stem is enough
        ["Contract A", "Contract B"],
        ["Part II", "Part IV"],
        ["第1章", "第2章"],
        ["legal/lease", "legal/terms"],
        ["C:\\files\\lease", "/srv/terms"],
        ["lease.pdf", "terms"],
        ["report.7z"],
        ["https://example.org/a"],
        ["6f9619ff-8b86-d011-b42d-00cf4fc964ff", "0a9619ff-8b86-d011-b42d-00cf4fc964aa"],
        ["March 2023", "April 2023"],
    ],
)
def test_names_that_look_like_documents_are_documents_however_few(sources: list[str]) -> None:
    given = rows(400, sources)
    assert find_collections(given, []) == frozenset()
    assert f"'{min(sources)}'" in describe_few(given, [])
    blank = [(f"blank{i}", "") for i in range(3)]
    assert find_collections([*given, *blank], []) == frozenset()


@pytest.mark.parametrize(
    "sources",
    [
        ["alpaca", "sharegpt", "wiki"],
        ["NHS", "MedlinePlus", "GARD", "squad_v2"],
        ["human", "gpt4"],
        ["wiki", "gpt-3.5"],
        ["Q/A"],
    ],
)
def test_plain_words_are_collections(sources: list[str]) -> None:
    assert find_collections(rows(400, sources), []) == set(sources)
    assert not describe_few(rows(40, [f"case {i}" for i in range(20)]), [])


def test_the_name_of_a_collection_becomes_a_tag() -> None:
    example = Example(id="q1", messages=(Message(role="user", content="Q?"),), tags=("a",), source="NHS")
    changed = without_collection(example, {"NHS"})
    assert (changed.source, changed.tags) == ("q1", ("a", "NHS"))
    assert without_collection(changed, {"NHS"}) is changed
    assert without_collection(example, set()) is example
    assert "'source' names a collection ('NHS')" in describe_collections(frozenset({"NHS"}))
    assert "'source' names 2 collections ('GARD', 'NHS')" in describe_collections(frozenset({"NHS", "GARD"}))
