"""Pure statistics on arrays."""

from sizewise.stats.bootstrap import Interval, interval, paired_differences, percentile_interval
from sizewise.stats.length_control import length_controlled_rate
from sizewise.stats.multiplicity import holm
from sizewise.stats.permutation import MIN_CLUSTERS
from sizewise.stats.power import detectable_difference, needed_for
from sizewise.stats.proportions import rule_of_three, wilson
from sizewise.stats.sequential import PairedBet

__all__ = [
    "MIN_CLUSTERS",
    "Interval",
    "PairedBet",
    "detectable_difference",
    "holm",
    "interval",
    "length_controlled_rate",
    "needed_for",
    "paired_differences",
    "percentile_interval",
    "rule_of_three",
    "wilson",
]
