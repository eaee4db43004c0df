"""Compare evaluations pair by pair; no model is loaded."""

from sizewise.comparison.claims import differences
from sizewise.comparison.comparing import compare, measures_of
from sizewise.comparison.decided import CostRules
from sizewise.comparison.decisions import analyze_decisions
from sizewise.comparison.grade_sheet import write_grade_sheet
from sizewise.comparison.history import history
from sizewise.comparison.item_review import analyze_items, review_items
from sizewise.comparison.requiring import (
    Requirement,
    as_junit,
    as_markdown,
    check_expressions,
    check_requirements,
    differences_on_all,
)
from sizewise.comparison.voting import add_votes, rounds_of

__all__ = [
    "CostRules",
    "Requirement",
    "add_votes",
    "analyze_decisions",
    "analyze_items",
    "as_junit",
    "as_markdown",
    "check_expressions",
    "check_requirements",
    "compare",
    "differences",
    "differences_on_all",
    "history",
    "measures_of",
    "review_items",
    "rounds_of",
    "write_grade_sheet",
]
