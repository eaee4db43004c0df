"""Small first, large when needed: learnt from what both made of the same prompts."""

from sizewise.routing.calibrating import Look, calibrate, calibrate_rows, chance_after, least_for, look_at
from sizewise.routing.evaluated import OF_ONE_ANSWER, Judged, calibrate_evaluations, label
from sizewise.routing.labelled import share_of
from sizewise.routing.policy import (
    CONFIDENTIAL,
    Decision,
    DomainWatch,
    DriftWatch,
    DriftWatches,
    decide_prompt,
    make_policy,
    read_policy,
    replay,
    write_policy,
)

__all__ = [
    "CONFIDENTIAL",
    "OF_ONE_ANSWER",
    "Decision",
    "DomainWatch",
    "DriftWatch",
    "DriftWatches",
    "Judged",
    "Look",
    "calibrate",
    "calibrate_evaluations",
    "calibrate_rows",
    "chance_after",
    "decide_prompt",
    "label",
    "least_for",
    "look_at",
    "make_policy",
    "read_policy",
    "replay",
    "share_of",
    "write_policy",
]
