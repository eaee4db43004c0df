"""Repetitions of an evaluation: `ID` is the first run, `ID.2` the second one, and so on."""

from __future__ import annotations

import itertools
import re
from typing import NamedTuple

from sizewise.records import Evaluation
from sizewise.store.store import Saved, Store

KIND = "evaluation"
_NUMBERED = re.compile(r"(?P<base>eval-[0-9a-f]+)(?:\.(?P<number>[1-9]\d*)|-run(?P<former>\d+))?")


class RunName(NamedTuple):
    """Id of an evaluation, taken apart."""

    base: str
    """Id of the first run."""
    number: int | None
    """Number of the run; None if none is given."""


def parse_run(record_id: str) -> RunName:
    """Take the id of an evaluation apart; an id of another form is a first run without a number."""
    found = _NUMBERED.fullmatch(record_id)
    if found is None:
        return RunName(record_id, None)
    number = found["number"] or found["former"]
    return RunName(found["base"], int(number) if number else None)


def run_id(store: Store, base: str, number: int) -> str:
    """Return the id under which a run is, or would be, saved; earlier versions wrote `ID-run2`."""
    former = f"{base}-run{number}"
    return base if number == 1 else former if store.exists(KIND, former) else f"{base}.{number}"


def runs_of(store: Store, record_id: str) -> list[str]:
    """List the complete runs of an evaluation, the first one first.

    Args:
        store: where they are kept.
        record_id: id of one of the runs.
    """
    base, numbers = parse_run(record_id).base, set()
    for folder in (store.home / KIND).glob(f"{base}*"):
        name = parse_run(folder.name)
        if name.base == base and store.exists(KIND, folder.name):
            numbers.add(name.number or 1)
    return [run_id(store, base, number) for number in sorted(numbers)]


def newest_run(store: Store, record_id: str) -> str:
    """Return the run that a user means: the newest one, unless the id has a number (`ID.1` is the first one).

    Ids of other records are returned as they are.

    Args:
        store: where evaluations are kept.
        record_id: id as the user gave it.
    """
    base, number = parse_run(record_id)
    if number is not None:
        return run_id(store, base, number)
    runs = runs_of(store, base)
    return runs[-1] if runs else record_id


def next_run_id(store: Store, base: str) -> str:
    """Return the id for a new run of an evaluation: the first one, from 2, that has no complete record yet."""
    names = (run_id(store, base, number) for number in itertools.count(2))
    return next(name for name in names if not store.exists(KIND, name))


def number_of(record_id: str) -> int:
    """Return the number of a run, also of an incomplete one."""
    return parse_run(record_id.partition("-incomplete")[0]).number or 1


def newest_saved(store: Store, saved: Saved[Evaluation]) -> Saved[Evaluation]:
    """Return the newest run of the same evaluation."""
    newest = newest_run(store, parse_run(saved.id).base)
    return saved if newest == saved.id else store.get(Evaluation, newest)
