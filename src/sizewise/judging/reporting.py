"""report(): what a round says so far: who is better, how sure, how reliable raters are, what is still missing."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from math import isfinite
from statistics import median

import numpy as np
from scipy.stats import binomtest

from sizewise.errors import SizewiseError
from sizewise.inference import PairedBet, detectable_difference, holm, needed_for, paired_differences, wilson
from sizewise.judging.rounds import REFERENCE, Ballot
from sizewise.judging.votes import SHARES, agree_rows, rank_rows
from sizewise.records import (
    SCALES,
    Agreement,
    Difference,
    JudgeReport,
    JudgeRound,
    JudgeTask,
    Origin,
    PairVerdict,
    RaterQuality,
    Score,
    Vote,
)
from sizewise.store import Store

LEVEL = 0.05
FEW = 10
ROUNDS = 10_000
SIDE_P = 0.01  # of a rater's share of the left side
GOLD_LEAST = 0.7
FAST_S = 1.5
Judged = tuple[JudgeTask, Vote]


def report(round_id: str, *, store: Store | None = None, seed: int = 0) -> JudgeReport:
    """Say what a round says so far.

    Args:
        round_id: id of the round.
        store: where records live; by default SIZEWISE_HOME.
        seed: seed of the resampling.

    Raises:
        SizewiseError: there is no such round, or it has no vote yet.
    """
    store = store or Store()
    ballot = Ballot(store, round_id)
    try:
        judged = [(ballot.tasks[vote.task], vote) for vote in ballot.votes()]
        closed = ballot.closed
    finally:
        ballot.close()
    counted = [(task, vote) for task, vote in judged if task.purpose == "vote" and vote.choice != "skip"]
    if not counted:
        raise SizewiseError(f"{round_id} has no votes yet.", "votes", "send raters their links: sizewise judge open")
    record = ballot.round
    pairs: list[PairVerdict] = []
    ranking = None
    notes: list[str] = []
    if record.kind == "pair":
        pairs = _pairs(counted, list(record.evaluations), seed)
        ranking = rank_rows(_pair_rows(counted), round_id, seed)
    origins = {rater.name: rater.origin for rater in record.raters}
    counts = Counter(origins[vote.rater] for _, vote in counted)
    if counts.keys() - {"person"}:
        notes.append("not people's judgement: votes of simulated raters or models enter no verdict")
    if len({vote.rater for _, vote in counted}) == 1:
        notes.append("one rater only: how far others would agree is not known")
    raters = [_quality(rater.name, rater.origin, judged, ballot.tasks) for rater in record.raters]
    for rater in raters:
        notes += [f"{rater.name}: {warning}" for warning in rater.warnings]
    agreed = _agreement(counted, round_id, seed)
    return JudgeReport(
        round=round_id,
        kind=record.kind,
        origins=dict(counts),
        votes=len(counted),
        open_tasks=sum(len(rater.tasks) for rater in record.raters) - len(judged),
        closed=closed,
        ranking=ranking,
        pairs=tuple(pairs),
        scores=_scores(record.kind, counted, seed),
        by_tag=_by_tag(counted) if record.kind == "pair" else {},
        longer=_longer(counted) if record.kind == "pair" else None,
        agreement=agreed,
        raters=tuple(raters),
        comments=tuple((task.id, vote.rater, vote.comment) for task, vote in judged if vote.comment),
        corrections=sum(bool(vote.correction) for _, vote in judged),
        notes=tuple(notes),
    )


def vote_rows(ballot: Ballot) -> list[dict[str, str]]:
    """Give the votes of a round of pairs as `judge rank` reads them, with the origin of each."""
    origins = {rater.name: rater.origin for rater in ballot.round.raters}
    judged = [(ballot.tasks[vote.task], vote) for vote in ballot.votes()]
    counted = [(task, vote) for task, vote in judged if task.purpose == "vote" and vote.choice in SHARES]
    rows = _pair_rows(counted)
    for row in rows:
        row["origin"] = origins[row["rater"]]
    return rows


def preferences(ballot: Ballot) -> list[dict[str, str]]:
    """Give preference pairs in the form that DPO trainers read; a corrected text is preferred to what it corrects."""
    found = []
    for vote in ballot.votes():
        task = ballot.tasks[vote.task]
        if task.purpose != "vote":
            continue
        texts = {"left": task.left_text, "right": task.right_text}
        if vote.correction:
            worse = texts.get(vote.choice, task.left_text)
            found.append({"prompt": task.prompt, "chosen": vote.correction, "rejected": worse})
        if vote.choice in ("left", "right") and task.right:
            other = "right" if vote.choice == "left" else "left"
            found.append({"prompt": task.prompt, "chosen": texts[vote.choice], "rejected": texts[other]})
    return found


def people_differences(
    record: JudgeRound,
    judged: Sequence[Judged],
    names: Sequence[str],
    seed: int = 0,
    origins: Sequence[Origin] = ("person",),
) -> tuple[dict[str, Score], list[Difference]]:
    """Give people's votes as a measure like the others: win rates, and the difference of each pair.

    A difference is the share of votes won minus the share lost; votes of others than people are left out.

    Args:
        record: a round of pairs.
        judged: its tasks with their votes.
        names: candidates.
        seed: seed of the resampling.
        origins: whose votes count.
    """
    people = {rater.name for rater in record.raters if rater.origin in origins}
    judged = [(task, vote) for task, vote in judged if vote.rater in people]
    counted = [(task, vote) for task, vote in judged if task.purpose == "vote" and vote.choice in SHARES]
    scores = {
        name: _win_rate("people", [(task, vote) for task, vote in counted if name in (task.left, task.right)], name)
        for name in names
    }
    verdicts = _pairs(counted, names, seed)
    adjusted = holm([float("nan") if one.p is None else one.p for one in verdicts])
    found = []
    for one, p_holm in zip(verdicts, adjusted, strict=True):
        rate = one.win_rate
        if rate.value is None:
            continue
        ends = None if rate.low is None or rate.high is None else (2 * rate.low - 1, 2 * rate.high - 1)
        detectable = detectable_difference(*ends) if ends else None
        clusters = len({task.cluster for task, _ in counted if {task.left, task.right} == {one.left, one.right}})
        value = 2 * rate.value - 1
        found.append(
            Difference(
                metric="people",
                left=one.left,
                right=one.right,
                value=value,
                low=ends[0] if ends else None,
                high=ends[1] if ends else None,
                p=one.p,
                p_holm=p_holm if one.p is not None else None,
                detectable=detectable,
                needed=needed_for(value, detectable, clusters) if detectable and value else None,
                n=one.votes,
                clusters=clusters,
                unit="share won - share lost",
                better=one.better,
            )
        )
    return scores, found


def _pair_rows(counted: Sequence[Judged]) -> list[dict[str, str]]:
    return [
        {"left": t.left, "right": t.right, "winner": v.choice, "rater": v.rater, "item": t.item} for t, v in counted
    ]


def _share(task: JudgeTask, vote: Vote, name: str) -> float:
    """Give 1 where this candidate won, 0 where it lost, one half for a tie."""
    share = SHARES[vote.choice]
    return share if task.left == name else 1 - share


def _pairs(counted: Sequence[Judged], names: Sequence[str], seed: int) -> list[PairVerdict]:
    found: list[tuple[str, str, list[float], list[str], float, float, float, float]] = []
    for left, right in combinations(names, 2):
        both = [(task, vote) for task, vote in counted if {task.left, task.right} == {left, right}]
        shares = [_share(task, vote, left) for task, vote in both]
        clusters = [task.cluster for task, _ in both]
        value, low, high, p = float("nan"), float("nan"), float("nan"), float("nan")
        if shares:
            won = np.array([[share, 1.0] for share in shares])
            lost = np.array([[1 - share, 1.0] for share in shares])
            ((interval, p),) = paired_differences(
                [won, lost], [(0, 1)], clusters, lambda s: s[..., 0] / s[..., 1], ROUNDS, seed
            )
            value, low, high = ((one + 1) / 2 for one in interval)
        found.append((left, right, shares, clusters, value, low, high, p))
    adjusted = holm([one[-1] for one in found])
    verdicts = []
    for (left, right, shares, clusters, value, low, high, p), p_holm in zip(found, adjusted, strict=True):
        bet = PairedBet()
        for share in _by_cluster(shares, clusters):
            bet.add([2 * share - 1])
        known = isfinite(low)
        shown = known and isfinite(p_holm) and p_holm < LEVEL and not low <= 0.5 <= high
        decided = bet.p * max(1, len(found)) < LEVEL
        better = None if not shown and not decided else left if value > 0.5 else right
        more = None
        if known and not better and value != 0.5:
            least = detectable_difference(low, high)
            more = max(0, needed_for(value - 0.5, least, len(shares)) - len(shares)) if least else None
        signature = "ties:half|bootstrap:documents"
        verdicts.append(
            PairVerdict(
                left=left,
                right=right,
                votes=len(shares),
                win_rate=Score(
                    metric="win_rate", n=len(shares), unit="share", signature=signature,
                    value=value if shares else None, missing=None if shares else "no votes on this pair",
                    low=low if known else None, high=high if known else None,
                ),
                p=p if isfinite(p) else None,
                p_anytime=bet.p,
                better=better,
                decided=decided,
                more_votes=more,
            )
        )  # fmt: skip
    return verdicts


def _by_cluster(shares: Sequence[float], clusters: Sequence[str]) -> list[float]:
    """Give the mean share of each document in the order of its first vote."""
    sums: dict[str, list[float]] = defaultdict(list)
    for share, cluster in zip(shares, clusters, strict=True):
        sums[cluster].append(share)
    return [sum(some) / len(some) for some in sums.values()]


def _rate(metric: str, right: float, n: int, missing: str) -> Score:
    if n == 0:
        return Score(metric=metric, n=0, unit="share", signature="wilson", missing=missing)
    low, high = wilson(right, n)
    return Score(metric=metric, value=right / n, low=low, high=high, n=n, unit="share", signature="wilson")


def _win_rate(metric: str, judged: Sequence[Judged], name: str) -> Score:
    return _rate(metric, sum(_share(task, vote, name) for task, vote in judged), len(judged), "no votes")


def _quality(name: str, origin: str, judged: Sequence[Judged], tasks: Mapping[str, JudgeTask]) -> RaterQuality:
    own = [(task, vote) for task, vote in judged if vote.rater == name]
    by_task = {vote.task: vote for _, vote in own}
    counted = [(task, vote) for task, vote in own if task.purpose == "vote" and vote.choice != "skip"]
    gold = [vote.choice == task.right_choice for task, vote in own if task.purpose == "gold" and vote.choice != "skip"]
    swapped = {"left": "right", "right": "left"}
    repeats = [
        swapped.get(vote.choice, vote.choice) == by_task[task.repeats].choice
        for task, vote in own
        if task.purpose == "repeat" and task.repeats in by_task
    ]
    decided = [vote.choice for _, vote in own if vote.choice in ("left", "right")]
    left = decided.count("left")
    side_p = float(binomtest(left, len(decided)).pvalue) if decided else None
    seconds = [vote.seconds for _, vote in counted if vote.seconds > 0]
    typical = median(seconds) if seconds else None
    warnings = []
    if side_p is not None and side_p < SIDE_P:
        warnings.append(f"takes the {'left' if 2 * left > len(decided) else 'right'} side far too often")
    if len(gold) >= 3 and sum(gold) / len(gold) < GOLD_LEAST:
        warnings.append(f"took a wrong answer for the right one in {len(gold) - sum(gold)} of {len(gold)} known cases")
    if typical is not None and len(seconds) >= FEW and typical < FAST_S:
        warnings.append(f"takes {typical:.1f} s a vote: too fast to read")
    return RaterQuality(
        name=name,
        origin=origin,
        votes=len(counted),
        skipped=sum(vote.choice == "skip" for _, vote in own),
        gold=_rate("gold", sum(gold), len(gold), "no known cases judged"),
        consistent=_rate("consistent", sum(repeats), len(repeats), "no repeats judged"),
        left=_rate("left_share", left, len(decided), "no decided votes"),
        left_p=side_p,
        median_seconds=typical,
        warnings=tuple(warnings),
    )


def _scores(kind: str, counted: Sequence[Judged], seed: int) -> dict[str, dict[str, Score]]:
    found: dict[str, dict[str, Score]] = {}
    names = list(dict.fromkeys(name for task, _ in counted for name in (task.left, task.right) if name))
    for name in names:
        own = [(task, vote) for task, vote in counted if name in (task.left, task.right)]
        harm = sum(vote.harm for _, vote in own)
        metric = "harm" if kind != "pair" else "harm_in_pair"
        found.setdefault(metric, {})[name] = _rate(metric, harm, len(own), "no votes")
        if kind == "origin":
            taken = sum(vote.choice == "person" for _, vote in own)
            found.setdefault("taken_for_a_person", {})[name] = _rate("taken_for_a_person", taken, len(own), "no votes")
        for scale in SCALES if kind == "rating" else ():
            values = [vote.ratings[scale] for _, vote in own if scale in vote.ratings]
            found.setdefault(scale, {})[name] = _mean(scale, values, seed)
    if kind == "origin" and REFERENCE in names:
        right = sum((vote.choice == "person") == (task.left == REFERENCE) for task, vote in counted)
        found["told_apart"] = {"all": _rate("told_apart", right, len(counted), "no votes")}
    return found


def _mean(name: str, values: Sequence[int], seed: int) -> Score:
    if not values:
        return Score(metric=name, n=0, unit="1 to 5", signature="mean|bootstrap:votes", missing="not rated")
    drawn = np.random.default_rng(seed).choice(np.array(values, dtype=float), (2_000, len(values))).mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975]) if len(values) > 1 else (None, None)
    return Score(
        metric=name, value=float(np.mean(values)), low=None if low is None else float(low),
        high=None if high is None else float(high), n=len(values), unit="1 to 5", signature="mean|bootstrap:votes",
    )  # fmt: skip


def _by_tag(counted: Sequence[Judged]) -> dict[str, dict[str, Score]]:
    tags = Counter(tag for task, _ in counted for tag in task.tags)
    found: dict[str, dict[str, Score]] = {}
    for tag, n in tags.items():
        if n < FEW or n == len(counted):
            continue
        part = [(task, vote) for task, vote in counted if tag in task.tags]
        names = dict.fromkeys(name for task, _ in part for name in (task.left, task.right))
        found[tag] = {
            name: _win_rate("win_rate", [one for one in part if name in (one[0].left, one[0].right)], name)
            for name in names
        }
    return found


def _longer(counted: Sequence[Judged]) -> Score:
    decided = [(task, vote) for task, vote in counted if vote.choice in ("left", "right")]
    decided = [one for one in decided if len(one[0].left_text) != len(one[0].right_text)]
    won = sum((vote.choice == "left") == (len(task.left_text) > len(task.right_text)) for task, vote in decided)
    return _rate("longer_won", won, len(decided), "no decided votes on answers of different length")


def _agreement(counted: Sequence[Judged], source: str, seed: int) -> Agreement | None:
    rows = [{"rater": vote.rater, "item": task.id, "label": vote.choice} for task, vote in counted]
    several = Counter(row["item"] for row in rows)
    if max(several.values()) < 2:
        return None
    return agree_rows(rows, source, "nominal", seed)
