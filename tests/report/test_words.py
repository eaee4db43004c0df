from __future__ import annotations

import pytest

from sizewise.choice.evidence import ANSWER_METRICS, VOTE_METRICS
from sizewise.metrics import METRICS
from sizewise.metrics.grades import HUMAN_GRADE
from sizewise.metrics.registry import stands_for_quality
from sizewise.records import Score
from sizewise.records.html_table import html_table
from sizewise.report import score_text
from sizewise.report.words import COLUMNS, number, signed_text


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [(0, 3, "0"), (8.1234, 3, "8.12"), (0.000123, 3, "0.000123"), (134515008, 4, "134,500,000"), (-1.5, 3, "-1.5")],
)
def test_numbers_are_never_in_scientific_form(value: float, digits: int, text: str) -> None:
    assert number(value, digits) == text


def test_a_score_is_never_a_bare_number() -> None:
    score = Score(metric="bleu", value=8.139, ci_low=4.59, ci_high=13.33, n=177, unit="0-100", signature="s")
    assert score_text(score) == "8.14 [4.59, 13.3] (0-100), n = 177"
    missing = Score(metric="bleu", n=0, unit="0-100", signature="s", missing_reason="no examples")
    assert score_text(missing) == "n/a (no examples)"
    share = Score(metric="good", value=0.0, ci_low=0.0, ci_high=0.0095, n=400, unit="share", signature="s")
    assert score_text(share) == "0% [0, 0.95], n = 400"


def test_a_difference_of_zero_has_no_sign() -> None:
    for zero in (0.0, -0.0, -1e-17):
        assert signed_text("accuracy", "share", zero, zero, 0.02) == "0 [0, +2] points"
    assert signed_text("accuracy", "share", -0.014, -0.03, 0.0) == "-1.4 [-3, 0] points"
    assert "-0" not in html_table([{"difference": -0.0}])


def test_every_measure_that_may_decide_has_a_column() -> None:
    """A verdict by a measure that the table leaves out can't be checked by its reader."""
    deciding = {*ANSWER_METRICS, *VOTE_METRICS, HUMAN_GRADE, "bits_per_byte"}
    assert deciding <= set(COLUMNS)
    quality = {name for name, metric in METRICS.items() if metric.needs == "answers" and stands_for_quality(name)}
    assert quality - set(COLUMNS) <= {"ter", "log_loss", "brier", "ece"}, "shown elsewhere, or on request"
