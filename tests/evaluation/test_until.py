"""Evaluations that stop once a question is decided save calls, and decide wrongly in at most 5 % of runs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from sizewise.comparison import compare
from sizewise.errors import SizewiseError, UsageError
from sizewise.evaluation import EvaluationOptions, evaluate, run
from sizewise.evaluation.options import Until
from sizewise.evaluation.reproduce import rerun
from sizewise.evaluation.until import Decider, describe
from sizewise.models.base import failed
from sizewise.records import Completion, Evaluation, ItemRow, Request
from sizewise.store import Saved, Store
from tests.evaluation.test_sampled import Counting, counting, words_file

__all__ = ["counting"]


def until(question: Until, **options: float) -> EvaluationOptions:
    return EvaluationOptions(until=question, **options)  # type: ignore[arg-type]


@pytest.fixture
def perfect(tmp_path: Path, store: Store) -> Saved[Evaluation]:
    return evaluate("fake:echo", words_file(tmp_path, 200), ["exact_match", "bleu"], store=store)


def test_a_clear_loss_is_decided_with_few_calls_and_resumes(
    perfect: Saved[Evaluation], store: Store, counting: type[Counting]
) -> None:
    options = until(Until(against=perfect.id), temperature=1.0)
    counting.limit = 10
    with pytest.raises(KeyboardInterrupt):
        evaluate("fake:echo", perfect.record.data, ["exact_match"], store=store, options=options)
    counting.limit = 10**9
    found = evaluate("fake:echo", perfect.record.data, ["exact_match"], store=store, options=options)
    stopped = found.record.stopped
    assert stopped is not None
    assert stopped.decision == "worse"
    assert stopped.p_anytime <= 0.05
    assert counting.asked == stopped.asked == found.record.items <= 60
    assert stopped.available == 200
    assert stopped.mean < 0
    assert "until:decided" in found.record.scores["exact_match"].signature
    assert any(note.startswith(f"The model is worse than {perfect.id} by exact_match") for note in found.record.notes)
    assert any("intervals of these scores are too narrow" in note for note in found.record.notes)
    with pytest.raises(SizewiseError, match="stopped once its question was decided"):
        compare([perfect.id, found.id], store=store)
    with pytest.raises(SizewiseError, match="stopped once its question was decided"):
        rerun(found.id, store=store)
    with pytest.raises(SizewiseError, match="stopped early, so it covers only some items"):
        evaluate("fake:echo", perfect.record.data, ["exact_match"], store=store, options=until(Until(against=found.id)))


def test_equal_models_ask_everything_unless_a_margin_is_stated(perfect: Saved[Evaluation], store: Store) -> None:
    data = perfect.record.data
    same = evaluate("fake:copy", data, ["exact_match"], store=store, options=until(Until(against=perfect.id)))
    assert same.record.stopped is not None
    assert (same.record.stopped.decision, same.record.stopped.asked) == ("undecided", 200)
    question = Until(against=perfect.id, margin=0.1)
    near = evaluate("fake:copy", data, ["exact_match"], store=store, options=until(question)).record.stopped
    assert near is not None
    assert near.decision == "no worse"
    assert near.asked < 200
    assert "not worse than" in describe(near)
    assert "by 0.1 or more by exact_match" in describe(near)


def test_a_threshold_is_reached_or_missed(perfect: Saved[Evaluation], store: Store) -> None:
    data = perfect.record.data
    for metric, threshold in (("exact_match", 0.6), ("chrf", 60.0)):
        for temperature, decision in ((0.0, "reached"), (1.9, "missed")):
            options = until(Until(min_quality=threshold), temperature=temperature)
            found = evaluate("fake:echo", data, [metric], store=store, options=options).record.stopped
            assert found is not None
            assert (found.metric, found.decision) == (metric, decision)
            assert found.asked < 200


def test_questions_that_cannot_be_decided_are_refused(perfect: Saved[Evaluation], store: Store) -> None:
    data = perfect.record.data
    for question, metrics, message in (
        (Until(against=perfect.id), ["bleu"], "can't decide item by item"),
        (Until(), ["exact_match"], "isn't defined"),
        (Until(against=perfect.id, min_quality=0.5), ["exact_match"], "isn't defined"),
        (Until(min_quality=0.5, margin=0.1), ["exact_match"], "--margin needs --against"),
        (Until(min_quality=60), ["exact_match"], "min-quality is 60"),
        (Until(against=perfect.id, margin=0), ["exact_match"], "margin is 0"),
    ):
        with pytest.raises(UsageError, match=message):
            evaluate("fake:echo", data, metrics, store=store, options=until(question))
    with pytest.raises(SizewiseError, match="has no comparable token_f1"):
        evaluate("fake:echo", data, ["token_f1"], store=store, options=until(Until(against=perfect.id)))


class Down(Counting):
    """Answers 16 requests, and then is down."""

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        for request in requests:
            if Counting.asked < 16:
                yield from super().complete([request])
            else:
                yield failed(request, "503", transient=True)


def test_a_service_that_goes_down_is_not_asked_on(
    perfect: Saved[Evaluation], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "open_model", lambda uri, **_: Down("echo"))
    Counting.asked, Counting.limit = 0, 10**9
    with pytest.raises(SizewiseError, match="All 8 requests to fake:echo failed: 8 x 503"):
        evaluate("fake:echo", perfect.record.data, ["exact_match"], store=store, options=until(Until(min_quality=0.95)))


def simulate(rng: np.random.Generator, rate: float, threshold: float, store: Store) -> str:
    """Feed documents of one to four equal items to a decider until it decides or 100 documents ran out."""
    decider = Decider(Until(min_quality=threshold), ["exact_match"], "data", store)
    for number in range(100):
        right = float(rng.random() < rate)
        decider.add(
            [
                ItemRow(
                    item=f"{number}-{i}",
                    kind="example",
                    cluster=f"d{number}",
                    uncontaminated=True,
                    stats={"exact_match": (right, 1.0)},
                )
                for i in range(1 + number % 4)
            ]
        )
        if decider.decided:
            break
    return decider.stopped().decision


def test_peeking_after_every_document_decides_wrongly_in_at_most_5_percent(store: Store) -> None:
    rng = np.random.default_rng(11)
    for rate in (0.5, 0.8):
        wrong = sum(simulate(rng, rate, rate, store) != "undecided" for _ in range(200))
        assert wrong <= 200 * 0.05 + 2.33 * (200 * 0.05 * 0.95) ** 0.5
    right = sum(simulate(rng, 0.9, 0.7, store) == "reached" for _ in range(100))
    assert right >= 75


def test_another_order_is_another_look(perfect: Saved[Evaluation], store: Store, tmp_path: Path) -> None:
    data = perfect.record.data
    question = Until(against=perfect.id)
    first = evaluate("fake:copy", data, ["exact_match"], store=store, options=until(question, seed=1))
    for options in (until(question, seed=2), until(question, seed=1, new_run=True)):
        with pytest.raises(SizewiseError, match=rf"{first.id} already asked this question with seed 1 \(undecided"):
            evaluate("fake:copy", data, ["exact_match"], store=store, options=options)
    with pytest.raises(SizewiseError, match="already asked this question"):
        evaluate("fake:copy", data, ["exact_match"], store=store, limit=100, options=until(question, seed=1))
    again = evaluate("fake:copy", data, ["exact_match"], store=store, options=until(question, seed=1))
    assert again.id == first.id
    with_bleu = evaluate("fake:copy", data, ["exact_match", "bleu"], store=store, options=until(question, seed=1))
    assert with_bleu.record.stopped == first.record.stopped
    evaluate("fake:echo", data, ["exact_match"], store=store, options=until(question, seed=2))  # another model
    near = evaluate("fake:copy", data, ["exact_match"], store=store, options=until(Until(perfect.id, 0.1), seed=2))
    with pytest.raises(SizewiseError, match=rf"{near.id} already asked this question with seed 2 \(no worse"):
        evaluate("fake:copy", data, ["exact_match"], store=store, options=until(Until(perfect.id, 0.1), seed=3))


def test_a_file_read_with_another_seed_holds_the_same_items(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "file.jsonl"
    path.write_text("".join(f'{{"prompt": "word {n}", "completion": "word {n}"}}\n' for n in range(40)))
    evaluate("fake:copy", path, ["exact_match"], store=store, options=until(Until(min_quality=0.9), seed=1))
    with pytest.raises(SizewiseError, match=r"about .* of the same items"):
        evaluate("fake:copy", path, ["exact_match"], store=store, options=until(Until(min_quality=0.9), seed=2))
    more = tmp_path / "more.jsonl"
    more.write_text("".join(f'{{"prompt": "term {n}", "completion": "term {n}"}}\n' for n in range(40)))
    evaluate("fake:copy", more, ["exact_match"], store=store, options=until(Until(min_quality=0.9), seed=2))


def test_an_interrupted_evaluation_resumes(perfect: Saved[Evaluation], store: Store, counting: type[Counting]) -> None:
    options = until(Until(against=perfect.id), temperature=1.0, seed=5)
    counting.limit = 10
    with pytest.raises(KeyboardInterrupt):
        evaluate("fake:echo", perfect.record.data, ["exact_match"], store=store, options=options)
    counting.limit = 10**9
    found = evaluate("fake:echo", perfect.record.data, ["exact_match"], store=store, options=options)
    assert found.record.stopped is not None
    assert found.record.seed == 5


def uneven(tmp_path: Path, store: Store, large_first: int) -> tuple[Saved[Evaluation], str]:
    """Write one document of many items, which only the known model answers, and 60 of one, which only the other does.

    Returns the evaluation of the known model, and the address of the other one.
    """
    rows = [(f"large {n}", "large", False) for n in range(large_first)] + [(f"s{n}", f"s{n}", True) for n in range(60)]
    (tmp_path / "un.jsonl").write_text(
        "".join(
            json.dumps({"id": p, "prompt": p, "completion": "yes", "source": f"{s}.txt"}) + "\n" for p, s, _ in rows
        )
    )
    for name, right in (("a", True), ("b", False)):
        answers = [{"id": p, "completion": "yes" if small == right else "no"} for p, _, small in rows]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers))
    known = evaluate(f"recorded:{tmp_path}/b.jsonl", tmp_path / "un.jsonl", ["exact_match"], store=store)
    return known, f"recorded:{tmp_path}/a.jsonl"


def test_unequal_documents_take_the_bare_better_away(tmp_path: Path, store: Store) -> None:
    known, model = uneven(tmp_path, store, 300)
    found = evaluate(
        model, known.record.data, ["exact_match"], store=store, options=until(Until(against=known.id))
    ).record
    stopped = found.stopped
    assert stopped is not None
    assert (stopped.decision, stopped.estimand, stopped.largest_document) == ("better", "mean over documents", 300)
    assert stopped.unequal
    assert stopped.reason.endswith("for the mean over documents")
    text = describe(stopped)
    assert text in found.notes
    assert text.startswith(f"By the mean over documents, the model is better than {known.id} by exact_match; the score")
    assert "one document holds 300 of the 360 items" in text


@pytest.mark.parametrize(("large", "disagrees"), [(60, True), (1, False)])
def test_an_answer_names_a_mean_over_items_that_points_the_other_way(large: int, disagrees: bool, store: Store) -> None:
    decider = Decider(Until(min_quality=0.5), ["exact_match"], "data", store)
    for document in range(30):
        items = large if document == 0 else 1
        stats = {"exact_match": (float(document > 0), 1.0)}
        decider.add(
            [
                ItemRow(
                    item=f"{document}-{i}", kind="example", cluster=f"d{document}", uncontaminated=True, stats=stats
                )
                for i in range(items)
            ]
        )
        if decider.decided:
            break
    stopped = decider.stopped()
    assert stopped.decision == "reached"
    assert stopped.mean > 0.5
    assert stopped.item_mean is not None
    assert (stopped.item_mean < 0.5, stopped.items_disagree) == (disagrees, disagrees)
    bare = describe(stopped).startswith("The model's exact_match is above 0.5, as the mean over documents.")
    assert bare != disagrees
    assert ("but not by the items asked, whose mean is 0." in describe(stopped)) == disagrees
