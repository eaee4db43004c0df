"""report(): the state of a round: preferences and their certainty, the raters' reliability, and missing votes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from scipy.stats import binomtest

from sizewise.errors import SizewiseError
from sizewise.judging.ballot import Ballot
from sizewise.judging.gold import REFERENCE
from sizewise.judging.harm import count_reasons, harm_outcomes
from sizewise.judging.identical import identical_notes, with_identical
from sizewise.judging.judge_validation import validate_judges
from sizewise.judging.pairs import Judged, as_pairs, pair_rows, pair_verdicts, score_votes, win_rate, won_by_longer
from sizewise.judging.ranking import rank_rows
from sizewise.judging.vote_scores import rater_notes, raters_note, vote_score
from sizewise.judging.votes import agree_rows
from sizewise.records import (
    SCALES,
    Agreement,
    Difference,
    Evaluation,
    JudgeReport,
    JudgeRound,
    JudgeTask,
    ModelDescription,
    Origin,
    PairVerdict,
    RaterQuality,
    Score,
)
from sizewise.stats import MIN_CLUSTERS, detectable_difference, holm, needed_for
from sizewise.stats.crossed import Reading
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
        unjudged = _unjudged(ballot)
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
    reading: Reading = "once" if fixed else "open"
    raters = [_quality(rater.name, rater.origin, judged, ballot.tasks, reading) for rater in ballot.raters.values()]
    notes = _notes(record, origins, counted, compared)
    notes += [*_reading_notes(closed, fixed), *identical_notes(record), *record.notes]
    notes += [f"{rater.name}: {warning}" for rater in raters for warning in rater.warnings]
    notes += [
        f"{name} is incomplete: {absent} tasks have no verdict; run sizewise judge ask again"
        for name, absent in unjudged.items()
    ]
    return JudgeReport(
        round=round_id,
        kind=record.kind,
        origins=dict(origins),
        votes=len(counted),
        open_tasks=sum(len(rater.tasks) for rater in ballot.raters.values()) - len(judged),
        closed=closed,
        ranking=rank_rows(pair_rows(compared), round_id, reading) if compared else None,
        pairs=tuple(with_identical(pair_verdicts(compared, list(record.evaluations), fixed), record))
        if compared
        else (),
        scores=_scores(record, counted, reading),
        by_tag=_by_tag(compared, reading),
        longer=won_by_longer(compared, reading) if compared else None,
        agreement=_agreement(counted, round_id, reading),
        raters=tuple(raters),
        judges=tuple(validate_judges(judged, record.min_agreement, closed=fixed, models=models_of(record, store))),
        comments=tuple((task.id, vote.rater, vote.comment) for task, vote in judged if vote.comment),
        reasons=count_reasons(counted),
        corrections=sum(bool(vote.correction) for _, vote in judged),
        notes=tuple(notes),
        unjudged=unjudged,
    )


def _unjudged(ballot: Ballot) -> dict[str, int]:
    """Count the tasks of each judge model that have no vote, because requests failed or it was stopped."""
    judges = (rater for rater in ballot.raters.values() if rater.origin == "model")
    return {rater.name: absent for rater in judges if (absent := len(rater.tasks) - ballot.done(rater)) > 0}


def models_of(record: JudgeRound, store: Store) -> dict[str, ModelDescription]:
    """Read the models of the candidates of a round."""
    return {name: store.read(Evaluation, evaluation).model for name, evaluation in record.evaluations.items()}


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
    if note := raters_note(len({vote.rater for _, vote in counted})):
        notes.append(note)
    return [*notes, *rater_notes(Counter(vote.rater for _, vote in counted))]


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
    votes = [] if ballot.round.kind == "ours" else ballot.votes()
    counted = _compared([(ballot.tasks[vote.task], vote) for vote in votes])
    return [row | {"origin": vote.origin} for row, (_, vote) in zip(pair_rows(counted), counted, strict=True)]


def _compared(judged: Sequence[Judged]) -> list[Judged]:
    """Select the votes that compare candidates, as pairs."""
    kept = [(task, vote) for task, vote in judged if task.purpose == "vote" and task.right and vote.choice != "skip"]
    return list(as_pairs(kept))


def preferences(ballot: Ballot) -> list[dict[str, Any]]:
    """Export preference pairs as DPO trainers read them; a correction is preferred to the text that it corrects.

    If any example of the round has several turns, all prompts and answers are lists of messages.
    """
    found: list[dict[str, Any]] = []
    if ballot.round.kind == "ours":
        return []  # which text is ours says nothing about which is better
    write = _as_messages if any(task.conversation for task in ballot.tasks.values()) else _as_texts
    for vote in ballot.votes():
        task = ballot.tasks[vote.task]
        if task.purpose != "vote":
            continue
        texts = dict(task.answers)
        best = texts.get(task.winner(vote.choice))
        if vote.correction:
            worse = task.left_text if best is None else best
            found.append(write(task, vote.correction, worse))
        if best is not None:
            worse_ones = (text for name, text in task.answers if name != task.winner(vote.choice))
            found += [write(task, best, text) for text in worse_ones]
    return found


def _as_texts(task: JudgeTask, chosen: str, rejected: str) -> dict[str, Any]:
    return {"prompt": task.prompt, "chosen": chosen, "rejected": rejected}


def _as_messages(task: JudgeTask, chosen: str, rejected: str) -> dict[str, Any]:
    turns = task.conversation or (("user", task.prompt),)
    return {
        "prompt": [{"role": role, "content": text} for role, text in turns],
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
    }


def vote_differences(
    judged: Sequence[Judged], names: Sequence[str], metric: str = "people", closed: bool = False
) -> tuple[dict[str, Score], list[Difference]]:
    """Turn votes into a metric: the win rate of each candidate, and the difference of each pair.

    A difference is the share of votes won minus the share lost.

    Args:
        judged: tasks of a round that compares candidates, with the votes to count.
        names: candidates.
        metric: name of the metric.
        closed: whether the round is closed to further votes; until then intervals and p-values are anytime-valid.
    """
    counted = _compared(judged)
    reading: Reading = "once" if closed else "open"
    scores = {
        name: win_rate(
            metric, [(task, vote) for task, vote in counted if name in (task.left, task.right)], name, reading
        )
        for name in names
    }
    verdicts = pair_verdicts(counted, names, closed)
    p_values = [_p_of(verdict, closed) for verdict in verdicts]
    adjusted = holm([float("nan") if p is None else p for p in p_values])
    differences = [
        _difference(metric, verdict, p, p_adjusted if p is not None else None)
        for verdict, p, p_adjusted in zip(verdicts, p_values, adjusted, strict=True)
        if verdict.votes
    ]
    return scores, differences


def _p_of(verdict: PairVerdict, closed: bool) -> float | None:
    """Return the p-value that counts; None on too few documents."""
    if (verdict.win_rate.clusters or 0) < MIN_CLUSTERS:
        return None
    return verdict.p if closed else verdict.p_anytime


def _difference(metric: str, verdict: PairVerdict, p: float | None, p_adjusted: float | None) -> Difference:
    documents = verdict.win_rate.clusters or 0
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
        p_adjusted=p_adjusted,
        detectable=detectable,
        needed=needed if enough else MIN_CLUSTERS,
        n=verdict.votes,
        clusters=documents,
        unit="share won - share lost",
        better=verdict.better,
    )


def _quality(
    name: str, origin: Origin, judged: Sequence[Judged], tasks: Mapping[str, JudgeTask], reading: Reading
) -> RaterQuality:
    """Measure how reliable a rater is: gold tasks, repeats, position bias and time per vote."""
    mine = [(task, vote) for task, vote in judged if vote.rater == name]
    by_task = {vote.task: vote for _, vote in mine}
    counted = [(task, vote) for task, vote in mine if task.purpose == "vote" and vote.choice != "skip"]
    gold = [(task, vote) for task, vote in mine if task.purpose == "gold" and vote.choice != "skip"]
    correct = [vote.choice == task.right_choice for task, vote in gold]
    repeated = [(task, vote) for task, vote in mine if task.purpose == "repeat" and task.repeats in by_task]
    same = [
        task.winner(vote.choice) == tasks[task.repeats].winner(by_task[task.repeats].choice) for task, vote in repeated
    ]
    placed = [(task, vote) for task, vote in mine if vote.choice.isdigit() or vote.choice in ("left", "right")]
    first = [vote.choice in ("1", "left") for _, vote in placed]
    answers_shown = max((len(task.answers) for task, _ in mine), default=2)
    side_p = None
    if first and answers_shown > 1:
        side_p = float(binomtest(sum(first), len(first), 1 / answers_shown).pvalue)
    seconds = [vote.seconds for _, vote in counted if vote.seconds > 0]
    typical_s = median(seconds) if seconds else None
    warnings = []
    if side_p is not None and side_p < SIDE_P:
        too_often = sum(first) * answers_shown > len(first)
        warnings.append(f"chooses the {_side(too_often, answers_shown)} far too often")
    if len(correct) >= 3 and sum(correct) / len(correct) < MIN_GOLD:
        warnings.append(f"chose a wrong answer in {len(correct) - sum(correct)} of {len(correct)} gold tasks")
    if typical_s is not None and len(seconds) >= FEW and typical_s < FAST_S:
        warnings.append(f"takes {typical_s:.1f} s per vote, which is too fast to read the answers")
    return RaterQuality(
        name=name,
        origin=origin,
        votes=len(counted),
        skipped=sum(vote.choice == "skip" for _, vote in mine),
        gold=score_votes("gold", gold, correct, reading, missing_reason="no gold tasks judged"),
        consistent=score_votes("consistent", repeated, same, reading, missing_reason="no repeats judged"),
        left=score_votes("left_share", placed, first, reading, missing_reason="no decided votes"),
        left_p=side_p,
        median_seconds=typical_s,
        warnings=tuple(warnings),
    )


def _side(first: bool, answers_shown: int) -> str:
    if answers_shown == 2:
        return "left side" if first else "right side"
    return "first answer" if first else "later answers"


def _scores(record: JudgeRound, counted: Sequence[Judged], reading: Reading) -> dict[str, dict[str, Score]]:
    found: dict[str, dict[str, Score]] = {}
    names = list(dict.fromkeys(name for task, _ in counted for name, _ in task.answers))
    kind = record.kind
    harm, flagged = harm_outcomes(counted, names, record.harm_by_answer or kind != "pair")
    for name in names:
        votes = [(task, vote) for task, vote in counted if name in (task.left, task.right)]
        voted = [(task, vote) for task, vote, _ in flagged[name]]
        found.setdefault(harm, {})[name] = score_votes(harm, voted, [outcome for *_, outcome in flagged[name]], reading)
        if kind == "origin":
            taken = [vote.choice == "person" for _, vote in votes]
            metric = "taken_for_a_person"
            found.setdefault(metric, {})[name] = score_votes(metric, votes, taken, reading)
        for scale in SCALES if kind == "rating" else ():
            found.setdefault(scale, {})[name] = _rating(scale, votes, reading)
    if kind == "ours":
        found |= _ours(counted, names, reading)
    if kind == "origin" and REFERENCE in names:
        detected = [(vote.choice == "person") == (task.left == REFERENCE) for task, vote in counted]
        found["told_apart"] = {"all": score_votes("told_apart", counted, detected, reading)}
    return found


def _ours(counted: Sequence[Judged], names: Sequence[str], reading: Reading) -> dict[str, dict[str, Score]]:
    """Compute how often each candidate's text was taken for ours, and how often ours was recognized."""
    taken = {
        name: [(task, vote) for task, vote in counted if name in (task.left, task.right)]
        for name in names
        if name != REFERENCE
    }
    recognized = [task.winner(vote.choice) == REFERENCE for task, vote in counted]
    return {
        "taken_for_ours": {
            name: score_votes(
                "taken_for_ours", some, [task.winner(vote.choice) == name for task, vote in some], reading
            )
            for name, some in taken.items()
        },
        "recognized_ours": {"all": score_votes("recognized_ours", counted, recognized, reading)},
    }


def _rating(scale: str, votes: Sequence[Judged], reading: Reading) -> Score:
    """Compute the mean rating on one scale."""
    rated = [(task, vote) for task, vote in votes if scale in vote.ratings]
    return vote_score(
        scale,
        [vote.ratings[scale] for _, vote in rated],
        [vote.rater for _, vote in rated],
        [task.cluster for task, _ in rated],
        reading=reading,
        scale=(1.0, 5.0),
        missing_reason="not rated",
    )


def _by_tag(counted: Sequence[Judged], reading: Reading) -> dict[str, dict[str, Score]]:
    tags = Counter(tag for task, _ in counted for tag in task.tags)
    found: dict[str, dict[str, Score]] = {}
    for tag, n in tags.items():
        if n < FEW or n == len(counted):
            continue
        part = [(task, vote) for task, vote in counted if tag in task.tags]
        names = dict.fromkeys(name for task, _ in part for name in (task.left, task.right))
        found[tag] = {
            name: win_rate(
                "win_rate", [(task, vote) for task, vote in part if name in (task.left, task.right)], name, reading
            )
            for name in names
        }
    return found


def _agreement(counted: Sequence[Judged], source: str, reading: Reading) -> Agreement | None:
    rows = [
        {"rater": vote.rater, "item": task.id, "label": vote.choice, "document": task.cluster} for task, vote in counted
    ]
    several = Counter(row["item"] for row in rows)
    if max(several.values()) < 2:
        return None
    found = agree_rows(rows, source)
    looks = () if reading == "once" else ("more votes may come: intervals of agreement hold for one look only",)
    return found.model_copy(update={"notes": (*found.notes, *looks)})
