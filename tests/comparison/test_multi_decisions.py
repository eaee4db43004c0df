"""Decisions with several labels: figures of each label, and of all together."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score, hamming_loss

from sizewise.comparison.decided import CostRules, Subject
from sizewise.comparison.decisions import analyze_rows
from sizewise.comparison.group_figures import GroupData
from sizewise.comparison.multi_decisions import _labels_of
from sizewise.datasets import read
from sizewise.evaluation import evaluate
from sizewise.records import ClassifierRecipe, ItemRow
from sizewise.report.words import claim_text
from sizewise.store import Store
from sizewise.studies import study
from sizewise.training import train
from tests.cli.test_cli import call

SUBJECT = Subject("eval-1", "run:x", "data-1", "multi")
LABELS = ("lost", "charge", "slow; late")


def made(n: int, seed: int) -> tuple[list[ItemRow], np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    stated = rng.beta(0.7, 0.7, (n, 3))
    hits = rng.random((n, 3)) < stated
    hits[~hits.any(axis=1), 0] = True  # a case without a label has no reference answer
    rows = [
        ItemRow(
            item=f"i{i}", kind="example", cluster=f"c{i}", uncontaminated=True, prompt="x", completion="",
            references=("; ".join(label for label, one in zip(LABELS, hits[i], strict=True) if one),),
            probabilities=dict(zip(LABELS, stated[i].tolist(), strict=True)),
        )
        for i in range(n)
    ]  # fmt: skip
    return rows, stated, hits


def test_figures_of_several_labels_agree_with_scikit_learn() -> None:
    rows, stated, hits = made(400, 0)
    found = analyze_rows(rows, [], SUBJECT, CostRules(), GroupData({}, {}))
    decided = stated >= 0.5
    assert found.labels == LABELS
    assert found.scores["hamming_loss"].value == pytest.approx(hamming_loss(hits, decided))
    assert found.scores["subset_accuracy"].value == pytest.approx((hits == decided).all(axis=1).mean())
    assert found.scores["micro_f1"].value == pytest.approx(f1_score(hits, decided, average="micro"))
    for number, one in enumerate(found.by_label):
        assert (one.label, one.n) == (LABELS[number], hits[:, number].sum())
        assert one.f1.value == pytest.approx(f1_score(hits[:, number], decided[:, number]))
        assert one.roc_auc.ci_low is not None
    assert not (found.claims)
    assert not (found.confusion)
    assert not (found.costs)
    assert not (found.groups)
    assert "one decision for each case" in found.notes[0]
    assert claim_text(found).startswith("All labels are right in")
    assert _labels_of("slow; late; other; lost", LABELS) == ["slow; late", "other", "lost"]


def test_a_classifier_of_several_labels_is_analyzed_and_studied(
    tmp_path: Path, store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "several.jsonl"
    rows = [
        {"text": f"{' '.join(words)} number {i}", "labels": list(words), "type": "multi"}
        for i, words in enumerate([("lost",), ("lost", "charge"), ("charge",), ("slow",)] * 25)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    data = read(path, store=store)
    trained = train(ClassifierRecipe(start="tfidf", method="linear"), data, store=store)
    measured = evaluate(f"run:{trained.id}", data, ("exact_match",), store=store)
    code, out, _ = call(capsys, monkeypatch, "decisions", measured.id, "--explain", "1")
    assert code == 0
    assert "all labels right" in out
    assert "one decision for each case" in out
    config = f"""
[data]
examples = "{path}"
[[candidates]]
name = "linear"
model = "tfidf"
train = {{ method = "linear" }}
[[candidates]]
name = "frequencies"
model = "none"
train = {{ method = "frequent" }}
"""
    (tmp_path / "study.toml").write_text(config, encoding="utf-8")
    assert Path(study(tmp_path / "study.toml", store=store).record.report).exists()
