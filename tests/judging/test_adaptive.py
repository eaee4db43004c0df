"""The next pair to ask: what it depends on, and how many votes it saves."""

from __future__ import annotations

import math
import random
from collections import Counter
from itertools import combinations

import pytest

from sizewise.judging import Ballot, RoundDesign, open_round, report
from sizewise.judging.adaptive import BALANCED_VOTES, PairVotes, most_informative, pair_of
from sizewise.records import JudgeTask, Vote
from sizewise.stats import PairedBet
from sizewise.store import Store

LEVEL = 0.05


def task(number: int, left: str, right: str, replaces: str = "") -> JudgeTask:
    return JudgeTask(
        id=f"t{number}-{left}{right}", item=f"q{number}", cluster=f"d{number}", prompt="?", left=left, right=right,
        left_text=left, right_text=right, replaces=replaces,
    )  # fmt: skip


def votes_until_decided(strength: dict[str, float], items: int, adaptive: bool, seed: int) -> tuple[int, bool]:
    """Vote until one candidate beats all others, and return the votes and whether the test found any difference."""
    rng = random.Random(seed)
    names = sorted(strength)
    pairs = list(combinations(names, 2))
    counts: dict[tuple[str, str], PairVotes] = {}
    bets = {pair: PairedBet() for pair in pairs}
    lead: Counter[tuple[str, str]] = Counter()
    for number in range(items):
        options = [task(number, *pair) for pair in pairs]
        options = options[number % len(pairs) :] + options[: number % len(pairs)]
        asked = pair_of(most_informative(options, counts) if adaptive else options[0])
        won = rng.random() < 1 / (1 + math.exp(strength[asked[1]] - strength[asked[0]]))
        counts.setdefault(asked, PairVotes()).add(float(won))
        bets[asked].add([2.0 * won - 1])
        lead[asked] += 1 if won else -1
        for name in names:
            mine = [pair for pair in pairs if name in pair]
            if all(
                bets[pair].p * len(pairs) < LEVEL and (lead[pair] > 0) == (pair[0] == name) and lead[pair]
                for pair in mine
            ):
                return number + 1, True
    return items, any(bet.p * len(pairs) < LEVEL for bet in bets.values())


def test_pairs_are_balanced_before_results_count() -> None:
    options = [task(i, *pair) for i, pair in enumerate(combinations("abc", 2))]
    counts: dict[tuple[str, str], PairVotes] = {}
    for _ in range(3 * BALANCED_VOTES):
        asked = pair_of(most_informative(options, counts))
        counts.setdefault(asked, PairVotes()).add(1.0)
    assert {count.votes for count in counts.values()} == {BALANCED_VOTES}


def test_near_ties_with_the_leader_come_before_clear_losers() -> None:
    counts = {pair: PairVotes() for pair in combinations("abc", 2)}
    for i in range(BALANCED_VOTES):
        counts["a", "b"].add(float(i % 2))
        counts["a", "c"].add(1.0)
        counts["b", "c"].add(0.9)
    options = [task(0, "b", "c"), task(1, "c", "a"), task(2, "b", "a")]
    assert most_informative(options, counts).id == "t2-ba"


def test_asking_what_tells_most_saves_votes_and_raises_no_false_alarms() -> None:
    strength = {"a": 2.2, "b": 1.0, "c": 0.2, "d": -0.5, "e": -1.5}
    fixed = [votes_until_decided(strength, 600, False, seed)[0] for seed in range(20)]
    adaptive = [votes_until_decided(strength, 600, True, seed)[0] for seed in range(20)]
    assert sum(adaptive) < 0.7 * sum(fixed)
    equal = dict.fromkeys("abcd", 0.0)
    assert sum(votes_until_decided(equal, 200, True, seed)[1] for seed in range(40)) <= 5  # 2 expected at most


def test_an_adaptive_round_asks_one_pair_per_example_and_makes_anytime_valid_claims(
    compared: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_of: list[bool] = []  # whether judges are tested as if the votes were read once
    monkeypatch.setattr(
        "sizewise.judging.reporting.validate_judges", lambda *_, closed, **__: asked_of.append(closed) or []
    )
    design = RoundDesign(raters=["a", "b"], votes_per_item=2, items=45, adaptive=True)
    opened = open_round([compared], design, store=store)
    ballot = Ballot(store, opened.stored.id)
    strength = {"right": 2, "half": 1}
    queue = [ballot.rater(invitation.token) for invitation in opened.invitations]
    items: dict[str, list[str]] = {rater.name: [] for rater in queue}
    while queue:
        rater = queue.pop(0)
        if (asked := ballot.next_task(rater)) is None:
            continue
        assert ballot.next_task(rater) == asked
        if asked.purpose == "vote":
            items[rater.name].append(asked.item)
        better = strength.get(asked.left, 0) > strength.get(asked.right, 0)
        ballot.vote(
            rater,
            Vote(task=asked.id, rater=rater.name, origin="person", choice="left" if better else "right"),
            f"n{asked.id}",
        )
        queue.append(rater)
    for name, seen in items.items():
        assert len(seen) == len(set(seen)), name
    assert set(items["a"]) == set(items["b"])
    found = report(opened.stored.id, store=store)
    assert found.open_tasks == 0
    assert found.agreement is not None
    counts = {(pair.left, pair.right): pair.votes for pair in found.pairs}
    assert min(counts.values()) >= BALANCED_VOTES
    assert any("only anytime-valid" in note for note in found.notes)
    ballot.close_votes()
    assert ballot.sample_fixed == (max(counts.values()) <= BALANCED_VOTES)
    ballot.close()
    closed = report(opened.stored.id, store=store)
    assert closed.closed
    assert asked_of == [False, False]
    assert all(pair.p is None for pair in closed.pairs)
    assert any("although the round is closed" in note for note in closed.notes)
    # Everything in the report is read as long as votes come in, or results choose the pairs.
    for read in (found, closed):
        assert read.ranking is not None
        assert read.agreement is not None
        scores = [row.win_rate for row in read.ranking.table] + [row.score for row in read.ranking.table]
        scores += [read.ranking.left_share, *(rater.left for rater in read.raters)]
        scores += [score for by_name in read.scores.values() for score in by_name.values() if score.value is not None]
        assert all("anytime-valid" in score.signature for score in scores)
        assert any("hold for one look only" in note for note in read.agreement.notes)
