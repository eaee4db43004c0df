"""Pure statistics on arrays."""

from sizewise.stats.bootstrap import percentile_interval
from sizewise.stats.inference import (
    LEVEL,
    MIN_CLUSTERS,
    Interval,
    Systems,
    adjust_family,
    detectable,
    estimate,
    family_interval,
    min_clusters_for,
)
from sizewise.stats.length_control import length_controlled_rate
from sizewise.stats.margins import interval_at, p_beyond
from sizewise.stats.multiplicity import holm
from sizewise.stats.power import detectable_difference, needed_for
from sizewise.stats.proportions import wilson
from sizewise.stats.selective import Coverage, RiskCoverage, choose_coverage, risk_at, risk_coverage
from sizewise.stats.sequential import PairedBet

__all__ = [
    "LEVEL",
    "MIN_CLUSTERS",
    "Coverage",
    "Interval",
    "PairedBet",
    "RiskCoverage",
    "Systems",
    "adjust_family",
    "choose_coverage",
    "detectable",
    "detectable_difference",
    "estimate",
    "family_interval",
    "holm",
    "interval_at",
    "length_controlled_rate",
    "min_clusters_for",
    "needed_for",
    "p_beyond",
    "percentile_interval",
    "risk_at",
    "risk_coverage",
    "wilson",
]
