"""Many concurrent users against an engine or an endpoint: latency, throughput, goodput."""

from sizewise.loadtest.endpoint import load_test
from sizewise.loadtest.engine import load_test_model
from sizewise.loadtest.levels import Limits, TimedAnswer, level_of

__all__ = ["Limits", "TimedAnswer", "level_of", "load_test", "load_test_model"]
