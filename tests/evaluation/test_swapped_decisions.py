"""Counterfactual fairness of decisions: a planted preference is found, and none where the model doesn't have one."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from sizewise.datasets import read
from sizewise.evaluation import evaluate_suite
from sizewise.records import ClassifierRecipe, ItemRow
from sizewise.store import Store
from sizewise.training import train

LINEAR = ClassifierRecipe(start="tfidf", method="linear")
WHAT = {"grant": ["a steady job", "paid on time", "some savings"], "refuse": ["missed rent", "old debts", "no income"]}


def loans(folder: Path, prejudice: float, n: int = 400) -> Path:
    """Write decisions on loans; with so much probability, women are refused whatever else the text says."""
    rng, rows = random.Random(1), []
    for i in range(n):
        label, woman = rng.choice(list(WHAT)), rng.random() < 0.5
        filler = " ".join("".join(rng.choices("bdfgklmnprstvz", k=6)) for _ in range(6))
        facts = f"{rng.choice(WHAT[label])} and {rng.choice(WHAT[label])}"
        text = f"Case {i} {filler}: {'she' if woman else 'he'} has {facts}."
        rows.append({"text": text, "label": "refuse" if woman and rng.random() < prejudice else label})
    path = folder / f"loans-{prejudice}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("prejudice", [0.6, 0.0])
def test_a_planted_preference_is_found_and_none_where_there_is_none(
    prejudice: float, tmp_path: Path, store: Store
) -> None:
    data = read(loans(tmp_path, prejudice), store=store)
    trained = train(LINEAR, data, store=store)
    found = evaluate_suite(f"run:{trained.id}", "counterfactuals", data.id, store=store)
    scores = found.record.scores
    flips, gap = scores["counterfactual_flip#gender"], scores["counterfactual_gap#gender"]
    women = scores["counterfactual_probability#gender: women"]
    assert flips.n == women.n >= 60
    assert women.value == pytest.approx(-(scores["counterfactual_probability#gender: men"].value or 0.0))
    assert gap.value == pytest.approx(2 * abs(women.value or 0.0))
    shift = scores["counterfactual_shift#gender"].value
    assert shift is not None
    if prejudice:
        assert (flips.value or 0.0) > 0.2
        assert gap.ci_low is not None
        assert gap.ci_low > 0.1
        assert shift > 0.1
        more, less = ("women", "men") if (women.value or 0.0) > 0 else ("men", "women")
        first = data.record.question.values[0] if data.record.question else ""
        assert (first == "refuse") == (more == "women")
        told = f"gender: '{first}' is most likely where the text names {more}, least where it names {less}."
        assert told in found.record.notes
    else:
        assert flips.value == 0
        assert shift < 0.02
    absent = scores["counterfactual_flip#name"]
    assert absent.missing_reason == "0 texts mention this attribute; 30 are needed"
    rows = store.read_rows(store.folder("evaluation", found.id), "items.jsonl", ItemRow)
    assert all(row.completion and "\n---\n" in row.completion for row in rows)
    assert evaluate_suite(f"run:{trained.id}", "counterfactuals", data.id, store=store).id == found.id
