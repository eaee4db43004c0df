"""decide(): the recommendation as a pure function of a comparison and needs."""

from __future__ import annotations

from sizewise.choice.costing import break_even
from sizewise.choice.evidence import Choice
from sizewise.choice.monthly import added_costs, monthly_savings
from sizewise.choice.reasons import reasons_for
from sizewise.choice.regret import estimate_regret
from sizewise.choice.sensitivity import sensitivity_of
from sizewise.choice.summary import summarize
from sizewise.choice.verdicts import decide_verdict
from sizewise.records import BreakEven, Comparison, Needs, Recommendation

DECISION_VERSION = 11
"""Raised when the rules or the wording of a decision change; part of the id of a recommendation."""


def decide(comparison: Comparison, comparison_id: str, needs: Needs) -> Recommendation:
    """Recommend a model; pure.

    Args:
        comparison: the evidence.
        comparison_id: its id.
        needs: the requirements.

    Raises:
        UsageError: the quality metric wasn't measured, or can't rank candidates.
    """
    choice = Choice(comparison, needs, comparison_id)
    verdict = decide_verdict(choice)
    probability_best, regret = estimate_regret(choice, verdict.eligible, verdict.pick or verdict.provisional)
    break_evens = _break_evens(choice)
    named = (verdict.pick, None if verdict.unverified else verdict.provisional)
    return Recommendation(
        method_version=DECISION_VERSION,
        comparison=comparison_id,
        needs=needs,
        quality=choice.quality,
        outcome=verdict.outcome,
        pick=verdict.pick,
        provisional=verdict.provisional,
        decisive=verdict.decisive,
        summary=summarize(choice, verdict),
        reasons=tuple(reasons_for(choice, verdict, regret)),
        rejected={name: reason for name, reason in choice.rejected.items() if name not in named},
        sensitivity=tuple(sensitivity_of(choice, verdict, break_evens)),
        costs=tuple(choice.cost(name) for name in choice.names),
        break_even=tuple(break_evens),
        savings=tuple(monthly_savings(choice)),
        probability_best=probability_best,
        expected_regret=regret,
    )


def _break_evens(choice: Choice) -> list[BreakEven]:
    paid = [name for name in choice.names if choice.value("usd_per_1000", name)]
    self_hosted = [name for name in choice.names if name not in paid]
    found = [
        break_even(choice.comparison, own, other, choice.needs, added_costs(choice, own, other))
        for own in self_hosted
        for other in paid
    ]
    return [pair for pair in found if pair is not None]
