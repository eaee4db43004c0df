"""Policies: decisions, confidentiality, risk and drift."""

from __future__ import annotations

import csv
import random
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from sizewise.cli.main import app
from sizewise.errors import SizewiseError, UsageError
from sizewise.records import Policy
from sizewise.report.routing import replay_text
from sizewise.routing import (
    PerClientDrift,
    PolicyDrift,
    PromptFeatures,
    TrainingDrift,
    calibrate,
    calibrate_rows,
    decide_prompt,
    make_policy,
    prompt_features,
    read_policy,
    replay,
    write_policy,
)

EASY, HARD = (
    ["what are your opening hours", "where is the office"],
    ["derive the tax treatment of the merger", "prove it"],
)


def write_csv(path: Path, count: int, seed: int, easy: float = 0.6) -> Path:
    rng = random.Random(seed)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", "weak_ok", "strong_ok"])
        for _ in range(count):
            simple = rng.random() < easy
            weak = rng.random() < (0.97 if simple else 0.1)
            words = rng.choice(EASY if simple else HARD)
            writer.writerow([f"{words} {rng.randint(0, 10**6)}", int(weak), int(rng.random() < 0.98)])
    return path


@pytest.fixture
def policy(tmp_path: Path) -> Policy:
    return make_policy(calibrate(write_csv(tmp_path / "a.csv", 600, 0), 0.08), "small", "large", ["(?i)salary"], 500)


def test_policy_round_trips_and_explains_decisions(policy: Policy, tmp_path: Path) -> None:
    write_policy(policy, tmp_path / "p.json")
    read = read_policy(tmp_path / "p.json")
    assert read == policy
    easy, hard = decide_prompt(read, EASY[0]), decide_prompt(read, HARD[0])
    assert (easy.model, hard.model) == ("small", "large")
    assert easy.features.probability > read.threshold > hard.features.probability
    assert "probability" in easy.why
    secret = decide_prompt(read, f"{HARD[0]} given my SALARY")
    assert (secret.model, secret.may_leave) == ("small", False)
    assert decide_prompt(read, EASY[0] * 30).model == "large"


def test_replay_keeps_the_risk_on_other_prompts(policy: Policy, tmp_path: Path) -> None:
    found = replay(write_csv(tmp_path / "b.csv", 2_000, 1), policy)
    assert found.kept
    assert found.small_share.value is not None
    assert found.small_share.value > 0.4
    assert found.quality.value is not None
    assert found.random.value is not None
    assert found.oracle.value is not None
    assert found.random.value < found.quality.value <= found.oracle.value
    assert found.drift > 0.001


def test_risk_holds_in_nearly_all_splits(tmp_path: Path) -> None:
    from sizewise.routing.calibrating import calibrate_rows, read_labeled

    prompts, weak, strong, _ = read_labeled(write_csv(tmp_path / "all.csv", 900, 3))
    kept = 0
    for seed in range(10):
        order = np.random.default_rng(seed).permutation(len(prompts))
        first, rest = order[:400], order[400:]
        found = calibrate_rows([prompts[i] for i in first], weak[first], strong[first], "x", 0.05, seed)
        if found.chosen is None:
            kept += 1
            continue
        policy = make_policy(found)
        small = np.array([decide_prompt(policy, prompts[i]).model == "small" for i in rest])
        kept += bool((small & (strong[rest] > weak[rest])).mean() <= 0.05)
    assert kept >= 9


def test_drift_is_detected_without_false_alarm(policy: Policy) -> None:
    rng = random.Random(0)
    same, other = PolicyDrift(policy), PolicyDrift(policy)
    for number in range(200):
        simple = rng.random() < 0.6
        same.add(decide_prompt(policy, f"{rng.choice(EASY if simple else HARD)} {rng.randint(0, 10**6)}").features)
        other.add(decide_prompt(policy, f"merger tax {number}").features)
    assert not same.drifted
    assert other.drifted


def looks(policy: Policy, odd: bool, count: int, seed: int = 0) -> list[PromptFeatures]:
    rng = random.Random(seed)
    asked = (
        f"merger tax {rng.randint(0, 10**6)}"
        if odd
        else f"{rng.choice(EASY if rng.random() < 0.6 else HARD)} {rng.randint(0, 10**6)}"
        for _ in range(count)
    )
    return [decide_prompt(policy, prompt).features for prompt in asked]


def test_one_client_does_not_trigger_drift_for_all(policy: Policy) -> None:
    watch = PerClientDrift(policy)
    for one in looks(policy, True, 300):
        watch.add(one, "odd")
    for name in "abc":
        for one in looks(policy, False, 100, ord(name)):
            watch.add(one, name)
    assert watch.drifted_for("odd")
    assert not watch.drifted
    assert not watch.drifted_for("a")
    assert watch.drifted_clients == ["odd"]


def test_pooled_drift_is_detected_with_few_prompts_per_client(policy: Policy) -> None:
    alone, many, few = PerClientDrift(policy), PerClientDrift(policy), PerClientDrift(policy)
    for place, one in enumerate(looks(policy, True, 200)):
        alone.add(one, "")
        many.add(one, f"key {place % 40}")
        few.add(one, f"key {place % 2}")
    assert alone.drifted
    assert many.drifted
    assert many.drifted_for("a new one")
    assert few.drifted


def test_invalid_policies_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(SizewiseError, match="not a valid policy"):
        read_policy(path)
    calibration = calibrate(write_csv(tmp_path / "a.csv", 40, 0), 0.01)
    assert calibration.chosen is None
    with pytest.raises(SizewiseError, match="no threshold"):
        make_policy(calibration)
    good = calibrate(write_csv(tmp_path / "b.csv", 400, 0), 0.1)
    with pytest.raises(UsageError, match=re.escape("'(' is not a valid regular expression")):
        make_policy(good, confidential=["("])


def test_drift_from_training_prompts_is_detected() -> None:
    drawn = random.Random(0)

    def asked(words: list[str]) -> str:
        return " ".join(drawn.choice(words) for _ in range(8))

    known = TrainingDrift([asked(EASY) for _ in range(300)])
    for _ in range(200):
        known.add_prompt(asked(EASY))
    assert not known.drifted
    needed = 0
    while not known.drifted and needed < 200:
        known.add_prompt(asked(HARD))
        needed += 1
    assert needed < 200
    with pytest.raises(SizewiseError, match="at least 20"):
        TrainingDrift(["only one"])


def test_unpredictable_prompts_cause_no_drift() -> None:
    drawn = random.Random(0)
    prompts = [" ".join(drawn.choice(EASY) for _ in range(8)) for _ in range(120)]
    right = np.array([float(drawn.random() < 0.5) for _ in prompts])
    learnt = calibrate_rows(prompts, right, np.ones(len(prompts)), "drawn", 0.9)
    watch = PolicyDrift(make_policy(learnt))
    for _ in range(2):
        for prompt in prompts:
            watch.add(prompt_features(learnt, prompt))
    assert not watch.drifted


def test_calibration_prompts_are_excluded_from_replay(policy: Policy, tmp_path: Path) -> None:
    own = replay(tmp_path / "a.csv", policy)
    assert (own.new, own.kept, own.learnt, own.prompts) == (False, None, 0, 600)
    said = replay_text(own)
    assert "was calibrated on these prompts, so they can't show that the risk limit of 8% holds" in said
    rows = (tmp_path / "a.csv").read_text(encoding="utf-8").splitlines()
    (tmp_path / "part.csv").write_text("\n".join([rows[0], *(row.upper() for row in rows[:50:-1])]), encoding="utf-8")
    assert replay(tmp_path / "part.csv", policy).kept is None
    more = write_csv(tmp_path / "b.csv", 200, 1).read_text(encoding="utf-8").splitlines()[1:]
    (tmp_path / "both.csv").write_text("\n".join([*rows[:31], *more, more[0]]), encoding="utf-8")
    mixed = replay(tmp_path / "both.csv", policy)
    assert (mixed.new, mixed.kept, mixed.learnt, mixed.prompts) == (True, True, 30, 201)
    assert mixed.quality.n == 200
    assert (
        "On these prompts the policy stays within the risk limit of 8%. 30 other prompts were excluded"
        in replay_text(mixed)
    )
    assert f"handles {100 * (mixed.small_share.value or 0):.1f}% [" in replay_text(mixed)


def test_policy_of_an_earlier_version_recognizes_its_file(policy: Policy, tmp_path: Path) -> None:
    before = policy.model_copy(update={"calibration": policy.calibration.model_copy(update={"marks": ()})})
    assert replay(tmp_path / "a.csv", before).kept is None
    assert replay(write_csv(tmp_path / "b.csv", 200, 1), before).kept


def test_page_makes_no_claim_on_calibration_prompts(policy: Policy, tmp_path: Path) -> None:
    write_policy(policy, tmp_path / "p.json")
    for name, claims in (("a.csv", False), ("b.csv", True)):
        if claims:
            write_csv(tmp_path / name, 200, 1)
        asked = ["route", "report", str(tmp_path / name), "--policy", str(tmp_path / "p.json")]
        done = CliRunner().invoke(app, [*asked, "--out", str(tmp_path / "page.html")])
        assert done.exit_code == 0, done.output
        page = (tmp_path / "page.html").read_text(encoding="utf-8")
        for text in (page, done.output):
            assert (
                "On these prompts the policy stays within the risk limit of 8%." in " ".join(text.split())
            ) is claims
            assert ("was calibrated on these prompts" in " ".join(text.split())) is not claims


def test_replay_makes_no_claim_about_prompts_of_another_kind(policy: Policy, tmp_path: Path) -> None:
    rows = ["prompt,weak_ok,strong_ok", *(f"merger tax {number},1,1" for number in range(200))]
    (tmp_path / "other.csv").write_text("\n".join(rows), encoding="utf-8")
    other, same = replay(tmp_path / "other.csv", policy), replay(write_csv(tmp_path / "b.csv", 200, 1), policy)
    assert (other.shifted, same.shifted) == (True, False)
    assert "makes no claim about them" in replay_text(other)
    assert "makes no claim" not in replay_text(same)
