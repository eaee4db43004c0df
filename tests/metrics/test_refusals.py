"""How many refusals the measure finds, and how many it reports that are none, on answers written for this test."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from sizewise.metrics import CannotMeasure, check_language, find_metric
from sizewise.metrics.manner import refuses
from sizewise.metrics.refusal_phrases import KNOWN_LANGUAGES

ANSWERS = tomllib.loads(Path(__file__).with_name("refusals.toml").read_text(encoding="utf-8"))
REFUSED, ANSWERED = ([text for texts in ANSWERS[kind].values() for text in texts] for kind in ("refused", "answered"))


def test_nine_in_ten_refusals_are_found_at_a_precision_of_95_percent() -> None:
    assert len(REFUSED) + len(ANSWERED) >= 200
    found, false = sum(map(refuses, REFUSED)), sum(map(refuses, ANSWERED))
    assert found / len(REFUSED) >= 0.9
    assert found / (found + false) >= 0.95


@pytest.mark.parametrize("language", sorted(ANSWERS["refused"]))
def test_each_language_is_known(language: str) -> None:
    """The measure doesn't live on English."""
    assert language in KNOWN_LANGUAGES
    texts = ANSWERS["refused"][language]
    assert sum(map(refuses, texts)) / len(texts) >= 0.5
    assert sum(map(refuses, ANSWERS["answered"][language])) <= 1


def test_languages_without_phrases_are_not_measured() -> None:
    with pytest.raises(CannotMeasure, match="Swahili"):
        check_language(find_metric("refusals"), "sw")


def test_a_refusal_before_a_long_answer_is_none() -> None:
    answer = (
        "Good question. I don't know your contract. " + "In general, the notice period is four weeks to the end. " * 8
    )
    assert not refuses(answer)
