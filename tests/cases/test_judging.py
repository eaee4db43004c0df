"""What people and judge models say, in the files and sentences that they leave."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from sizewise.comparison import compare
from sizewise.evaluation import evaluate
from sizewise.judging import Ballot, RoundDesign, agreement, open_round, rank, read_votes, write_tasks
from sizewise.judging.llm_judge import read_verdict
from sizewise.store import Store
from tests.cases.conftest import write_rows


def _table(path: Path, heading: tuple[str, ...], rows: list[tuple[Any, ...]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([heading, *rows])
    return path


# FastChat PR#3921, helm PR#4349, #4344, evalscope PR#1588, OpenWebRL#5
@pytest.mark.parametrize(
    ("line", "allowed"),
    [
        ("Answer 1 names the fee, answer 2 does not.", {"left", None}),
        ("1. Answer 2 invents a platform.", {"left", None}),
        ("Verdict: 1 rather than 2", {"left", None}),
        ("I would take 2 instead of 1", {"right", None}),
        ("1 and 2 say the same: tie, not 1", {"tie", None}),
        ("Answer 1: 8 of 10. Answer 2: 5 of 10.", {"left", None}),
        ("1", {"left"}),
        ("**2**", {"right"}),
        ("Verdict: 2", {"right"}),
        ("tie", {"tie"}),
        ("Verdict: both bad", {"both_bad"}),
    ],
)
def test_a_verdict_is_what_a_judge_states_or_none(line: str, allowed: set[str | None]) -> None:
    assert read_verdict(f"Answer 1 is short.\nAnswer 2 is long.\n{line}") in allowed


# dkpro-statistics#35, #19, #24, krippendorff-alpha#1, fast-krippendorff#11
def test_agreement_is_missing_with_a_reason_where_all_say_one_label(tmp_path: Path) -> None:
    rows = [(rater, item, "clear") for rater in ("Ida", "Jon", "Kim", "Lea") for item in range(6)]
    score = agreement(_table(tmp_path / "all.csv", ("rater", "item", "label"), rows)).scores["krippendorff_alpha"]
    assert score.value is None
    assert score.missing_reason


def test_agreement_is_zero_with_an_interval_where_one_of_many_dissents(tmp_path: Path) -> None:
    rows = [(rater, item, "clear") for rater in ("Ida", "Jon", "Kim", "Lea") for item in range(9)]
    rows[9] = (*rows[9][:2], "dim")
    score = agreement(_table(tmp_path / "one.csv", ("rater", "item", "label"), rows)).scores["krippendorff_alpha"]
    assert score.value == pytest.approx(0, abs=1e-9)
    assert score.ci_low is not None
    assert score.ci_high is not None


# dkpro-statistics#50, dify#42220, cellxgene PR#1115
@pytest.mark.parametrize("blank", [" ", "\u00a0", "\t"], ids=ascii)
def test_a_blank_beside_a_label_makes_no_other_label(tmp_path: Path, blank: str) -> None:
    rows = [
        (rater, item, f"blurred{blank}" if (item + turn) % 2 else "blurred")
        for turn, rater in enumerate(("Ida", "Jon"))
        for item in range(16)
    ]
    found = agreement(_table(tmp_path / "blanks.csv", ("rater", "item", "label"), rows))
    assert list(found.labels) == ["blurred"]


def test_a_blank_beside_a_name_makes_no_other_name(tmp_path: Path) -> None:
    rows = [(" small" if i % 3 == 0 else "small", "large", "left" if i % 5 else "right", f"q{i}") for i in range(30)]
    found = rank(_table(tmp_path / "votes.csv", ("left", "right", "winner", "item"), rows))
    assert sorted(one.name for one in found.table) == ["large", "small"]


def test_what_looks_like_nothing_is_a_label_if_a_person_wrote_it(tmp_path: Path) -> None:
    labels = ["NA", "None", "null", "yes"]
    rows = [(rater, item, labels[item % 4]) for rater in ("Ida", "Jon") for item in range(16)]
    found = agreement(_table(tmp_path / "na.csv", ("rater", "item", "label"), rows))
    assert sorted(found.labels) == sorted(labels)
    assert found.scores["krippendorff_alpha"].value == 1.0


# label-studio#279, #281, #330, label-studio-sdk PR#662
@pytest.mark.parametrize("empty", [[], None], ids=["empty", "null"])
def test_an_annotation_that_was_left_empty_costs_no_other_vote(
    tmp_path: Path, store: Store, empty: list[Any] | None
) -> None:
    rows = [{"id": f"q{i}", "prompt": f"Who has key {i}?", "answer": f"Key {i} is with Ms. Abara."} for i in range(10)]
    data = write_rows(tmp_path / "test.jsonl", rows)
    ids = {}
    for name, answer in (("good", "Key {} is with Ms. Abara."), ("bad", "I cannot find key {} on the list.")):
        said = [{"id": f"q{i}", "completion": answer.format(i)} for i in range(10)]
        ids[name] = evaluate(f"recorded:{write_rows(tmp_path / f'{name}.jsonl', said)}", data, ["bleu"], store=store).id
    opened = open_round([compare(ids, store=store).id], RoundDesign(raters=["Ida"], items=8), store=store)
    ballot = Ballot(store, opened.stored.id)
    path = tmp_path / "tasks.json"
    write_tasks(ballot, path, "label-studio")
    tasks = json.loads(path.read_text(encoding="utf-8"))
    chosen = {"from_name": "choice", "to_name": "prompt", "type": "choices", "value": {"choices": ["left"]}}
    for number, task in enumerate(tasks):
        result = empty if number == 2 else [chosen]
        task["annotations"] = [{"completed_by": {"email": "ida@example.org"}, "was_cancelled": False, "result": result}]
    path.write_text(json.dumps(tasks), encoding="utf-8")
    try:
        taken = read_votes(ballot, path, "label-studio")
        assert sum(taken.votes.values()) == len(tasks) - 1
        assert len(ballot.votes()) == len(tasks) - 1
    finally:
        ballot.close()
