"""history(): the evaluations of a model or dataset over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import NamedTuple

import numpy as np

from sizewise.comparison.claims import differences
from sizewise.comparison.tables import ItemTable
from sizewise.errors import SizewiseError
from sizewise.metrics import METRICS
from sizewise.records import Dataset, Difference, Evaluation, History, HistoryEntry, ItemRow, RunChange
from sizewise.stats import LEVEL, holm
from sizewise.store import Saved, Store
from sizewise.store.repetitions import number_of

MODEL_FACTS = {"model in responses", "fingerprint", "revision"}
"""Conditions that say that another model answered."""
SAME_LIKELIHOOD = 1e-6
"""Relative difference below which two log-likelihoods count as the same."""
Pair = tuple[Saved[Evaluation], Saved[Evaluation]]


class _Changes(NamedTuple):
    changes: list[Difference]
    drift: list[Difference]
    runs: list[RunChange]
    notes: list[str]


def history(name: str, *, store: Store | None = None, seed: int = 0) -> History:
    """Collect evaluations, oldest first, and compare each with the previous one on the same items.

    Args:
        name: model URI, dataset id or dataset name.
        store: where records live; by default SIZEWISE_HOME.
        seed: seed of the resampling.

    Raises:
        SizewiseError: there are no evaluations under this name.
    """
    store = store or Store()
    found = _evaluations_of(name, store)
    changed = _changes(found, store, seed)
    return History(
        name=name,
        entries=tuple(
            HistoryEntry(
                created=entry.created,
                evaluation=entry.id,
                model=entry.record.model.uri,
                data=entry.record.data,
                scores={
                    key: score
                    for key, score in entry.record.scores.items()
                    if key in METRICS or key in entry.record.metrics
                },
                run=number_of(entry.id),
                conditions=entry.record.conditions,
            )
            for entry in found
        ),
        changes=tuple(changed.changes),
        drift=tuple(changed.drift),
        runs=tuple(changed.runs),
        notes=tuple(changed.notes),
    )


def _evaluations_of(name: str, store: Store) -> list[Saved[Evaluation]]:
    """Find the evaluations of a model or dataset, oldest first."""
    titles = {dataset.id: dataset.record.name for dataset in store.saved(Dataset)}
    known: set[str] = set()
    found = []
    for evaluation in store.saved(Evaluation):
        data = evaluation.record.data
        names = {evaluation.record.model.uri, data, titles.get(data, data)}
        known |= names
        if name in names:
            found.append(evaluation)
    if not found:
        closest = get_close_matches(name, known, n=1, cutoff=0.3)
        raise SizewiseError(
            f"There are no evaluations of '{name}'." + (f" Did you mean '{closest[0]}'?" if closest else ""),
            "a model URI, a dataset id or a dataset name",
            "sizewise runs",
        )
    # times have seconds; within one, the order of writing decides
    return sorted(found, key=lambda one: (one.created, number_of(one.id), one.path.stat().st_mtime_ns))


def _changes(found: list[Saved[Evaluation]], store: Store, seed: int) -> _Changes:
    """Test each evaluation against the previous one of its kind, and the newest run of an evaluation against the first.

    All tests of a metric share an error rate of 5% (Holm).
    """
    notes: list[str] = []
    steps, drift = _pairs(found)
    tested = [
        [one for before, entry in pairs for one in _tested(before, entry, store, seed, notes)]
        for pairs in (steps, drift)
    ]
    changes, drifts = _adjust(tested)
    without = len(found) - len(steps)
    if without:
        notes.append(f"{without} evaluations have no predecessor with the same data, limit, seed and metrics")
    if changes:
        notes.append("p-values are adjusted for all changes of a metric in this history (Holm)")
    runs = [run_change(before, entry, store) for before, entry in steps if _is_repetition(before, entry)]
    notes += [note for one in runs if (note := _model_note(one))]
    return _Changes(changes, drifts, runs, notes)


def _pairs(found: Sequence[Saved[Evaluation]]) -> tuple[list[Pair], list[Pair]]:
    """Pair each evaluation with the previous one on the same items, and the newest run of a model with its first."""
    latest: dict[str, Saved[Evaluation]] = {}
    series: dict[str, list[Saved[Evaluation]]] = {}
    steps: list[Pair] = []
    for entry in found:
        record = entry.record
        if record.stopped is not None:  # its items depend on the results, so tests on them don't hold
            continue
        key = f"{record.data} {record.limit} {record.seed} {record.metrics} {record.sampling}"
        if key in latest:
            steps.append((latest[key], entry))
        latest[key] = entry
        series.setdefault(f"{record.model.uri} {key}", []).append(entry)
    return steps, [(one[0], one[-1]) for one in series.values() if len(one) > 2]


def _tested(
    before: Saved[Evaluation], entry: Saved[Evaluation], store: Store, seed: int, notes: list[str]
) -> list[Difference]:
    pair = {saved.id: saved.record for saved in (entry, before)}
    try:
        compared = differences(pair, {name: ItemTable.read(store, name) for name in pair}, seed)
    except SizewiseError as error:
        notes.append(f"{entry.id} and {before.id} can't be compared. {error.what}")
        return []
    notes += [note for note in compared.notes if note not in notes]
    return compared.differences


def _adjust(groups: Sequence[Sequence[Difference]]) -> list[list[Difference]]:
    """Adjust p-values for all tests of the same metric; a claim that doesn't hold any more is withdrawn."""
    whole = [one for group in groups for one in group]
    adjusted: dict[int, float] = {}
    for metric in dict.fromkeys(one.metric for one in whole):
        known = {i: p for i, one in enumerate(whole) if one.metric == metric and (p := one.corrected_p) is not None}
        adjusted |= dict(zip(known, holm(list(known.values())), strict=True))
    numbers = iter(range(len(whole)))
    return [[_with_p(one, adjusted.get(next(numbers))) for one in group] for group in groups]


def _with_p(one: Difference, p: float | None) -> Difference:
    if p is None:
        return one
    return one.model_copy(update={"p_adjusted": p, "better": one.better if p < LEVEL else None})


def _is_repetition(before: Saved[Evaluation], after: Saved[Evaluation]) -> bool:
    return before.record.model.uri == after.record.model.uri


def run_change(before: Saved[Evaluation], after: Saved[Evaluation], store: Store) -> RunChange:
    """Compare the answers and conditions of two runs of a model.

    Args:
        before: the earlier run.
        after: the later run.
        store: where their items are kept.
    """
    old, new = (final_rows(saved, store) for saved in (before, after))
    common = [key for key in old if key in new]
    different = _conditions(before.record, after.record)
    return RunChange(
        before=before.id,
        after=after.id,
        items=len(common),
        changed=sum(not same_answer(old[key], new[key]) for key in common),
        different=tuple(f"{name}: {was} -> {now}" for name, (was, now) in different.items()),
        model_changed=bool(different.keys() & MODEL_FACTS),
    )


def final_rows(saved: Saved[Evaluation], store: Store) -> dict[str, ItemRow]:
    """Read the answers of a run. A refusal for good is one, too; it can't be told where requests failed for now.

    Args:
        saved: the run.
        store: where its items are kept.
    """
    rows = store.read_rows(saved.path.parent, "items.jsonl", ItemRow)
    return {f"{row.kind} {row.item}": row for row in rows if row.error is None or not saved.record.unanswered}


def same_answer(old: ItemRow, new: ItemRow) -> bool:
    """Check whether two runs gave the same answer to an item, or nearly the same log-likelihood."""
    if old.completion is not None or new.completion is not None:
        return old.completion == new.completion
    return old.stats.keys() == new.stats.keys() and all(
        np.allclose(old.stats[name], new.stats[name], rtol=SAME_LIKELIHOOD, atol=0) for name in old.stats
    )


def _conditions(before: Evaluation, after: Evaluation) -> dict[str, tuple[str, str]]:
    """List the conditions that are known of both runs and differ."""
    found: dict[str, tuple[str, str]] = {}
    states = [_facts(record) for record in (before, after)]
    for name in states[0]:
        was, now = (state.get(name, "") for state in states)
        if was and now and was != now:
            found[name] = (was, now)
    return found


def _facts(record: Evaluation) -> dict[str, str]:
    conditions, model = record.conditions, record.model
    facts = {"engine": model.engine, "precision": model.precision, "revision": model.revision}
    facts |= {"prompt": record.prompting.form if record.prompting else "", "chat template": model.template}
    facts |= {"date of prompts": model.template_date}
    if conditions is not None:
        facts |= {"model in responses": _names(conditions.served_models)}
        facts |= {"fingerprint": ", ".join(sorted(conditions.fingerprints)), "machine": conditions.machine}
    return facts | {f"version of {package}": version for package, version in record.versions.items()}


def _names(served: Mapping[str, int]) -> str:
    """List the models that a service named; one that names another for nearly each answer tells nothing by it."""
    if len(served) > 1 and 2 * len(served) > sum(served.values()):
        return "another name for most answers"
    return ", ".join(sorted(served))


def _model_note(change: RunChange) -> str:
    if change.model_changed:
        named = [one for one in change.different if one.partition(":")[0] in MODEL_FACTS]
        return f"the model behind the URI changed between {change.before} and {change.after}: {'; '.join(named)}"
    if change.changed:
        return f"{change.changed} of {change.items} answers of {change.after} differ from those of {change.before}"
    return ""
