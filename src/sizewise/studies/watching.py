"""watch(): measures a model again and tests whether it changed, a few items first.

The rule of a pass: the canary items, a fixed random sample, are asked again. If no answer is different from the newest
run, and the service names the same model, nothing changed, and the pass ends. Different answers of a service are asked
once more: only an answer that it gives twice has moved. If none has, the pass ends. If the canary items alone already
show that a condition is missed, the pass ends, too. In all other cases, all items are measured.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import NamedTuple

from sizewise.comparison import check_expressions, check_requirements, compare, differences_on_all
from sizewise.comparison.history import final_rows, run_change, same_answer
from sizewise.errors import SizewiseError, UsageError
from sizewise.evaluation import EvaluationOptions, evaluate
from sizewise.progress import Reporter, Silent, pulsing
from sizewise.records import Evaluation, Gate, ItemRow, RunChange, Score, WatchPass
from sizewise.stats import LEVEL
from sizewise.stats.changes import p_of_change
from sizewise.store import Saved, Store
from sizewise.store.repetitions import newest_saved

CANARIES = 20
"""Canary items by default: if none has changed, fewer than 14% of all items have (95% confidence)."""
NEW, OLD = "now", "before"


@dataclass(frozen=True)
class WatchOptions:
    """What a watched model is measured on, and what it may cost."""

    metrics: tuple[str, ...] = ()
    """Names of metrics; by default those that fit the data."""
    limit: int | None = None
    """Maximum number of items."""
    require: tuple[str, ...] = ()
    """Conditions on the newest evaluation; `old` is the baseline."""
    against: str | None = None
    """Id of the baseline; by default the first run."""
    canaries: int = CANARIES
    """Items that are asked first; 0 to measure all items in each pass."""
    minutes: float | None = None
    """Maximum duration of a pass; the next one resumes it."""
    evaluation: EvaluationOptions = field(default_factory=EvaluationOptions)
    """Seed, engine and budget; the budget is for the whole pass."""


class _OutOfTime(SizewiseError):
    """The pass took as long as it may."""


class _Canaries(NamedTuple):
    saved: Saved[Evaluation]
    change: RunChange
    moved: int = 0
    unstable: int = 0
    p: float | None = None

    @property
    def unchanged(self) -> bool:
        return not self.moved and not self.change.model_changed


def watch(
    model: str,
    data: str,
    options: WatchOptions | None = None,
    *,
    store: Store | None = None,
    reporter: Reporter | None = None,
) -> Saved[WatchPass]:
    """Make one pass: measure a model again as far as needed, and check the conditions.

    The first pass measures all items; they are the baseline of later passes.

    Args:
        model: model URI.
        data: dataset id, or a JSONL file with test data.
        options: what is measured, and what it may cost.
        store: where records are kept; SIZEWISE_HOME by default.
        reporter: receives progress.

    Raises:
        UsageError: a condition can't be parsed, or an option doesn't apply.
        SizewiseError: the model or data can't be opened, or all requests failed.
    """
    options = options or WatchOptions()
    if options.evaluation.sampling is not None:
        raise UsageError("Sampled answers differ each time.", "one greedy answer per item", "sizewise watch MODEL")
    watched = _Pass(model, data, options, store or Store(), reporter or Silent())
    return watched.store.write_new(watched.run())


class _Pass:
    """State of one pass."""

    def __init__(self, model: str, data: str, options: WatchOptions, store: Store, reporter: Reporter) -> None:
        self.model, self.data, self.options, self.store, self.reporter = model, data, options, store, reporter
        self.begun, self.started = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
        self.spent: float | None = None

    def run(self) -> WatchPass:
        """Measure what is needed and return the record of the pass."""
        known = {path.parent.name for path in (self.store.home / "evaluation").glob("*/record.json")}
        with pulsing(self._check_time):
            first = self._evaluate(self.options.limit)
        reference = newest_saved(self.store, first)
        baseline = self.store.get(Evaluation, self.options.against) if self.options.against else first
        if first.id not in known:
            self._pay(first)
            return self._record(first, first, "first", "the model was measured for the first time", baseline=baseline)
        canaries = self._ask_canaries(reference)
        if canaries is not None and canaries.unchanged:
            reason = f"none of {canaries.change.items} canary items has another answer"
            if canaries.unstable:
                reason += f"; {canaries.unstable} differ between two answers of today"
            return self._record(reference, reference, "unchanged", reason, canaries, baseline)
        if canaries is not None:
            gates = self._gates(canaries.saved, baseline)
            if missed := [gate.expression for gate in gates if gate.outcome == "missed"]:
                reason = f"the canary items already show that {'; '.join(missed)} is missed"
                return self._record(canaries.saved, reference, "changed", reason, canaries, baseline)
        return self._measure_all(reference, canaries, baseline)

    def _measure_all(
        self, reference: Saved[Evaluation], canaries: _Canaries | None, baseline: Saved[Evaluation]
    ) -> WatchPass:
        try:
            with pulsing(self._check_time):
                saved = self._evaluate(
                    self.options.limit,
                    new_run=True,
                    form=_form(reference),
                    answers_from=canaries.saved.id if canaries else None,
                )
        except SizewiseError as error:
            if isinstance(error, UsageError):
                raise
            return self._record(reference, reference, "unfinished", error.what, canaries, baseline)
        self._pay(saved)
        if saved.record.unanswered:
            reason = f"{saved.record.unanswered} requests failed; the next pass asks them again"
            return self._record(saved, reference, "unfinished", reason, canaries, baseline)
        change = run_change(reference, saved, self.store)
        changed = change.changed or change.model_changed
        reason = f"{change.changed} of {change.items} answers differ from those of {reference.id}"
        return self._record(saved, reference, "changed" if changed else "unchanged", reason, canaries, baseline)

    def _evaluate(self, limit: int | None, **changes: object) -> Saved[Evaluation]:
        left = self.options.evaluation.max_usd
        if left is not None:
            changes |= {"max_usd": max(0.0, left - (self.spent or 0.0))}
        options = replace(self.options.evaluation, **changes)  # type: ignore[arg-type]
        metrics = list(self.options.metrics)
        return evaluate(
            self.model, self.data, metrics, store=self.store, limit=limit, options=options, reporter=self.reporter
        )

    def _check_time(self) -> None:
        minutes = self.options.minutes
        if minutes is not None and time.monotonic() - self.begun > 60 * minutes:
            raise _OutOfTime(
                f"The pass took the {minutes:g} minutes that it may take; its answers are kept.",
                "the next pass, which resumes it",
                "the same command again, or more --minutes",
            )

    def _ask_canaries(self, reference: Saved[Evaluation]) -> _Canaries | None:
        """Ask the canary items again; those of a service with another answer twice. None if there are few items."""
        count = self.options.canaries
        if not count or reference.record.items <= 2 * count:
            return None
        with pulsing(self._check_time):
            saved = self._evaluate(count, new_run=True, form=_form(reference))
        self._pay(saved)
        change = run_change(reference, saved, self.store)
        if not change.changed:
            return _Canaries(saved, change)
        if not saved.record.model.api:
            return _Canaries(saved, change, change.changed, 0, 0.0)
        with pulsing(self._check_time):
            again = self._evaluate(count, new_run=True, form=_form(reference))
        self._pay(again)
        moved, unstable, odd = _compare_answers(*(final_rows(one, self.store) for one in (reference, saved, again)))
        return _Canaries(saved, change, moved, unstable, p_of_change(moved, odd))

    def _pay(self, saved: Saved[Evaluation]) -> None:
        price = saved.record.scores.get("usd_per_1000")
        if price is not None and price.value is not None:
            self.spent = (self.spent or 0.0) + price.value * price.n / 1000

    def _gates(self, newest: Saved[Evaluation], baseline: Saved[Evaluation]) -> tuple[Gate, ...]:
        """Check the conditions on an evaluation."""
        if not self.options.require:
            return ()
        if newest.id == baseline.id:
            check_expressions(newest.record, self.options.require)
            return tuple(Gate(expression=one, outcome="undecided", details=SAME) for one in self.options.require)
        partial = (NEW,) if newest.record.limit != baseline.record.limit else ()
        compared = compare({NEW: newest.id, OLD: baseline.id}, store=self.store, partial=partial).record
        on_all = differences_on_all(compared, self.store) if any("@all" in one for one in self.options.require) else []
        found = check_requirements(compared, NEW, OLD, self.options.require, on_all=on_all)
        return tuple(Gate(expression=one.expression, outcome=one.outcome, details=one.details) for one in found)

    def _record(
        self,
        newest: Saved[Evaluation],
        reference: Saved[Evaluation],
        outcome: str,
        reason: str,
        canaries: _Canaries | None = None,
        baseline: Saved[Evaluation] | None = None,
    ) -> WatchPass:
        baseline = baseline or reference
        asked = canaries.saved.id if canaries else None
        measured = newest.id if newest.id not in (reference.id, asked) or outcome == "first" else None
        change = run_change(reference, newest, self.store) if measured else canaries.change if canaries else None
        p = canaries.p if canaries else None
        return WatchPass.model_validate(
            {
                "model": newest.record.model.uri,
                "data": newest.record.data,
                "baseline": baseline.id,
                "reference": reference.id,
                "canary": asked,
                "evaluation": measured,
                "outcome": outcome,
                "reason": reason,
                "gates": self._gates(newest, baseline),
                "scores": _scores(newest.record),
                "canaries": canaries.change.items if canaries else 0,
                "moved": canaries.moved if canaries else 0,
                "unstable": canaries.unstable if canaries else 0,
                "p_changed": p,
                "different": change.different if change else (),
                "model_changed": bool(change and change.model_changed) or (p is not None and p < LEVEL),
                "usd": self.spent,
                "started": self.started,
                "seconds": time.monotonic() - self.begun,
            }
        )


SAME = "the newest run is the baseline itself"


def _form(saved: Saved[Evaluation]) -> str | None:
    return saved.record.prompting.form if saved.record.prompting is not None else None


def _scores(record: Evaluation) -> dict[str, Score]:
    return {name: record.scores[name] for name in record.metrics if name in record.scores}


def _compare_answers(
    before: dict[str, ItemRow], first: dict[str, ItemRow], second: dict[str, ItemRow]
) -> tuple[int, int, int]:
    """Count items that moved, that vary within the pass, and of the latter those where one answer is as before."""
    moved = unstable = odd = 0
    for key in first.keys() & second.keys() & before.keys():
        if same_answer(first[key], second[key]):
            moved += not same_answer(before[key], first[key])
        else:
            unstable += 1
            odd += any(same_answer(before[key], one[key]) for one in (first, second))
    return moved, unstable, odd


def payload(saved: Saved[WatchPass]) -> dict[str, object]:
    """Return what a webhook gets: numbers and names, but no prompts, answers or messages of a service."""
    record = saved.record
    scores = {
        name: {"value": one.value, "ci_low": one.ci_low, "ci_high": one.ci_high, "n": one.n, "unit": one.unit}
        for name, one in record.scores.items()
    }
    kept = ("data", "baseline", "evaluation", "outcome", "canaries", "moved", "unstable", "model_changed", "started")
    return {
        "schema": 1,
        "kind": "watch",
        "id": saved.id,
        "model": _without_secrets(record.model),
        **{name: getattr(record, name) for name in kept},
        "different": _named(record.different),
        "usd": record.usd,
        "gates": [{"expression": gate.expression, "outcome": gate.outcome} for gate in record.gates],
        "scores": scores,
    }


def _named(different: Sequence[str]) -> list[str]:
    return [one[:300] for one in different]


def _without_secrets(uri: str) -> str:
    """Remove the user and password of an address."""
    scheme, mark, rest = uri.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{mark}{host.rpartition('@')[2]}{slash}{path}" if mark else uri
