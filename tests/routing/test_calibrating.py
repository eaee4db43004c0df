from __future__ import annotations

import csv
import random
import time
from pathlib import Path

import pytest

from sizewise.cli.main import app
from sizewise.errors import SizewiseError, UsageError
from sizewise.routing import calibrate, chance_after, look_at

EASY, HARD = "what is the opening time of the branch in {}", "explain why the derivative of clause {} fails for swaps"


def answers(path: Path, count: int, seed: int, easy_right: float = 0.95, hard_right: float = 0.3) -> Path:
    """Prompts of two kinds: the small model is good at one of them."""
    chance = random.Random(seed)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", "weak_ok", "strong_ok"])
        for _ in range(count):
            easy = chance.random() < 0.6
            prompt = (EASY if easy else HARD).format(chance.randint(1, 10**6))
            weak = chance.random() < (easy_right if easy else hard_right)
            writer.writerow([prompt, int(weak), int(chance.random() < 0.95)])
    return path


def test_a_router_that_can_tell_is_better_than_chance(tmp_path: Path) -> None:
    found = calibrate(answers(tmp_path / "a.csv", 400, 1), risk=0.1)
    assert found.apgr.value is not None
    assert found.apgr.low is not None
    assert found.apgr.low > 0.6
    assert (found.cpt80.value or 1) < 0.6
    assert (found.calibration_error.value or 1) < 0.1
    assert found.chosen is not None
    assert 0.4 < found.chosen.small_share < 0.9
    assert found.chosen.worse <= 0.1
    assert look_at(found, EASY.format(7)).chance > 0.8 > 0.5 > look_at(found, HARD.format(7)).chance


def test_where_nothing_can_be_told_it_says_chance(tmp_path: Path) -> None:
    path = answers(tmp_path / "a.csv", 300, 2, easy_right=0.6, hard_right=0.6)
    found = calibrate(path)
    assert found.apgr.low is not None
    assert found.apgr.high is not None
    assert found.apgr.low < 0.5 < found.apgr.high


def test_the_stated_risk_is_kept_on_new_prompts(tmp_path: Path) -> None:
    worse = []
    for seed in range(8):
        found = calibrate(answers(tmp_path / "a.csv", 150, seed), risk=0.08)
        assert found.chosen is not None
        chance = random.Random(10_000 + seed)
        count = 0
        for _ in range(500):
            easy = chance.random() < 0.6
            prompt = (EASY if easy else HARD).format(chance.randint(1, 10**6))
            weak, strong = chance.random() < (0.95 if easy else 0.3), chance.random() < 0.95
            count += strong > weak and look_at(found, prompt).chance >= found.chosen.threshold
        worse.append(count / 500)
    assert sum(worse) / len(worse) <= 0.08


def test_too_small_a_risk_is_said_to_be_out_of_reach(tmp_path: Path) -> None:
    found = calibrate(answers(tmp_path / "a.csv", 40, 3), risk=0.01)
    assert found.chosen is None
    assert any("cannot vouch" in note for note in found.notes)
    assert found.bound == pytest.approx(1 - 0.02 ** (1 / 40))


def test_one_class_ties_and_bad_files(tmp_path: Path) -> None:
    always = calibrate(answers(tmp_path / "a.csv", 50, 4, easy_right=1.1, hard_right=1.1), risk=0.05)
    assert any("always right" in note for note in always.notes)
    assert always.apgr.missing is not None
    with pytest.raises(SizewiseError, match="10 prompts"):
        calibrate(answers(tmp_path / "few.csv", 10, 5))
    with pytest.raises(UsageError, match="no share"):
        calibrate(answers(tmp_path / "b.csv", 50, 6), risk=2.0)
    bad = tmp_path / "bad.csv"
    bad.write_text("prompt,weak_ok,strong_ok\nx,maybe,1\n", encoding="utf-8")
    with pytest.raises(SizewiseError, match="line 2"):
        calibrate(bad)


def test_a_decision_takes_no_time(tmp_path: Path) -> None:
    found = calibrate(answers(tmp_path / "a.csv", 60, 7))
    begun = time.process_time()
    for i in range(50):
        look_at(found, HARD.format(i))
    assert time.process_time() - begun < 2.0  # a bound against accidents; the figure is in benchmarks


def test_the_command_prints_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    app(["route", "calibrate", str(answers(tmp_path / "a.csv", 200, 8)), "--risk", "0.1"], standalone_mode=False)
    said = capsys.readouterr().out
    assert "APGR" in said
    assert "the small model answers" in said


def with_likelihoods(path: Path, count: int, seed: int) -> Path:
    """Prompts that say nothing about whether the small model is right; how likely its answer was to it does."""
    chance = random.Random(seed)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", "weak_ok", "strong_ok", "weak_logprob"])
        for number in range(count):
            weak = chance.random() < 0.6
            likely = chance.gauss(-0.5 if weak else -1.5, 0.4)
            prompt = f"Please deal with case {number} of today"
            writer.writerow([prompt, int(weak), int(chance.random() < 0.95), f"{likely:.4f}"])
    return path


def test_the_likelihood_of_the_answer_tells_what_the_prompt_does_not(tmp_path: Path) -> None:
    found = calibrate(with_likelihoods(tmp_path / "a.csv", 600, 0), 0.08)
    assert found.after is not None
    assert found.after.chosen is not None
    assert found.apgr.value == pytest.approx(0.5, abs=0.1)
    assert found.after.apgr.value == pytest.approx(0.75, abs=0.1)
    assert found.after.chosen.small_share > 0.4
    assert found.chosen is None or found.chosen.small_share < 0.2
    assert chance_after(found.after, 0.6, -0.3) > 0.8 > 0.3 > chance_after(found.after, 0.6, -1.8)
    assert calibrate(answers(tmp_path / "b.csv", 100, 0)).after is None


def test_a_likelihood_that_is_no_number_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("prompt,weak_ok,strong_ok,weak_logprob\nhello,1,1,nan\n", encoding="utf-8")
    with pytest.raises(SizewiseError, match="line 2 has no number as weak_logprob"):
        calibrate(path)
