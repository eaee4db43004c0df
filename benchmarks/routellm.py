"""Routing on RouteLLM's tables: APGR with its interval, and how often a stated risk is kept.

1. APGR on MMLU (14,042 questions) and GSM8K (1,319), answered by Mixtral-8x7B and GPT-4: cross-fitted on the table
   itself, equal prompts in one fold.
2. Risk: learn a policy on some prompts and apply it to all others, in many random splits, also with each prompt twice,
   and by subject (MMLU), where the prompts of a policy come from one half of the subjects and those that it is applied
   to from the other. A shift counts as detected if the drift test of the service or of `route replay` finds it.

The tables are in the folder routellm/evals of github.com/lm-sys/RouteLLM (Apache-2.0); SIZEWISE_ROUTELLM names it.
`python benchmarks/routellm.py` ends stdout with one JSON line and writes it to benchmarks/results/routellm.json.
"""

from __future__ import annotations

import argparse
import csv
import functools
import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit

from sizewise.records import Calibration, Policy
from sizewise.routing import PolicyDrift, PromptFeatures, calibrate_rows, make_policy
from sizewise.routing.calibrating import Learned, choose_threshold, learn
from sizewise.routing.drift import drift_p
from sizewise.routing.features import VOCABULARY, center_of, feature_matrix
from sizewise.routing.labeled import group_duplicates

RESULT = Path(__file__).parent / "results" / "routellm.json"
TABLES = Path(os.environ.get("SIZEWISE_ROUTELLM", "/nonexistent"))
WEAK, STRONG = "mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview"
RISKS = (0.05, 0.1, 0.2, 0.3, 0.5)
SERVED = 400
"""Prompts after which the service's drift detection counts as too late."""


class Table(NamedTuple):
    """Questions and whether both models answered them correctly."""

    prompts: list[str]
    weak: np.ndarray
    strong: np.ndarray
    subjects: np.ndarray


def read(files: list[Path]) -> Table:
    """Read answers, one file a subject."""
    rows = []
    for path in files:
        with path.open(encoding="utf-8", newline="") as file:
            rows += [
                (row["prompt"], row[WEAK] == "True", row[STRONG] == "True", path.stem) for row in csv.DictReader(file)
            ]
    prompts, weak, strong, subjects = zip(*rows, strict=True)
    return Table(list(prompts), np.array(weak, float), np.array(strong, float), np.array(subjects))


def span_of(matrix: Any) -> np.ndarray:
    """Return orthonormal directions (features, directions) that span the rows.

    Penalized logistic regression has the same solution in these coordinates, and there are far fewer of them.
    """
    gram = (matrix @ matrix.T).toarray()
    values, vectors = np.linalg.eigh(gram)
    kept = values > 1e-10 * values[-1]
    found: np.ndarray = matrix.T @ (vectors[:, kept] / np.sqrt(values[kept]))
    return found


def apply(learned: Learned, span: np.ndarray, matrix: Any) -> np.ndarray:
    """Compute the probability of an answer as good as the large model's for many prompts.

    Args:
        learned: models in the coordinates of `span`.
        span: (features, directions).
        matrix: (prompts, features).
    """
    small = expit(matrix @ (span @ learned.weights[:-1]) + learned.weights[-1])
    large = learned.large
    if large is None:
        return small
    weights = np.zeros(span.shape[1])
    weights[list(large.weights)] = list(large.weights.values())
    return expit(large.slope * (small - expit(matrix @ (span @ weights) + large.offset)) + large.intercept)


def splits(table: Table, matrix: Any, kind: str, count: int, size: int) -> dict[str, Any]:
    """Learn thresholds for stated risks on some prompts, and see whether they are kept.

    The promise is about the risk over all prompts, so `kept_on_all` counts those of both halves, the calibration
    prompts with probabilities of models that haven't seen them. `kept` counts the others alone, whose own chance adds
    to the risk: with 719 others and a risk of 5 %, a standard error of 0.8 points.
    """
    kept: dict[float, list[bool]] = {risk: [] for risk in RISKS}
    kept_on_all: dict[float, list[bool]] = {risk: [] for risk in RISKS}
    shares: dict[float, list[float]] = {risk: [] for risk in RISKS}
    replayed, served = [], []
    worse = table.strong > table.weak
    for seed in range(count):
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(table.prompts))
        first, rest = order[:size], order[size:]
        if kind == "by subject":
            subjects = rng.permutation(np.unique(table.subjects))
            inside = np.isin(table.subjects[order], subjects[: len(subjects) // 2])
            first, rest = order[inside][:size], order[~inside]
        rows = np.tile(first, 2) if kind == "each prompt twice" else first
        group = group_duplicates([table.prompts[i] for i in rows])
        span = span_of(matrix[first])
        learned = learn(matrix[rows] @ span, table.weak[rows], table.strong[rows], group, seed)
        probabilities = apply(learned, span, matrix[rest])
        for risk in RISKS:
            point = choose_threshold(risk, learned.samples)
            small = np.zeros(len(rest), bool) if point is None else probabilities >= point.threshold
            harmed = int((small & worse[rest]).sum())
            kept[risk].append(harmed <= risk * len(rest))
            if point is not None:
                seen = learned.samples.probabilities >= point.threshold
                harmed += round(float((seen & worse[rows]).mean() * len(first)))
            kept_on_all[risk].append(harmed <= risk * (len(first) + len(rest)))
            shares[risk].append(float(small.mean()))
        policy, features = policy_of(learned, matrix[rows], matrix[rest], probabilities)
        replayed.append(drift_p(policy, features) < policy.drift_p)
        watch = PolicyDrift(policy)
        for prompt in features[:SERVED]:
            watch.add(prompt)
        served.append(watch.drifted)
    found: dict[str, Any] = {"splits": count, "prompts": size}
    for risk in RISKS:
        either = np.array(kept[risk]) | np.array(served)
        found[f"risk {risk}"] = {
            "kept": float(np.mean(kept[risk])), "kept_on_all": float(np.mean(kept_on_all[risk])),
            "kept_or_detected": float(either.mean()),
            "small_share": float(np.mean(shares[risk])),
        }  # fmt: skip
    return found | {"detected_in_replay": float(np.mean(replayed)), "detected_in_service": float(np.mean(served))}


@functools.cache
def empty_calibration() -> Calibration:
    """Return a calibration whose parts for drift tests are to be replaced."""
    drawn = [f"{i} {i * i} {'abcdefg'[i % 7]}" for i in range(40)]
    return calibrate_rows(drawn, np.ones(40), np.ones(40), "drift", 0.5)


def policy_of(learned: Learned, seen: Any, rest: Any, probabilities: np.ndarray) -> tuple[Policy, list[PromptFeatures]]:
    """Build the parts of a policy that drift tests need, and the features of new prompts."""
    center, similarity = center_of(seen)
    quantiles = np.quantile(learned.samples.probabilities, np.linspace(0, 1, 201))
    fields = {
        "prompts": learned.samples.distinct, "spread": tuple(quantiles.tolist()),
        "similarity": (float(similarity.mean()), float(similarity.std(ddof=1))),
    }  # fmt: skip
    similar = rest[:, :VOCABULARY] @ center
    features = [PromptFeatures(*pair) for pair in zip(probabilities.tolist(), similar.tolist(), strict=True)]
    return make_policy(empty_calibration().model_copy(update=fields)), features


def main() -> None:
    """Run all parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--splits", type=int, default=200)
    parser.add_argument("--size", type=int, default=600)
    parser.add_argument("--resume", action="store_true", help="keep what the result file holds")
    args = parser.parse_args()
    tables = {
        "gsm8k": (read([TABLES / "gsm8k" / "gsm8k_responses.csv"]), ("random", "each prompt twice")),
        "mmlu": (
            read(sorted((TABLES / "mmlu" / "responses").glob("*.csv"))),
            ("by subject", "random", "each prompt twice"),
        ),
    }
    parts: dict[str, Any] = json.loads(RESULT.read_text(encoding="utf-8"))["parts"] if args.resume else {}
    for name, (table, kinds) in tables.items():
        matrix = feature_matrix(table.prompts)
        if name not in parts:
            found = calibrate_rows(table.prompts, table.weak, table.strong, name)
            scores = ("small_quality", "large_quality", "apgr", "cpt50", "cpt80", "calibration_error")
            parts[name] = {score: getattr(found, score).model_dump(mode="json") for score in scores}
            print(
                f"{name}: APGR {found.apgr.value:.3f} [{found.apgr.ci_low:.3f}, {found.apgr.ci_high:.3f}]", flush=True
            )
            write(parts, args.splits)
        for kind in (one for one in kinds if one not in parts[name]):
            parts[name][kind] = splits(table, matrix, kind, args.splits, args.size)
            print(f"{name}, {kind}: {parts[name][kind]}", flush=True)
            write(parts, args.splits)
    print(json.dumps(json.loads(RESULT.read_text(encoding="utf-8"))))


def write(parts: dict[str, Any], runs: int) -> None:
    """Write what is measured so far."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    best = min(one["apgr"]["value"] for one in parts.values())
    output = {
        "name": "routellm",
        "peer": "random routing (APGR 0.5)",
        "ratio": best / 0.5,
        "value": best,
        "unit": "average performance gap recovered, cross-fitted, the lowest of the tables",
        "runs": runs,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "commit": commit.stdout.strip(),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "parts": parts,
    }
    RESULT.write_text(json.dumps(output, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if not TABLES.exists():
        sys.exit("SIZEWISE_ROUTELLM is not set to the folder routellm/evals of a copy of lm-sys/RouteLLM.")
    main()
