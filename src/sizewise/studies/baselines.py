"""The trivial baselines that a study adds to its candidates: name -> model URI, to which a `:` adds the dataset."""

from __future__ import annotations

BASELINES = {
    "copying (baseline)": "fake:copy",
    "most frequent answer (baseline)": "frequent:",
    "n-gram (baseline)": "ngram:",
}
DECISION_BASELINES = {"most frequent answer (baseline)": "frequent:"}
CLASSIFICATION_BASELINES = {"linear classifier (baseline)": "linear:"}
NAMES = frozenset((*BASELINES, *DECISION_BASELINES, *CLASSIFICATION_BASELINES))
"""Names that no candidate may have, because it would stand in the baseline's place."""
