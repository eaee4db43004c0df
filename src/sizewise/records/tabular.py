"""The tables of records that list scores, candidates, levels or steps, for data frames and notebooks."""

from __future__ import annotations

from typing import Any

from sizewise.records.attacks import RedteamReport
from sizewise.records.base import rows_of
from sizewise.records.decision import Recommendation, Study
from sizewise.records.history import History
from sizewise.records.judging import Agreement, JudgeReport, Ranking
from sizewise.records.scores import Comparison, Evaluation, Score
from sizewise.records.text import Dataset
from sizewise.records.traffic import LoadTest
from sizewise.records.training import Checkpoint, LearningCurve, Tuning

Row = dict[str, Any]


@rows_of.register
def _(record: Evaluation) -> list[Row]:
    return [_score(score) | {"score": name} for name, score in record.scores.items()]


@rows_of.register
def _(record: Comparison) -> list[Row]:
    return [
        {"candidate": candidate} | _score(score) | {"score": metric}
        for metric, scores in record.scores.items()
        for candidate, score in scores.items()
    ]


@rows_of.register
def _(record: Recommendation) -> list[Row]:
    costs = {line.name: line for line in record.costs}
    names = dict.fromkeys([*([record.pick] if record.pick else []), *record.rejected, *costs])
    return [
        {
            "candidate": name,
            "pick": name == record.pick,
            "probability_best": record.probability_best.get(name),
            "usd_per_1000": line.usd_per_1000.expected if (line := costs.get(name)) and line.usd_per_1000 else None,
            "rejected": record.rejected.get(name),
        }
        for name in names
    ]


@rows_of.register
def _(record: Study) -> list[Row]:
    return [
        {
            "candidate": one.name,
            "model": one.model,
            "pick": one.name == record.pick,
            "rejected": record.rejected.get(one.name),
            "checkpoint": record.checkpoints.get(one.name),
            "evaluation": record.evaluations.get(one.name),
        }
        for one in record.candidates
    ]


@rows_of.register
def _(record: Dataset) -> list[Row]:
    return [{"split": name} | size.model_dump() for name, size in record.splits.items()]


@rows_of.register
def _(record: LoadTest) -> list[Row]:
    return [
        {
            "concurrent_users": level.concurrent_users,
            "rate": level.rate,
            "requests": level.requests,
            "errors": sum(level.errors.values()),
        }
        | {name: score.value for name, score in level.scores.items()}
        for level in record.levels
    ]


@rows_of.register
def _(record: History) -> list[Row]:
    return [
        {"created": entry.created, "evaluation": entry.evaluation, "model": entry.model, "data": entry.data}
        | _score(score)
        for entry in record.entries
        for score in entry.scores.values()
    ]


@rows_of.register
def _(record: RedteamReport) -> list[Row]:
    return [
        {"model": model, "attack": attack} | _score(score)
        for model, scores in record.scores.items()
        for attack, score in scores.items()
    ]


@rows_of.register
def _(record: Ranking) -> list[Row]:
    return [{"rank": one.rank, "name": one.name} | _score(one.score) for one in record.table]


@rows_of.register
def _(record: JudgeReport) -> list[Row]:
    return [
        {"left": pair.left, "right": pair.right, "votes": pair.votes, "better": pair.better} | _score(pair.win_rate)
        for pair in record.pairs
    ]


@rows_of.register
def _(record: Agreement) -> list[Row]:
    return [_score(score) | {"score": name} for name, score in record.scores.items()]


@rows_of.register
def _(record: Checkpoint) -> list[Row]:
    return [point.model_dump() for point in record.curve]


@rows_of.register
def _(record: Tuning) -> list[Row]:
    return [trial.settings | {"bits_per_byte": trial.bits_per_byte, "pruned": trial.pruned} for trial in record.trials]


@rows_of.register
def _(record: LearningCurve) -> list[Row]:
    return [step.model_dump() for step in record.steps]


def _score(score: Score) -> Row:
    return score.model_dump(include={"metric", "value", "ci_low", "ci_high", "n", "unit", "missing_reason"})
