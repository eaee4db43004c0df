"""history(): the evaluations of a model or dataset over time."""

from __future__ import annotations

from difflib import get_close_matches

from sizewise.comparison.comparing import ROUNDS, differences
from sizewise.errors import SizewiseError
from sizewise.metrics import METRICS
from sizewise.records import Dataset, Difference, Evaluation, History, HistoryEntry, ItemRow
from sizewise.store import Store


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
                created=created,
                evaluation=record_id,
                model=record.model.uri,
                data=record.data,
                scores={key: score for key, score in record.scores.items() if key in METRICS or key in record.metrics},
            )
            for created, record_id, record in found
        ),
        changes=tuple(changes),
        notes=tuple(notes),
    )


def _evaluations_of(name: str, store: Store) -> list[tuple[str, str, Evaluation]]:
    """Find the evaluations of a model or dataset: (created, id, record), oldest first."""
    listing = [(created, kind, record_id) for created, kind, record_id, _ in store.listing() if created]
    titles = {record_id: store.read(Dataset, record_id).name for _, kind, record_id in listing if kind == "dataset"}
    known: set[str] = set()
    found = []
    for created, kind, record_id in listing:
        if kind != "evaluation":
            continue
        record = store.read(Evaluation, record_id)
        names = {record.model.uri, record.data, titles.get(record.data, record.data)}
        known |= names
        if name in names:
            found.append((created, record_id, record))
    if not found:
        closest = get_close_matches(name, known, n=1, cutoff=0.3)
        raise SizewiseError(
            f"There are no evaluations of '{name}'." + (f" Did you mean '{closest[0]}'?" if closest else ""),
            "a model URI, a dataset id or a dataset name",
            "sizewise runs",
        )
    return found


def _changes(found: list[tuple[str, str, Evaluation]], store: Store, seed: int) -> tuple[list[Difference], list[str]]:
    latest: dict[str, tuple[str, Evaluation]] = {}
    changes: list[Difference] = []
    notes: list[str] = []
    for _, record_id, record in found:
        key = f"{record.data} {record.limit} {record.seed} {record.metrics}"
        before = latest.get(key)
        latest[key] = (record_id, record)
        if before is None:
            continue
        pair = {record_id: record, before[0]: before[1]}
        rows = {name: store.read_rows(store.folder("evaluation", name), "items.jsonl", ItemRow) for name in pair}
        pair_differences, pair_notes = differences(pair, rows, ROUNDS, seed)
        changes += pair_differences
        notes += pair_notes
    first_of_kind = len(found) - len({change.left for change in changes})
    if first_of_kind:
        notes.append(f"{first_of_kind} evaluations have no earlier one with the same data, limit, seed and metrics")
    if changes:
        notes.append("each change is tested on its own, so about one in twenty looks significant by chance")
    return changes, notes
