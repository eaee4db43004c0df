"""Reproduction of an evaluation, and the history of several."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sizewise.comparison import history
from sizewise.errors import SizewiseError
from sizewise.evaluation import evaluate, evaluate_suite
from sizewise.evaluation.reproduce import rerun
from sizewise.records import Dataset
from sizewise.store import Saved, Store

METRICS = ["bits_per_byte", "bleu", "exact_match"]


def answers(path: Path, dataset: Saved[Dataset], store: Store, said: str) -> str:
    from sizewise.datasets import load

    rows = [{"id": e.id, "completion": said or e.references[0]} for e in load(store, dataset.id).examples["test"]]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return f"recorded:{path}"


def test_scores_are_reproduced_and_nothing_is_saved(dataset: Saved[Dataset], store: Store) -> None:
    first = evaluate("fake:echo", dataset.id, METRICS, store=store)
    before = sorted(store.home.rglob("record.json"))
    found = rerun(first.id, store=store)
    assert set(found.equal) == set(found.before)
    assert {"bleu", "bleu@all", "bits_per_byte"} <= set(found.equal)
    assert not found.outside
    assert found.answers_changed == 0
    assert sorted(store.home.rglob("record.json")) == before
    assert not rerun(evaluate_suite("fake:echo", "bias", store=store).id, store=store).outside


def test_a_different_model_under_the_same_name_is_detected(
    dataset: Saved[Dataset], store: Store, tmp_path: Path
) -> None:
    uri = answers(tmp_path / "answers.jsonl", dataset, store, "")
    first = evaluate(uri, dataset.id, ["exact_match"], store=store)
    answers(tmp_path / "answers.jsonl", dataset, store, "no idea")
    found = rerun(first.id, store=store)
    assert found.before["exact_match"].value == 1
    assert "exact_match" in found.outside
    assert found.answers_changed == found.before["exact_match@all"].n


def test_history_compares_each_with_the_one_before(dataset: Saved[Dataset], store: Store, tmp_path: Path) -> None:
    names = [answers(tmp_path / f"{i}.jsonl", dataset, store, said) for i, said in enumerate(["no idea", ""])]
    ids = []
    for day, uri in enumerate(names, start=1):
        made = evaluate(uri, dataset.id, ["exact_match", "bleu"], store=store)
        body = json.loads(made.path.read_text(encoding="utf-8"))
        made.path.write_text(json.dumps(body | {"created": f"2026-01-0{day}T00:00:00+00:00"}), encoding="utf-8")
        ids.append(made.id)
    for name in (dataset.id, dataset.record.name):
        found = history(name, store=store)
        assert [entry.evaluation for entry in found.entries] == ids
        change = next(one for one in found.changes if one.metric == "exact_match")
        assert (change.left, change.right, change.value) == (ids[1], ids[0], 1.0)
        assert (change.better, change.needed) == (None, 8)  # four documents are too few for any claim
    assert [entry.model for entry in history(names[0], store=store).entries] == [names[0]]
    with pytest.raises(SizewiseError, match="There are no evaluations of"):
        history("fake:nobody", store=store)


def test_drift_is_tested_against_the_first_run_on_the_same_items(
    dataset: Saved[Dataset], store: Store, tmp_path: Path
) -> None:
    path, ids = tmp_path / "answers.jsonl", []
    for said in ("", "", "no idea"):
        uri = answers(path, dataset, store, said)
        path.write_text(path.read_text(encoding="utf-8") + "\n" * len(ids), encoding="utf-8")  # another file each time
        ids.append(evaluate(uri, dataset.id, ["exact_match"], store=store).id)
    found = history(uri, store=store)
    assert [entry.evaluation for entry in found.entries] == ids
    (drift,) = found.drift
    assert (drift.left, drift.right, drift.value) == (ids[2], ids[0], -1)
    same, worse = found.changes
    assert (same.value, same.better) == (0, None)
    assert (worse.better is not None) == (drift.better is not None)
    assert [run.changed for run in found.runs] == [0, found.runs[1].items]
    assert any("answers of" in note or "changed between" in note for note in found.notes)
