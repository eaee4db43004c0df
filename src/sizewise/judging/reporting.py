"""report(): what a round says so far: who is better, how sure, how reliable raters are, what is still missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median

import numpy as np
from scipy.stats import binomtest

from sizewise.errors import SizewiseError
from sizewise.judging.ballot import Ballot
from sizewise.judging.judge_validation import validate_judges
from sizewise.judging.pairs import Judged, as_pairs, pair_rows, pair_verdicts, rate, win_rate, won_by_longer
from sizewise.judging.rounds import REFERENCE
from sizewise.judging.votes import agree_rows, rank_rows
from sizewise.records import (
    SCALES,
    Agreement,
    Difference,
    JudgeReport,
    JudgeTask,
    PairVerdict,
    RaterQuality,
    Score,
)
from sizewise.stats import MIN_CLUSTERS, detectable_difference, holm, needed_for
from sizewise.store import Store

FEW = 10
SIDE_P = 0.01  # of a rater's share of the left side
GOLD_LEAST = 0.7
FAST_S = 1.5


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
    judges = validate_judges(judged, record.min_agreement, seed)
    every, counted = counted, [one for one in counted if one[1].origin != "model"] or counted
    compared = list(as_pairs(counted)) if record.kind in ("pair", "best") else []
    if compared:
        pairs = pair_verdicts(compared, list(record.evaluations), seed, closed)
        ranking = rank_rows(pair_rows(compared), round_id, seed)
        if (documents := len({task.cluster for task, _ in compared})) < MIN_CLUSTERS:
            notes.append(f"nobody is preferred: {documents} source documents are too few, {MIN_CLUSTERS} are needed")
    counts = Counter(vote.origin for _, vote in every)
    if counts["simulated"] or not counts["person"]:
        notes.append(
            "not people's judgement: such votes enter no verdict, but that of a study that says it is a simulation"
        )
    elif counts["model"]:
        notes.append("tables and ranking hold people's votes; those of judge models stand apart")
    if record.kind == "best":
        notes.append(
            "the best of several counts as the pairs that it won; their votes are not independent of each other"
        )
    if len({vote.rater for _, vote in counted}) == 1:
        notes.append("one rater only: how far others would agree is not known")
    raters = [_quality(rater.name, rater.origin, judged, ballot.tasks) for rater in ballot.raters.values()]
    for rater in raters:
        notes += [f"{rater.name}: {warning}" for warning in rater.warnings]
    agreed = _agreement(counted, round_id, seed)
    return JudgeReport(
        round=round_id,
        kind=record.kind,
        origins=dict(counts),
        votes=len(counted),
        open_tasks=sum(len(rater.tasks) for rater in ballot.raters.values()) - len(judged),
        closed=closed,
        ranking=ranking,
        pairs=tuple(pairs),
        scores=_scores(record.kind, counted, seed),
        by_tag=_by_tag(compared),
        longer=won_by_longer(compared) if compared else None,
        agreement=agreed,
        raters=tuple(raters),
        judges=tuple(judges),
        comments=tuple((task.id, vote.rater, vote.comment) for task, vote in judged if vote.comment),
        corrections=sum(bool(vote.correction) for _, vote in judged),
        notes=tuple(notes),
    )


def vote_rows(ballot: Ballot) -> list[dict[str, str]]:
    """Give the votes of a round of pairs as `judge rank` reads them, with the origin of each."""
    counted = _compared([(ballot.tasks[vote.task], vote) for vote in ballot.votes()])
    return [row | {"origin": vote.origin} for row, (_, vote) in zip(pair_rows(counted), counted, strict=True)]


def _compared(judged: Sequence[Judged]) -> list[Judged]:
    """Give votes that compare candidates, as pairs."""
    kept = [(task, vote) for task, vote in judged if task.purpose == "vote" and task.right and vote.choice != "skip"]
    return list(as_pairs(kept))


def preferences(ballot: Ballot) -> list[dict[str, str]]:
    """Give preference pairs in the form that DPO trainers read; a corrected text is preferred to what it corrects."""
    found = []
    for vote in ballot.votes():
        task = ballot.tasks[vote.task]
        if task.purpose != "vote":
            continue
        texts = dict(task.answers)
        best = texts.get(task.winner(vote.choice))
        if vote.correction:
            worse = task.left_text if best is None else best
            found.append({"prompt": task.prompt, "chosen": vote.correction, "rejected": worse})
        if best is not None:
            worse_ones = (text for name, text in task.answers if name != task.winner(vote.choice))
            found += [{"prompt": task.prompt, "chosen": best, "rejected": text} for text in worse_ones]
    return found


def vote_differences(
    judged: Sequence[Judged], names: Sequence[str], metric: str = "people", seed: int = 0, closed: bool = False
) -> tuple[dict[str, Score], list[Difference]]:
    """Give votes as a measure like the others: win rates, and the difference of each pair.

    A difference is the share of votes won minus the share lost.

    Args:
        judged: tasks of a round that compares candidates, with the votes that are to count.
        names: candidates.
        metric: name of the measure.
        seed: seed of the resampling.
        closed: whether no more votes will come; until then p-values are those that are valid at any moment.
    """
    counted = _compared(judged)
    scores = {
        name: win_rate(metric, [(task, vote) for task, vote in counted if name in (task.left, task.right)], name)
        for name in names
    }
    verdicts = pair_verdicts(counted, names, seed, closed)
    p_values = [one.p if closed else one.p_anytime if one.votes else None for one in verdicts]
    adjusted = holm([float("nan") if p is None else p for p in p_values])
    found = []
    for one, p, p_holm in zip(verdicts, p_values, adjusted, strict=True):
        rate = one.win_rate
        if rate.value is None:
            continue
        value = 2 * rate.value - 1
        ends = None if rate.ci_low is None or rate.ci_high is None else (2 * rate.ci_low - 1, 2 * rate.ci_high - 1)
        clusters = len({task.cluster for task, _ in counted if {task.left, task.right} == {one.left, one.right}})
        enough = clusters >= MIN_CLUSTERS
        detectable = detectable_difference(*ends) if ends and enough else None
        needed = needed_for(value, detectable, clusters) if detectable and value else None
        found.append(
            Difference(
                metric=metric,
                left=one.left,
                right=one.right,
                value=value,
                ci_low=ends[0] if ends else None,
                ci_high=ends[1] if ends else None,
                p=p,
                p_holm=p_holm if p is not None else None,
                detectable=detectable,
                needed=needed if enough else MIN_CLUSTERS,
                n=one.votes,
                clusters=clusters,
                unit="share won - share lost",
                better=one.better,
            )
        )
    return scores, found


def _quality(name: str, origin: str, judged: Sequence[Judged], tasks: Mapping[str, JudgeTask]) -> RaterQuality:
    own = [(task, vote) for task, vote in judged if vote.rater == name]
    by_task = {vote.task: vote for _, vote in own}
    counted = [(task, vote) for task, vote in own if task.purpose == "vote" and vote.choice != "skip"]
    gold = [vote.choice == task.right_choice for task, vote in own if task.purpose == "gold" and vote.choice != "skip"]
    repeats = [
        task.winner(vote.choice) == tasks[task.repeats].winner(by_task[task.repeats].choice)
        for task, vote in own
        if task.purpose == "repeat" and task.repeats in by_task
    ]
    places = [task.choices("best").index(vote.choice) for task, vote in own if vote.choice.isdigit()]
    places += [("left", "right").index(vote.choice) for _, vote in own if vote.choice in ("left", "right")]
    shown = max((len(task.answers) for task, _ in own), default=2)
    left = places.count(0)
    side_p = float(binomtest(left, len(places), 1 / shown).pvalue) if places and shown > 1 else None
    seconds = [vote.seconds for _, vote in counted if vote.seconds > 0]
    typical = median(seconds) if seconds else None
    warnings = []
    if side_p is not None and side_p < SIDE_P:
        often = left * shown > len(places)
        side = ("left side", "right side")[not often] if shown == 2 else ("first", "later ones")[not often]
        warnings.append(f"takes the {side} far too often")
    if len(gold) >= 3 and sum(gold) / len(gold) < GOLD_LEAST:
        warnings.append(f"took a wrong answer for the right one in {len(gold) - sum(gold)} of {len(gold)} known cases")
    if typical is not None and len(seconds) >= FEW and typical < FAST_S:
        warnings.append(f"takes {typical:.1f} s a vote: too fast to read")
    return RaterQuality(
        name=name,
        origin=origin,
        votes=len(counted),
        skipped=sum(vote.choice == "skip" for _, vote in own),
        gold=rate("gold", sum(gold), len(gold), "no known cases judged"),
        consistent=rate("consistent", sum(repeats), len(repeats), "no repeats judged"),
        left=rate("left_share", left, len(places), "no decided votes"),
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
        found.setdefault(metric, {})[name] = rate(metric, harm, len(own), "no votes")
        if kind == "origin":
            taken = sum(vote.choice == "person" for _, vote in own)
            found.setdefault("taken_for_a_person", {})[name] = rate("taken_for_a_person", taken, len(own), "no votes")
        for scale in SCALES if kind == "rating" else ():
            values = [vote.ratings[scale] for _, vote in own if scale in vote.ratings]
            found.setdefault(scale, {})[name] = _mean(scale, values, seed)
    if kind == "origin" and REFERENCE in names:
        right = sum((vote.choice == "person") == (task.left == REFERENCE) for task, vote in counted)
        found["told_apart"] = {"all": rate("told_apart", right, len(counted), "no votes")}
    return found


def _mean(name: str, values: Sequence[int], seed: int) -> Score:
    if not values:
        return Score(metric=name, n=0, unit="1 to 5", signature="mean|bootstrap:votes", missing_reason="not rated")
    drawn = np.random.default_rng(seed).choice(np.array(values, dtype=float), (2_000, len(values))).mean(axis=1)
    ci_low, ci_high = np.quantile(drawn, [0.025, 0.975]) if len(values) > 1 else (None, None)
    return Score(
        metric=name, value=float(np.mean(values)), ci_low=None if ci_low is None else float(ci_low),
        ci_high=None if ci_high is None else float(ci_high), n=len(values), unit="1 to 5", signature="mean|bootstrap:votes",
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
            name: win_rate("win_rate", [one for one in part if name in (one[0].left, one[0].right)], name)
            for name in names
        }
    return found


def _agreement(counted: Sequence[Judged], source: str, seed: int) -> Agreement | None:
    rows = [{"rater": vote.rater, "item": task.id, "label": vote.choice} for task, vote in counted]
    several = Counter(row["item"] for row in rows)
    if max(several.values()) < 2:
        return None
    return agree_rows(rows, source, "nominal", seed)
