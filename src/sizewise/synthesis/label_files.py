"""Estimate the labels of a committee, and write the labeled texts and those that people should label."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from sizewise.controls import spreadsheet_cell
from sizewise.metrics.proportion import proportion_score
from sizewise.records import Labeling, Message, Question
from sizewise.stats.consensus import Consensus, choose_batch, estimate_labels, with_stated
from sizewise.store import write_atomically
from sizewise.synthesis.label_journal import Journal
from sizewise.text.ngrams import hash_words

DISAGREEMENT, CHECK = "disagreement", "check"
CHECK_SHARE = 0.2
"""Part of the texts for people that is chosen at random from those whose label is likely."""
LIKELY = 0.9
MIN_PROBABILITY = 0.5
MIN_SHARE = 0.01
"""Labels of a lower probability are left out of a distribution."""
MAX_POOL, PER_PLACE = 2_000, 20
"""Texts among which the batch for people is chosen: so many, or so many per text that is asked for."""
_BUCKETS = 1 << 18
FloatArray = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]


class LabeledText(NamedTuple):
    """A distinct text."""

    id: str
    messages: tuple[Message, ...]
    text: str
    given: str
    """A label that it had before."""
    occurrences: int
    """How often it occurs."""


class LabelOptions(NamedTuple):
    """How texts are labeled.

    Attributes:
        ask: Number of texts for people.
        min_probability: Texts without a label of this probability are left out.
        max_usd: Spending limit for each remote model.
        seed: Seed of the texts that are checked.
        prompt: Column of the text; detected if empty.
        label: Column of the label that some texts have; detected if empty.
    """

    ask: int = 50
    min_probability: float = MIN_PROBABILITY
    max_usd: float | None = None
    seed: int = 0
    prompt: str = ""
    label: str = ""


class _Votes(NamedTuple):
    votes: Places
    """(texts, models) option, -1 for none."""
    known: Places
    """(texts,) option that people settled, -1 for none."""
    stated: FloatArray
    """(texts, options) mean of the stated probabilities."""


def ask_path(out: Path) -> Path:
    """Return the path of the file for people."""
    return out.with_name(f"{out.stem}.ask.csv")


def journal_path(out: Path) -> Path:
    """Return the path of the votes and of people's labels."""
    return out.with_name(f"{out.stem}.votes.jsonl")


def write_labels(
    out: Path,
    usd: Mapping[str, float | None],
    texts: Mapping[str, LabeledText],
    question: Question,
    journal: Journal,
    options: LabelOptions,
) -> Labeling:
    """Write the labeled texts and those for people, and summarize them.

    Args:
        out: File of labeled texts.
        usd: Model -> its cost.
        texts: Key -> text.
        question: The question with its options.
        journal: Votes and people's labels.
        options: How texts are labeled.
    """
    values, by = [option.value for option in question.options], list(usd)
    counted = _counted(by, texts, values, journal)
    consensus = estimate_labels(counted.votes, len(values), known=counted.known)
    probabilities = with_stated(consensus, counted.stated, counted.known).probabilities
    voted = (counted.votes >= 0).any(axis=1) | (counted.known >= 0)
    kept = voted & (probabilities.max(axis=1) >= options.min_probability)
    rows = [
        json.dumps(_row(text, values, probabilities[i], counted.known[i] >= 0), ensure_ascii=False) + "\n"
        for i, text in enumerate(texts.values())
        if kept[i]
    ]
    write_atomically(out.resolve(), rows)
    asked = _chosen(list(texts.values()), probabilities, counted, options)
    _write_ask(ask_path(out), asked, list(texts.values()), values, probabilities, (by, counted.votes))
    checks = [one for key, one in journal.settled.items() if one.reason == CHECK and key in texts]
    several = (counted.votes >= 0).sum(axis=1) > 1
    same = (np.where(counted.votes < 0, counted.votes.max(axis=1, keepdims=True, initial=-1), counted.votes)).T
    unanimous = (same == same[0]).all(axis=0) if by else np.zeros(len(texts), bool)
    paid = [one for one in usd.values() if one is not None]
    return Labeling(
        by=tuple(by),
        options=tuple(values),
        texts=len(texts),
        settled=int((counted.known >= 0).sum()),
        unanimous=proportion_score(
            "unanimous", int((unanimous & several).sum()), int(several.sum()), missing_reason="only one model voted"
        ),
        accuracies=_accuracies(by, consensus, counted),
        unanswered={uri: int((counted.votes[:, i] < 0).sum()) for i, uri in enumerate(by)},
        written=len(rows),
        left_out=len(texts) - len(rows),
        asked=len(asked),
        checked=proportion_score(
            "confirmed",
            sum(one.label == one.suggested for one in checks),
            len(checks),
            missing_reason="no agreed label was checked by people yet",
        ),
        usd=sum(paid) if paid else None,
        file=str(out.resolve()),
        ask_file=str(ask_path(out).resolve()) if asked else "",
    )


def _accuracies(by: Sequence[str], consensus: Consensus, counted: _Votes) -> dict[str, float | None]:
    """Return the estimated accuracy of each model; None for one that no other model and no person can confirm."""
    votes = counted.votes >= 0
    confirmed = (votes.sum(axis=1) > 1) | (counted.known >= 0)
    voted = [bool((votes[:, i] & confirmed).any()) for i in range(len(by))]
    return {uri: round(float(consensus.accuracies[i]), 4) if voted[i] else None for i, uri in enumerate(by)}


def _counted(by: Sequence[str], texts: Mapping[str, LabeledText], values: Sequence[str], journal: Journal) -> _Votes:
    place = {value: i for i, value in enumerate(values)}
    votes = np.full((len(texts), len(by)), -1, np.int64)
    known = np.full(len(texts), -1, np.int64)
    stated, stating = np.zeros((len(texts), len(values))), np.zeros(len(texts))
    for i, key in enumerate(texts):
        if key in journal.settled:
            known[i] = place.get(journal.settled[key].label, -1)
        for rater, uri in enumerate(by):
            vote = journal.votes.get(uri, {}).get(key)
            if vote is None:
                continue
            votes[i, rater] = place.get(vote.label, -1)
            for value, share in vote.probabilities.items():
                stated[i, place[value]] += share
            stating[i] += bool(vote.probabilities)
    return _Votes(votes, known, stated / np.maximum(stating, 1)[:, None])


def _row(text: LabeledText, values: Sequence[str], probabilities: FloatArray, by_people: bool) -> dict[str, Any]:
    """Return a row that `sizewise read` reads as a labeled example."""
    if len(text.messages) > 1:
        asked: dict[str, Any] = {"messages": [message.model_dump() for message in text.messages]}
    else:
        asked = {"text": text.messages[0].content}
    row = {"id": text.id, **asked, "label": values[int(probabilities.argmax())]}
    shares = {value: float(share) for value, share in zip(values, probabilities, strict=True) if share >= MIN_SHARE}
    if not by_people and len(shares) > 1:
        total = sum(shares.values())
        row["label_distribution"] = {value: share / total for value, share in shares.items()}
    return row | {"tags": ["people" if by_people else "committee"]}


def _chosen(
    texts: Sequence[LabeledText], probabilities: FloatArray, counted: _Votes, options: LabelOptions
) -> list[tuple[int, str]]:
    """Choose the texts for people: the least certain ones that aren't alike, and some likely ones at random.

    Settling a text is worth the probability that its label is wrong, once for each time that the text occurs.
    """
    best = probabilities.max(axis=1)
    is_open = counted.known < 0
    counts = np.array([text.occurrences for text in texts], np.float64)
    likely = np.flatnonzero(is_open & (best >= LIKELY) & (counted.votes >= 0).any(axis=1)).tolist()
    size = min(len(likely), round(options.ask * CHECK_SHARE))
    checks = random.Random(f"{options.seed} {int((~is_open).sum())}").sample(likely, size)
    values = np.where(is_open, (1 - best) * counts, 0.0)
    values[checks] = 0
    pool = np.argsort(-values, kind="stable")[: min(MAX_POOL, PER_PLACE * options.ask)]
    similar = _similarity([texts[i].text for i in pool.tolist()])
    batch = choose_batch(values[pool], similar, options.ask - size)
    return [*((int(pool[i]), DISAGREEMENT) for i in batch), *((i, CHECK) for i in checks)]


def _similarity(texts: Sequence[str]) -> FloatArray:
    """Return the cosine similarity of texts by their words, (texts, texts)."""
    rows, columns = [], []
    for number, text in enumerate(texts):
        hashes = (np.unique(hash_words(text).hashes) % np.uint64(_BUCKETS)).astype(np.int64)
        rows.append(np.full(len(hashes), number))
        columns.append(hashes)
    if not texts:
        return np.zeros((0, 0))
    at = (np.concatenate(rows), np.concatenate(columns))
    words = csr_array((np.ones(len(at[0])), at), shape=(len(texts), _BUCKETS))
    common = np.asarray((words @ words.T).toarray(), np.float64)
    norms = np.sqrt(np.maximum(common.diagonal(), 1))
    return np.clip(common / norms[:, None] / norms, 0, 1)


def _write_ask(
    path: Path,
    asked: Sequence[tuple[int, str]],
    texts: Sequence[LabeledText],
    values: Sequence[str],
    probabilities: FloatArray,
    votes: tuple[Sequence[str], Places],
) -> None:
    """Write the texts for people, with an empty label and the models' votes; no cell runs as a formula."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    headings = ["id", "text", "label", "suggested", "probability", "reason", "occurrences", *votes[0]]
    writer.writerow(map(spreadsheet_cell, headings))
    for i, reason in asked:
        best = int(probabilities[i].argmax())
        given = [values[vote] if vote >= 0 else "" for vote in votes[1][i].tolist()]
        shown = f"{probabilities[i, best]:.2f}"
        row = [texts[i].id, texts[i].text, "", values[best], shown, reason, texts[i].occurrences, *given]
        writer.writerow(map(spreadsheet_cell, row))
    write_atomically(path.resolve(), "\ufeff" + file.getvalue())  # Excel reads it as UTF-8
