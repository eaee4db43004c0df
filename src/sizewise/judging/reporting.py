"""report(): the state of a round: preferences and their certainty, the raters' reliability, and missing votes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median

import numpy as np
from scipy.stats import binomtest

from sizewise.errors import SizewiseError
from sizewise.judging.ballot import Ballot
from sizewise.judging.gold import REFERENCE
from sizewise.judging.harm import count_reasons, harm_outcomes
from sizewise.judging.identical import identical_notes, with_identical
from sizewise.judging.judge_validation import validate_judges
from sizewise.judging.pairs import Judged, as_pairs, pair_rows, pair_verdicts, win_rate, won_by_longer
from sizewise.judging.votes import agree_rows, rank_rows
from sizewise.metrics.proportion import proportion_score
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
)
from sizewise.stats import MIN_CLUSTERS, detectable_difference, holm, needed_for
from sizewise.store import Store

FEW = 10
SIDE_P = 0.01  # p-value below which a rater's share of left choices counts as a position bias
MIN_GOLD = 0.7  # share of gold tasks that a rater should get right
FAST_S = 1.5  # a median below this is too fast to have read the answers


def report(round_id: str, *, store: Store | None = None, seed: int = 0) -> JudgeReport:
    """Summarize the votes of a round so far.

    Args:
        round_id: id of the round.
        store: where records live; by default SIZEWISE_HOME.
        seed: seed of the resampling.

    Raises:
        SizewiseError: the round doesn't exist, or has no votes yet.
    """
    store = store or Store()
    ballot = Ballot(store, round_id)
    try:
        judged = [(ballot.tasks[vote.task], vote) for vote in ballot.votes()]
        closed, fixed = ballot.closed, ballot.sample_fixed
    finally:
        ballot.close()
    every = [(task, vote) for task, vote in judged if task.purpose == "vote" and vote.choice != "skip"]
    if not every:
        raise SizewiseError(
            f"{round_id} has no votes yet.", "at least one vote", "send raters their links: sizewise judge open"
        )
    record = ballot.round
    counted = [(task, vote) for task, vote in every if vote.origin != "model"] or every
    compared = list(as_pairs(counted)) if record.kind in ("pair", "best") else []
    origins = Counter(vote.origin for _, vote in every)
    raters = [_quality(rater.name, rater.origin, judged, ballot.tasks) for rater in ballot.raters.values()]
    notes = _notes(record, origins, counted, compared)
    notes += [*_reading_notes(closed, fixed), *identical_notes(record), *record.notes]
    notes += [f"{rater.name}: {warning}" for rater in raters for warning in rater.warnings]
    return JudgeReport(
        round=round_id,
        kind=record.kind,
        origins=dict(origins),
        votes=len(counted),
        open_tasks=sum(len(rater.tasks) for rater in ballot.raters.values()) - len(judged),
        closed=closed,
        ranking=rank_rows(pair_rows(compared), round_id, seed) if compared else None,
        pairs=tuple(with_identical(pair_verdicts(compared, list(record.evaluations), seed, fixed), record))
        if compared
        else (),
        scores=_scores(record, counted, seed),
        by_tag=_by_tag(compared),
        longer=won_by_longer(compared) if compared else None,
        agreement=_agreement(counted, round_id, seed),
        raters=tuple(raters),
        judges=tuple(validate_judges(judged, record.min_agreement, seed)),
        comments=tuple((task.id, vote.rater, vote.comment) for task, vote in judged if vote.comment),
        reasons=count_reasons(counted),
        corrections=sum(bool(vote.correction) for _, vote in judged),
        notes=tuple(notes),
    )


def _notes(
    record: JudgeRound, origins: Mapping[Origin, int], counted: Sequence[Judged], compared: Sequence[Judged]
) -> list[str]:
    """List caveats about the votes for readers of the report."""
    notes = []
    if compared and (documents := len({task.cluster for task, _ in compared})) < MIN_CLUSTERS:
        notes.append(
            f"no candidate is preferred: the votes cover {documents} source documents, and at least {MIN_CLUSTERS} "
            "are needed"
        )
    if origins.get("simulated") or not origins.get("person"):
        notes.append(
            "these votes don't come from people, so they affect no verdict except in a study marked as a simulation"
        )
    elif origins.get("model"):
        notes.append("tables and ranking show people's votes; judge models are listed separately")
    if record.kind == "best":
        notes.append(
            "each best-of-several vote counts as the pairs that its winner won; those are not independent of each other"
        )
    if len({vote.rater for _, vote in counted}) == 1:
        notes.append("there is only one rater, so agreement between raters is unknown")
    return notes


def _reading_notes(closed: bool, fixed: bool) -> list[str]:
    """State which claims the votes support while more may come."""
    if fixed:
        return []
    if not closed:
        return ["the round is open: only anytime-valid claims are made, which stay valid however often you look"]
    return [
        "earlier votes chose the next pairs, so the number of votes on a pair depends on them: only anytime-valid "
        "claims are made, although the round is closed"
    ]


def vote_rows(ballot: Ballot) -> list[dict[str, str]]:
    """Convert the votes of a round of pairs to the rows that `judge rank` reads, with the origin of each."""
    counted = _compared([(ballot.tasks[vote.task], vote) for vote in ballot.votes()])
    return [row | {"origin": vote.origin} for row, (_, vote) in zip(pair_rows(counted), counted, strict=True)]


def _compared(judged: Sequence[Judged]) -> list[Judged]:
    """Select the votes that compare candidates, as pairs."""
    kept = [(task, vote) for task, vote in judged if task.purpose == "vote" and task.right and vote.choice != "skip"]
    return list(as_pairs(kept))


def preferences(ballot: Ballot) -> list[dict[str, str]]:
    """Export preference pairs as DPO trainers read them; a correction is preferred to the text that it corrects."""
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
    """Turn votes into a metric: the win rate of each candidate, and the difference of each pair.

    A difference is the share of votes won minus the share lost.

    Args:
        judged: tasks of a round that compares candidates, with the votes to count.
        names: candidates.
        metric: name of the metric.
        seed: seed of the resampling.
        closed: whether the round is closed to further votes; until then the p-values are the anytime-valid ones.
    """
    counted = _compared(judged)
    scores = {
        name: win_rate(metric, [(task, vote) for task, vote in counted if name in (task.left, task.right)], name)
        for name in names
    }
    verdicts = pair_verdicts(counted, names, seed, closed)
    p_values = [verdict.p if closed else verdict.p_anytime if verdict.votes else None for verdict in verdicts]
    adjusted = holm([float("nan") if p is None else p for p in p_values])
    differences = [
        _difference(metric, verdict, p, p_holm if p is not None else None, _documents(counted, verdict))
        for verdict, p, p_holm in zip(verdicts, p_values, adjusted, strict=True)
        if verdict.votes
    ]
    return scores, differences


def _documents(counted: Sequence[Judged], verdict: PairVerdict) -> int:
    """Count the source documents behind the votes on a pair."""
    return len({task.cluster for task, _ in counted if {task.left, task.right} == {verdict.left, verdict.right}})


def _difference(metric: str, verdict: PairVerdict, p: float | None, p_holm: float | None, documents: int) -> Difference:
    rate = verdict.win_rate
    value = 2 * (rate.value or 0.0) - 1
    ends = None if rate.ci_low is None or rate.ci_high is None else (2 * rate.ci_low - 1, 2 * rate.ci_high - 1)
    enough = documents >= MIN_CLUSTERS
    detectable = detectable_difference(*ends) if ends and enough else None
    needed = needed_for(value, detectable, documents) if detectable and value else None
    return Difference(
        metric=metric,
        left=verdict.left,
        right=verdict.right,
        value=value,
        ci_low=ends[0] if ends else None,
        ci_high=ends[1] if ends else None,
        p=p,
        p_holm=p_holm,
        detectable=detectable,
        needed=needed if enough else MIN_CLUSTERS,
        n=verdict.votes,
        clusters=documents,
        unit="share won - share lost",
        better=verdict.better,
    )


def _quality(name: str, origin: Origin, judged: Sequence[Judged], tasks: Mapping[str, JudgeTask]) -> RaterQuality:
    """Measure how reliable a rater is: gold tasks, repeats, position bias and time per vote."""
    mine = [(task, vote) for task, vote in judged if vote.rater == name]
    by_task = {vote.task: vote for _, vote in mine}
    counted = [(task, vote) for task, vote in mine if task.purpose == "vote" and vote.choice != "skip"]
    gold = [vote.choice == task.right_choice for task, vote in mine if task.purpose == "gold" and vote.choice != "skip"]
    repeats = [
        task.winner(vote.choice) == tasks[task.repeats].winner(by_task[task.repeats].choice)
        for task, vote in mine
        if task.purpose == "repeat" and task.repeats in by_task
    ]
    positions = [task.choices("best").index(vote.choice) for task, vote in mine if vote.choice.isdigit()]
    positions += [("left", "right").index(vote.choice) for _, vote in mine if vote.choice in ("left", "right")]
    answers_shown = max((len(task.answers) for task, _ in mine), default=2)
    left = positions.count(0)
    side_p = None
    if positions and answers_shown > 1:
        side_p = float(binomtest(left, len(positions), 1 / answers_shown).pvalue)
    seconds = [vote.seconds for _, vote in counted if vote.seconds > 0]
    typical_s = median(seconds) if seconds else None
    warnings = []
    if side_p is not None and side_p < SIDE_P:
        too_often = left * answers_shown > len(positions)
        warnings.append(f"chooses the {_side(too_often, answers_shown)} far too often")
    if len(gold) >= 3 and sum(gold) / len(gold) < MIN_GOLD:
        warnings.append(f"chose a wrong answer in {len(gold) - sum(gold)} of {len(gold)} gold tasks")
    if typical_s is not None and len(seconds) >= FEW and typical_s < FAST_S:
        warnings.append(f"takes {typical_s:.1f} s per vote, which is too fast to read the answers")
    return RaterQuality(
        name=name,
        origin=origin,
        votes=len(counted),
        skipped=sum(vote.choice == "skip" for _, vote in mine),
        gold=proportion_score("gold", sum(gold), len(gold), missing_reason="no gold tasks judged"),
        consistent=proportion_score("consistent", sum(repeats), len(repeats), missing_reason="no repeats judged"),
        left=proportion_score("left_share", left, len(positions), missing_reason="no decided votes"),
        left_p=side_p,
        median_seconds=typical_s,
        warnings=tuple(warnings),
    )


def _side(first: bool, answers_shown: int) -> str:
    if answers_shown == 2:
        return "left side" if first else "right side"
    return "first answer" if first else "later answers"


def _scores(record: JudgeRound, counted: Sequence[Judged], seed: int) -> dict[str, dict[str, Score]]:
    found: dict[str, dict[str, Score]] = {}
    names = list(dict.fromkeys(name for task, _ in counted for name, _ in task.answers))
    kind = record.kind
    harm, flagged = harm_outcomes(counted, names, record.harm_by_answer or kind != "pair")
    for name in names:
        votes = [vote for task, vote in counted if name in (task.left, task.right)]
        found.setdefault(harm, {})[name] = _share(harm, [outcome for _, _, outcome in flagged[name]])
        if kind == "origin":
            metric = "taken_for_a_person"
            found.setdefault(metric, {})[name] = _share(metric, [vote.choice == "person" for vote in votes])
        for scale in SCALES if kind == "rating" else ():
            values = [vote.ratings[scale] for vote in votes if scale in vote.ratings]
            found.setdefault(scale, {})[name] = _mean(scale, values, seed)
    if kind == "origin" and REFERENCE in names:
        detected = [(vote.choice == "person") == (task.left == REFERENCE) for task, vote in counted]
        found["told_apart"] = {"all": _share("told_apart", detected)}
    return found


def _share(metric: str, outcomes: Sequence[bool]) -> Score:
    return proportion_score(metric, sum(outcomes), len(outcomes), missing_reason="no votes")


def _mean(name: str, values: Sequence[int], seed: int) -> Score:
    if not values:
        return Score(metric=name, n=0, unit="1 to 5", signature="mean|bootstrap:votes", missing_reason="not rated")
    drawn = np.random.default_rng(seed).choice(np.array(values, dtype=float), (2_000, len(values))).mean(axis=1)
    ci_low, ci_high = np.quantile(drawn, [0.025, 0.975]) if len(values) > 1 else (None, None)
    return Score(
        metric=name,
        value=float(np.mean(values)),
        ci_low=None if ci_low is None else float(ci_low),
        ci_high=None if ci_high is None else float(ci_high),
        n=len(values),
        unit="1 to 5",
        signature="mean|bootstrap:votes",
    )


def _by_tag(counted: Sequence[Judged]) -> dict[str, dict[str, Score]]:
    tags = Counter(tag for task, _ in counted for tag in task.tags)
    found: dict[str, dict[str, Score]] = {}
    for tag, n in tags.items():
        if n < FEW or n == len(counted):
            continue
        part = [(task, vote) for task, vote in counted if tag in task.tags]
        names = dict.fromkeys(name for task, _ in part for name in (task.left, task.right))
        found[tag] = {
            name: win_rate("win_rate", [(task, vote) for task, vote in part if name in (task.left, task.right)], name)
            for name in names
        }
    return found


def _agreement(counted: Sequence[Judged], source: str, seed: int) -> Agreement | None:
    rows = [{"rater": vote.rater, "item": task.id, "label": vote.choice} for task, vote in counted]
    several = Counter(row["item"] for row in rows)
    if max(several.values()) < 2:
        return None
    return agree_rows(rows, source, "nominal", seed)
