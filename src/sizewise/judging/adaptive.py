"""The next pair to ask: balanced at first, then the pair that tells most about which candidate is best."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import sqrt

from sizewise.judging.pairs import share_of
from sizewise.records import CHOICES, JudgeTask, Vote
from sizewise.stats import LEVEL, PairedBet

BALANCED_VOTES = 20  # on every pair before results decide which one is asked; a verdict needs as many
PRIOR_VOTES = 2.0  # ties added to each pair, so that one vote isn't a certainty
Pair = tuple[str, str]
"""Two candidates in alphabetical order."""


class PairVotes:
    """Votes on a pair so far."""

    def __init__(self) -> None:
        self.votes, self._won, self._bet = 0, 0.0, PairedBet()

    def add(self, share: float) -> None:
        """Add a vote: 1 if the first candidate of the pair won, 0 if it lost, 0.5 for a tie."""
        self.votes += 1
        self._won += share
        self._bet.add([2 * share - 1])

    @property
    def rate(self) -> float:
        """Win rate of the first candidate, shrunk towards one half."""
        return (self._won + PRIOR_VOTES / 2) / (self.votes + PRIOR_VOTES)

    @property
    def gain(self) -> float:
        """Expected reduction of the standard error of the win rate by one more vote."""
        variance = self.rate * (1 - self.rate)
        return sqrt(variance / self.votes) - sqrt(variance / (self.votes + 1))

    def is_decided(self, claims: int) -> bool:
        """Check whether an anytime-valid test, corrected for the number of claims, finds a difference."""
        return self._bet.p * claims < LEVEL


def pair_of(task: JudgeTask) -> Pair:
    """Return the two candidates of a task in alphabetical order."""
    return (task.left, task.right) if task.left < task.right else (task.right, task.left)


def count_pairs(judged: Iterable[tuple[JudgeTask, Vote]]) -> dict[Pair, PairVotes]:
    """Count the votes of people (or simulated raters) on each pair; gold tasks, repeats and skips are left out."""
    found: dict[Pair, PairVotes] = {}
    for task, vote in judged:
        if task.purpose == "vote" and vote.origin != "model" and vote.choice in CHOICES["pair"]:
            pair = pair_of(task)
            found.setdefault(pair, PairVotes()).add(share_of(task, vote, pair[0]))
    return found


def most_informative(waiting: Sequence[JudgeTask], counts: dict[Pair, PairVotes]) -> JudgeTask:
    """Choose the next task of a rater from those that wait, in their random order.

    While a waiting pair has fewer than BALANCED_VOTES votes, the pair with the fewest comes next. Afterwards the pairs
    of the leader (the highest average win rate) with rivals that are not yet decided come first: only they can change
    which candidate is best. Of these the pair comes next whose vote reduces the standard error of its win rate most,
    sqrt(v / n) - sqrt(v / (n + 1)) (active sampling of Chatbot Arena: Chiang et al. 2024, arXiv:2403.04132, section 5).
    Clear losers are soon decided, and near-ties with the leader get the remaining votes.

    The choice depends on earlier votes only, and within a pair the random order of the examples stays. So given what
    came before, a vote on equal candidates is as likely to go either way, and that is all an anytime-valid test needs.

    Args:
        waiting: tasks of the purpose "vote", at least one.
        counts: votes on each pair so far.
    """
    pairs = list(dict.fromkeys(map(pair_of, waiting)))
    best = min(pairs, key=lambda pair: counts[pair].votes if pair in counts else 0)
    if best in counts and counts[best].votes >= BALANCED_VOTES:
        leader = _leader(counts)
        rivals = [pair for pair in pairs if leader in pair and not counts[pair].is_decided(len(counts))]
        best = max(rivals or pairs, key=lambda pair: counts[pair].gain)
    return next(task for task in waiting if pair_of(task) == best)


def is_balancing(counts: dict[Pair, PairVotes]) -> bool:
    """Check whether the number of votes alone, not their results, chose every pair so far."""
    return all(count.votes <= BALANCED_VOTES for count in counts.values())


def _leader(counts: dict[Pair, PairVotes]) -> str:
    rates: dict[str, list[float]] = {}
    for (first, second), count in counts.items():
        rates.setdefault(first, []).append(count.rate)
        rates.setdefault(second, []).append(1 - count.rate)
    return max(rates, key=lambda name: sum(rates[name]) / len(rates[name]))
