"""Routing between a small and a large model: calibrate for a stated risk, decide per prompt, detect drift."""

from sizewise.routing.calibrating import (
    PromptFeatures,
    calibrate,
    calibrate_rows,
    min_prompts_for,
    probability_after,
    prompt_features,
)
from sizewise.routing.deciding import decide_coverage
from sizewise.routing.drift import DriftDetector, PerClientDrift, PolicyDrift, TrainingDrift
from sizewise.routing.evaluated import PER_ANSWER_METRICS, PairedAnswers, calibrate_evaluations, pair_answers
from sizewise.routing.labeled import share_of
from sizewise.routing.policy import (
    CONFIDENTIAL,
    Decision,
    decide_prompt,
    make_policy,
    read_policy,
    replay,
    write_policy,
)

__all__ = [
    "CONFIDENTIAL",
    "PER_ANSWER_METRICS",
    "Decision",
    "DriftDetector",
    "PairedAnswers",
    "PerClientDrift",
    "PolicyDrift",
    "PromptFeatures",
    "TrainingDrift",
    "calibrate",
    "calibrate_evaluations",
    "calibrate_rows",
    "decide_coverage",
    "decide_prompt",
    "make_policy",
    "min_prompts_for",
    "pair_answers",
    "probability_after",
    "prompt_features",
    "read_policy",
    "replay",
    "share_of",
    "write_policy",
]
