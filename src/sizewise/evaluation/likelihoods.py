"""Scores held-out text and multiple-choice options by log-likelihood, one row per item."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from sizewise import datasets
from sizewise.metrics import ChoiceItem, LikelihoodItem, Metric
from sizewise.metrics.base import FloatArray
from sizewise.metrics.likelihood import LEAST_LIKELY_SHARE
from sizewise.models import Model, ScoredText
from sizewise.models.prompts import question_prompt
from sizewise.progress import Reporter
from sizewise.records import Document, Example, ItemRow
from sizewise.store import Ledger
from sizewise.text import pieces_of

BATCH_CHARACTERS = 32_768
NOT_A_NUMBER = "the log-likelihood is not a number"


class Continuation(NamedTuple):
    """A text to score, and the context before it, which isn't scored."""

    context: str
    text: str

    @property
    def bytes(self) -> int:
        """Length of the scored text in UTF-8."""
        return len(self.text.encode("utf-8"))


def _batches(texts: Sequence[str]) -> Iterator[range]:
    """Split a list into batches that depend only on the texts, so a resumed run gets bit-identical scores."""
    start = size = 0
    for index, text in enumerate(texts):
        size += len(text)
        if size >= BATCH_CHARACTERS:
            yield range(start, index + 1)
            start, size = index + 1, 0
    if start < len(texts):
        yield range(start, len(texts))


def text_rows(
    model: Model, documents: Sequence[Document], metrics: Sequence[Metric], ledger: Ledger, reporter: Reporter
) -> list[ItemRow]:
    """Score the log-likelihood of documents, one row per passage."""
    done = ledger.entries("text")
    size, read, tokens, begun = sum(len(d.text) for d in documents), 0, 0, time.monotonic()
    for batch in _batches([document.text for document in documents]):
        members = [documents[i] for i in batch]
        if all(document.id in done for document in members):
            read += sum(len(document.text) for document in members)
            continue
        for document, scored in zip(members, model.score([document.text for document in members]), strict=True):
            ledger.append("text", document.id, {"passages": _by_passage(document, scored)})
            read, tokens = read + len(document.text), tokens + len(scored.nats)
            speed = tokens / (time.monotonic() - begun)
            reporter.advance("Scoring held-out text", read, size, f"{speed:,.0f} tokens/s")
    rows = []
    entries = ledger.entries("text")
    for document in documents:
        for item, *numbers in entries[document.id]["passages"]:
            measured = LikelihoodItem(*numbers)
            nats = measured.nats
            finite = bool(np.isfinite(nats))
            rows.append(
                ItemRow(
                    item=item,
                    kind="passage",
                    cluster=document.id,
                    uncontaminated=True,
                    error=None if finite else NOT_A_NUMBER,
                    stats={m.name: m.measure(measured) for m in metrics} if finite else {},
                )
            )
    return rows


def _by_passage(document: Document, scored: ScoredText) -> list[tuple[str, float, int, int, int, float]]:
    """Split scores into an item and the fields of a LikelihoodItem per passage; a token counts where it starts."""
    spans = datasets.passages(document)
    edges = np.array([span.start for span in spans] + [len(document.text)])
    index = np.clip(np.searchsorted(edges, scored.starts, side="right") - 1, 0, len(spans) - 1)
    nats = np.bincount(index, weights=scored.nats, minlength=len(spans))
    tokens = np.bincount(index, minlength=len(spans))
    texts = [document.text[span.start : span.end] for span in spans]
    parts = np.split(scored.nats[np.argsort(index, kind="stable")], np.cumsum(tokens)[:-1])
    return [
        (
            span.item,
            float(nats[i]),
            int(tokens[i]),
            len(texts[i].encode("utf-8")),
            sum(not piece.isspace() for piece in pieces_of(texts[i])),
            _min_k_logprob(parts[i]),
        )
        for i, span in enumerate(spans)
    ]


def _min_k_logprob(nats: FloatArray) -> float:
    """Compute the mean log-probability of the least likely tokens; not a number if there are no tokens."""
    count = max(1, int(LEAST_LIKELY_SHARE * len(nats)))
    return -float(np.sort(nats)[-count:].mean()) if len(nats) else float("nan")


def continuation_nats(
    model: Model,
    groups: Sequence[tuple[str, Sequence[Continuation]]],
    topic: str,
    title: str,
    ledger: Ledger,
    reporter: Reporter,
    *,
    prefix: bool = True,
) -> dict[str, list[tuple[float, int]]]:
    """Compute -log p in nats and the token count of each continuation, given its context.

    A token counts where it starts, so one that spans the boundary belongs to the context.

    Args:
        model: model that returns log-likelihoods.
        groups: (item id, its continuations) pairs.
        topic: ledger topic.
        title: label of the progress bar.
        ledger: stores scores as they arrive.
        reporter: receives progress.
        prefix: see `Model.score`.

    Returns:
        Item id -> (nats, tokens) of each of its continuations.
    """
    done = ledger.entries(topic)
    begun = time.monotonic()
    count = 0
    texts = ["".join(part.context + part.text for part in parts) for _, parts in groups]
    for batch in _batches(texts):
        members = [groups[i] for i in batch]
        if not all(item in done for item, _ in members):
            everything = [part.context + part.text for _, parts in members for part in parts]
            scored = iter(model.score(everything, prefix=prefix))
            for item, parts in members:
                sums = []
                for part, text in zip(parts, scored, strict=False):
                    after = text.starts >= len(part.context)
                    sums.append((float(text.nats[after].sum()), int(after.sum())))
                ledger.append(topic, item, {"nats": sums})
        count += len(members)
        reporter.advance(title, count, len(groups), f"{count / max(1e-9, time.monotonic() - begun):,.1f} items/s")
    entries = ledger.entries(topic)
    return {item: [(nats, tokens) for nats, tokens in entries[item]["nats"]] for item, _ in groups}


def choice_rows(
    model: Model, examples: Sequence[Example], metrics: Sequence[Metric], ledger: Ledger, reporter: Reporter
) -> list[ItemRow]:
    """Score the choices of each example by log-likelihood after the plain question."""
    groups = [(example.id, _choices(example)) for example in examples]
    nats = continuation_nats(model, groups, "choices", "Scoring choices", ledger, reporter)
    rows = []
    for example, (_, parts) in zip(examples, groups, strict=True):
        values = tuple(value for value, _ in nats[example.id])
        finite = bool(np.isfinite(values).all())
        item = ChoiceItem(values, tuple(part.bytes for part in parts), example.choices.index(example.references[0]))
        picked = example.choices[int(np.argmin(values))] if finite else None
        rows.append(
            ItemRow(
                item=example.id,
                kind="choice",
                cluster=example.source,
                uncontaminated=True,
                prompt=example.prompt,
                references=example.references,
                completion=picked,
                error=None if finite else NOT_A_NUMBER,
                stats={metric.name: metric.measure(item) for metric in metrics} if finite else {},
            )
        )
    return rows


def _choices(example: Example) -> list[Continuation]:
    question = "\n".join(message.content for message in example.messages)
    context = question_prompt(question)
    return [Continuation(context, f" {choice}") for choice in example.choices]
