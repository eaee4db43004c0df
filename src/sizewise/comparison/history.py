"""history(): the evaluations of a model or dataset over time."""

from __future__ import annotations

from difflib import get_close_matches

from sizewise.comparison.claims import differences
from sizewise.comparison.tables import ItemTable
from sizewise.errors import SizewiseError
from sizewise.metrics import METRICS
from sizewise.records import Dataset, Difference, Evaluation, History, HistoryEntry
from sizewise.store import Saved, Store


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
    changes, notes = _changes(found, store, seed)
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
            )
            for entry in found
        ),
        changes=tuple(changes),
        notes=tuple(notes),
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
    return found


def _changes(found: list[Saved[Evaluation]], store: Store, seed: int) -> tuple[list[Difference], list[str]]:
    latest: dict[str, Saved[Evaluation]] = {}
    changes: list[Difference] = []
    notes: list[str] = []
    for entry in found:
        record = entry.record
        if record.stopped is not None:  # its items depend on the results, so tests on them don't hold
            continue
        key = f"{record.data} {record.limit} {record.seed} {record.metrics} {record.sampling}"
        before = latest.get(key)
        latest[key] = entry
        if before is None:
            continue
        pair = {saved.id: saved.record for saved in (entry, before)}
        try:
            tables = {name: ItemTable.read(store, name) for name in pair}
        except SizewiseError as error:
            notes.append(f"{entry.id} and {before.id} can't be compared. {error.what}")
            continue
        compared = differences(pair, tables, seed)
        changes += compared.differences
        notes += compared.notes
    first_of_kind = len(found) - len({change.left for change in changes})
    if first_of_kind:
        notes.append(f"{first_of_kind} evaluations have no predecessor with the same data, limit, seed and metrics")
    if changes:
        notes.append("each change is tested on its own, so about one in twenty looks significant by chance")
    return changes, notes
