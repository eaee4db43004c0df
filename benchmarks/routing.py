"""The router: time of a decision, risk in many splits, drift, and what it recovers on real prompts.

1. Processor time of one decision before the answer (no model is run).
2. Real prompts with what two real classifiers made of them: Banking77, the same features, one taught by two examples of
   each of the 77 intents, the other by all; APGR, CPT and calls saved at the same quality.
3. 200 splits of them: how often a stated risk, learnt on one part, is kept on the other.
4. A planted drift: after how many prompts of another kind the watch falls back to the large model.

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
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from sizewise.routing import DriftWatch, calibrate, calibrate_rows, decide_prompt, make_policy
from sizewise.routing.calibrating import features_of

HERE = Path(__file__).parent
DATA = Path(os.environ.get("SIZEWISE_TEST_DATA", "/nonexistent"))
RISK = 0.05


def vectors(texts: list[str]) -> np.ndarray:
    """Give hashed letter features as rows."""
    found = np.zeros((len(texts), 2**12 + 1), dtype=np.float32)
    for row, text in enumerate(texts):
        for column, value in features_of(text).items():
            found[row, column] = value
    found[:, -1] = 0
    return found


def banking() -> tuple[list[str], np.ndarray, np.ndarray]:
    """Give prompts with whether a weak and a strong nearest-centroid classifier find the intent."""
    with (DATA / "banking77" / "train.csv").open(encoding="utf-8", newline="") as file:
        rows = [(row["text"], row["category"]) for row in csv.DictReader(file)]
    random.Random(0).shuffle(rows)
    test, train = rows[:3_000], rows[3_000:]
    names = sorted({label for _, label in rows})
    place = {name: i for i, name in enumerate(names)}
    seen = vectors([text for text, _ in train])
    labels = np.array([place[label] for _, label in train])
    asked = vectors([text for text, _ in test])
    right = np.array([place[label] for _, label in test])
    answers = []
    for most in (2, 10_000):
        centroids = np.stack([seen[labels == i][:most].mean(axis=0) for i in range(len(names))])
        centroids /= np.linalg.norm(centroids, axis=1, keepdims=True)
        answers.append(((asked @ centroids.T).argmax(axis=1) == right).astype(float))
    return [text for text, _ in test], answers[0], answers[1]


def main() -> None:
    """Run all parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--splits", type=int, default=200)
    asked = parser.parse_args()
    prompts, weak, strong = banking()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "banking77.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["prompt", "weak_ok", "strong_ok"])
            rows = zip(prompts, weak, strong, strict=True)
            writer.writerows([prompt, int(one), int(other)] for prompt, one, other in rows)
        learnt = calibrate(path, RISK)
    print(
        f"small {learnt.small_quality.value:.3f}, large {learnt.large_quality.value:.3f}, APGR {learnt.apgr.value:.3f} "
        f"[{learnt.apgr.low:.3f}, {learnt.apgr.high:.3f}], CPT50 {learnt.cpt50.value:.3f}, "
        f"CPT80 {learnt.cpt80.value:.3f}, error of chances {learnt.calibration_error.value:.3f}"
    )
    policy = make_policy(learnt) if learnt.chosen else None
    kept, shares = 0, []
    for seed in range(asked.splits):
        order = np.random.default_rng(seed).permutation(len(prompts))
        first, rest = order[:1_000], order[1_000:]
        found = calibrate_rows([prompts[i] for i in first], weak[first], strong[first], "split", RISK, seed)
        if found.chosen is None:
            kept, shares = kept + 1, [*shares, 0.0]
            continue
        one = make_policy(found)
        small = np.array([decide_prompt(one, prompts[i]).model == "small" for i in rest])
        kept += bool((small & (strong[rest] > weak[rest])).mean() <= RISK)
        shares.append(float(small.mean()))
    print(f"a risk of {RISK:.0%} kept in {kept} of {asked.splits} splits; {np.mean(shares):.1%} small answers")
    seconds = []
    result: dict[str, Any] = {
        "apgr": learnt.apgr.model_dump(mode="json"),
        "cpt50": learnt.cpt50.model_dump(mode="json"),
        "cpt80": learnt.cpt80.model_dump(mode="json"),
        "calibration_error": learnt.calibration_error.model_dump(mode="json"),
        "risk": RISK,
        "risk_kept": kept / asked.splits,
        "small_share": float(np.mean(shares)),
    }
    if policy is not None:
        for prompt in prompts:
            begun = time.process_time()
            decide_prompt(policy, prompt)
            seconds.append(time.process_time() - begun)
        result |= drift(policy, prompts)
        result["decision_p95_ms"] = 1_000 * float(np.quantile(seconds, 0.95))
        print(f"a decision: {result['decision_p95_ms']:.2f} ms of one core (95th percentile); drift: {result['drift']}")
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    whole = {
        "name": "route",
        "ratio": learnt.apgr.value / 0.5 if learnt.apgr.value else None,
        "peer": "as many small answers drawn at random (APGR 0.5)",
        "value": result.get("decision_p95_ms"),
        "unit": "ms of one core for a decision, 95th percentile",
        "runs": asked.splits,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "commit": commit.stdout.strip(),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "parts": result,
    }
    (HERE / "results" / "route.json").write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(whole))


def drift(policy: Any, prompts: list[str]) -> dict[str, Any]:
    """Mix prompts of another kind in, and look when it is noticed; and how often like ones are."""
    with (DATA / "sms_spam" / "SMSSpamCollection").open(encoding="utf-8") as file:
        others = [line.split("\t", 1)[1].strip() for line in file if "\t" in line]
    found: dict[str, Any] = {}
    for share in (1.0, 0.5, 0.25):
        needed = []
        for seed in range(20):
            rng = random.Random(seed)
            watch = DriftWatch(policy)
            for _ in range(200):
                watch.add(decide_prompt(policy, rng.choice(prompts)).chance)
            number = 0
            while number < 400 and not watch.drifted:
                number += 1
                pool = others if rng.random() < share else prompts
                watch.add(decide_prompt(policy, rng.choice(pool)).chance)
            needed.append(number if watch.drifted else 401)
        found[f"{share:.0%} others"] = {"median": float(np.median(needed)), "most": max(needed)}
    alarms = 0
    for seed in range(50):
        rng = random.Random(1_000 + seed)
        watch = DriftWatch(policy)
        for _ in range(1_000):
            watch.add(decide_prompt(policy, rng.choice(prompts)).chance)
        alarms += watch.drifted
    return {"drift": found, "false_drift_in_1000": alarms / 50}


if __name__ == "__main__":
    if not DATA.exists():
        sys.exit("SIZEWISE_TEST_DATA names no folder")
    main()
