"""Reading only parts of a long text finds what reading the whole text does."""

from __future__ import annotations

import random

import pytest

pytest.importorskip("presidio_analyzer")

from sizewise.guard import find_personal, regions
from tests.clock import processor_seconds
from tests.guard.test_disguised import DISGUISES, VALUES

PROSE = " The customer wrote that nothing had changed, and that the parcel was still on its way to the shop in town."
OTHERS = (
    *("5 May '24", "12 Rue Verte", "Am Alten Tor 3", "Hauptstraße 7", "One Apple Park Way", "SW1A 1AA", "P.O. Box 12"),
    *("fe80::1", "2001:db8:1:2:3:4:5:6", "1.2.3.4", "anna at example dot org", "Calle Mayor 8", "2024 年 5 月 3 日"),
)


def long_text(values: list[str], seed: int = 0) -> str:
    chance = random.Random(seed)
    return "".join(f" Note {value} please.{PROSE * chance.randint(1, 9)}\n" for value in values)


@pytest.mark.parametrize("disguise", DISGUISES)
def test_regions_hold_every_disguised_value(disguise: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = long_text([DISGUISES[disguise](value) for value in VALUES] + list(OTHERS))
    assert len(text) > regions.MIN_LENGTH
    read = sum(len(joined.text) for joined in regions.joined_regions(text))
    found = find_personal(text)
    monkeypatch.setattr(regions, "MIN_LENGTH", len(text) + 1)
    assert found == find_personal(text)
    assert len(found) >= len(VALUES)
    assert read < 0.8 * len(text)


def test_findings_of_two_regions_are_not_joined() -> None:
    text = f"4111 1111{PROSE * 20} 1111 1111 and 12 Baker{PROSE * 20} Street"
    assert find_personal(text) == []


def test_prose_is_masked_in_little_time() -> None:
    text = long_text(["the year 2016", "page 17", "ann@example.org"] * 300)
    find_personal("é1")
    assert processor_seconds(lambda: find_personal(text)) < 1.0 * len(text) / 500_000 + 0.5
