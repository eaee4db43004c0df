"""Ids of evaluations as users give them: without a number, the newest run is meant."""

from __future__ import annotations

from collections.abc import Sequence

from sizewise.errors import UsageError


def newest_runs(ids: Sequence[str]) -> list[str]:
    """Return the runs that are meant: the newest one of each evaluation, unless its id has a number.

    Raises:
        UsageError: two ids mean the same run.
    """
    from sizewise.store import Store
    from sizewise.store.repetitions import newest_run, parse_run

    store = Store()
    found = [newest_run(store, record_id) for record_id in ids]
    for given, meant in zip(ids, found, strict=True):
        if found.count(meant) > 1 and len(set(ids)) == len(ids) and given != meant:
            raise UsageError(
                f"{given} means its newest run, {meant}, which is given twice.",
                "the number of each run",
                f"{parse_run(given).base}.1 is the first run",
            )
    return found


def newest_of(record_id: str) -> str:
    """Return the run that is meant by one id."""
    return newest_runs([record_id])[0]
