"""Small first, large when needed: learnt from what both made of the same prompts."""

from sizewise.routing.calibrating import calibrate, calibrate_rows, chance_of
from sizewise.routing.policy import (
    Decision,
    DriftWatch,
    decide_prompt,
    make_policy,
    read_policy,
    replay,
    write_policy,
)

__all__ = [
    "Decision",
    "DriftWatch",
    "calibrate",
    "calibrate_rows",
    "chance_of",
    "decide_prompt",
    "make_policy",
    "read_policy",
    "replay",
    "write_policy",
]
