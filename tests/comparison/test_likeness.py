"""Unlike measurements aren't compared, missing items are handled alike, and groups share one error rate."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sizewise.comparison import compare
from sizewise.errors import SizewiseError
from sizewise.evaluation import EvaluationOptions, evaluate, evaluate_suite, suite_run
from sizewise.models.fake import FakeModel
from sizewise.records import Completion, Evaluation, ItemRow, ModelDescription, Request, Score
from sizewise.store import Store
from sizewise.studies.audit import audit

BITS = "bits_per_byte|window:{}|stride:{}|prefix:<s>|precision:{}|engine:transformers"


def plant(
    store: Store,
    name: str,
    stats: Mapping[str, Sequence[tuple[float, ...] | None]],
    signatures: Mapping[str, str] | None = None,
    data: str = "suite:planted:1",
    groups: Sequence[str] = (),
    **fields: Any,
) -> str:
    """Write an evaluation with known statistics; None where an item wasn't measured."""
    metrics = tuple(stats)
    size = len(stats[metrics[0]])
    rows = []
    for i in range(size):
        known = {metric: found for metric in metrics if (found := stats[metric][i]) is not None}
        group = groups[i] if groups else ""
        rows.append(
            ItemRow(item=f"i{i}", kind="example", cluster=f"d{i}", uncontaminated=True, stats=known, group=group)
        )
    scores = {
        metric: Score(metric=metric, value=0.5, n=size, unit="share", signature=(signatures or {}).get(metric, metric))
        for metric in (*metrics, *(f"{metric}#{group}" for metric in metrics for group in dict.fromkeys(groups)))
    }
    described = ModelDescription(
        uri=f"fake:{name}",
        origin=name,
        license="x",
        engine="test",
        precision="none",
        context=fields.pop("context", None),
    )
    record = Evaluation(
        model=described, data=data, seed=0, limit=None, metrics=metrics, scores=scores, items=size, failed=0, seconds=0,
        versions={}, **fields,
    )  # fmt: skip
    store.write_rows(store.folder("evaluation", f"eval-{name}"), "items.jsonl", rows)
    return store.write(f"eval-{name}", record).id


def hits(size: int, rate: float, seed: int) -> list[tuple[float, ...] | None]:
    return [(float(hit), 1.0) for hit in np.random.default_rng(seed).random(size) < rate]


class Talker(FakeModel):
    """Answers in words alone, and names the first letter."""

    def describe(self) -> ModelDescription:
        return super().describe().model_copy(update={"can_score": False, "uri": "fake:talker", "api": True})

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        for answer in super().complete(requests):
            yield answer.model_copy(update={"text": "A"})


def test_choices_by_letter_and_by_likelihood_are_not_compared_until_both_are_asked_alike(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored = evaluate_suite("fake:echo", "language-nuance", store=store).id
    by_letter = evaluate_suite("fake:echo", "language-nuance", store=store, options=EvaluationOptions(letters=True)).id
    assert by_letter != scored
    monkeypatch.setattr(suite_run, "open_model", lambda uri, **_: Talker("echo"))
    asked = evaluate_suite("fake:talker", "language-nuance", store=store).id
    for order in ([scored, asked], [asked, scored]):
        with pytest.raises(SizewiseError, match="scoring is") as told:
            compare(order, store=store)
        assert "asked for a letter" in told.value.what
        assert told.value.next_step == "sizewise evaluate fake:echo --suite language-nuance --by-prompting"
    assert compare([by_letter, asked], store=store).record.differences[0].n == 128
    three = compare({"scored": scored, "letter": by_letter, "talker": asked}, store=store).record
    pairs = {(one.left, one.right) for one in three.differences if "#" not in one.metric}
    assert pairs == {("letter", "talker")}
    assert {(one.left, one.right) for one in three.unlike} == {("scored", "letter"), ("scored", "talker")}
    cautions = [caution for caution in three.cautions if "aren't compared on language_nuance" in caution]
    assert any("--by-prompting" in caution for caution in cautions)


def test_sampled_answers_and_failures_that_count_are_not_compared_with_others(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{"id": f"q{i}", "prompt": f"say {i} words", "references": [f"say {i} words"]} for i in range(20)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    greedy = evaluate("fake:echo", path, ["token_f1"], store=store)
    sampled = evaluate("fake:echo", path, ["token_f1"], store=store, options=EvaluationOptions(samples=3)).id
    counted = evaluate(
        "fake:copy", path, ["token_f1"], store=store, options=EvaluationOptions(count_failures_as_wrong=True)
    ).id
    with pytest.raises(SizewiseError, match=r"samples is 1 and 3; temperature is 0 and 0\.7") as told:
        compare([greedy.id, sampled], store=store)
    command = f"sizewise evaluate fake:echo --data {greedy.record.data} --metrics token_f1"
    assert told.value.next_step == f"{command} --samples 3 --temperature 0.7"
    with pytest.raises(SizewiseError, match="failures is none and count as wrong") as told:
        compare([greedy.id, counted], store=store)
    assert told.value.next_step == f"{command} --count-failures-as-wrong"


@pytest.mark.parametrize(
    ("left", "right", "said"),
    [
        (
            BITS.format(2048, 1024, "fp32"),
            "bits_per_byte|echo of the server|first token:left out",
            "first token is scored",
        ),
        (BITS.format(2048, 1024, "fp32"), BITS.format(256, 128, "fp32"), "window is 2048 and 256"),
        ("bits_per_byte|window:512", "bits_per_byte:v2|window:512", "metric is bits_per_byte|v1 and bits_per_byte:v2"),
    ],
)
def test_texts_that_were_scored_in_different_ways_are_not_compared(
    left: str, right: str, said: str, store: Store
) -> None:
    text, answers = [(700.0, 1000.0, 1000.0)] * 30, hits(30, 0.5, 1)
    versions = {"bits_per_byte": 1, "exact_match": 1}
    ids = [
        plant(
            store, name, {"bits_per_byte": text, "exact_match": answers}, {"bits_per_byte": signature},
            context=4096, metric_versions=versions,
        )
        for name, signature in (("left", left), ("right", right))
    ]  # fmt: skip
    found = compare(ids, store=store).record
    assert [one.metric for one in found.differences] == ["exact_match"]  # answers were asked for alike
    (unlike,) = found.unlike
    assert said in unlike.reason
    assert unlike.repair.startswith("sizewise ")


def test_a_small_context_and_a_precision_belong_to_the_candidate(store: Store) -> None:
    text = [(700.0 + i, 1000.0, 1000.0) for i in range(30)]
    ids = [
        plant(store, "small", {"bits_per_byte": text}, {"bits_per_byte": BITS.format(256, 128, "fp32")}, context=256),
        plant(
            store, "large", {"bits_per_byte": text}, {"bits_per_byte": BITS.format(2048, 1024, "int4")}, context=8192
        ),
    ]
    found = compare(ids, store=store).record
    assert len(found.differences) == 1
    assert not found.unlike
    assert any("those of their precision (fp32: fake:small; int4: fake:large)" in caution for caution in found.cautions)


def without(stats: Sequence[tuple[float, ...] | None], absent: Sequence[int]) -> list[tuple[float, ...] | None]:
    return [None if i in absent else one for i, one in enumerate(stats)]


def test_all_pairs_rest_on_the_same_items(store: Store) -> None:
    planted = {
        "a": plant(store, "a", {"exact_match": without(hits(100, 0.9, 1), [1])}),
        "b": plant(store, "b", {"exact_match": without(hits(100, 0.5, 2), [5, 6])}),
        "c": plant(store, "c", {"exact_match": hits(100, 0.2, 3)}),
    }
    found = compare(planted, store=store).record
    assert [one.n for one in found.differences] == [97, 97, 97]
    values = {(one.left, one.right): one.value for one in found.differences}
    assert values["a", "b"] + values["b", "c"] == pytest.approx(values["a", "c"])  # so ranks can't contradict
    (note,) = [note for note in found.notes if "every difference rests on" in note]
    assert note == (
        "exact_match: every difference rests on the 97 items that every candidate has; "
        "left out are 2 of a, 1 of b, 3 of c"
    )
    half = plant(store, "half", {"exact_match": without(hits(100, 1.0, 4), range(50))})
    found = compare(planted | {"half": half}, store=store).record
    sizes = {(one.left, one.right): (one.n, one.better) for one in found.differences}
    assert {sizes[pair][0] for pair in (("a", "b"), ("a", "c"), ("b", "c"))} == {97}
    assert sizes["c", "half"] == (50, None)
    assert sizes["a", "b"][1] == "a"


def test_where_each_lacks_others_all_pairs_rest_on_what_both_have(store: Store) -> None:
    planted = {
        name: plant(store, name, {"exact_match": without(hits(100, 0.5, k), range(4 * k, 4 * k + 4))})
        for k, name in enumerate("abcd")
    }
    found = compare(planted, store=store).record
    assert {one.n for one in found.differences} == {92}
    assert any("the items that both candidates have" in note for note in found.notes)


GROUPS = [("gender", "age", "religion", "origin")[i % 4] for i in range(400)]


def test_a_change_of_one_group_is_found_and_the_groups_share_the_error_rate(store: Store, tmp_path: Path) -> None:
    before = hits(400, 0.5, 1)
    after = [(1.0, 1.0) if group == "age" else one for one, group in zip(before, GROUPS, strict=True)]
    ids = {
        name: plant(store, name, {"stereotype_score": stats}, data="suite:bias:1", groups=GROUPS)
        for name, stats in (("before", before), ("after", after))
    }
    saved = compare(ids, store=store)
    found = {one.metric: one for one in saved.record.differences}
    assert list(found) == ["stereotype_score", *(f"stereotype_score#{group}" for group in dict.fromkeys(GROUPS))]
    age = found["stereotype_score#age"]
    assert age.n == 100
    assert age.p_adjusted is not None
    assert age.p is not None
    assert age.p <= age.p_adjusted < 0.05
    assert age.better is None  # a gap that changed is a question for a person
    assert found["stereotype_score#gender"].value == 0
    assert audit(saved.id, store=store, verify=True).recomputed[0].differing == ()
    body = json.loads(saved.path.read_text(encoding="utf-8"))
    changed = next(one for one in body["record"]["differences"] if one["metric"] == age.metric)
    changed["value"] += 0.1
    saved.path.write_text(json.dumps(body), encoding="utf-8")
    said = [line for one in audit(saved.id, store=store, verify=True).recomputed for line in one.differing]
    assert any(line.startswith("stereotype_score#age, before vs after: value") for line in said)


def test_groups_that_did_not_change_raise_few_alarms(store: Store) -> None:
    alarms = 0
    for seed in range(40):
        groups = [str(i % 8) for i in range(320)]
        ids = {
            name: plant(store, f"{name}{seed}", {"stereotype_score": hits(320, 0.5, 2 * seed + k)}, groups=groups)
            for k, name in enumerate(("one", "other"))
        }
        found = compare(ids, store=store).record.differences
        alarms += any(one.p_adjusted is not None and one.p_adjusted < 0.05 for one in found if "#" in one.metric)
    assert alarms <= 6  # of 40 at 5%; 8 groups tested at 5% each would raise about 13


def test_counterfactual_groups_of_two_models_are_compared(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "examples.jsonl"
    rows = [{"prompt": f"What does a patient of ward {i} need?", "reference": f"A bed in {i}."} for i in range(32)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    ids = [evaluate_suite(uri, "counterfactuals", path, store=store).id for uri in ("fake:echo", "fake:copy")]
    found = compare(ids, store=store).record
    metrics = {one.metric for one in found.differences}
    assert {"counterfactual_quality#gender: women", "counterfactual_refusal#age: old"} <= metrics
    assert all(one.n == 32 for one in found.differences)
