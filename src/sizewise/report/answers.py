"""Answers side by side: samples, the worst ones, and one that was won and one that was lost."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from itertools import groupby
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from sizewise.metrics import find_metric
from sizewise.metrics.display import number
from sizewise.records import ItemRow
from sizewise.report.view import StudyView
from sizewise.text import pieces_of, words_of

if TYPE_CHECKING:
    from markupsafe import Markup

ItemOrder = Literal["spread", "apart", "worst"]
SAMPLES, PAGE = 5, 10
MAX_WORST = 10
SHORT = 220
"""Characters of a text on the first screen."""
# Single answers are ranked by chrF, because BLEU is usually zero for a single short answer.
ITEM_METRICS = ("chrf", "token_f1", "rouge_l", "json_f1", "field_f1", "accuracy", "exact_match")
ALIKE = 0.05
"""Differences are compared in steps of this share of the largest one; among equals, the shortest texts are shown."""


class SideBySide(NamedTuple):
    """A test example with the answer of every candidate."""

    item: ItemRow
    answers: dict[str, str]


class WorstAnswer(NamedTuple):
    """One of the worst answers of a candidate."""

    item: ItemRow
    value: str


class Duel(NamedTuple):
    """One example on which a candidate did better, or worse, than its rival."""

    won: bool
    prompt: str
    reference: str
    ours: str
    theirs: str


def item_metric(view: StudyView) -> str | None:
    """Choose the metric that ranks single answers: the first of the list that was measured; None if none was."""
    measured = {name for rows in view.items.values() for row in rows for name in row.stats}
    return next((name for name in ITEM_METRICS if name in measured), None)


def item_value(row: ItemRow, metric: str | None) -> float | None:
    """Compute the score of a single answer; None if it wasn't measured."""
    stats = row.stats.get(metric or "")
    return None if metric is None or stats is None else float(find_metric(metric).value(np.array(stats)))


def examples_of(view: StudyView) -> list[ItemRow]:
    """List the test examples of the candidate with the most of them."""
    return max(([row for row in rows if row.kind == "example"] for rows in view.items.values()), key=len, default=[])


def side_by_side(view: StudyView, row: ItemRow) -> SideBySide:
    """Collect the answers of all candidates to one example."""
    answers = {name: other for name, rows in view.items.items() for other in rows if other.item == row.item}
    return SideBySide(row, {name: answer_text(item) for name, item in answers.items()})


def answer_text(item: ItemRow) -> str:
    """Return the answer, the error, or that there is none."""
    return item.completion or item.error or "(no answer)"


def sampled(view: StudyView) -> list[SideBySide]:
    """Sample the uncontaminated test examples at even intervals."""
    examples = [row for row in examples_of(view) if row.uncontaminated]
    step = max(1, len(examples) // SAMPLES)
    return [side_by_side(view, row) for row in examples[::step][:SAMPLES]]


def page_of_answers(view: StudyView, tag: str, order: ItemOrder, first: int, picked: str) -> list[SideBySide]:
    """List a page of test examples with the answer of every candidate.

    Args:
        view: the study.
        tag: keep only examples with this tag; empty for all.
        order: order of the examples.
        first: number of examples to skip.
        picked: candidate whose worst answers come first in that order.
    """
    rows = [row for row in examples_of(view) if not tag or tag in view.tags.get(row.item, ())]
    if order == "spread":
        rows = sorted(rows, key=lambda row: hashlib.sha256(row.item.encode()).hexdigest())
    else:
        metric = item_metric(view)
        values = {name: {row.item: item_value(row, metric) for row in items} for name, items in view.items.items()}
        ours = values.get(picked) or next(iter(values.values()))

        def key(row: ItemRow) -> float:
            scores = [score for by_item in values.values() if (score := by_item.get(row.item)) is not None]
            return ours.get(row.item) or 0.0 if order == "worst" else min(scores, default=0) - max(scores, default=0)

        rows = sorted(rows, key=lambda row: (key(row), row.item))
    return [side_by_side(view, row) for row in rows[first : first + PAGE]]


def worst_answers(rows: Sequence[ItemRow], metric: str | None) -> list[WorstAnswer]:
    """List the answers of a candidate with the lowest score."""
    valued = [(value, row) for row in rows if row.kind == "example" and (value := item_value(row, metric)) is not None]
    valued.sort(key=lambda pair: (pair[0], pair[1].item))
    return [WorstAnswer(row, number(value)) for value, row in valued[:MAX_WORST]]


def won_and_lost(items: Mapping[str, Sequence[ItemRow]], metric: str | None, ours: str, theirs: str) -> list[Duel]:
    """Find the example that a candidate wins most clearly against its rival, and the one that it loses."""
    rivals = {row.item: row for row in items.get(theirs, ())}
    pairs = []
    for row in items.get(ours, ()):
        rival = rivals.get(row.item)
        if row.kind != "example" or rival is None or not row.references:
            continue
        values = item_value(row, metric), item_value(rival, metric)
        if values[0] is not None and values[1] is not None:
            pairs.append((values[0] - values[1], row, rival))
    found = []
    for won in (True, False):
        sign = 1 if won else -1
        largest = max((sign * gap for gap, _, _ in pairs), default=0.0)
        if largest <= 0:
            continue
        near = [(row, rival) for gap, row, rival in pairs if sign * gap >= (1 - ALIKE) * largest]
        row, rival = min(near, key=lambda pair: (_length(*pair), pair[0].item))
        found.append(Duel(won, shortened(row.prompt), shortened(row.references[0]), *map(_shown, (row, rival))))
    return found


def _length(row: ItemRow, rival: ItemRow) -> int:
    return sum(len(text) for text in (row.prompt, row.references[0], answer_text(row), answer_text(rival)))


def _shown(row: ItemRow) -> str:
    return shortened(answer_text(row))


def shortened(text: str) -> str:
    """Cut a long text at its end, between words where there are any."""
    text = " ".join(text.split())
    if len(text) <= SHORT:
        return text
    cut = text[:SHORT]
    return (cut.rpartition(" ")[0] or cut).rstrip(" ,.;:") + " …"


def _words_and_spaces(text: str) -> list[str]:
    """Split a text into words and the spaces between them, in turn; a space is empty in scripts that have none."""
    parts: list[str] = []
    for piece in pieces_of(text):
        word = piece.lstrip()
        parts += [piece[: len(piece) - len(word)], word]
    return parts[1:] if parts and not parts[0] else ["", *parts]


def _folded(word: str) -> str:
    return "".join(words_of(word))


def marked(answer: str, reference: str) -> Markup:
    """Highlight the words of an answer that the reference answer doesn't contain in the same order."""
    from markupsafe import Markup, escape

    words = _words_and_spaces(answer)
    positions = [i for i, word in enumerate(words) if word.strip()]
    plain, expected = (
        [_folded(word) for word in part] for part in ((words[i] for i in positions), pieces_of(reference))
    )
    matching: set[int] = set()
    matcher = SequenceMatcher(None, plain, expected, autojunk=False)
    for block in matcher.get_matching_blocks():
        matching.update(positions[block.a : block.a + block.size])
    # The space between two highlighted words is highlighted too, so that a run becomes a single mark.
    highlighted = [word.strip() != "" and i not in matching for i, word in enumerate(words)]
    for i in range(1, len(words) - 1, 2):
        highlighted[i] = highlighted[i - 1] and highlighted[i + 1]
    parts = []
    for is_highlighted, run in groupby(zip(highlighted, words, strict=True), key=lambda pair: pair[0]):
        text = "".join(word for _, word in run)
        parts.append(Markup("<mark>{}</mark>").format(text) if is_highlighted else escape(text))
    return Markup("").join(parts)
