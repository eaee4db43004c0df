"""Assign documents and examples to the train, validation and test splits."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, get_args

from sizewise.datasets.listing import Listed
from sizewise.errors import SizewiseError, UsageError
from sizewise.records import Split

MIN_SOURCES = 3
TEST_SHARE = 0.2
VALIDATION_SHARE = 0.06
SplitBy = Literal["documents", "questions", "prompts", "time", "group", "given"]
TIME_FORMS = ", such as 2026-03-01, 01.03.2026 or seconds since 1970"
SPLIT_BY: tuple[str, ...] = get_args(SplitBy)


@dataclass
class _Unit:
    """Documents and examples that go to the same split."""

    name: str
    documents: list[int] = field(default_factory=list)
    examples: list[int] = field(default_factory=list)
    named: dict[Split, str] = field(default_factory=dict)
    label: str = ""
    time: str = ""


@dataclass
class Assignment:
    """The split of each document and example, by index; duplicates that were dropped have none."""

    documents: dict[int, Split]
    examples: dict[int, Split]
    notes: list[str]


def assign_splits(documents: Listed, examples: Listed, by: str, seed: int) -> Assignment:
    """Assign each source (a document, or an example without a document) to a split.

    Documents and standalone examples are split separately. If there are too few of one kind, all of them go to
    training. Splits that examples name are kept; no other source of that kind joins a named test or validation split.
    Where all documents are studied and no example is left to validate on, some of the training split are taken.
    Near-duplicate documents, near-duplicate prompts and all rows of a group stay together; labels are spread evenly. By
    `questions` and `prompts`, only prompts that are the same but for case and punctuation stay together: many questions
    differ in one name.

    Args:
        documents: The documents.
        examples: The examples.
        by: What is held out: `documents`; `questions` or `prompts`, which ignores the documents that questions come
            from and puts all documents into training; the latest rows (`time`); whole groups (`group`); or what the
            data themselves name (`given`).
        seed: Seed of the order.

    Raises:
        UsageError: `by` is unknown.
        SizewiseError: There are too few sources for three splits, examples of one source name different splits, or
            the data lack the groups, times or splits.
    """
    if by not in SPLIT_BY:
        raise UsageError(f"The split is by '{by}'.", " or ".join(SPLIT_BY), "sizewise read PATH --split documents")
    _check_columns(documents, examples, by)
    apart = by in ("questions", "prompts")
    notes: list[str] = []
    units = _units(documents, examples, apart, linked=True)
    if len(units) < MIN_SOURCES <= len(_units(documents, examples, apart, linked=False)):
        units = _units(documents, examples, apart, linked=False)
        notes.append(
            "Near-duplicates are in different splits, because too few sources are left if they stay together. See the "
            "contamination report."
        )
    found = Assignment({}, {}, notes)
    known = [unit for unit in units if unit.documents]
    standalone = [unit for unit in units if not unit.documents]
    if apart:
        found.documents |= {i: "train" for unit in known for i in unit.documents}
        known = []
    if max(len(known), len(standalone)) < MIN_SOURCES:
        raise _too_few(units, documents, examples)
    for some in (known, standalone):
        for unit, split in _allocate(some, by, seed):
            found.documents |= dict.fromkeys(unit.documents, split)
            found.examples |= dict.fromkeys(unit.examples, split)
    if apart:
        _validate_on_training(standalone, found, seed)
    return found


def _validate_on_training(units: Sequence[_Unit], found: Assignment, seed: int) -> None:
    """Move some training examples to validation if the data name no example for it: all documents are studied."""
    if "validation" in found.examples.values():
        return
    trained = sorted(
        (unit for unit in units if found.examples.get(unit.examples[0]) == "train"), key=lambda one: one.name
    )
    if len(trained) < MIN_SOURCES:
        return
    random.Random(seed).shuffle(trained)
    moved = [i for unit in trained[: max(1, round(len(trained) * VALIDATION_SHARE))] for i in unit.examples]
    found.examples |= dict.fromkeys(moved, "validation")
    found.notes.append(
        f"{len(moved):,} examples that name the training split are validated on instead, because the data name none "
        "for it and all documents are studied."
    )


def _check_columns(documents: Listed, examples: Listed, by: str) -> None:
    """Check that the data have what they are to be split by."""
    columns = {"time": (documents.times, examples.times), "group": (documents.groups, examples.groups)}
    if by == "given" and not any(examples.named):
        raise SizewiseError(
            "The data name no splits.",
            "a column 'split' with train, validation or test, or files named train and test",
            "leave --split out for a random split by document",
        )
    for column, (of_documents, of_examples) in columns.items():
        if by != column:
            continue
        values = [*(of_documents[i] for i in documents.kept()), *(of_examples[i] for i in examples.kept())]
        without = sum(not value for value in values)
        if without:
            raise SizewiseError(
                f"{without:,} of {len(values):,} documents and examples have no {column}.",
                f"a column '{column}' in every row{TIME_FORMS if column == 'time' else ''}",
                "leave --split out for a random split by document",
            )
        if len(set(values)) < MIN_SOURCES:
            found = " or ".join(sorted(set(values)))
            raise SizewiseError(
                f"All {len(values):,} documents and examples have the {column} '{found:.80}'.",
                f"at least {MIN_SOURCES} different values in the column '{column}'",
                "leave --split out for a random split by document",
            )


def _units(documents: Listed, examples: Listed, apart: bool, linked: bool) -> list[_Unit]:
    """Collect what must stay together.

    Args:
        documents: The documents.
        examples: The examples.
        apart: Keep examples together by prompt, not by the document they come from.
        linked: Keep near-duplicates together.
    """
    units = _Units()
    for i in documents.kept():
        unit = units.of(f"d:{documents.ids[i]}")
        unit.documents.append(i)
        unit.time = max(unit.time, _instant(documents.times[i]))
    known = set(documents.ids)

    def name_of(i: int) -> str:
        source = examples.sources[i]
        inside = not apart and source in known
        return f"d:{source}" if inside else f"e:{examples.prompts[i] if apart else source}"

    for i in examples.kept():
        units.add_example(name_of(i), i, examples)
    for i, later in examples.continued:
        units.merge(name_of(examples.original[i]), name_of(examples.original[later]))
    if linked:
        first_like: dict[int, str] = {}
        for i in documents.kept():
            name = f"d:{documents.ids[i]}"
            units.merge(first_like.setdefault(documents.like[i], name), name)
    first: dict[str, str] = {}
    for unit in list(units.by_name.values()):
        groups = {documents.groups[i] for i in unit.documents} | {examples.groups[i] for i in unit.examples}
        for group in sorted(groups - {""}):
            units.merge(first.setdefault(group, unit.name), unit.name)
    return list(units.by_name.values())


class _Units:
    """Units by name, some of which were merged."""

    def __init__(self) -> None:
        self.by_name: dict[str, _Unit] = {}
        self._merged: dict[str, str] = {}

    def of(self, name: str) -> _Unit:
        """Return the unit that a name belongs to, or a new one."""
        while name in self._merged:
            name = self._merged[name]
        return self.by_name.setdefault(name, _Unit(name))

    def add_example(self, name: str, i: int, examples: Listed) -> None:
        """Add an example to a unit."""
        unit = self.of(name)
        unit.examples.append(i)
        unit.label = unit.label or examples.labels[i]
        unit.time = max(unit.time, _instant(examples.times[i]))
        split = examples.named[i]
        if split:
            unit.named.setdefault(split, examples.ids[i])
            if len(unit.named) > 1:
                by_prompt = name == f"e:{examples.prompts[i]}" != f"e:{examples.sources[i]}"
                raise _same_question(unit) if by_prompt else _two_splits(unit, examples.sources[i])

    def merge(self, one: str, other: str) -> None:
        """Merge two units, unless the data name different splits for them."""
        a, b = self.of(one), self.of(other)
        if a is b or len(a.named.keys() | b.named.keys()) > 1:
            return
        a.documents += b.documents
        a.examples += b.examples
        a.named |= b.named
        a.time, a.label = max(a.time, b.time), a.label or b.label
        self._merged[b.name] = a.name
        del self.by_name[b.name]


def _allocate(units: Sequence[_Unit], by: str, seed: int) -> Iterable[tuple[_Unit, Split]]:
    """Yield each unit with its split."""
    given = [(unit, next(iter(unit.named))) for unit in units if unit.named]
    yield from given
    free = sorted((unit for unit in units if not unit.named), key=lambda unit: unit.name)
    if by == "given" or len(free) < MIN_SOURCES:
        yield from ((unit, "train") for unit in free)
        return
    random.Random(seed).shuffle(free)
    taken = {split for _, split in given}
    test, validation = (
        0 if split in taken else max(1, round(len(free) * share))
        for split, share in (("test", TEST_SHARE), ("validation", VALIDATION_SHARE))
    )
    if by == "time":
        free.sort(key=lambda unit: unit.time, reverse=True)
    elif any(unit.label for unit in free):
        free.sort(key=lambda unit: unit.label)
        tested = set(_spread(len(free), test))
        rest = [i for i in range(len(free)) if i not in tested]
        validated = [rest[i] for i in _spread(len(rest), validation)]
        chosen = [*sorted(tested), *validated]
        free = [free[i] for i in (*chosen, *sorted(set(range(len(free))) - set(chosen)))]
    for i, unit in enumerate(free):
        yield unit, "test" if i < test else "validation" if i < test + validation else "train"


def _spread(count: int, chosen: int) -> list[int]:
    """Return evenly spaced places among `count`, so that each of several classes in a row gets its share."""
    return [int((i + 0.5) * count / chosen) for i in range(chosen)]


def _instant(time: str) -> str:
    """Return a time so that later ones sort after earlier ones, whatever their time zone and precision."""
    filled = (
        f"{time}-01-01" if re.fullmatch(r"\d{4}", time) else f"{time}-01" if re.fullmatch(r"\d{4}-\d\d", time) else time
    )
    try:
        instant = datetime.fromisoformat(filled) if filled else None
    except ValueError:
        return time
    if instant is None:
        return ""
    zone = instant.utcoffset()
    return (instant.replace(tzinfo=None) - zone if zone else instant.replace(tzinfo=None)).isoformat()


def _two_splits(unit: _Unit, source: str) -> SizewiseError:
    (one, _), (other, example) = list(unit.named.items())[:2]
    return SizewiseError(
        f"Examples of '{source}' are assigned to both {one} and {other}.",
        "one split for all examples of a source, because they share its text",
        f"correct the split of example '{example}'",
    )


def _same_question(unit: _Unit) -> SizewiseError:
    (one, first), (other, second) = list(unit.named.items())[:2]
    return SizewiseError(
        f"The examples '{first}' ({one}) and '{second}' ({other}) ask the same question.",
        "each question in one split, because training would give its answer away",
        f"remove one of them, or correct the split of example '{second}'",
    )


def _too_few(units: Sequence[_Unit], documents: Listed, examples: Listed) -> SizewiseError:
    """Explain that there are too few sources to split, and that a column `source` may name something else."""
    known, count = len(list(documents.kept())), len(list(examples.kept()))
    standalone = {examples.sources[i] for i in examples.kept()} - set(documents.ids)
    sources = [*(documents.ids[i] for i in documents.kept()), *sorted(standalone)]
    named = ", ".join(f"'{source}'" for source in sources[:5]) + (", ..." if len(sources) > 5 else "")
    what = f"{known} document{'s' * (known != 1)} and {count} example{'s' * (count != 1)}"
    next_step = "add documents, or split a long file into several; then run the same command again"
    if count > len(standalone) > 0:
        next_step = (
            "if the column 'source' names collections, rename it to 'tags'; if it names the documents that examples "
            "come from, add more of them, or hold out other questions about them with --split prompts"
        )
    return SizewiseError(
        f"{what} come from {len(units)} source{'s' * (len(units) != 1)} ({named}), too few to leave any for testing.",
        f"at least {MIN_SOURCES} sources, so that training, validation and test get one each",
        next_step,
    )
