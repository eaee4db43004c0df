"""Identical answers are ties without being asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sizewise.datasets import load
from sizewise.evaluation import evaluate
from sizewise.judging import Ballot, RoundDesign, open_round, report
from sizewise.judging.answered import same_answer
from sizewise.records import Dataset, JudgeRound, Vote
from sizewise.report.judging import write_judge_page
from sizewise.store import Saved, Store


def test_unicode_forms_and_white_space_make_no_other_answer() -> None:
    assert same_answer("caf\u00e9  now\n", "cafe\u0301 now")
    assert same_answer("soft\u00adhyphen", "softhyphen")
    assert not same_answer("Not US", "not us")
    assert not same_answer("1.5", "15")


def test_ties_on_identical_answers_count_one_half_and_are_shown(
    dataset: Saved[Dataset], store: Store, tmp_path: Path
) -> None:
    ids = []
    for name in ("one", "other"):
        path = tmp_path / f"{name}.jsonl"
        rows = [
            {"id": example.id, "completion": f"same {i}" if i % 2 else f"{name} {i} {example.references[0]}"}
            for i, example in enumerate(load(store, dataset.id).examples["test"])
        ]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        ids.append(evaluate(f"recorded:{path}", dataset.id, ["chrf"], store=store).id)
    opened = open_round(ids, RoundDesign(raters=["a"], items=500), store=store)
    ((*names, same),), ((*_, both),) = opened.stored.record.same, opened.stored.record.both_answered
    assert 0 < same < both
    ballot = Ballot(store, opened.stored.id)
    rater = ballot.rater(opened.invitations[0].token)
    while task := ballot.next_task(rater):
        choice = "left" if task.left == names[0] else "right"
        ballot.vote(rater, Vote(task=task.id, rater="a", origin="person", choice=choice), f"n{task.id}")
    ballot.close()
    found = report(opened.stored.id, store=store)
    (pair,) = found.pairs
    assert pair.identical == same
    assert pair.with_identical is not None
    assert pair.win_rate.value in (0, 1)
    won = pair.win_rate.value * (both - same) + same / 2
    assert pair.with_identical.value == pytest.approx(won / both)
    assert pair.with_identical.n == both
    assert any(f"({same} pairs of answers)" in note for note in found.notes)
    record, path = store.read(JudgeRound, opened.stored.id), tmp_path / "page.html"
    page = write_judge_page(path, found, record, {}).read_text(encoding="utf-8")
    assert f"gave the same answer to {same} examples; with these ties" in page
