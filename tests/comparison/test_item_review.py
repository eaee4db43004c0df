from __future__ import annotations

import numpy as np
import pytest

from sizewise.comparison import analyze_items, compare, review_items
from sizewise.errors import SizewiseError, UsageError
from sizewise.records import Dataset, Evaluation, ItemRow, ModelDescription
from sizewise.store import Saved, Store


def rows_of(scores: np.ndarray, answers: list[str] | None = None, metric: str = "exact_match") -> list[ItemRow]:
    return [
        ItemRow(
            item=f"i{i}",
            kind="example",
            cluster=f"d{i}",
            uncontaminated=True,
            prompt=f"Question {i}?",
            references=(f"answer {i}",),
            completion=answers[i] if answers else (f"answer {i}" if score else f"guess {i}"),
            stats={metric: (float(score), 1.0)},
        )
        for i, score in enumerate(scores)
    ]


def ladder(items: int = 60, candidates: int = 12) -> np.ndarray:
    """Candidate c answers the items up to its ability; the reference of item 30 is wrong."""
    levels = np.linspace(0.1, 0.9, candidates) * items
    scores = (np.arange(items)[:, None] < levels).astype(float)
    scores[30] = 1 - scores[30]
    return scores


def test_a_wrong_reference_leads_the_list() -> None:
    scores = ladder()
    rows = {f"m{c}": rows_of(scores[:, c], [*["x"] * 30, "the truth", *["x"] * 29]) for c in range(scores.shape[1])}
    found = analyze_items(rows, "comparison-1")
    first = found.review[0]
    assert (first.item, first.reason, found.suspicious) == ("i30", "negative discrimination", 1)
    assert (first.prompt, first.references) == ("Question 30?", ("answer 30",))
    assert first.discrimination is not None
    assert first.discrimination < -0.7
    assert set(first.failed) == {name for name, items in rows.items() if items[30].stats["exact_match"][0] == 0}
    assert set(first.passed) | set(first.failed) == set(rows)
    assert (first.common_answer, first.common_answer_by) == ("the truth", len(first.failed))
    assert found.candidates[0] == "m11"
    assert (found.passed_by_all, found.failed_by_all) == (
        int(scores.all(axis=1).sum()),
        int((scores == 0).all(1).sum()),
    )
    assert len(found.review) <= 10


def test_items_that_all_fail_alike_are_listed() -> None:
    scores = np.ones((30, 3))
    scores[4] = 0
    rows = {
        name: rows_of(scores[:, i], ["Same" if item == 4 else name for item in range(30)])
        for i, name in enumerate("abc")
    }
    found = analyze_items(rows, "comparison-1")
    (only,) = found.review
    assert (only.item, only.reason, only.common_answer, only.common_answer_by) == ("i4", "failed by all", "Same", 3)
    assert (only.discrimination, only.p, only.p_adjusted, only.passed) == (None, None, None, ())
    assert (found.passed_by_all, found.failed_by_all) == (29, 1)


def test_few_candidates_show_nothing_and_say_so() -> None:
    rng = np.random.default_rng(0)
    scores = (rng.random((80, 4)) < 0.6).astype(float)
    found = analyze_items({str(c): rows_of(scores[:, c]) for c in range(4)}, "comparison-1")
    assert found.suspicious == 0
    assert {one.reason for one in found.review} <= {"failed by all", "inconclusive"}
    assert "4 candidates can't show" in found.notes[0]
    two = analyze_items({str(c): rows_of(scores[:, c]) for c in range(2)}, "comparison-1")
    assert all(one.reason == "failed by all" and one.p is None for one in two.review)
    assert "takes 3 or more candidates" in two.notes[0]
    assert two.anchors is not None
    assert two.anchors.error is None
    assert two.anchors.missing_reason is not None


def test_anchors_are_measured_on_candidates_left_out() -> None:
    scores = ladder()
    found = analyze_items({str(c): rows_of(scores[:, c]) for c in range(scores.shape[1])}, "comparison-1")
    assert found.anchors is not None
    assert sum(found.anchors.items.values()) == pytest.approx(1)
    assert found.anchors.error is not None
    assert found.anchors.random_error is not None
    assert found.anchors.error < found.anchors.random_error


def test_only_shared_uncontaminated_items_count() -> None:
    rng = np.random.default_rng(0)
    scores = (rng.random((30, 3)) < 0.6).astype(float)
    rows = {str(c): rows_of(scores[:, c]) for c in range(3)}
    rows["0"] = rows["0"][:25]
    rows["1"][0] = rows["1"][0].model_copy(update={"uncontaminated": False})
    assert analyze_items(rows, "comparison-1").n == 24


def test_corpus_metrics_are_refused() -> None:
    rows = {name: rows_of(np.ones(30), metric="macro_f1") for name in "ab"}
    with pytest.raises(UsageError, match="no value on single items"):
        analyze_items(rows, "comparison-1", metric="macro_f1")
    with pytest.raises(UsageError, match="wasn't measured"):
        analyze_items(rows, "comparison-1", metric="chrf")
    with pytest.raises(SizewiseError, match="None of the measured metrics"):
        analyze_items(rows, "comparison-1")


def test_baselines_have_no_say(dataset: Saved[Dataset], store: Store) -> None:
    scores = ladder(candidates=6)
    for c in range(6):
        model = ModelDescription(
            uri=f"m{c}",
            origin="x",
            license="x",
            engine="test",
            precision="none",
            role="baseline" if c == 0 else "candidate",
        )
        record = Evaluation(
            model=model, data=dataset.id, seed=0, limit=None, metrics=("exact_match",), scores={}, items=60, failed=0,
            seconds=0, versions={},
        )  # fmt: skip
        store.write_rows(store.folder("evaluation", f"eval-m{c}"), "items.jsonl", rows_of(scores[:, c]))
        store.write(f"eval-m{c}", record)
    compared = compare([f"eval-m{c}" for c in range(6)], store=store)
    found = review_items(compared, store=store, limit=3)
    assert found.comparison == compared.id
    assert found.candidates == ("m5", "m4", "m3", "m2", "m1")
    assert len(found.review) == 3
