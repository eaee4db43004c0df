"""Statistics, pure: arrays in, arrays out."""

from sizewise.inference.bootstrap import Interval, cluster_weights, interval, paired_p, percentile_interval
from sizewise.inference.multiple import holm
from sizewise.inference.rates import wilson

__all__ = ["Interval", "cluster_weights", "holm", "interval", "paired_p", "percentile_interval", "wilson"]
