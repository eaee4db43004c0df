"""Statistics, pure: arrays in, arrays out."""

from sizewise.inference.bootstrap import Interval, cluster_weights, interval, paired_p, percentile_interval
from sizewise.inference.multiple import holm
from sizewise.inference.power import detectable_difference
from sizewise.inference.rates import wilson

__all__ = [
    "Interval",
    "cluster_weights",
    "detectable_difference",
    "holm",
    "interval",
    "paired_p",
    "percentile_interval",
    "wilson",
]
