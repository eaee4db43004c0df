"""Policies calibrated on stored evaluations."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sizewise.cli.main import app
from sizewise.datasets import load, read
from sizewise.errors import SizewiseError, UsageError
from sizewise.evaluation import evaluate
from sizewise.routing import calibrate_evaluations, pair_answers, read_policy
from sizewise.store import Store
from tests.routing.test_policy import EASY, HARD


@pytest.fixture
def evaluations(tmp_path: Path, store: Store) -> tuple[str, str]:
    """A small model that is right on easy prompts alone, and a large one that always is."""
    drawn = random.Random(0)
    rows = []
    for i in range(300):
        kind = EASY if i % 2 else HARD
        asked = " ".join(drawn.choice(kind) for _ in range(6))
        rows.append(
            {
                "id": f"e{i}",
                "prompt": f"{asked} {i}",
                "references": [f"the right answer to {i} is {i * 7}"],
                "split": "test",
            }
        )
    rows += [
        {"id": f"t{i}", "prompt": f"training {i}", "references": [f"something else number {i}"]} for i in range(20)
    ]
    path = tmp_path / "examples.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    data = read([path], store=store)
    test = load(store, data.id).examples["test"]
    assert len(test) == 300
    found = []
    for name in ("small", "large"):
        answers = [
            {"id": one.id, "completion": one.references[0] if name == "large" or int(one.id[1:]) % 2 else "zzz"}
            for one in test
        ]
        file = tmp_path / f"{name}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in answers), encoding="utf-8")
        found.append(evaluate(f"recorded:{file}", data.id, ["chrf"], store=store).id)
    return found[0], found[1]


def test_small_answer_is_good_if_it_loses_little(evaluations: tuple[str, str], store: Store) -> None:
    judged = pair_answers(*evaluations, store=store)
    assert judged.metric == "chrf"
    for item, lost in zip(judged.items, judged.lost, strict=True):
        assert (lost < 0.05) == (int(item[1:]) % 2 == 1)
    found = calibrate_evaluations(*evaluations, risk=0.05, store=store)
    assert found.evaluations == evaluations
    assert found.small_quality.value == pytest.approx(0.5, abs=0.05)
    assert found.chosen is not None
    assert found.chosen.small_share > 0.3
    assert "its chrf is at most 5% of the range below" in found.notes[0]


def test_the_command_takes_two_evaluations(evaluations: tuple[str, str], tmp_path: Path) -> None:
    out = tmp_path / "policy.json"
    done = CliRunner().invoke(app, ["route", "calibrate", *evaluations, "--risk", "0.05", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert read_policy(out).calibration.evaluations == evaluations


def test_mismatched_evaluations_are_rejected(evaluations: tuple[str, str], tmp_path: Path, store: Store) -> None:
    with pytest.raises(UsageError, match="does not score single answers"):
        pair_answers(*evaluations, metric="bleu", store=store)
    with pytest.raises(UsageError, match="between 0 and 1"):
        calibrate_evaluations(*evaluations, loss=1.5, store=store)
    other = read([tmp_path / "examples.jsonl"], store=store, seed=3)
    elsewhere = evaluate("fake:echo", other.id, ["chrf"], store=store).id
    with pytest.raises(SizewiseError, match=r"measured on data-"):
        pair_answers(evaluations[0], elsewhere, store=store)
