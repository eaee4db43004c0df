"""Labels of ratings: different spellings of one number are one label."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal, DecimalException
from math import isfinite
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sizewise.errors import SizewiseError
from sizewise.stats.agreement import Level

MAX_LABELS = 200
SHOWN = 3
MISSING = frozenset(("nan", "<na>", "nat", "#n/a"))
"""What programs write into a cell without a value, in lower case; never a label."""
MAYBE_MISSING = frozenset(("none", "null", "na", "n/a", "-", "--", "?"))
"""What may stand for a rating that is missing, or be a label, in lower case."""


class Labels(NamedTuple):
    """The labels of a file."""

    names: list[str]
    """Labels in order: by value if all are numbers, else alphabetically."""
    values: npt.NDArray[np.float64]
    """(labels,) numeric values."""
    place: dict[str, int]
    """Spelling -> index of the label."""
    notes: tuple[str, ...]
    """Labels with several spellings."""


def read_labels(spellings: Iterable[str], level: Level, source: str) -> Labels:
    """Sort labels; if all are numbers, equal ones such as `1` and `1.0` are one label.

    Args:
        spellings: the different labels as they are written.
        level: level of measurement.
        source: where the labels come from, for messages.

    Raises:
        SizewiseError: there are too many labels, or labels that aren't numbers at a level that needs them.
    """
    written = sorted(set(spellings), key=lambda label: (len(label), label))
    numbers = _numbers(written)
    if numbers is None and level != "nominal":
        word = next(label for label in written if _numbers([label]) is None)
        raise SizewiseError(
            f"{source} has labels that are not numbers, such as '{word}'.",
            f"numbers, for agreement of {level} labels",
            "--level nominal",
        )
    if numbers is None:
        names = sorted(written)
        found = Labels(
            names,
            np.arange(len(names), dtype=np.float64),
            {name: i for i, name in enumerate(names)},
            (*look_alikes(names, "labels"), *doubtful_labels(names)),
        )
    else:
        spelled: dict[Decimal, list[str]] = defaultdict(list)
        for label, number in zip(written, numbers, strict=True):
            spelled[number].append(label)
        ordered = sorted(spelled)
        found = Labels(
            [spelled[number][0] for number in ordered],
            np.array([float(number) for number in ordered]),
            {label: i for i, number in enumerate(ordered) for label in spelled[number]},
            tuple(_one_number([spelled[number] for number in ordered if len(spelled[number]) > 1])),
        )
    if len(found.names) > MAX_LABELS:
        raise SizewiseError(
            f"{source} has {len(found.names)} different labels.",
            f"at most {MAX_LABELS}",
            f"choose the column with the ratings, and name it 'label' in {source}",
        )
    return found


def doubtful_labels(labels: Iterable[str]) -> Iterator[str]:
    """Note labels that may stand for a rating that is missing."""
    doubtful = sorted(label for label in labels if label.casefold() in MAYBE_MISSING)
    if doubtful:
        yield (
            f"counted as labels: {', '.join(map(repr, doubtful))}; if they mean that there is no rating, leave these "
            "rows out"
        )


def look_alikes(names: Iterable[str], what: str) -> Iterator[str]:
    """Note names that differ only in case, white space or punctuation between words.

    Args:
        names: the names.
        what: what they are names of, in the plural.
    """
    alike: dict[str, list[str]] = defaultdict(list)
    for name in sorted(set(names)):
        alike["".join(name.casefold().replace("_", " ").replace("-", " ").split())].append(name)
    groups = [group for group in alike.values() if len(group) > 1]
    if groups:
        yield f"{what} that differ only in case or spaces count as different: {_listed(groups)}"


def _numbers(labels: Sequence[str]) -> list[Decimal] | None:
    """Read labels as numbers, exactly; None if one of them isn't a finite number."""
    try:
        return [Decimal(label) for label in labels] if all(isfinite(float(label)) for label in labels) else None
    except (ValueError, DecimalException):
        return None


def _one_number(groups: Sequence[Sequence[str]]) -> Iterator[str]:
    if groups:
        yield f"labels that are the same number count as one: {_listed(groups)}"


def _listed(groups: Sequence[Sequence[str]]) -> str:
    shown = "; ".join(", ".join(f"'{label}'" for label in group) for group in groups[:SHOWN])
    return shown + (f"; and {len(groups) - SHOWN} more" if len(groups) > SHOWN else "")
