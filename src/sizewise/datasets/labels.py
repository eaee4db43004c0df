"""Labels of a dataset: join spellings of one label, and find the question that the examples answer."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from sizewise.datasets.questions import MIN_LABELED_SHARE, is_labeled
from sizewise.documents import Reading
from sizewise.documents.decisions import MAX_OPTIONS, MISSING, SEPARATOR, label_key
from sizewise.documents.reading import Rows
from sizewise.errors import SizewiseError
from sizewise.records import Example, Option, Question, StatedQuestion
from sizewise.text import fold_text, ordered_levels, positive_first, same_answers, shorten_text, visible_text

MIN_PER_OPTION = 2
"""Least mean number of examples per label for a column of labels to be a classification."""
_SIGNS = re.compile(r"[\W_]+")
_INTEGER = re.compile(r"0+\d+")
_SEVERAL = re.compile(r"\s*[|;,]\s*")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,3})?")
_JOINED = re.compile(r"\s*[;|,+&]\s*")
_LOOKALIKES = str.maketrans("авекмнорстухіјѕԁԛԝһοακνρτυχι", "abekmhopctyxijsdqwhoakvptuxi")
"""Cyrillic and Greek letters -> Latin ones that look the same."""
_LIST_SIGNS = "[]'\" "
_LISTED = 5
MAX_SHOWN = 80
"""Characters of a label that messages show."""


def label_of(example: Example) -> str:
    """Return the label of an example if it is the answer; a label beside another answer is none."""
    return example.label if is_labeled(example) else ""


@dataclass
class LabelTable:
    """Labels of all readings, before they are split.

    Attributes:
        counts: Label as written -> number of examples.
        questions: Question of a row -> number of rows.
        examples: Number of examples.
        labeled: Those with a label.
        answered: Those with a reference answer.
        has_several: Whether several labels may apply to a text.
        joined: Spelling -> label that it is joined with.
        alike: Pairs of labels that may be one, left apart.
        question: The question that all examples answer.
        notes: Remarks for readers of the scores.
    """

    counts: Counter[str] = field(default_factory=Counter)
    questions: Counter[StatedQuestion] = field(default_factory=Counter)
    examples: int = 0
    joined: dict[str, str] = field(default_factory=dict)
    alike: tuple[tuple[str, str], ...] = ()
    question: Question | None = None
    notes: list[str] = field(default_factory=list)
    has_several: bool = False
    labeled: int = 0
    answered: int = 0

    def add(self, example: Example) -> None:
        """Count an example."""
        self.examples += 1
        labels = example.labels or ((label_of(example),) if label_of(example) else ())
        self.counts.update(labels)
        self.has_several |= bool(example.labels)
        for label in example.distribution:
            self.counts.setdefault(label, 0)
        if example.question is not None and len(self.questions) <= MAX_OPTIONS:
            self.questions[example.question] += 1
        self.labeled += bool(labels)
        self.answered += bool(example.references)


def with_labels(readings: Sequence[Reading], declared: StatedQuestion | None) -> tuple[list[Reading], LabelTable]:
    """Join the spellings of each label, and return the readings with one spelling and the table of labels.

    Args:
        readings: What was read.
        declared: The question that the user stated.

    Raises:
        SizewiseError: The declared question doesn't fit the labels.
    """
    table = LabelTable()
    for reading in readings:
        for example in reading.examples:
            table.add(example)
    question, several = declared, len(table.questions) > 1
    if question is None and len(table.questions) == 1 and table.questions.total() == table.examples:
        (question,) = table.questions
    _join(table, question.options if question else [one for asked in table.questions for one in asked.options])
    if not several:
        table.question = _found_question(table, question)
    else:
        table.notes.append(
            f"The rows ask {len(table.questions):,} different questions, so each example keeps its own; a classifier "
            "is trained on the rows of one question."
        )
    if not table.joined and not table.questions:
        return list(readings), table
    rewritten = [_rewritten(reading, lambda one: _relabeled(one, table, keep=several)) for reading in readings]
    return rewritten, table


def _join(table: LabelTable, options: Sequence[Option]) -> None:
    """Decide which spellings are one label: an option's own, or else the most frequent that looks as it is."""
    spellings: dict[str, Counter[str]] = {}
    for label, count in table.counts.items():
        spellings.setdefault(label_key(label), Counter())[label] = count
    for option in options:
        spellings.setdefault(label_key(option.value), Counter())
    own: dict[str, list[str]] = {}
    for value in dict.fromkeys(option.value for option in options):
        own.setdefault(label_key(value), []).append(value)
    for key, some in spellings.items():
        named = own.get(key, [])
        if len(named) > 1 or not some:
            continue  # the question tells them apart
        label = named[0] if named else min(some, key=lambda one: (visible_text(one) != one, -some[one], one))
        table.joined |= {one: label for one in some if one != label}
    if table.joined:
        examples = [
            f"{quote_label(one, label)} ({table.counts[one]:,}) with {quote_label(label, one)}"
            for one, label in table.joined.items()
        ]
        more = f" and {len(examples) - _LISTED:,} more" if len(examples) > _LISTED else ""
        table.notes.append(
            "Labels that differ only in case, blanks, invisible characters or the encoding of accents were joined: "
            f"{', '.join(examples[:_LISTED])}{more}. If they are different classes, name them differently."
        )
    for one, label in table.joined.items():
        table.counts[label] += table.counts.pop(one)
    table.alike = _alike(table.counts)
    for same in same_answers(sorted(table.counts)) if not own else ():
        shown = ", ".join(f"'{one}' ({table.counts[one]:,})" for one in same)
        table.notes.append(
            f"These labels may all mean the same, but are read as different ones: {shown}. If they do, write one of "
            "them in all rows."
        )
    absent = [one for one in sorted(table.counts) if (one.casefold() in MISSING or _is_filler(one, table)) and not own]
    if absent and len(table.counts) > 1:
        shown = ", ".join(f"'{one}' ({table.counts[one]:,})" for one in absent[:_LISTED])
        table.notes.append(
            f"These labels may stand for a missing label, but are read as labels: {shown}. If they do, leave the cells "
            "empty or remove the rows, or a classifier learns to predict them."
        )


def _is_filler(label: str, table: LabelTable) -> bool:
    """Return whether a label is the -1 beside classes that are numbered from 0, as in splits without labels."""
    others = set(table.counts) - {label}
    return label == "-1" and len(others) > 1 and others == {str(number) for number in range(len(others))}


def _alike(counts: Counter[str]) -> tuple[tuple[str, str], ...]:
    """Return pairs of labels that differ only in punctuation, accents, leading zeros, or in letters that look alike."""
    first: dict[str, str] = {}
    pairs = []
    for label in sorted(counts):
        if re.fullmatch(r"[-+]?[\d.,]+", label):
            key = label.lstrip("0") or "0" if _INTEGER.fullmatch(label) else label
        else:
            letters = unicodedata.normalize("NFD", fold_text(label)).translate(_LOOKALIKES)
            key = _SIGNS.sub("", "".join(one for one in letters if not "\u0300" <= one <= "\u036f"))
        if key and first.setdefault(key, label) != label:
            pairs.append((first[key], label))
    return tuple(pairs)


def _note_lists(table: LabelTable) -> None:
    """Note labels that look like lists of several: their parts recur in other combinations."""
    parts = {label: [one for one in _SEVERAL.split(label) if one] for label in table.counts}
    lists = [label for label, some in parts.items() if len(some) > 1]
    distinct = {one for some in parts.values() for one in some}
    if len(lists) > 1 and len(distinct) < len(parts):
        table.notes.append(
            f"{len(lists):,} of {len(parts):,} labels look like lists of labels, such as {quote_label(lists[0])}, but "
            "each is read as one class. If several labels may apply to a text, read the data with --type multi."
        )


def quote_label(label: str, other: str = "") -> str:
    """Quote a label on one line, shortened; with the codes of its characters if it would look like another one."""
    shown = shorten_text(re.sub(r"[^\S ]+", " ", label), MAX_SHOWN)
    alike = label != other and _looks(label) == _looks(other)
    if (alike and label != _looks(label)) or not shown.isprintable():
        return ascii(shown)
    return f"'{shown}'"


def _looks(label: str) -> str:
    return visible_text(label).translate(_LOOKALIKES)


def _found_question(table: LabelTable, question: StatedQuestion | None) -> Question | None:
    """Return the question that all examples answer, with the labels as options; None if they answer none.

    Raises:
        SizewiseError: A declared question doesn't fit the labels.
    """
    labels = table.counts
    if question is not None and question.options:
        if question.type == "multi":
            _check_separable([option.value for option in question.options])
        return Question(type=question.type, instructions=question.instructions, options=question.options)
    if len(labels) < 2 or table.labeled < MIN_LABELED_SHARE * table.answered:
        return None
    if len(labels) > MAX_OPTIONS:
        table.notes.append(
            f"The {labels.total():,} examples have {len(labels):,} different labels, too many to choose from (at most "
            f"{MAX_OPTIONS:,}); they are read as answers."
        )
        return None
    if labels.total() < MIN_PER_OPTION * len(labels) and question is None:
        return None
    kind = question.type if question else "multi" if table.has_several else ""
    predicate = positive_first(list(labels)) if len(labels) == 2 and kind in ("", "predicate") else None
    if kind == "predicate" and len(labels) != 2:
        raise SizewiseError(
            f"The question is declared a predicate, but the data have {len(labels):,} labels.",
            "two labels, or the type choice",
            "declare the options, or another type",
        )
    if kind == "multi":
        _check_separable(list(labels))
    ordered = predicate or (_levels(table) if kind == "score" else None) or sorted(labels, key=_natural)
    if not predicate:
        _note_combined(table, several=kind == "multi")
    return Question(
        type="predicate" if predicate else question.type if question else "multi" if kind else "choice",
        instructions=question.instructions if question else "",
        options=tuple(Option(value=label) for label in ordered),
    )


def _levels(table: LabelTable) -> list[str] | None:
    """Return the levels of a score in their order; None if they are numbers or, with a note, if it isn't known."""
    if all(_NUMBER.fullmatch(label) for label in table.counts):
        return None
    found = ordered_levels(list(table.counts))
    if found is None:
        shown = ", ".join(f"'{label}'" for label in sorted(table.counts)[:_LISTED])
        table.notes.append(
            f"The order of these levels of a score isn't known, so they are in alphabetical order: {shown}. If it is "
            "another, list them from the least to the greatest as options, in each row or under [data] of study.toml."
        )
    return found


def _check_separable(labels: Sequence[str]) -> None:
    """Check that no label is several others, joined as the labels of a text are written.

    Raises:
        SizewiseError: One is.
    """
    joined = next((one for one in labels if SEPARATOR in one and set(labels).issuperset(one.split(SEPARATOR))), None)
    if joined is not None:
        raise SizewiseError(
            f"The label '{joined}' can't be told from the labels {' and '.join(map(repr, joined.split(SEPARATOR)))}.",
            "labels of which none is written as several others",
            "rename it in the data; then run the same command again",
        )


def _note_combined(table: LabelTable, *, several: bool) -> None:
    """Note labels that join other labels, as people write several labels that apply to one text."""
    known = {label_key(label.strip(_LIST_SIGNS)) for label in table.counts}
    parts = {label: [one for one in _JOINED.split(label) if one.strip()] for label in table.counts}
    joined = [
        one
        for one in sorted(parts)
        if len(parts[one]) > 1 and {label_key(part.strip(_LIST_SIGNS)) for part in parts[one]} <= known
    ]
    if joined:
        shown = ", ".join(f"'{one}' ({table.counts[one]:,})" for one in joined[:_LISTED])
        declared = "If several labels may apply to a text, declare the type multi: sizewise read FILE --type multi."
        listed = "Separate the labels of a text with ';' in all rows, and list the labels as options."
        table.notes.append(
            f"These labels consist of other labels, but are read as labels of their own: {shown}. "
            + (listed if several else declared)
        )
    else:
        _note_lists(table)


def _natural(label: str) -> tuple[float, str]:
    """Return a sort key that orders numbers by size, before words; `nan` and `inf` are words."""
    return (float(label) if _NUMBER.fullmatch(label) else math.inf), label


def _relabeled(example: Example, table: LabelTable, *, keep: bool) -> Example:
    """Return an example with joined labels; its question goes unless examples have different ones."""
    changed: dict[str, object] = {}
    joined = table.joined
    if example.label in joined:
        changed["label"] = joined[example.label]
    if example.labels and not joined.keys().isdisjoint(example.labels):
        changed["labels"] = tuple(dict.fromkeys(joined.get(one, one) for one in example.labels))
    if "label" in changed and label_of(example):
        changed["references"] = (changed["label"],)
    elif "labels" in changed:
        changed["references"] = (SEPARATOR.join(changed["labels"]),)  # type: ignore[arg-type]
    if example.distribution and not joined.keys().isdisjoint(example.distribution):
        shares: dict[str, float] = {}
        for label, share in example.distribution.items():
            shares[joined.get(label, label)] = shares.get(joined.get(label, label), 0.0) + share
        changed["distribution"] = shares
    if example.question is not None:
        changed |= _asked(example, example.question) if keep else {"question": None}
    return example.model_copy(update=changed) if changed else example


def _asked(example: Example, question: StatedQuestion) -> dict[str, object]:
    """Put the question of an example into its prompt, because other examples ask another one."""
    changed: dict[str, object] = {}
    *before, last = example.messages
    if question.instructions and question.instructions not in last.content:
        content = f"{last.content}\n\n{question.instructions}"
        changed["messages"] = (*before, last.model_copy(update={"content": content}))
    if question.type != "multi":
        changed["choices"] = tuple(option.value for option in question.options)
    return changed


class _Changed(Rows[Example]):
    """Examples, each changed when it is read."""

    def __init__(self, rows: Rows[Example], change: Callable[[Example], Example]) -> None:
        self._rows, self._change = rows, change

    def append(self, row: Example, /) -> None:
        """Add an example."""
        self._rows.append(row)

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Example]:
        return map(self._change, self._rows)


def _rewritten(reading: Reading, change: Callable[[Example], Example]) -> Reading:
    return Reading(
        reading.documents,
        _Changed(reading.examples, change),
        reading.not_read,
        reading.notes,
        reading.forms,
        rejected=reading.rejected,
    )
