"""Judge validation: a judge model's votes count only where it agrees with human raters."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from sizewise.judging.pairs import Judged, won_by_longer
from sizewise.metrics.proportion import proportion_score
from sizewise.records import JudgeValidation, Origin, Score
from sizewise.stats import interval

MIN_VOTES = 30
ROUNDS = 10_000
EVEN = ("tie", "both_bad", "none")
SWAPPED = "the other with sides swapped"
"""Beginning of a judge model's comment where it changed its choice after the sides were swapped."""


def validate_judges(
    judged: Sequence[Judged], threshold: float, seed: int = 0, whose: Sequence[Origin] = ("person",)
) -> list[JudgeValidation]:
    """Compute how well each judge model agrees with people, and whether its votes count.

    Agreement is the share of people's votes on the same tasks that made the same choice; ties and "both bad" are one
    choice. The interval resamples source documents. A judge is validated once the lower end of the interval reaches
    the threshold, on 30 votes or more.

    Args:
        judged: tasks of a round with their votes.
        threshold: minimum for the lower end of the interval.
        seed: seed of the resampling.
        whose: origins of the votes that count as people's.
    """
    counted = [(task, vote) for task, vote in judged if task.purpose == "vote" and vote.choice != "skip"]
    people = [(task, vote) for task, vote in counted if vote.origin in whose]
    by_task: dict[str, list[Judged]] = defaultdict(list)
    for task, vote in people:
        by_task[task.id].append((task, vote))
    among = [
        (first[0].cluster, _same(first, second))
        for votes in by_task.values()
        for first, second in combinations(votes, 2)
    ]
    found = []
    for judge in dict.fromkeys(vote.rater for _, vote in counted if vote.origin == "model"):
        votes = [(task, vote) for task, vote in counted if vote.rater == judge]
        found.append(_validate(judge, votes, by_task, among, threshold, seed))
    return found


def _validate(
    judge: str,
    votes: Sequence[Judged],
    people: Mapping[str, Sequence[Judged]],
    among: Sequence[tuple[str, bool]],
    threshold: float,
    seed: int,
) -> JudgeValidation:
    both = [(task.cluster, _same((task, vote), other)) for task, vote in votes for other in people.get(task.id, ())]
    agreement = _share("agreement", both, "no human votes on these tasks", seed)
    consistent = sum(not vote.comment.startswith(SWAPPED) for _, vote in votes)
    if agreement.n < MIN_VOTES:
        validated = False
        reason = f"people cast {agreement.n} votes on its tasks; at least {MIN_VOTES} are needed"
    else:
        ci_low = agreement.ci_low if agreement.ci_low is not None else 0.0
        validated = ci_low >= threshold
        reason = f"lower end of the agreement {ci_low:.2f}, threshold {threshold:.2f}"
    return JudgeValidation(
        judge=judge,
        votes=len(votes),
        agreement=agreement,
        among_people=_share("agreement_among_people", among, "no task was judged by two people", seed),
        consistent=proportion_score("consistent", consistent, len(votes), missing_reason="no votes"),
        longer=won_by_longer(votes),
        threshold=threshold,
        validated=validated,
        reason=reason,
    )


def _same(one: Judged, other: Judged) -> bool:
    first, second = (vote.choice if vote.choice not in EVEN else "even" for _, vote in (one, other))
    return first == second


def _share(metric: str, same: Sequence[tuple[str, bool]], absent: str, seed: int) -> Score:
    """Compute the share of equal choices; the interval resamples source documents."""
    signature = "same choice, even is one choice|bootstrap:documents"
    if not same:
        return Score(metric=metric, n=0, unit="share", signature=signature, missing_reason=absent)
    stats = np.array([[float(one), 1.0] for _, one in same])
    found = interval(stats, [cluster for cluster, _ in same], lambda s: s[..., 0] / s[..., 1], ROUNDS, seed)
    return Score(
        metric=metric,
        value=found.value,
        ci_low=found.ci_low,
        ci_high=found.ci_high,
        n=len(same),
        unit="share",
        signature=signature,
    )
