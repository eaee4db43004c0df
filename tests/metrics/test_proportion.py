from __future__ import annotations

import pytest

from sizewise.metrics.proportion import proportion_score
from sizewise.stats import wilson


def test_a_proportion_has_wilsons_interval() -> None:
    found = proportion_score("approved", 7.5, 10, signature="ties:half|wilson", clusters=4)
    assert found.value == 0.75
    assert (found.ci_low, found.ci_high) == wilson(7.5, 10)
    assert (found.n, found.unit, found.signature, found.clusters) == (10, "share", "ties:half|wilson", 4)


def test_without_observations_the_reason_is_kept() -> None:
    found = proportion_score("approved", 0, 0, missing_reason="no votes")
    assert found.value is None
    assert found.missing_reason == "no votes"


def test_a_given_value_is_kept_to_the_last_digit() -> None:
    share = 1 / 3
    assert proportion_score("share", share * 7, 7, value=share).value == share
    with pytest.raises(ValueError, match="successes"):
        proportion_score("share", 8, 7)
