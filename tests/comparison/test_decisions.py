from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sizewise.choice.evidence import Choice
from sizewise.choice.limits import check_limits
from sizewise.comparison.decided import CostRules, Subject, positive_label
from sizewise.comparison.decisions import analyze_decisions, analyze_rows, count_cells, error_gap
from sizewise.comparison.group_figures import GroupData, predictability, proxies
from sizewise.datasets import load, read
from sizewise.documents import ReadOptions
from sizewise.errors import SizewiseError, UsageError
from sizewise.records import Comparison, DecidedItem, Evaluation, ItemRow, ModelDescription, Needs, Score
from sizewise.store import Store

SUBJECT = Subject("eval-1", "run:x", "data-1")


def made(count: int = 600, seed: int = 0, gap: float = 0.0) -> tuple[list[ItemRow], list[DecidedItem], GroupData]:
    """Make calibrated decisions between ham and spam; `gap` is added to the false-positive rate of group b."""
    rng = np.random.default_rng(seed)
    rows, groups = [], {}
    for i in range(count):
        group = "ab"[i % 2]
        chance = float(rng.beta(0.6, 1.2))
        spam = bool(rng.random() < chance)
        if group == "b" and not spam and rng.random() < gap:
            chance = 0.9
        label = "spam" if spam else "ham"
        groups[f"i{i}"] = group
        rows.append(
            ItemRow(
                item=f"i{i}", kind="example", cluster=f"c{i}", uncontaminated=True, prompt=f"text {i}",
                references=(label,), completion="", probabilities={"ham": 1 - chance, "spam": chance},
            )
        )  # fmt: skip
    held_out = [
        DecidedItem(
            item=f"v{row.item}", cluster=row.cluster, labels=row.references, probabilities=row.probabilities or {}
        )
        for row in rows[: count // 2]
    ]
    return rows, held_out, GroupData({"band": groups}, {row.item: row.prompt for row in rows})


def test_figures_of_calibrated_decisions() -> None:
    rows, held_out, people = made()
    found = analyze_rows(rows, held_out, SUBJECT, CostRules({"ham": {"spam": 20}}, hand_over=0.4), people)
    assert (found.positive, found.n, found.validation, found.labels) == ("spam", 600, 300, ("ham", "spam"))
    assert found.scores["calibration_error"].ci_low == 0
    assert [one.max_risk for one in found.claims] == [0.01, 0.02, 0.05, 0.1]
    assert sum(pair.n for pair in found.confusion) == 600
    assert found.costs is not None
    assert found.costs.cost.value is not None
    assert found.costs.cost.value < found.costs.most_likely.value  # type: ignore[operator]
    assert found.costs.cost.value < found.costs.without_model
    assert found.costs.expected == pytest.approx(found.costs.cost.value, rel=0.2)
    assert found.costs.threshold_by_costs == pytest.approx(20 / 21)
    assert {curve.kind for curve in found.curves} == {"roc", "precision_recall"}
    assert found.drift is not None
    assert sum(first + second for _, first, second in found.cells.test) == 600
    (groups,) = found.groups
    assert set(groups.rates) == {
        "selection_rate", "false_positive_rate", "false_negative_rate", "calibration_gap", "hand_over_rate",
    }  # fmt: skip
    assert all(gap.p is not None and gap.p > 0.05 for gap in groups.gaps)


def test_decisions_cover_accuracy_in_descending_confidence() -> None:
    rows, held_out, people = made()
    found = analyze_rows(rows, held_out, SUBJECT, CostRules(), people)
    thresholds = [one.threshold for one in found.coverage]
    assert thresholds == sorted(thresholds, reverse=True)
    assert found.coverage[-1].coverage == 1
    assert found.coverage[0].accuracy > found.coverage[-1].accuracy
    assert found.coverage[-1].accuracy == found.scores["accuracy"].value
    assert count_cells(rows, held_out) == found.cells


def test_a_planted_gap_is_found_and_compared_with_an_evaluation_without_it() -> None:
    rows, held_out, people = made(1_200, gap=0.3)
    fair, _, _ = made(1_200)
    found = analyze_rows(rows, held_out, SUBJECT, CostRules(), people, ("eval-2", fair))
    gaps = {(gap.rate, gap.compared_with): gap for gap in found.groups[0].gaps}
    for compared_with in ("", "eval-2"):
        gap = gaps["false_positive_rate", compared_with]
        assert (gap.left, gap.right) == ("b", "a")
        assert gap.p is not None
        assert gap.p < 0.05
        assert gap.size.ci_low is not None
        assert gap.size.ci_low > 0
    worst = error_gap(rows, people)
    assert worst is not None
    assert worst.value == pytest.approx(gaps["false_positive_rate", ""].size.value)


def _compared(gap: Score) -> Comparison:
    model = ModelDescription(uri="m", origin="x", license="x", engine="test", precision="none")
    score = Score(metric="accuracy", value=0.8, n=10, unit="share", signature="x")
    return Comparison(
        data="d", evaluations={"m": "e"}, models={"m": model}, scores={"accuracy": {"m": score}},
        better={"accuracy": "higher"}, differences=(), language_modeling_proxy=False, seed=0, group_gaps={"m": gap},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("gap", "limit", "expected"), [(0.3, 0.02, "missed"), (0.0, 0.4, "kept"), (0.0, 0.02, "unverified")]
)
def test_max_bias_gap_applies_to_groups(gap: float, limit: float, expected: str) -> None:
    rows, _, people = made(1_200, gap=gap)
    found = error_gap(rows, people)
    assert found is not None
    checked = check_limits(Choice(_compared(found), Needs(max_bias_gap=limit)), "m")
    outcome = "missed" if checked.missed else "unverified" if checked.unverified else "kept"
    assert outcome == expected
    if expected != "kept":
        assert "gap in error rates between groups" in (checked.missed or checked.unverified or "")


@pytest.mark.parametrize(
    ("gap", "groups", "expected"),
    [
        (0.9, ("a", "b", "c"), "missed"),  # the compared groups exceed it already
        (0.0, ("a", "b", "c"), "unverified"),
        (0.0, ("a", "c"), "unverified"),
        (0.0, ("a", "b"), "kept"),
    ],
)
def test_a_group_too_small_to_compare_leaves_max_bias_gap_unverified(
    gap: float, groups: tuple[str, ...], expected: str
) -> None:
    rows, _, people = made(1_200, gap=gap)
    named = people.groups["band"] | dict.fromkeys(("i1", "i2", "i3", "i4"), "c")
    found = error_gap(rows, GroupData({"band": {item: one for item, one in named.items() if one in groups}}, {}))
    assert found is not None
    checked = check_limits(Choice(_compared(found), Needs(max_bias_gap=0.4)), "m")
    outcome = "missed" if checked.missed else "unverified" if checked.unverified else "kept"
    assert outcome == expected
    if expected == "unverified":
        assert "can't be verified against the limit of 0.4" in (checked.unverified or "")
        assert "'c' (" in (checked.unverified or "")


def test_bad_probabilities_and_unknown_labels() -> None:
    rows, held_out, people = made(60)
    rows[0] = rows[0].model_copy(update={"probabilities": {"ham": 3.0, "spam": 1.0}})
    rows[1] = rows[1].model_copy(update={"references": ("HAM ",)})
    rows[2] = rows[2].model_copy(update={"references": ("other",)})
    rows[3] = rows[3].model_copy(update={"probabilities": None})
    found = analyze_rows(rows, held_out, SUBJECT, CostRules(), people)
    assert found.labels == ("ham", "spam", "other")
    assert found.n == 59
    assert "The probabilities of 1 items don't sum to 1 and were divided by their sum." in found.notes
    assert found.by_label[2].precision.missing_reason == "never decided"
    assert found.positive == ""
    assert found.cells.kind == "confidence"
    with pytest.raises(UsageError, match="the label 'eggs'"):
        analyze_rows(rows, held_out, SUBJECT, CostRules({"eggs": {"ham": 1}}), people)
    costs = {"ham": {"spam": 0.0}, "spam": {"ham": 0.0}}
    with pytest.raises(UsageError, match="costs the same"):
        analyze_rows(rows[4:], (), SUBJECT, CostRules(costs), people)
    with pytest.raises(SizewiseError, match="none of the labels"):
        analyze_rows(rows, held_out, SUBJECT, CostRules(positive="eggs"), people)
    with pytest.raises(SizewiseError, match="no probabilities"):
        analyze_rows([rows[3]], (), SUBJECT, CostRules(), people)


def test_words_that_give_a_group_away() -> None:
    rng = np.random.default_rng(0)
    groups = ["young", "old"] * 100
    texts = [
        f"{'pension' if group == 'old' and rng.random() < 0.7 else 'rent'} due today {i}"
        for i, group in enumerate(groups)
    ]
    clusters = [str(i) for i in range(200)]
    assert {one.word: one.group for one in proxies(texts, groups)} == {"pension": "old", "rent": "young"}
    told = predictability(texts, groups, clusters)
    assert told.ci_low is not None
    assert told.ci_low > 0.7
    plain = ["rent due today"] * 200
    assert proxies(plain, groups) == ()
    assert predictability(plain, groups, clusters).value == pytest.approx(0.5, abs=0.1)


def test_groups_are_kept_but_part_of_no_prompt(tmp_path: Path, store: Store) -> None:
    path = tmp_path / "tickets.jsonl"
    rows = [
        {"text": f"message {i} about {i * 7}", "label": "ab"[i % 2], "age": 30.0 + i % 3, "context": f"seen {i}"}
        for i in range(60)
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    saved = read([path], store=store, options=ReadOptions(prompt="text", label="label", groups=("age",)))
    contents = load(store, saved.id)
    examples = [one for split in contents.examples.values() for one in split]
    assert {one.attributes["age"] for one in examples} == {"30", "31", "32"}
    assert set(saved.record.groups) == {"age"}
    without = read([path], store=store, options=ReadOptions(prompt="text", label="label"))
    assert {one.prompt for one in examples} == {
        one.prompt for split in load(store, without.id).examples.values() for one in split
    }
    with pytest.raises(SizewiseError, match="no column 'income'"):
        read([path], store=store, options=ReadOptions(prompt="text", label="label", groups=("income",)))
    model = ModelDescription(uri="m", origin="x", license="x", engine="test", precision="none")
    record = Evaluation(
        model=model, data=saved.id, seed=0, limit=None, metrics=("accuracy",), scores={}, items=0, failed=0,
        seconds=0, versions={},
    )  # fmt: skip
    items = [
        ItemRow(
            item=one.id, kind="example", cluster=one.source, uncontaminated=True, prompt=one.prompt,
            references=one.references, completion="a", probabilities={"a": 0.6, "b": 0.4},
        )
        for one in contents.examples["test"]
    ]  # fmt: skip
    store.write_rows(store.folder("evaluation", "eval-1"), "items.jsonl", items)
    store.write("eval-1", record)
    found = analyze_decisions("eval-1", store=store)
    assert [one.column for one in found.groups] == ["age"]
    assert found.validation == 0
    with pytest.raises(SizewiseError, match="no column 'income' of groups"):
        analyze_decisions("eval-1", columns=("income",), store=store)


def test_the_positive_label_does_not_depend_on_the_sample() -> None:
    mostly_spam, mostly_ham = np.array([0, 0, 0, 1]), np.array([0, 1, 1, 1])
    for correct in (mostly_spam, mostly_ham):
        assert positive_label(("spam", "ham"), correct, "") == 0
        assert positive_label(("not urgent", "urgent"), correct, "") == 1
        assert positive_label(("may go out", "must wait"), correct, "", "predicate") == 0
        assert positive_label(("spam", "ham"), correct, "ham", "predicate") == 1
    assert positive_label(("cat", "dog"), mostly_spam, "") == 1  # the rarer one
    assert positive_label(("cat", "dog"), mostly_ham, "") == 0


def test_labels_that_differ_only_in_case_are_two_labels() -> None:
    rows = [
        ItemRow(
            item=f"i{i}", kind="example", cluster=f"c{i}", uncontaminated=True, prompt="x", completion="",
            references=(("a", "A", "b")[i % 3],), probabilities={"a": 0.6, "A": 0.3, "b": 0.1},
        )
        for i in range(60)
    ]  # fmt: skip
    found = analyze_rows(rows, [], SUBJECT, CostRules({"A": {"a": 5}}), GroupData({}, {}))
    assert found.labels == ("a", "A", "b")
    assert [one.n for one in found.by_label] == [20, 20, 20]
    assert found.scores["accuracy"].value == pytest.approx(1 / 3)
    other = [row.model_copy(update={"references": (row.references[0].lower(),)}) for row in rows]
    folded = [row.model_copy(update={"probabilities": {"A": 0.9, "B": 0.1}}) for row in other]
    assert analyze_rows(folded, [], SUBJECT, CostRules(), GroupData({}, {})).labels == ("A", "B")


def test_columns_of_groups_share_one_error_budget() -> None:
    rows, held_out, people = made(gap=0.1)
    (alone,) = analyze_rows(rows, held_out, SUBJECT, CostRules(), people).groups
    columns = dict.fromkeys(("band", "b", "c"), people.groups["band"])
    several = analyze_rows(rows, held_out, SUBJECT, CostRules(), GroupData(columns, people.texts)).groups
    assert len(several) == 3
    for one, more in zip(alone.gaps, several[0].gaps, strict=True):
        assert one.p is not None
        assert more.p == pytest.approx(min(1.0, 3 * one.p))
        assert one.size.ci_high is not None
        assert more.size.ci_high is not None
        assert more.size.ci_high - (more.size.ci_low or 0) > one.size.ci_high - (one.size.ci_low or 0)


def test_cases_and_groups_that_are_not_compared_are_noted() -> None:
    rows, held_out, people = made(200)
    names = dict(people.groups["band"])
    names |= {f"i{i}": "B" for i in range(1, 60, 2)} | {f"i{i}": "nan" for i in (60, 62)}
    known = {item: name for item, name in names.items() if item not in ("i0", "i2", "i4")}
    columns = {"band": known, "same": dict.fromkeys(names, "x"), "ids": {item: item for item in names}}
    notes = analyze_rows(rows, held_out, SUBJECT, CostRules(), GroupData(columns, {})).notes
    assert "band: 3 of 200 cases have no group and aren't compared." in notes
    assert "band: too few source documents to compare (at least 8): 'nan' (2)." in notes
    assert "band: 'B' and 'b' differ only in case or blanks and are compared as different groups." in notes
    assert "band: 'nan' (2) may stand for a missing group, but is compared as a group." in notes
    assert "same: not compared, because the cases have only the group 'x'." in notes
    assert "ids: not compared, because the cases have 200 groups, more than 20." in notes
    assert not [one for one in analyze_rows(rows, held_out, SUBJECT, CostRules(), people).notes if "band" in one]
