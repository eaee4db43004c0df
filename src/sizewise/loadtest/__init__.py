"""Load tests of an engine or an endpoint with concurrent users: latency, throughput and goodput."""

from sizewise.loadtest.endpoint import LoadOptions, load_test
from sizewise.loadtest.engine import load_test_model
from sizewise.loadtest.levels import Limits, TimedAnswer, level_of

__all__ = ["Limits", "LoadOptions", "TimedAnswer", "level_of", "load_test", "load_test_model"]
