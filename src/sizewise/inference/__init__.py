"""Statistics, pure: arrays in, arrays out."""

from sizewise.inference.bootstrap import Interval, interval, paired_differences, percentile_interval
from sizewise.inference.length import even_length_rate
from sizewise.inference.multiple import holm
from sizewise.inference.permutation import MIN_CLUSTERS
from sizewise.inference.power import detectable_difference, needed_for
from sizewise.inference.rates import rule_of_three, wilson
from sizewise.inference.sequential import PairedBet

__all__ = [
    "MIN_CLUSTERS",
    "Interval",
    "PairedBet",
    "detectable_difference",
    "even_length_rate",
    "holm",
    "interval",
    "needed_for",
    "paired_differences",
    "percentile_interval",
    "rule_of_three",
    "wilson",
]
