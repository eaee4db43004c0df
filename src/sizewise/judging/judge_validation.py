"""Whether the votes of a judge model count: only as far as it says what people say."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from sizewise.judging.pairs import Judged, rate, won_by_longer
from sizewise.records import JudgeValidation, Origin, Score
from sizewise.stats import interval

LEAST_VOTES = 30
ROUNDS = 10_000
EVEN = ("tie", "both_bad", "none")
SWAPPED = "the other with sides swapped"
"""Beginning of the comment of a judge model that does not stand by its choice."""


def validate_judges(
    judged: Sequence[Judged], bar: float, seed: int = 0, whose: Sequence[Origin] = ("person",)
) -> list[JudgeValidation]:
    """Say of each judge model how far it agrees with people, and whether its votes count.

    Agreement is the share of people's votes on the same tasks that chose the same, a tie and both bad being one choice;
    the interval resamples source documents. It counts once the lower end reaches the bar on 30 votes or more.

    Args:
        judged: tasks of a round with their votes.
        bar: what the lower end must reach.
        seed: seed of the resampling.
        whose: votes that stand as people's.
    """
    counted = [(task, vote) for task, vote in judged if task.purpose == "vote" and vote.choice != "skip"]
    people = [(task, vote) for task, vote in counted if vote.origin in whose]
    by_task: dict[str, list[Judged]] = defaultdict(list)
    for task, vote in people:
        by_task[task.id].append((task, vote))
    among = [(one[0].cluster, _same(one, other)) for votes in by_task.values() for one, other in combinations(votes, 2)]
    found = []
    for judge in dict.fromkeys(vote.rater for _, vote in counted if vote.origin == "model"):
        own = [(task, vote) for task, vote in counted if vote.rater == judge]
        found.append(_licence(judge, own, by_task, among, bar, seed))
    return found


def _licence(
    judge: str,
    own: Sequence[Judged],
    people: Mapping[str, Sequence[Judged]],
    among: Sequence[tuple[str, bool]],
    bar: float,
    seed: int,
) -> JudgeValidation:
    both = [(task.cluster, _same((task, vote), other)) for task, vote in own for other in people.get(task.id, ())]
    agreement = _share("agreement", both, "no task was judged by a person too", seed)
    stood = sum(not vote.comment.startswith(SWAPPED) for _, vote in own)
    if agreement.n < LEAST_VOTES:
        validated, reason = False, f"{agreement.n} votes of people on its tasks; {LEAST_VOTES} are needed"
    else:
        ci_low = agreement.ci_low if agreement.ci_low is not None else 0.0
        validated = ci_low >= bar
        reason = f"lower end of agreement {ci_low:.2f}, bar {bar:.2f}"
    return JudgeValidation(
        judge=judge,
        votes=len(own),
        agreement=agreement,
        among_people=_share("agreement_among_people", among, "no task was judged by two people", seed),
        consistent=rate("consistent", stood, len(own), "no votes"),
        longer=won_by_longer(own),
        threshold=bar,
        validated=validated,
        reason=reason,
    )


def _same(one: Judged, other: Judged) -> bool:
    first, second = (vote.choice if vote.choice not in EVEN else "even" for _, vote in (one, other))
    return first == second


def _share(metric: str, same: Sequence[tuple[str, bool]], missing: str, seed: int) -> Score:
    signature = "same choice, even is one choice|bootstrap:documents"
    if not same:
        return Score(metric=metric, n=0, unit="share", signature=signature, missing_reason=missing)
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
