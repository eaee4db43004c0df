"""Scores held-out text and multiple-choice options by log-likelihood, one row per item."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from sizewise import datasets
from sizewise.errors import ScoringError, SizewiseError
from sizewise.inquiry import Inquiry, Work
from sizewise.metrics import ChoiceItem, LikelihoodItem, Metric
from sizewise.metrics.base import FloatArray
from sizewise.metrics.likelihood import LEAST_LIKELY_SHARE
from sizewise.models import Model, ScoredText
from sizewise.models.base import score_after
from sizewise.models.on_ray import ScoreJob
from sizewise.models.prompts import question_prompt
from sizewise.records import Document, Example, ItemRow, ModelDescription
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


class _Group(NamedTuple):
    """Texts that are scored together and make one entry of the ledger."""

    name: str
    texts: list[str]
    after: list[int] | None = None
    """Character from which the tokens of each text are scored; None to score all."""


def _scored(
    model: Model, groups: Sequence[_Group], prefix: bool
) -> Iterator[tuple[_Group, list[ScoredText] | ScoringError]]:
    """Score groups of texts; one of which a text failed comes with the error, and the others go on."""
    left = list(groups)
    while left:
        texts = [text for group in left for text in group.texts]
        if left[0].after is None:
            scores = iter(model.score(texts, prefix=prefix))
        else:
            scores = score_after(model, texts, [begin for group in left for begin in group.after or ()], prefix=prefix)
        try:
            while left:
                found = [next(scores) for _ in left[0].texts]
                check_numbers(model.describe(), left[0].name, sum(float(one.nats.sum()) for one in found))
                yield left.pop(0), found
        except ScoringError as error:
            yield left.pop(0), error


def check_numbers(described: ModelDescription, name: str, nats: float) -> None:
    """Check that a model returned numbers; of impossible text, they are infinite.

    Args:
        described: the model.
        name: what it scored.
        nats: sum of the negative log-likelihoods.

    Raises:
        SizewiseError: a log-likelihood is not a number, so the model computes nothing that could be measured.
    """
    if math.isnan(nats):
        precision = f" in {described.precision}" if described.precision else ""
        raise SizewiseError(
            f"{described.uri} computes log-likelihoods{precision} that aren't numbers, for example those of {name}.",
            "finite numbers; weights may be damaged, or activations may leave the range of the precision",
            "--precision fp32, or download the model again",
        )


def _expect(model: Model, batches: Sequence[Sequence[_Group]], prefix: bool) -> None:
    """Announce to a model on a cluster which batches it will be asked to score."""
    expect = getattr(model, "expect_scores", None)
    if expect is None:
        return
    jobs = []
    for groups in batches:
        begins = None if groups[0].after is None else tuple(begin for group in groups for begin in group.after or ())
        jobs.append(ScoreJob(tuple(text for group in groups for text in group.texts), begins, prefix))
    expect(jobs)


def _collect(
    model: Model,
    groups: Sequence[_Group],
    work: Work,
    inquiry: Inquiry,
    entry: Callable[[_Group, Sequence[ScoredText]], dict[str, Any]],
    *,
    prefix: bool = True,
) -> dict[str, dict[str, Any]]:
    """Score the groups that the ledger lacks, and return its entries; a group that failed has none.

    Args:
        model: model that returns log-likelihoods.
        groups: what to score.
        work: ledger topic and progress label.
        inquiry: keeps scores as they arrive, and failures.
        entry: makes the ledger's entry of a group from its scored texts.
        prefix: see `Model.score`.
    """
    known, by_name = inquiry.ledger.entries(work.topic), {group.name: group for group in groups}
    batches = [[groups[i].name for i in batch] for batch in _batches(["".join(group.texts) for group in groups])]
    failures: dict[str, ScoringError] = {}
    count, characters, begun = len(groups), 0, time.monotonic()
    absent = [name for name in by_name if name not in known]
    _expect(model, [[by_name[name] for name in batch] for batch in batches if set(absent).intersection(batch)], prefix)
    for first, names in inquiry.rounds(absent, lambda name: name in failures and failures[name].transient):
        wanted = set(names)
        for batch in batches:
            # A batch is scored as a whole, so that a resumed run gets bit-identical scores. Only servers, which score
            # each text alone, ever fail on one.
            members = [name for name in batch if first or name in wanted] if wanted.intersection(batch) else []
            # In a later round, an error that ends everything leaves the measurement incomplete, with all its scores.
            with contextlib.nullcontext() if first else contextlib.suppress(SizewiseError):
                for group, found in _scored(model, [by_name[name] for name in members], prefix):
                    failures.pop(group.name, None)
                    if isinstance(found, ScoringError):
                        failures[group.name] = found
                        continue
                    inquiry.ledger.append(work.topic, group.name, entry(group, found))
                    wanted.discard(group.name)
                    characters += sum(map(len, group.texts))
                    speed = characters / max(1e-9, time.monotonic() - begun)
                    left = len(wanted) if first else len(failures)
                    inquiry.reporter.advance(work.title, count - left, count, f"{speed:,.0f} characters/s")
    for name in by_name:
        if name in failures:
            inquiry.add_failure(work.topic, name, failures[name].what, transient=failures[name].transient)
        else:
            inquiry.add_scored(work.topic, name)
    return inquiry.ledger.entries(work.topic)


def text_rows(
    model: Model, documents: Sequence[Document], metrics: Sequence[Metric], inquiry: Inquiry
) -> list[ItemRow]:
    """Score the log-likelihood of documents, one row per passage."""
    by_key = {_key(document): document for document in documents}

    def entry(group: _Group, scored: Sequence[ScoredText]) -> dict[str, Any]:
        return {"passages": _by_passage(by_key[group.name], scored[0])}

    groups = [_Group(_key(document), [document.text]) for document in documents]
    entries = _collect(model, groups, Work("text", "Scoring held-out text"), inquiry, entry)
    rows = []
    for document in documents:
        failed = inquiry.error("text", _key(document))
        if failed is not None:
            rows += [_failed_passage(span.item, document, failed) for span in datasets.passages(document)]
            continue
        for item, *numbers in entries[_key(document)]["passages"]:
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


def _failed_passage(item: str, document: Document, error: str) -> ItemRow:
    return ItemRow(item=item, kind="passage", cluster=document.id, uncontaminated=True, error=error)


def _key(document: Document) -> str:
    """Identify a document and how much of it is scored."""
    return f"{document.id}:{len(document.text)}"


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
    work: Work,
    inquiry: Inquiry,
    *,
    prefix: bool = True,
) -> dict[str, list[tuple[float, int]]]:
    """Compute -log p in nats and the token count of each continuation, given its context.

    A token counts where it starts, so one that spans the boundary belongs to the context.

    Args:
        model: model that returns log-likelihoods.
        groups: (item id, its continuations) pairs.
        work: ledger topic and label of the progress bar.
        inquiry: keeps scores as they arrive, and failures.
        prefix: see `Model.score`.

    Returns:
        Item id -> (nats, tokens) of each of its continuations; of an item that failed, nats are not a number.
    """

    def entry(group: _Group, scored: Sequence[ScoredText]) -> dict[str, Any]:
        return {"nats": [(float(text.nats.sum()), len(text.nats)) for text in scored]}

    texts = [
        _Group(name, [part.context + part.text for part in several], [len(part.context) for part in several])
        for name, several in groups
    ]
    entries = _collect(model, texts, work, inquiry, entry, prefix=prefix)
    return {
        name: [(nats, tokens) for nats, tokens in entries[name]["nats"]]
        if name in entries
        else [(float("nan"), 0)] * len(several)
        for name, several in groups
    }


def choice_rows(
    model: Model, examples: Sequence[Example], metrics: Sequence[Metric], inquiry: Inquiry
) -> list[ItemRow]:
    """Score the choices of each example by log-likelihood after the plain question."""
    groups = [(example.id, _choices(example)) for example in examples]
    nats = continuation_nats(model, groups, Work("choices", "Scoring choices"), inquiry)
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
                error=None if finite else inquiry.error("choices", example.id) or NOT_A_NUMBER,
                stats={metric.name: metric.measure(item) for metric in metrics} if finite else {},
            )
        )
    return rows


def _choices(example: Example) -> list[Continuation]:
    question = "\n".join(message.content for message in example.messages)
    context = question_prompt(question)
    return [Continuation(context, f" {choice}") for choice in example.choices]
