"""Routing: time per decision, risk control over many splits, drift detection, and calls saved on real prompts.

1. CPU time of one decision before the answer (no model runs).
2. Real prompts with the answers of two classifiers: Banking77, the same features, one trained on two examples of each
   of the 77 intents, the other on all 3,000; APGR, CPT and calls saved at equal quality.
3. 200 splits: how often a risk limit calibrated on 1,000 prompts holds on the other 9,083.
4. Calibration error with only 100 labels; calls saved at a loss of one point of quality.
5. Planted drift: number of prompts of another kind until the router falls back to the large model.
6. Masking of personal data by kind, and unmasking of streams (see masking.py); false positives of the injection
   detector on real prompts.

Banking77 comes from the folder that SIZEWISE_TEST_DATA names. `python benchmarks/routing.py` ends stdout with one JSON
line and writes it to benchmarks/results/route.json.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import random
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit, log_softmax

import masking
from sizewise.guard import signals_in
from sizewise.records import Calibration
from sizewise.routing import PolicyDrift, calibrate_rows, decide_prompt, make_policy, probability_after
from sizewise.routing.features import feature_matrix, hashed_ngrams
from sizewise.routing.reliability import calibration_error

HERE = Path(__file__).parent
DATA = Path(os.environ.get("SIZEWISE_TEST_DATA", "/nonexistent"))
RISK, TAUGHT, SAMPLE = 0.05, 3_000, 3_000
EXAMPLES = (2, 8, 16)
SHARPNESS = 30.0  # inverse temperature of the cosines; avoids uniform and one-hot probabilities


def vectors(texts: list[str]) -> np.ndarray:
    """Compute hashed character features, one row per text."""
    found = np.zeros((len(texts), 2**12 + 1), dtype=np.float32)
    for row, text in enumerate(texts):
        for column, value in hashed_ngrams(text).items():
            found[row, column] = value
    found[:, -1] = 0
    return found


class Answers(NamedTuple):
    """Prompts, and the answers of classifiers trained on more and more examples."""

    prompts: list[str]
    weak: dict[int, np.ndarray]
    """Training examples per intent -> (prompts,) 1 if correct."""
    strong: np.ndarray
    likely: dict[int, np.ndarray]
    """Training examples per intent -> (prompts,) log-probability of the classifier's answer."""


def banking() -> Answers:
    """Classify held-out prompts of Banking77 with nearest-centroid classifiers."""
    rows = []
    for name in ("train.csv", "test.csv"):
        with (DATA / "banking77" / name).open(encoding="utf-8", newline="") as file:
            rows += [(row["text"], row["category"]) for row in csv.DictReader(file)]
    random.Random(0).shuffle(rows)
    train, test = rows[:TAUGHT], rows[TAUGHT:]
    names = sorted({label for _, label in rows})
    index = {name: i for i, name in enumerate(names)}
    seen = vectors([text for text, _ in train])
    labels = np.array([index[label] for _, label in train])
    asked = vectors([text for text, _ in test])
    right = np.array([index[label] for _, label in test])
    found, likely = {}, {}
    for most in (*EXAMPLES, TAUGHT):
        centroids = np.stack([seen[labels == i][:most].mean(axis=0) for i in range(len(names))])
        centroids /= np.linalg.norm(centroids, axis=1, keepdims=True)
        scores = asked @ centroids.T
        found[most] = (scores.argmax(axis=1) == right).astype(float)
        likely[most] = log_softmax(SHARPNESS * scores, axis=1).max(axis=1)
    strong = found.pop(TAUGHT)
    return Answers([text for text, _ in test], found, strong, likely)


def splits(prompts: list[str], weak: np.ndarray, strong: np.ndarray, count: int) -> dict[str, float]:
    """Learn a threshold for a stated risk on 1,000 prompts, and see on all others whether it is kept."""
    matrix = feature_matrix(prompts)
    kept, shares = 0, []
    for seed in range(count):
        order = np.random.default_rng(seed).permutation(len(prompts))
        first, rest = order[:1_000], order[1_000:]
        found = calibrate_rows([prompts[i] for i in first], weak[first], strong[first], "split", RISK, seed)
        if found.chosen is None:
            kept, shares = kept + 1, [*shares, 0.0]
            continue
        small = probabilities(found, matrix[rest]) >= found.chosen.threshold
        kept += bool((small & (strong[rest] > weak[rest])).mean() <= RISK)
        shares.append(float(small.mean()))
    return {"risk": RISK, "splits": count, "risk_kept": kept / count, "small_share": float(np.mean(shares))}


def probabilities(found: Calibration, matrix: Any) -> np.ndarray:
    """Compute the probability of an answer as good as the large model's for many prompts."""
    small = expit(matrix @ dense(found.weights, matrix.shape[1]) + found.offset)
    large = found.large
    if large is None:
        return small
    strong = expit(matrix @ dense(large.weights, matrix.shape[1]) + large.offset)
    return expit(large.slope * (small - strong) + large.intercept)


def dense(weights: dict[int, float], count: int) -> np.ndarray:
    """Write sparse weights as an array."""
    found = np.zeros(count)
    found[list(weights)] = list(weights.values())
    return found


def few_labels(prompts: list[str], weak: np.ndarray, strong: np.ndarray) -> dict[str, float]:
    """Learn by 100 labels, 50 times, and measure the error of the chances on all other prompts."""
    matrix, errors = feature_matrix(prompts), []
    for seed in range(50):
        order = np.random.default_rng(seed).permutation(len(prompts))
        first, rest = order[:100], order[100:]
        found = calibrate_rows([prompts[i] for i in first], weak[first], strong[first], "few", None, seed)
        as_good = (weak[rest] >= strong[rest]).astype(float)
        errors.append(calibration_error(probabilities(found, matrix[rest]), as_good).value)
    return {"labels": 100, "median": float(np.median(errors)), "p95": float(np.quantile(errors, 0.95))}


def cascades(answers: Answers) -> list[dict[str, float]]:
    """Learn on 1,000 prompts where one point of quality is lost, and count the calls saved on all others."""
    matrix, found = feature_matrix(answers.prompts), []
    order = np.random.default_rng(0).permutation(len(answers.prompts))
    first, rest = order[:1_000], order[1_000:]
    strong = answers.strong
    for examples, weak in answers.weak.items():
        likely = answers.likely[examples]
        asked = [answers.prompts[i] for i in first]
        learnt = calibrate_rows(asked, weak[first], strong[first], "cascade", 0.5, 0, likely[first])
        assert learnt.after is not None
        least = float(strong[first].mean()) - 0.01
        point = max((one for one in learnt.curve if one.quality >= least), key=lambda one: one.small_share)
        before = probabilities(learnt, matrix[rest])
        small = before >= point.threshold
        late = max((one for one in learnt.after.curve if one.quality >= least), key=lambda one: one.small_share)
        seen = [probability_after(learnt.after, *pair) for pair in zip(before, likely[rest], strict=True)]
        kept = np.array(seen) >= late.threshold
        lost_after = np.where(kept, strong[rest] - weak[rest], 0.0)
        half_after = 1.96 * lost_after.std() / np.sqrt(len(lost_after))
        lost = np.where(small, strong[rest] - weak[rest], 0.0)
        half = 1.96 * lost.std() / np.sqrt(len(lost))
        found.append(
            {
                "examples": examples, "small_alone": float(weak.mean()), "large_alone": float(strong.mean()),
                "calls_saved": float(small.mean()), "lost": float(lost.mean()),
                "lost_low": float(lost.mean() - half), "lost_high": float(lost.mean() + half),
                "after_saved": float(kept.mean()), "after_lost": float(lost_after.mean()),
                "after_lost_low": float(lost_after.mean() - half_after),
                "after_lost_high": float(lost_after.mean() + half_after), "after_apgr": learnt.after.apgr.value or 0.0,
                "after_error": calibration_error(np.array(seen), (weak[rest] >= strong[rest]).astype(float)).value,
            }
        )  # fmt: skip
    return found


def main() -> None:
    """Run all parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--splits", type=int, default=200)
    args = parser.parse_args()
    answers = banking()
    prompts, weak, strong = answers.prompts, answers.weak[EXAMPLES[0]], answers.strong
    learnt = calibrate_rows(prompts[:SAMPLE], weak[:SAMPLE], strong[:SAMPLE], "banking77", RISK)
    print(
        f"small {learnt.small_quality.value:.3f}, large {learnt.large_quality.value:.3f}, APGR {learnt.apgr.value:.3f} "
        f"[{learnt.apgr.ci_low:.3f}, {learnt.apgr.ci_high:.3f}], CPT50 {learnt.cpt50.value:.3f}, "
        f"CPT80 {learnt.cpt80.value:.3f}, error of chances {learnt.calibration_error.value:.3f}"
    )
    result: dict[str, Any] = {
        name: getattr(learnt, name).model_dump(mode="json") for name in ("apgr", "cpt50", "cpt80", "calibration_error")
    }
    policy = make_policy(learnt)
    seconds = []
    for prompt in prompts[SAMPLE:]:
        begun = time.process_time()
        decide_prompt(policy, prompt)
        seconds.append(time.process_time() - begun)
    result["decision_p95_ms"] = 1_000 * float(np.quantile(seconds, 0.95))
    result |= drift(policy, prompts[SAMPLE:])
    print(f"a decision: {result['decision_p95_ms']:.2f} ms of one core (95th percentile); drift: {result['drift']}")
    print(f"false alarms: {result['false_drift_in_1000']}")
    result["cascades"] = cascades(answers)
    print(f"cascades: {result['cascades']}")
    result["few_labels"] = few_labels(prompts, weak, strong)
    print(f"100 labels: {result['few_labels']}")
    result["splits"] = splits(prompts, weak, strong, args.splits)
    print(f"splits: {result['splits']}")
    result["masking"] = masking.measure()
    print(f"masking: {result['masking']}")
    result["signals"] = {"ordinary_prompts": len(prompts), "signs": sum(bool(signals_in([one])) for one in prompts)}
    print(f"signs of injection in ordinary prompts: {result['signals']}")
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    output = {
        "name": "route",
        "ratio": learnt.apgr.value / 0.5 if learnt.apgr.value else None,
        "peer": "random routing of the same share of prompts (APGR 0.5)",
        "value": result.get("decision_p95_ms"),
        "unit": "ms CPU time of a decision, 95th percentile",
        "runs": args.splits,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "commit": commit.stdout.strip(),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "parts": result,
    }
    (HERE / "results" / "route.json").write_text(json.dumps(output, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(output))


def drift(policy: Any, prompts: list[str]) -> dict[str, Any]:
    """Count the prompts until planted drift is detected, and false positives without drift."""
    with (DATA / "sms_spam" / "SMSSpamCollection").open(encoding="utf-8") as file:
        others = [line.split("\t", 1)[1].strip() for line in file if "\t" in line]
    found: dict[str, Any] = {}
    for share in (1.0, 0.5, 0.25):
        needed = []
        for seed in range(20):
            rng = random.Random(seed)
            watch = PolicyDrift(policy)
            for _ in range(200):
                watch.add(decide_prompt(policy, rng.choice(prompts)).features)
            number = 0
            while number < 400 and not watch.drifted:
                number += 1
                pool = others if rng.random() < share else prompts
                watch.add(decide_prompt(policy, rng.choice(pool)).features)
            needed.append(number if watch.drifted else 401)
        found[f"{share:.0%} others"] = {"median": float(np.median(needed)), "most": max(needed)}
    alarms = 0
    for seed in range(50):
        rng = random.Random(1_000 + seed)
        watch = PolicyDrift(policy)
        for _ in range(1_000):
            watch.add(decide_prompt(policy, rng.choice(prompts)).features)
        alarms += watch.drifted
    return {"drift": found, "false_drift_in_1000": alarms / 50}


if __name__ == "__main__":
    if not DATA.exists():
        sys.exit("SIZEWISE_TEST_DATA is not set to an existing folder.")
    main()
