"""Small first, large when needed: learnt from what both made of the same prompts."""

from sizewise.routing.calibrating import Look, calibrate, calibrate_rows, chance_after, look_at
from sizewise.routing.policy import (
    CONFIDENTIAL,
    Decision,
    DriftWatch,
    decide_prompt,
    make_policy,
    read_policy,
    replay,
    write_policy,
)

__all__ = [
    "CONFIDENTIAL",
    "Decision",
    "DriftWatch",
    "Look",
    "calibrate",
    "calibrate_rows",
    "chance_after",
    "decide_prompt",
    "look_at",
    "make_policy",
    "read_policy",
    "replay",
    "write_policy",
]
