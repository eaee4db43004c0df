from __future__ import annotations

import csv
import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sizewise.cli.main import app
from sizewise.errors import SizewiseError, UsageError
from sizewise.records import Calibration
from sizewise.routing import calibrate, calibrate_rows, probability_after, prompt_features
from sizewise.routing.features import hashed_ngrams
from sizewise.routing.labeled import hash_prompt, normalize_prompt
from sizewise.routing.reliability import calibration_error

EASY, HARD = "what is the opening time of the branch in {}", "explain why the derivative of clause {} fails for swaps"


def answers(path: Path, count: int, seed: int, easy_right: float = 0.95, hard_right: float = 0.3) -> Path:
    """Prompts of two kinds: the small model is good at one of them."""
    probability = random.Random(seed)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", "weak_ok", "strong_ok"])
        for _ in range(count):
            easy = probability.random() < 0.6
            prompt = (EASY if easy else HARD).format(probability.randint(1, 10**6))
            weak = probability.random() < (easy_right if easy else hard_right)
            writer.writerow([prompt, int(weak), int(probability.random() < 0.95)])
    return path


def test_router_beats_random_routing_on_predictable_prompts(tmp_path: Path) -> None:
    found = calibrate(answers(tmp_path / "a.csv", 400, 1), risk=0.1)
    assert found.apgr.value is not None
    assert found.apgr.ci_low is not None
    assert found.apgr.ci_low > 0.6
    assert (found.cpt80.value or 1) < 0.6
    assert (found.calibration_error.value or 1) < 0.1
    assert found.chosen is not None
    assert 0.4 < found.chosen.small_share < 0.9
    assert found.chosen.worse <= 0.1
    assert (
        prompt_features(found, EASY.format(7)).probability
        > 0.8
        > 0.5
        > prompt_features(found, HARD.format(7)).probability
    )


def test_router_equals_random_routing_on_unpredictable_prompts(tmp_path: Path) -> None:
    path = answers(tmp_path / "a.csv", 300, 2, easy_right=0.6, hard_right=0.6)
    found = calibrate(path)
    assert found.apgr.ci_low is not None
    assert found.apgr.ci_high is not None
    assert found.apgr.ci_low < 0.5 < found.apgr.ci_high


def test_risk_holds_on_new_prompts(tmp_path: Path) -> None:
    worse = []
    for seed in range(8):
        found = calibrate(answers(tmp_path / "a.csv", 150, seed), risk=0.08)
        assert found.chosen is not None
        probability = random.Random(10_000 + seed)
        count = 0
        for _ in range(500):
            easy = probability.random() < 0.6
            prompt = (EASY if easy else HARD).format(probability.randint(1, 10**6))
            weak, strong = probability.random() < (0.95 if easy else 0.3), probability.random() < 0.95
            count += strong > weak and prompt_features(found, prompt).probability >= found.chosen.threshold
        worse.append(count / 500)
    assert sum(worse) / len(worse) <= 0.08


def test_unreachable_risk_is_reported(tmp_path: Path) -> None:
    found = calibrate(answers(tmp_path / "a.csv", 40, 3), risk=0.01)
    assert found.chosen is None
    assert any("too few for a risk" in note for note in found.notes)
    assert found.bound == pytest.approx(1 - 0.02 ** (1 / 40))


def test_one_class_ties_and_bad_files(tmp_path: Path) -> None:
    always = calibrate(answers(tmp_path / "a.csv", 50, 4, easy_right=1.1, hard_right=1.1), risk=0.05)
    assert any("always answers well" in note for note in always.notes)
    assert always.apgr.missing_reason is not None
    with pytest.raises(SizewiseError, match="10 distinct prompts"):
        calibrate(answers(tmp_path / "few.csv", 10, 5))
    with pytest.raises(UsageError, match="between 0 and 1"):
        calibrate(answers(tmp_path / "b.csv", 50, 6), risk=2.0)
    bad = tmp_path / "bad.csv"
    bad.write_text("prompt,weak_ok,strong_ok\nx,maybe,1\n", encoding="utf-8")
    with pytest.raises(SizewiseError, match="line 2"):
        calibrate(bad)


def test_decisions_are_fast(tmp_path: Path) -> None:
    found = calibrate(answers(tmp_path / "a.csv", 60, 7))
    begun = time.process_time()
    for i in range(50):
        prompt_features(found, HARD.format(i))
    assert time.process_time() - begun < 2.0  # a bound against accidents; the figure is in benchmarks


def test_command_prints_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    app(["route", "calibrate", str(answers(tmp_path / "a.csv", 200, 8)), "--risk", "0.1"], standalone_mode=False)
    said = capsys.readouterr().out
    assert "APGR" in said
    assert "answered by the small model" in said


def test_prompts_whose_copies_differ_are_calibrated_without_an_interval(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "twice.csv"
    rows = "".join(f"q {row // 2},{row % 2},1\n" for row in range(120))
    path.write_text(f"prompt,weak_ok,strong_ok\n{rows}", encoding="utf-8")
    found = calibrate(path, risk=0.3).calibration_error
    assert (found.value, found.ci_low, bool(found.ci_missing_reason)) == (0.0, None, True)
    app(["route", "calibrate", str(path), "--risk", "0.3"], standalone_mode=False)
    assert "0.000 (the prompts are too few" in capsys.readouterr().out


def with_likelihoods(path: Path, count: int, seed: int) -> Path:
    """Prompts that say nothing about whether the small model is right; how likely its answer was to it does."""
    probability = random.Random(seed)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", "weak_ok", "strong_ok", "weak_logprob"])
        for number in range(count):
            weak = probability.random() < 0.6
            likely = probability.gauss(-0.5 if weak else -1.5, 0.4)
            prompt = f"Please deal with case {number} of today"
            writer.writerow([prompt, int(weak), int(probability.random() < 0.95), f"{likely:.4f}"])
    return path


def test_answer_likelihood_adds_to_the_prompt(tmp_path: Path) -> None:
    found = calibrate(with_likelihoods(tmp_path / "a.csv", 600, 0), 0.08)
    assert found.after is not None
    assert found.after.chosen is not None
    assert found.apgr.value == pytest.approx(0.5, abs=0.1)
    assert found.after.apgr.value == pytest.approx(0.75, abs=0.1)
    assert found.after.chosen.small_share > 0.4
    assert found.chosen is None or found.chosen.small_share < 0.2
    assert probability_after(found.after, 0.6, -0.3) > 0.8 > 0.3 > probability_after(found.after, 0.6, -1.8)
    assert calibrate(answers(tmp_path / "b.csv", 100, 0)).after is None


def test_invalid_logprob_is_reported_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("prompt,weak_ok,strong_ok,weak_logprob\nhello,1,1,nan\n", encoding="utf-8")
    with pytest.raises(SizewiseError, match="line 2: weak_logprob must be a number"):
        calibrate(path)


def drawn_prompts(seed: int, count: int) -> list[str]:
    """Prompts of random letters: nothing in them tells whether the small model is right."""
    probability = random.Random(seed)
    return ["".join(probability.choice("abcdefghijklmnopqrstuvwxyz ") for _ in range(40)) for _ in range(count)]


@pytest.mark.parametrize("again", [str, lambda prompt: f"  {prompt.upper()}\u200b "])
def test_duplicate_prompts_add_no_evidence(again: Callable[[str], str]) -> None:
    kept = 0
    for seed in range(5):
        probability = random.Random(seed)
        prompts = drawn_prompts(seed, 80)
        weak = np.array([float(probability.random() < 0.6) for _ in prompts])
        asked = [*prompts, *(again(prompt) for prompt in prompts)]
        found = calibrate_rows(asked, np.tile(weak, 2), np.ones(160), "twice", 0.15, seed)
        assert found.prompts == found.small_quality.n == 80
        assert found.bound == pytest.approx(1 - 0.02 ** (1 / 80))
        assert any("160 rows contain 80 distinct prompts" in note for note in found.notes)
        if found.chosen is None:
            kept += 1
            continue
        small = [
            prompt_features(found, one).probability >= found.chosen.threshold
            for one in drawn_prompts(1_000 + seed, 400)
        ]
        kept += sum(small) / 400 * 0.4 <= 0.15  # the small model is right in 60 % of all, whatever is asked
    assert kept == 5


def test_duplicates_count_as_one_observation(tmp_path: Path) -> None:
    once = calibrate(answers(tmp_path / "a.csv", 200, 3), risk=0.1)
    rows = (tmp_path / "a.csv").read_text(encoding="utf-8").splitlines()
    (tmp_path / "b.csv").write_text("\n".join([rows[0], *rows[1:], *rows[1:], *rows[1:]]), encoding="utf-8")
    thrice = calibrate(tmp_path / "b.csv", risk=0.1)
    for name in ("small_quality", "large_quality", "oracle_quality"):
        assert getattr(thrice, name) == getattr(once, name)
    assert thrice.apgr.ci_low is not None
    assert thrice.apgr.ci_high is not None
    assert once.apgr.ci_low is not None
    assert once.apgr.ci_high is not None
    assert thrice.apgr.ci_high - thrice.apgr.ci_low == pytest.approx(once.apgr.ci_high - once.apgr.ci_low, rel=0.25)
    assert thrice.bound == once.bound
    assert thrice.marks == once.marks
    with pytest.raises(SizewiseError, match="10 distinct prompts in 30 rows"):
        calibrate_rows(drawn_prompts(0, 10) * 3, np.ones(30), np.ones(30), "x")


def test_prompt_normalization() -> None:
    assert normalize_prompt(" What\tis  ﬁne\u200b?\n") == normalize_prompt("WHAT IS FINE?") == "what is fine?"
    assert normalize_prompt("Straße") == normalize_prompt("STRASSE")
    assert normalize_prompt("ｶﾞ") == normalize_prompt("ガ")
    assert normalize_prompt("2 + 2") != normalize_prompt("2 - 2")
    assert len(hash_prompt("half an emoji \ud83d")) == 12
    assert (
        prompt_features(calibrate_rows(drawn_prompts(0, 20), np.ones(20), np.ones(20), "x"), "\ud83d half").probability
        > 0
    )


def drawn_quality(seed: int, count: int) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Prompts of three kinds: both models answer well, the large one alone, and neither."""
    rng = np.random.default_rng(seed)
    kinds = rng.integers(0, 3, count)
    words = ("opening hours of the branch", "derive the tax of the merger", "guess my favourite number")
    prompts = [f"{words[kind]} {rng.integers(10**6)}" for kind in kinds]
    weak = (rng.random(count) < np.array([0.95, 0.2, 0.05])[kinds]).astype(float)
    strong = (rng.random(count) < np.array([0.97, 0.95, 0.05])[kinds]).astype(float)
    return prompts, weak, strong


def test_prompts_that_neither_model_answers_stay_with_the_small_one() -> None:
    found = calibrate_rows(*drawn_quality(0, 300), "kinds", 0.1)
    easy, large_alone, neither = (
        prompt_features(found, words).probability
        for words in ("opening hours of the branch", "derive the tax of the merger", "guess my favourite number")
    )
    assert found.large is not None
    assert min(easy, neither) > 0.8 > 0.5 > large_alone
    assert found.apgr.value is not None
    assert found.apgr.value > 0.75  # a router that knows the small model alone asks the large one what neither knows
    assert found.chosen is not None
    assert found.chosen.small_share > 0.6


def test_calibrations_of_earlier_versions_predict_as_before() -> None:
    found = calibrate_rows(*drawn_quality(0, 200), "kinds", 0.1)
    before = found.model_copy(update={"large": None})
    score = before.offset + sum(
        before.weights.get(i, 0.0) * value for i, value in hashed_ngrams("guess my favourite number").items()
    )
    assert prompt_features(before, "guess my favourite number").probability == pytest.approx(1 / (1 + np.exp(-score)))
    written = found.model_dump(mode="json")
    del written["large"]
    assert Calibration.model_validate(written).large is None


def test_calibration_error_has_no_bias_and_grows_with_the_gap() -> None:
    squares, plain = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        truth = rng.uniform(0.2, 0.9, 200)
        labels = (rng.random(200) < truth).astype(float)
        squares.append(calibration_error(truth, labels).value)
        plain.append(np.mean([abs((truth - labels)[rows].mean()) for rows in np.array_split(np.argsort(truth), 10)]))
    assert np.mean(squares) < 0.03 < 0.07 < np.mean(plain)
    rng = np.random.default_rng(1)
    truth = rng.uniform(0.1, 0.8, 2_000)
    labels = (rng.random(2_000) < truth).astype(float)
    off = calibration_error(truth + 0.1, labels)
    assert off.value == pytest.approx(0.1, abs=0.03)
    assert off.ci_low < 0.1 < off.ci_high
    assert off.ci_low > 0.05
    twice = calibration_error(np.tile(truth + 0.1, 2), np.tile(labels, 2), np.tile(np.arange(2_000), 2))
    assert twice.value == pytest.approx(off.value, abs=1e-3)
    assert twice.ci_high - twice.ci_low == pytest.approx(off.ci_high - off.ci_low, rel=0.1)
