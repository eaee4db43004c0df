"""Identical answers: pairs that need no vote, and how they count."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sizewise.records import JudgeRound, PairVerdict, Score


def with_identical(pairs: Iterable[PairVerdict], record: JudgeRound) -> Iterator[PairVerdict]:
    """Add to each pair its identical answers, and the win rate over all drawn examples.

    Two answers with the same text are a tie without being asked, and a tie counts as one half. With a share s of
    identical answers and a win rate w on the others, the win rate over all examples is s / 2 + (1 - s) w. The ends of
    the interval follow the same line, for the examples of this round. Tests and p-values cover the answers that differ:
    identical ones say nothing about who is preferred.
    """
    same = {frozenset((left, right)): count for left, right, count in record.same}
    both = {frozenset((left, right)): count for left, right, count in record.both_answered}
    for pair in pairs:
        names = frozenset((pair.left, pair.right))
        count = same.get(names, 0)
        if not count or names not in both:
            yield pair.model_copy(update={"identical": count})
            continue
        yield pair.model_copy(
            update={"identical": count, "with_identical": _mixed(pair.win_rate, count / both[names], both[names])}
        )


def _mixed(rate: Score, share: float, examples: int) -> Score:
    value, ci_low, ci_high = (
        None if end is None else share / 2 + (1 - share) * end for end in (rate.value, rate.ci_low, rate.ci_high)
    )
    return Score(
        metric="win_rate_with_identical",
        value=value,
        ci_low=ci_low,
        ci_high=ci_high,
        n=examples,
        unit="share",
        signature=f"{rate.signature}|identical answers:half",
        clusters=rate.clusters,
        missing_reason=rate.missing_reason,
    )


def identical_notes(record: JudgeRound) -> list[str]:
    """State the rule for identical answers, if there are any."""
    total = sum(count for *_, count in record.same)
    if not total:
        return []
    return [
        f"identical answers were not asked ({total:,} pairs of answers). They are ties: each counts as one half in the "
        "win rate over all examples; the other win rates and all tests cover answers that differ"
    ]
