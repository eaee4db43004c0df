"""The next pair to ask: balanced at first, then the pair that tells most about which candidate is best."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import sqrt
from typing import NamedTuple

from scipy.stats import norm

from sizewise.judging.pairs import share_of
from sizewise.records import CHOICES, JudgeTask, Vote
from sizewise.stats import MIN_CLUSTERS

BALANCED_VOTES = MIN_CLUSTERS  # on every pair, before results decide which one is asked
PRIOR_VOTES = 2.0  # ties added to each pair, so that one vote isn't a certainty


class PairCount(NamedTuple):
    """Votes on a pair so far."""

    votes: int
    """Number of votes."""
    won: float
    """Votes that the first candidate of the pair (in alphabetical order) won; a tie counts as one half."""

    @property
    def rate(self) -> float:
        """Win rate, shrunk towards one half."""
        return (self.won + PRIOR_VOTES / 2) / (self.votes + PRIOR_VOTES)

    @property
    def variance(self) -> float:
        """Largest variance of one vote at this win rate."""
        return self.rate * (1 - self.rate)


def pair_of(task: JudgeTask) -> tuple[str, str]:
    """Return the two candidates of a task in alphabetical order."""
    return (task.left, task.right) if task.left < task.right else (task.right, task.left)


def count_pairs(judged: Iterable[tuple[JudgeTask, Vote]]) -> dict[tuple[str, str], PairCount]:
    """Count the votes of people (or simulated raters) on each pair; gold tasks, repeats and skips are left out."""
    found: dict[tuple[str, str], PairCount] = {}
    for task, vote in judged:
        if task.purpose != "vote" or vote.origin == "model" or vote.choice not in CHOICES["pair"]:
            continue
        pair = pair_of(task)
        before = found.get(pair, PairCount(0, 0.0))
        found[pair] = PairCount(before.votes + 1, before.won + share_of(task, vote, pair[0]))
    return found


def most_informative(waiting: Sequence[JudgeTask], counts: dict[tuple[str, str], PairCount]) -> JudgeTask:
    """Choose the next task of a rater from those that wait, in their random order.

    While a waiting pair has fewer than BALANCED_VOTES votes, the pair with the fewest comes next. Afterwards the pair
    comes next whose vote is expected to reduce the standard error of its win rate most, sqrt(v / n) - sqrt(v / (n + 1))
    (active sampling of Chatbot Arena: Chiang et al. 2024, arXiv:2403.04132, section 5), times the probability that each
    of its candidates is as good as the one with the highest average win rate: near-ties among the leaders come first.
    The choice depends on earlier votes only, and within a pair the random order of the examples stays. So given what
    came before, a vote on equal candidates is as likely to go either way, and that is all an anytime-valid test needs.

    Args:
        waiting: tasks of the purpose "vote", at least one.
        counts: votes on each pair so far.
    """
    pairs = list(dict.fromkeys(map(pair_of, waiting)))
    fewest = min(pairs, key=lambda pair: counts[pair].votes if pair in counts else 0)
    if fewest not in counts or counts[fewest].votes < BALANCED_VOTES:
        best = fewest
    else:
        contention = _contention(counts)
        best = max(pairs, key=lambda pair: _gain(counts[pair]) * contention[pair[0]] * contention[pair[1]])
    return next(task for task in waiting if pair_of(task) == best)


def _gain(count: PairCount) -> float:
    return sqrt(count.variance / count.votes) - sqrt(count.variance / (count.votes + 1))


def _contention(counts: dict[tuple[str, str], PairCount]) -> dict[str, float]:
    """Return for each candidate the probability that its average win rate is as high as the leader's; 1 for the leader.

    The two averages are taken as independent and normal.
    """
    rates: dict[str, list[float]] = {}
    variances: dict[str, list[float]] = {}
    for pair, count in counts.items():
        for name, rate in zip(pair, (count.rate, 1 - count.rate), strict=True):
            rates.setdefault(name, []).append(rate)
            variances.setdefault(name, []).append(count.variance / (count.votes + PRIOR_VOTES))
    means = {name: sum(found) / len(found) for name, found in rates.items()}
    errors = {name: sum(found) / len(found) ** 2 for name, found in variances.items()}
    leader = max(means, key=lambda name: means[name])
    gaps = {name: (means[leader] - mean) / sqrt(errors[leader] + errors[name]) for name, mean in means.items()}
    return {name: 1.0 if name == leader else float(norm.sf(gap)) for name, gap in gaps.items()}
