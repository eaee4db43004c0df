"""Domain specialist, small generalist, or no measurable difference."""

from __future__ import annotations

import pytest

from sizewise.records import Forgetting, Score, Validation
from sizewise.training.specialization import measure_specialization


def change(value: float, half: float | None) -> Score:
    ends = {} if half is None else {"ci_low": value - half, "ci_high": value + half}
    return Score(metric="change", value=value, n=40, unit="bits/byte", signature="", **ends)


def measured(domain: Score, general: Score | None, text: Score | None = None) -> tuple[Validation, Forgetting]:
    of_domain = Validation(
        kind="answers",
        items=40,
        sources=40,
        bytes=4_000,
        before=change(1.0, 0.1),
        after=change(0.9, 0.1),
        change=domain,
    )
    elsewhere = Forgetting(
        control="demo:python", bytes=8_000, before=1.0, after=1.0, change=text, answers_change=general, replay_share=0.1
    )
    return of_domain, elsewhere


@pytest.mark.parametrize(
    ("domain", "general", "kind"),
    [
        (change(-0.3, 0.1), change(0.0, 0.05), "domain specialist"),
        (change(-0.3, 0.1), change(0.2, 0.05), "domain specialist"),
        (change(-0.5, 0.1), change(-0.1, 0.05), "domain specialist"),
        (change(-0.2, 0.1), change(-0.2, 0.1), "small generalist"),
        (change(0.0, 0.1), change(-0.2, 0.1), "small generalist"),
        (change(0.0, 0.1), change(0.0, 0.1), "no measurable difference"),
        (change(-0.12, 0.1), change(-0.05, 0.2), "no measurable difference"),
        (change(0.3, 0.1), change(0.0, 0.1), "no measurable difference"),
        (change(0.3, 0.1), change(0.3, 0.1), "no measurable difference"),
    ],
)
def test_the_kind_follows_from_both_changes_and_their_difference(domain: Score, general: Score, kind: str) -> None:
    found = measure_specialization(*measured(domain, general))
    assert found is not None
    assert found.kind == kind
    assert found.difference.value == pytest.approx((general.value or 0) - (domain.value or 0))


def test_what_was_lost_elsewhere_is_named() -> None:
    found = measure_specialization(*measured(change(-0.3, 0.1), change(0.2, 0.05), change(0.1, 0.02)))
    assert found is not None
    assert "it lost general knowledge (+0.200 bits/byte) and general text (+0.100 bits/byte)" in found.summary
    kept = measure_specialization(*measured(change(-0.3, 0.1), change(0.0, 0.05)))
    assert kept is not None
    assert "no loss elsewhere is shown, which isn't proof" in kept.summary
    worse = measure_specialization(*measured(change(0.3, 0.1), change(0.0, 0.1)))
    assert worse is not None
    assert worse.summary.startswith("It became worse in its domain")


def test_without_intervals_nothing_is_claimed() -> None:
    assert measure_specialization(*measured(change(-0.3, None), change(0.0, 0.05))) is None
    assert measure_specialization(*measured(change(-0.3, 0.1), None)) is None
    assert measure_specialization(None, None) is None
