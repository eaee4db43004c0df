from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from sizewise.choice.deciding import decide
from sizewise.comparison import compare
from sizewise.errors import SizewiseError, UsageError
from sizewise.evaluation import evaluate
from sizewise.records import Dataset, Evaluation, ItemRow, ModelDescription, Needs, Score
from sizewise.store import Saved, Store


def describe(uri: str) -> ModelDescription:
    return ModelDescription(uri=uri, origin=uri, license="x", engine="test", precision="none")


def plant(
    store: Store, data: str, name: str, rate: float, n: int = 200, seed: int = 0, documents: int = 50, first: int = 0
) -> str:
    """Write an evaluation whose exact matches were drawn at a known rate."""
    rng = random.Random(seed)
    rows = [
        ItemRow(
            item=f"i{first + i}",
            kind="example",
            cluster=f"d{first + i % documents}",
            uncontaminated=True,
            stats={"exact_match": (float(rng.random() < rate), 1.0)},
        )
        for i in range(n)
    ]
    record = Evaluation(
        model=describe(name),
        data=data,
        seed=0,
        limit=None,
        metrics=("exact_match",),
        scores={},
        items=n,
        failed=0,
        seconds=0,
        versions={},
    )
    store.write_rows(store.folder("evaluation", f"eval-{name}"), "items.jsonl", rows)
    store.write(f"eval-{name}", record)
    return f"eval-{name}"


def test_a_true_difference_is_shown(dataset: Saved[Dataset], store: Store) -> None:
    ids = [plant(store, dataset.id, "good", 0.8, seed=1), plant(store, dataset.id, "bad", 0.4, seed=2)]
    (difference,) = compare(ids, store=store).record.differences
    assert difference.better == "good"
    assert difference.ci_low is not None
    assert difference.ci_low > 0
    assert (difference.n, difference.clusters) == (200, 50)


def test_cautions_of_the_data_reach_the_comparison_and_the_choice(tmp_path: Path, store: Store) -> None:
    texts = [{"id": f"q{i}", "prompt": f"What is {i} squared?", "completion": f"{i * i}"} for i in range(40)]
    rows = [row | {"source": ("lease", "terms")[i % 2]} for i, row in enumerate(texts)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    ids = {}
    for name, every in (("good", 1), ("bad", 2)):
        answers = [{"id": row["id"], "completion": row["completion"] if i % every == 0 else "?"}
                   for i, row in enumerate(texts)]  # fmt: skip
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in answers), encoding="utf-8")
        ids[name] = evaluate(f"recorded:{path}", tmp_path / "data.jsonl", "exact_match", store=store)
    compared = compare(ids, store=store)
    expected = "each example counts as its own document, because the column 'source' names 2 collections"
    assert [caution for caution in compared.record.cautions if caution.startswith(expected)]
    reasons = decide(compared.record, compared.id, Needs()).reasons
    assert any(reason.startswith(f"caution: {expected}") for reason in reasons)


def test_candidates_without_a_common_item_are_not_compared(dataset: Saved[Dataset], store: Store) -> None:
    ids = [plant(store, dataset.id, name, 1.0, n=40, first=first) for name, first in (("easy", 0), ("hard", 40))]
    compared = compare(ids, store=store).record
    assert compared.differences == ()
    (note,) = [note for note in compared.notes if "no test item was measured for both" in note]
    assert "easy and hard (exact_match)" in note
    score = Score(metric="exact_match", value=1.0, ci_low=0.8, ci_high=1.0, n=40, unit="share", signature="s")
    scored = compared.model_copy(update={"scores": {"exact_match": {"easy": score, "hard": score}}})
    found = decide(scored, "comparison-1", Needs())
    assert found.outcome == "inconclusive"
    assert "easy and hard can't be compared on exact match, because no test item was measured for both" in found.summary
    assert "score the same" not in found.summary


def test_equals_are_not_told_apart(dataset: Saved[Dataset], store: Store) -> None:
    ids = [plant(store, dataset.id, f"m{seed}", 0.5, seed=seed) for seed in range(4)]
    differences = compare(ids, store=store).record.differences
    assert len(differences) == 6
    assert sum(difference.better is not None for difference in differences) <= 1
    assert all(d.p_adjusted is not None and d.p is not None and d.p_adjusted >= d.p for d in differences)


def test_one_document_decides_nothing(dataset: Saved[Dataset], store: Store) -> None:
    ids = [plant(store, dataset.id, "good", 1.0, documents=1), plant(store, dataset.id, "bad", 0.0, documents=1)]
    (difference,) = compare(ids, store=store).record.differences
    assert difference.better is None
    assert difference.ci_low is None


@pytest.mark.parametrize("documents", [2, 3, 7])
def test_a_few_unanimous_documents_decide_nothing(dataset: Saved[Dataset], store: Store, documents: int) -> None:
    ids = [plant(store, dataset.id, name, rate, documents=documents) for name, rate in (("good", 1.0), ("bad", 0.0))]
    compared = compare(ids, store=store).record
    (difference,) = compared.differences
    assert difference.better is None
    assert (difference.p, difference.ci_low, difference.other_p, difference.needed) == (None, None, {}, 8)
    assert compared.spread == {}
    assert any(
        f"there are only {documents} source documents, and a claim requires at least 8" in n for n in compared.notes
    )


def test_many_evaluations_can_still_show_a_difference(dataset: Saved[Dataset], store: Store) -> None:
    ids = [plant(store, dataset.id, f"m{i:02}", 0.02 + 0.04 * i, n=100, seed=i, documents=100) for i in range(24)]
    differences = compare(ids, store=store).record.differences
    assert len(differences) == 276
    shown = {(one.left, one.right): one.better for one in differences}
    assert shown["m00", "m23"] == "m23"
    assert sum(better is not None for better in shown.values()) > 100
    assert all(better in (None, max(pair)) for pair, better in shown.items())


def test_an_item_that_one_lacks_is_left_out_for_that_pair(dataset: Saved[Dataset], store: Store) -> None:
    ids = [plant(store, dataset.id, name, rate, seed=2) for name, rate in (("good", 0.9), ("bad", 0.3))]
    folder = store.folder("evaluation", ids[1])
    rows = list(store.read_rows(folder, "items.jsonl", ItemRow))
    store.write_rows(folder, "items.jsonl", [row.model_copy(update={"stats": {}}) for row in rows[:1]] + rows[1:])
    for order in (ids, ids[::-1]):
        compared = compare(order, store=store).record
        assert compared.differences[0].n == 199
        assert set(compared.spread["exact_match"].names) == {"good", "bad"}


def test_who_never_answers_is_named_and_wins_by_no_measure(dataset: Saved[Dataset], store: Store) -> None:
    metrics = ["token_f1", "answer_words", "refusals"]
    ids = [evaluate(uri, dataset.id, metrics, store=store).id for uri in ("fake:silent", "fake:echo")]
    compared = compare(ids, store=store).record
    assert compared.answered["fake:silent"].value == 0
    assert compared.answered["fake:echo"].value == 1
    assert any(one.startswith("fake:silent never answers: all of its") for one in compared.cautions)
    assert all(one.better != "fake:silent" for one in compared.differences)


def test_swapping_sides_swaps_the_sign(dataset: Saved[Dataset], store: Store) -> None:
    a, b = plant(store, dataset.id, "a", 0.6, seed=1), plant(store, dataset.id, "b", 0.5, seed=2)
    (one,), (two,) = (compare(ids, store=store).record.differences for ids in ([a, b], [b, a]))
    assert one.value == pytest.approx(-two.value)
    assert one.p == two.p


def test_other_items_are_refused(dataset: Saved[Dataset], store: Store) -> None:
    ids = [
        evaluate("fake:echo", dataset.id, store=store).id,
        evaluate("fake:silent", dataset.id, store=store, limit=2).id,
    ]
    with pytest.raises(SizewiseError, match="limit is None and 2"):
        compare(ids, store=store)
    with pytest.raises(UsageError):
        compare(ids[:1], store=store)


def test_perplexity_of_different_tokens_is_not_compared(dataset: Saved[Dataset], store: Store) -> None:
    ids = []
    for name, tokens in (("a", 5.0), ("b", 6.0)):
        row = ItemRow(
            item="i", kind="passage", cluster="d", uncontaminated=True, stats={"perplexity": (9.0, tokens, 20.0)}
        )
        record = Evaluation(
            model=describe(name),
            data=dataset.id,
            seed=0,
            limit=None,
            metrics=("perplexity",),
            scores={},
            items=1,
            failed=0,
            seconds=0,
            versions={},
        )
        store.write_rows(store.folder("evaluation", name), "items.jsonl", [row])
        ids.append(store.write(name, record).id)
    comparison = compare(ids, store=store).record
    assert comparison.differences == ()
    assert "tokenizers differ" in comparison.notes[0]


def test_what_is_missing_may_decide(dataset: Saved[Dataset], store: Store) -> None:
    """A candidate that answers only the easy half isn't better than one that answers everything."""
    whole, half = (plant(store, dataset.id, name, rate, seed=3) for name, rate in (("whole", 0.5), ("half", 1.0)))
    folder = store.folder("evaluation", half)
    rows = store.read_rows(folder, "items.jsonl", ItemRow)
    kept = [row if number % 2 else row.model_copy(update={"stats": {}}) for number, row in enumerate(rows)]
    store.write_rows(folder, "items.jsonl", kept)
    compared = compare([whole, half], store=store).record
    (difference,) = compared.differences
    assert difference.p is not None
    assert difference.p < 0.001
    assert difference.better is None
    assert any("lacks more than 5% of the items of the other" in note for note in compared.notes)


def test_the_shown_interval_agrees_with_the_adjusted_p_value(dataset: Saved[Dataset], store: Store) -> None:
    rates = {"a": 0.5, "b": 0.55, "c": 0.6, "d": 0.7, "e": 0.9}
    ids = [plant(store, dataset.id, name, rate, seed=i) for i, (name, rate) in enumerate(rates.items())]
    differences = compare(ids, store=store).record.differences
    for one in differences:
        assert one.p is not None
        assert one.p_adjusted is not None
        for p, ends in ((one.p, (one.ci_low, one.ci_high)), (one.p_adjusted, one.family_ends)):
            ci_low, ci_high = ends
            assert ci_low is not None
            assert ci_high is not None
            assert (p >= 0.05) == (ci_low < 0 < ci_high or ci_low == ci_high == 0)
        assert one.turned().family_ends == tuple(-end for end in reversed(one.family_ends) if end is not None)
    assert {one.better is None for one in differences} == {True, False}
