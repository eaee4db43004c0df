"""Compare evaluations pair by pair; no model is loaded."""

from sizewise.comparison.claims import differences
from sizewise.comparison.comparing import compare, measures_of
from sizewise.comparison.history import history
from sizewise.comparison.item_review import analyze_items, review_items
from sizewise.comparison.requiring import Requirement, as_junit, as_markdown, check_requirements
from sizewise.comparison.voting import add_votes, rounds_of

__all__ = [
    "Requirement",
    "add_votes",
    "analyze_items",
    "as_junit",
    "as_markdown",
    "check_requirements",
    "compare",
    "differences",
    "history",
    "measures_of",
    "review_items",
    "rounds_of",
]
