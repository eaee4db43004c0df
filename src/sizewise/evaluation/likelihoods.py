"""Likelihood of held-out text and of answers that could be chosen: rows of items."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from sizewise import datasets
from sizewise.metrics import ChoiceItem, LikelihoodItem, Metric
from sizewise.models import Model, ScoredText
from sizewise.models.prompts import question_prompt
from sizewise.progress import Reporter
from sizewise.records import Document, Example, ItemRow
from sizewise.store import Ledger

GROUP_CHARACTERS = 32_768
NOT_A_NUMBER = "the log-likelihood is not a number"


class Continuation(NamedTuple):
    """A text whose second part is measured after the first."""

    context: str
    text: str

    @property
    def bytes(self) -> int:
        """Length of the second part in UTF-8."""
        return len(self.text.encode("utf-8"))


def _groups(texts: Sequence[str]) -> Iterator[range]:
    """Cut a list into stretches that are scored together, whatever was scored before: the same bits after a kill."""
    start = size = 0
    for place, text in enumerate(texts):
        size += len(text)
        if size >= GROUP_CHARACTERS:
            yield range(start, place + 1)
            start, size = place + 1, 0
    if start < len(texts):
        yield range(start, len(texts))


def text_rows(
    model: Model, documents: Sequence[Document], metrics: Sequence[Metric], ledger: Ledger, reporter: Reporter
) -> list[ItemRow]:
    """Measure the likelihood of documents, a row for each passage."""
    done = ledger.entries("text")
    size, read, tokens, begun = sum(len(d.text) for d in documents), 0, 0, time.monotonic()
    for group in _groups([document.text for document in documents]):
        members = [documents[i] for i in group]
        if all(document.id in done for document in members):
            read += sum(len(document.text) for document in members)
            continue
        for document, scored in zip(members, model.score([document.text for document in members]), strict=True):
            ledger.append("text", document.id, {"passages": _by_passage(document, scored)})
            read, tokens = read + len(document.text), tokens + len(scored.nats)
            speed = tokens / (time.monotonic() - begun)
            reporter.advance("reading held-out text", read, size, f"{speed:,.0f} tokens/s")
    rows = []
    entries = ledger.entries("text")
    for document in documents:
        for item, nats, count, size_bytes, words in entries[document.id]["passages"]:
            measured = LikelihoodItem(nats, count, size_bytes, words)
            good = bool(np.isfinite(nats))
            rows.append(
                ItemRow(
                    item=item,
                    kind="passage",
                    cluster=document.id,
                    uncontaminated=True,
                    error=None if good else NOT_A_NUMBER,
                    stats={m.name: m.measure(measured) for m in metrics} if good else {},
                )
            )
    return rows


def _by_passage(document: Document, scored: ScoredText) -> list[tuple[str, float, int, int, int]]:
    """Give (item, nats, tokens, bytes, words) of each passage; a token belongs to where it begins."""
    spans = datasets.passages(document)
    edges = np.array([span.start for span in spans] + [len(document.text)])
    index = np.clip(np.searchsorted(edges, scored.starts, side="right") - 1, 0, len(spans) - 1)
    nats = np.bincount(index, weights=scored.nats, minlength=len(spans))
    tokens = np.bincount(index, minlength=len(spans))
    texts = [document.text[span.start : span.end] for span in spans]
    return [
        (span.item, float(nats[i]), int(tokens[i]), len(texts[i].encode("utf-8")), len(texts[i].split()))
        for i, span in enumerate(spans)
    ]


def continuation_nats(
    model: Model,
    groups: Sequence[tuple[str, Sequence[Continuation]]],
    topic: str,
    what: str,
    ledger: Ledger,
    reporter: Reporter,
    *,
    prefix: bool = True,
) -> dict[str, list[tuple[float, int]]]:
    """Give -log p and tokens of each continuation after its context.

    A token belongs to where it begins, so one that spans the border belongs to the context.

    Args:
        model: gives log-likelihoods.
        groups: item -> its continuations.
        topic: of the ledger.
        what: said to the reporter.
        ledger: keeps what was measured.
        reporter: told how far it is.
        prefix: see `Model.score`.
    """
    done = ledger.entries(topic)
    begun = time.monotonic()
    count = 0
    whole = ["".join(one.context + one.text for one in some) for _, some in groups]
    for stretch in _groups(whole):
        members = [groups[i] for i in stretch]
        if not all(item in done for item, _ in members):
            parts = [one for _, some in members for one in some]
            scored = iter(model.score([one.context + one.text for one in parts], prefix=prefix))
            for item, some in members:
                found = []
                for one, text in zip(some, scored, strict=False):
                    after = text.starts >= len(one.context)
                    found.append((float(text.nats[after].sum()), int(after.sum())))
                ledger.append(topic, item, {"nats": found})
        count += len(members)
        reporter.advance(what, count, len(groups), f"{count / max(1e-9, time.monotonic() - begun):,.1f} items/s")
    entries = ledger.entries(topic)
    return {item: [(nats, tokens) for nats, tokens in entries[item]["nats"]] for item, _ in groups}


def choice_rows(
    model: Model, examples: Sequence[Example], metrics: Sequence[Metric], ledger: Ledger, reporter: Reporter
) -> list[ItemRow]:
    """Measure which of an example's choices the model finds most likely, after the plain question."""
    groups = [(example.id, _choices(example)) for example in examples]
    nats = continuation_nats(model, groups, "choices", "weighing choices", ledger, reporter)
    rows = []
    for example, (_, parts) in zip(examples, groups, strict=True):
        values = tuple(value for value, _ in nats[example.id])
        good = bool(np.isfinite(values).all())
        item = ChoiceItem(values, tuple(part.bytes for part in parts), example.choices.index(example.references[0]))
        picked = example.choices[int(np.argmin(values))] if good else None
        rows.append(
            ItemRow(
                item=example.id,
                kind="choice",
                cluster=example.source,
                uncontaminated=True,
                prompt=example.prompt,
                references=example.references,
                completion=picked,
                error=None if good else NOT_A_NUMBER,
                stats={metric.name: metric.measure(item) for metric in metrics} if good else {},
            )
        )
    return rows


def _choices(example: Example) -> list[Continuation]:
    asked = "\n".join(message.content for message in example.messages)
    context = question_prompt(asked)
    return [Continuation(context, f" {choice}") for choice in example.choices]
