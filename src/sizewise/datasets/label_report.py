"""Report on labels: balance, labels unseen in training, contradictions, and likely label errors."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sizewise.datasets.label_search import search
from sizewise.datasets.labels import LabelTable, label_of, quote_label
from sizewise.datasets.listing import Listed
from sizewise.documents.reading import Rows
from sizewise.records import SPLITS, Example, LabelError, LabelReport, Split
from sizewise.text import fold_text, shorten_text

LABEL_ERRORS = "label_errors.jsonl"
MAX_TEXT, MAX_LISTED = 500, 10_000
IMBALANCED = 10
"""Size of the largest class, as a multiple of the smallest, from which a dataset counts as imbalanced."""
MAX_NAMED, MIN_NAMED = 2_000, 20
"""Examples that are searched for their own label, and least number of them."""
MIN_TESTED, MIN_TEST_EXAMPLES = 5, 20
"""Test examples of a label below which its recognition can't be judged, and of all labels from which this is noted."""
_SHOWN = 5
_NO_WORD = re.compile(r"[\W_]+")


class Conflicts(NamedTuple):
    """Texts that occur with different labels."""

    texts: int
    """Number of such texts."""
    others: dict[int, str]
    """Index of an example with such a text -> the label that most of the others have."""


def find_conflicts(listed: Listed) -> Conflicts:
    """Find the texts that occur with different labels, ignoring case and punctuation."""
    kept = np.fromiter(listed.kept(), np.int64)
    prompts = np.asarray(listed.prompts, np.uint64)[kept]
    order = np.argsort(prompts, kind="stable")
    same = prompts[order[1:]] == prompts[order[:-1]]
    texts, others = 0, {}
    start = 0
    for end in [*(np.flatnonzero(~same) + 1).tolist(), len(order)]:
        members, start = kept[order[start:end]].tolist(), end
        labels = [listed.labels[i] for i in members]
        if len(members) < 2 or len(set(labels) - {""}) < 2:
            continue
        texts += 1
        for i, label in zip(members, labels, strict=True):
            rest = Counter(other for other in labels if other not in (label, ""))
            if label:
                others[i] = min(rest, key=lambda one: (-rest[one], one))
    return Conflicts(texts, others)


def count_near_conflicts(listed: Listed, pairs: Sequence[tuple[int, int]]) -> int:
    """Count near-duplicates with different labels whose texts aren't the same."""
    return sum(
        bool(listed.labels[i] and listed.labels[first])
        and listed.labels[i] != listed.labels[first]
        and listed.prompts[i] != listed.prompts[first]
        for i, first in pairs
    )


class _Named:
    """Counts the texts that contain their own label, and those that contain the label of another text."""

    def __init__(self) -> None:
        self._n = self._own = self._other = self._compared = 0
        self._before = ""

    def add(self, example: Example, label: str) -> None:
        """Count one of the first examples."""
        if self._n >= MAX_NAMED:
            return
        text = _words("\n".join(message.content[:MAX_NAMED] for message in example.messages))
        self._n += 1
        self._own += _words(label) in text
        if self._before and self._before != label:
            self._compared += 1
            self._other += _words(self._before) in text
        self._before = label

    def notes(self) -> list[str]:
        """Return a note if nearly all texts contain their own label and few another one."""
        if self._compared < MIN_NAMED or self._own < 0.95 * self._n or self._other > 0.2 * self._compared:
            return []
        return [
            f"{self._own:,} of {self._n:,} texts contain their own label. If the texts to decide won't contain it, all "
            "scores here are too good: remove it from the texts, and read them again."
        ]


def _words(text: str) -> str:
    return f" {' '.join(_NO_WORD.sub(' ', fold_text(text)).split())} "


class LabelTally:
    """Counts the labels of the examples as they are written to their splits.

    Args:
        table: The labels of all readings.
        listed: The examples.
    """

    def __init__(self, table: LabelTable, listed: Listed) -> None:
        self._table, self._listed = table, listed
        self.active = bool(table.counts)
        self._counts: dict[Split, Counter[str]] = {split: Counter() for split in SPLITS}
        self._unlabeled = self._distributions = self._ties = self._examples = 0
        self._labels: dict[Split, list[str]] = {split: [] for split in SPLITS}
        self._conflicts = find_conflicts(listed) if self.active and not table.has_several else Conflicts(0, {})
        self._doubtful: list[LabelError] = []
        self._named = _Named()

    def add(self, index: int, example: Example, split: Split) -> None:
        """Count an example; `index` is its place in the listing."""
        if not self.active:
            return
        label = label_of(example)
        labels = example.labels or ((label,) if label else ())
        self._labels[split].append("" if example.labels else label)
        self._counts[split].update(labels)
        self._examples += bool(labels)
        self._unlabeled += not labels
        if label and not example.labels:
            self._named.add(example, label)
        if example.distribution and not example.labels:
            shares = sorted(example.distribution.values())
            self._distributions += 1
            self._ties += len(shares) > 1 and bool(np.isclose(shares[-1], shares[-2]))
        if index in self._conflicts.others and len(self._doubtful) < MAX_LISTED:
            self._doubtful.append(_row(example, split, label, self._conflicts.others[index], "same text"))

    def report(
        self, examples: Mapping[Split, Sequence[Example]], near: Sequence[tuple[int, int]], errors: Rows[LabelError]
    ) -> LabelReport | None:
        """Compute the report, and list the examples whose label is doubtful.

        Args:
            examples: Split -> examples.
            near: Pairs of near-duplicates, by index.
            errors: Where to list them.
        """
        if not self.active or not self._examples:
            return None
        total: Counter[str] = sum(self._counts.values(), Counter())
        searched = self._searched(examples, errors)
        for row in self._doubtful:
            errors.append(row)
        known = self._counts["train"]
        return LabelReport(
            examples=self._examples,
            unlabeled=self._unlabeled,
            counts=dict(sorted(total.items(), key=lambda one: (-one[1], one[0]))),
            splits={split: dict(sorted(counts.items())) for split, counts in self._counts.items()},
            singletons=tuple(sorted(label for label, count in total.items() if count == 1)),
            unseen={label: total[label] for label in sorted(total) if not known[label]} if known else {},
            joined=dict(sorted(self._table.joined.items())),
            alike=self._table.alike,
            distributions=self._distributions,
            ties=self._ties,
            conflicts=self._conflicts.texts,
            conflicting_examples=len(self._conflicts.others),
            near_conflicts=0 if self._table.has_several else count_near_conflicts(self._listed, near),
            **searched,
        )

    def notes(self) -> list[str]:
        """Return a note if the texts contain their own labels, which makes every score too good."""
        return self._named.notes()

    def _searched(self, examples: Mapping[Split, Sequence[Example]], errors: Rows[LabelError]) -> dict[str, Any]:
        if self._table.has_several:
            return {"missing_reason": "several labels may apply to a text; the search expects one"}
        labels = [label for split in SPLITS for label in self._labels[split]]
        starts = np.cumsum([0, *(len(self._labels[split]) for split in SPLITS)])

        def at(place: int) -> tuple[Split, Example]:
            number = int(np.searchsorted(starts, place, side="right")) - 1
            return SPLITS[number], examples[SPLITS[number]][place - int(starts[number])]

        found = search(lambda place: at(place)[1], labels)
        if found.errors is None:
            return {"missing_reason": found.reason}
        for number, suggested, margin in zip(*found.errors[:3], strict=True):
            if len(errors) >= MAX_LISTED:
                break
            split, example = at(found.examples[number])
            row = _row(example, split, labels[found.examples[number]], found.labels[suggested], "classifier")
            errors.append(row.model_copy(update={"margin": round(float(margin), 4)}))
        return {
            "searched": len(found.examples),
            "likely_errors": len(found.errors.places),
            "estimated_errors": round(found.errors.estimated, 1),
            "out_of_fold_accuracy": round(found.accuracy, 4),
        }


def _row(example: Example, split: Split, label: str, suggested: str, reason: Any) -> LabelError:
    text = "\n".join(message.content for message in example.messages)
    return LabelError(
        item=example.id,
        split=split,
        text=shorten_text(text, MAX_TEXT),
        label=label,
        suggested=suggested,
        reason=reason,
    )


def label_lines(report: LabelReport) -> list[str]:
    """Describe a report in words, one finding a line."""
    names = list(report.counts)
    largest, smallest = names[0], names[-1]
    lines = [
        f"labels: {len(names):,} on {report.examples:,} examples; most frequent {quote_label(largest)} "
        f"({report.counts[largest]:,}, {report.most_frequent_share:.1%})"
        + (f", rarest {quote_label(smallest, largest)} ({report.counts[smallest]:,})" if len(names) > 1 else "")
    ]
    if report.unlabeled:
        lines.append(f"examples without a label: {report.unlabeled:,}")
    if len(names) > 1 and report.imbalance >= IMBALANCED:
        lines.append(
            f"imbalanced: {quote_label(largest)} is {report.imbalance:,.0f} times as frequent as "
            f"{quote_label(smallest)}; accuracy says little here, see macro_f1 and the scores per class"
        )
    if report.singletons:
        lines.append(f"labels with one example: {_some(report.singletons)}")
    if report.unseen:
        seen = [f"{quote_label(label)} ({count:,})" for label, count in report.unseen.items()]
        lines.append(f"labels without a training example, which nothing can learn: {_some(seen, quoted=True)}")
    if report.alike:
        pairs = [f"{quote_label(one, other)} and {quote_label(other, one)}" for one, other in report.alike]
        lines.append(f"labels that may be one label in two spellings (left apart): {_some(pairs, quoted=True)}")
    if report.distributions:
        ties = f", {report.ties:,} without a most frequent label" if report.ties else ""
        lines.append(f"examples with a distribution of labels: {report.distributions:,}{ties}")
    if report.conflicts:
        lines.append(f"texts with different labels: {report.conflicts:,} ({report.conflicting_examples:,} examples)")
    if report.near_conflicts:
        lines.append(f"near-duplicates with different labels: {report.near_conflicts:,}")
    if report.likely_errors is not None:
        part = "" if report.searched == report.examples else f", a sample of {report.examples:,}"
        lines.append(
            f"likely label errors: {report.likely_errors:,} of {report.searched:,} examples searched{part} (a linear "
            f"classifier predicts {report.out_of_fold_accuracy:.1%} of the labels without having seen them)"
        )
    elif report.missing_reason:
        lines.append(f"label errors not searched: {report.missing_reason}")
    return lines


def label_notes(report: LabelReport) -> list[str]:
    """Return what readers of scores must know about the labels."""
    notes = []
    if report.unseen:
        count = sum(report.unseen.values())
        notes.append(
            f"{count:,} examples for validation or testing have a label without any training example "
            f"({_some(tuple(report.unseen))}); no model that is trained here can predict it."
        )
    tested = report.splits.get("test", {})
    rare = [label for label in report.counts if tested.get(label, 0) < MIN_TESTED]
    if rare and len(rare) < len(report.counts) and sum(tested.values()) >= MIN_TEST_EXAMPLES:
        shown = [f"{quote_label(label)} ({tested.get(label, 0)})" for label in rare]
        notes.append(
            f"Labels with fewer than {MIN_TESTED} test examples, too few to tell how well they are recognized: "
            f"{_some(shown, quoted=True)}."
        )
    return notes


def _some(names: Sequence[str], quoted: bool = False) -> str:
    shown = [name if quoted else quote_label(name) for name in names[:_SHOWN]]
    return ", ".join(shown) + (f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else "")
