"""Frozen records for every word of the house."""

from sizewise.records.base import Record, fingerprint
from sizewise.records.decision import Candidate, Missing, Needs, Outcome, Recommendation, Study
from sizewise.records.scores import Comparison, Difference, Evaluation, ItemRow, Prompting, Score
from sizewise.records.service import Completion, ModelDescription, Request
from sizewise.records.text import (
    SPLITS,
    Dataset,
    Document,
    Example,
    LeakEntry,
    LeakLedger,
    Message,
    Split,
    SplitSize,
)
from sizewise.records.training import (
    Checkpoint,
    CurvePoint,
    Estimate,
    Forgetting,
    GroupShares,
    Memorisation,
    Range,
    Recipe,
)

__all__ = [
    "SPLITS",
    "Candidate",
    "Checkpoint",
    "Comparison",
    "Completion",
    "CurvePoint",
    "Dataset",
    "Difference",
    "Document",
    "Estimate",
    "Evaluation",
    "Example",
    "Forgetting",
    "GroupShares",
    "ItemRow",
    "LeakEntry",
    "LeakLedger",
    "Memorisation",
    "Message",
    "Missing",
    "ModelDescription",
    "Needs",
    "Outcome",
    "Prompting",
    "Range",
    "Recipe",
    "Recommendation",
    "Record",
    "Request",
    "Score",
    "Split",
    "SplitSize",
    "Study",
    "fingerprint",
]
