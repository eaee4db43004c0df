"""Train, retrieve, or both: what candidates know of the documents, and what each document taught them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from sizewise.datasets.studied import STUDIED
from sizewise.records import Difference, ItemRow
from sizewise.report.answers import item_value, shortened
from sizewise.report.rounding import rounded_difference
from sizewise.report.standing import Standing
from sizewise.report.view import StudyView

Way = Literal["as it is", "trained", "retrieval", "both"]
WAYS: tuple[Way, ...] = ("as it is", "trained", "retrieval", "both")
PAIRS: tuple[tuple[Way, Way], ...] = (
    ("trained", "as it is"),
    ("retrieval", "trained"),
    ("both", "retrieval"),
    ("both", "trained"),
)
RETRIEVING = "rag:"
ANSWERED_BY = ("reference_match", "accuracy", "exact_match", "reference_recall")
"""Metrics that tell whether a single answer says what its reference says; the first one that was measured counts."""
ANSWERED = 0.5
"""Value of that metric from which a question counts as answered."""
MAX_DOCUMENTS, MAX_QUESTIONS = 50, 8
LEARNT = ("closed book", "only with passages", "not at all")


class DocumentKnowledge(NamedTuple):
    """What candidates know of one document."""

    document: str
    counts: tuple[int, int, int]
    """Questions answered closed book, only with passages, and not at all, as in LEARNT."""
    unanswered: tuple[str, ...]
    """Some of the questions that aren't answered closed book, each with how it is answered."""


class Knowledge(NamedTuple):
    """The section of a report on studied documents."""

    advice: str
    """Train, retrieve, or both, in a sentence or two."""
    pairs: tuple[tuple[str, str], ...]
    """What is compared -> the paired difference, or why there is none."""
    metric: str
    """Metric that tells whether a question is answered; empty if none was measured."""
    closed: str
    """Trained candidate that answers closed book; empty without one."""
    given: str
    """Candidate that answers with passages; empty without one."""
    known: int
    """Questions that the candidate answers closed book and that its base, untrained, answers too."""
    counts: tuple[int, int, int]
    """Sums of the documents' counts."""
    documents: tuple[DocumentKnowledge, ...]
    """The documents, those with the most questions that aren't answered closed book first."""
    left_out: int
    """Documents that aren't listed."""


def knowledge_of(standing: Standing) -> Knowledge | None:
    """Compare training with retrieval; None unless documents were studied and a candidate is trained or retrieves."""
    view = standing.view
    best = best_of_ways(standing)
    if view.dataset.split_by not in STUDIED or not best.keys() - {"as it is"}:
        return None
    closed, given = best.get("trained", ""), best.get("both", "") or best.get("retrieval", "")
    if best.get("both") and best.get("retrieval"):
        given = min((best["both"], best["retrieval"]), key=standing.names.index)
    metric = next((name for name in ANSWERED_BY if _measured(view, name)), "")
    answered = {name: _answered(view.items.get(name, ()), metric) for name in (closed, given) if name}
    documents = _documents(view.items.get(closed or given, ()), answered.get(closed, {}), answered.get(given, {}))
    base = _answered(view.items.get(best.get("as it is", ""), ()), metric)
    sums = [sum(one.counts[i] for one in documents) for i in range(len(LEARNT))]
    return Knowledge(
        advice=_advice(standing, best),
        pairs=tuple(_pairs(standing, best)),
        metric=metric,
        closed=closed,
        given=given,
        known=sum(value and base.get(item, False) for item, value in answered.get(closed, {}).items()),
        counts=(sums[0], sums[1], sums[2]),
        documents=tuple(documents[:MAX_DOCUMENTS]) if metric else (),
        left_out=max(0, len(documents) - MAX_DOCUMENTS),
    )


def way_of(view: StudyView, name: str) -> Way:
    """Return in which way a candidate knows the documents."""
    model = view.comparison.models[name]
    retrieves = model.uri.startswith(RETRIEVING)
    trained = name in view.checkpoints or bool(model.start)
    return "both" if retrieves and trained else "retrieval" if retrieves else "trained" if trained else "as it is"


def best_of_ways(standing: Standing) -> dict[Way, str]:
    """Return the best candidate of each way that the study has."""
    found: dict[Way, str] = {}
    for name in standing.candidates:
        found.setdefault(way_of(standing.view, name), name)
    return found


def _measured(view: StudyView, metric: str) -> bool:
    return any(metric in row.stats for rows in view.items.values() for row in rows)


def _answered(rows: Iterable[ItemRow], metric: str) -> dict[str, bool]:
    values = {row.item: item_value(row, metric) for row in rows if row.kind == "example"}
    return {item: value >= ANSWERED for item, value in values.items() if value is not None}


def _documents(
    rows: Sequence[ItemRow], closed: Mapping[str, bool], given: Mapping[str, bool]
) -> list[DocumentKnowledge]:
    """Count the questions of each document by how they are answered."""
    by_document: dict[str, list[ItemRow]] = defaultdict(list)
    measured = [one for one in (closed, given) if one]
    for row in rows:
        # An answer that wasn't measured doesn't tell whether the question is answered.
        if closed.get(row.item) or (measured and all(row.item in one for one in measured)):
            by_document[row.cluster].append(row)
    found = []
    for document, asked in by_document.items():
        kinds = [0 if closed.get(row.item) else 1 if given.get(row.item) else 2 for row in asked]
        unanswered = [
            f"{shortened(row.prompt)} ({LEARNT[kind]})" for row, kind in zip(asked, kinds, strict=True) if kind
        ]
        counts = (kinds.count(0), kinds.count(1), kinds.count(2))
        found.append(DocumentKnowledge(document, counts, tuple(unanswered[:MAX_QUESTIONS])))
    return sorted(found, key=lambda one: (-one.counts[2], -one.counts[1], one.document))


def _difference(standing: Standing, one: str, other: str) -> Difference | None:
    """Look up the paired difference of two candidates on the quality that decides, as one minus other."""
    for found in standing.comparison.differences:
        if found.metric == standing.quality and {found.left, found.right} == {one, other}:
            return found if found.left == one else found.turned()
    return None


def _pairs(standing: Standing, best: Mapping[Way, str]) -> Iterable[tuple[str, str]]:
    """Yield the comparisons that answer the question."""
    for one, other in PAIRS:
        if one in best and other in best:
            found = _difference(standing, best[one], best[other])
            yield f"{best[one]} - {best[other]}", rounded_difference(found) if found else "not compared"


def _advice(standing: Standing, best: Mapping[Way, str]) -> str:
    """Answer the question from paired differences alone: what isn't shown to be better isn't worth its cost."""
    beats = standing.choice.beats
    absent = [way for way in ("trained", "retrieval", "both") if way not in best]
    if absent:
        return f"The study can't answer this: it has no candidate of the kind {' and none of the kind '.join(absent)}."
    trained, retrieval, both = best["trained"], best["retrieval"], best["both"]
    if beats(both, retrieval) and beats(both, trained):
        return f"Do both. {both} answers better than {retrieval} and than {trained}."
    if beats(retrieval, trained):
        return (
            f"Retrieve; don't train for knowledge. {retrieval} answers better than {trained}, and {both} isn't shown "
            f"to be better than {retrieval}."
        )
    if beats(trained, retrieval):
        return f"Train. {trained} answers better than {retrieval}, and {both} isn't shown to be better than {trained}."
    if beats(both, retrieval):
        return f"Train on passages and retrieve: {both} answers better than {retrieval}."
    return (
        f"Not shown: neither {retrieval}, nor {trained}, nor {both} is significantly better. Retrieval costs no "
        "training and follows documents that change, so it's the cheaper start."
    )
