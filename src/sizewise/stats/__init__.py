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
from sizewise.stats.multiplicity import holm
from sizewise.stats.power import detectable_difference, needed_for
from sizewise.stats.proportions import wilson
from sizewise.stats.sequential import PairedBet

__all__ = [
    "LEVEL",
    "MIN_CLUSTERS",
    "Interval",
    "PairedBet",
    "Systems",
    "adjust_family",
    "detectable",
    "detectable_difference",
    "estimate",
    "family_interval",
    "holm",
    "length_controlled_rate",
    "min_clusters_for",
    "needed_for",
    "percentile_interval",
    "wilson",
]
