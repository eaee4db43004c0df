"""Cascades on a large model's published answers to Banking77: which confidence hands over the right questions?

The small rungs learn from the large model's answers (taskdistill's recording, as in `decisions.py teacher`). A cascade
keeps the small decision where its confidence reaches a threshold and asks the large model otherwise. Every confidence,
and every threshold, comes from the validation split; the test questions are read once.

rung               the calibrated probability of one rung
rungs pooled       the log-linear pool of the encoder's rungs, frozen and fine-tuned (with --rungs of both)
and neighbors      that pool, or the last rung, with the answers of the 20 nearest training questions
error model        logistic regression of "right" on margin, the agreement of the rungs, and neighbors, out of fold

`python benchmarks/cascades.py --out FOLDER` reads the folder that SIZEWISE_TEST_DATA names, ends stdout with one JSON
line and writes it to benchmarks/results/cascades.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

import teacher_answers
from decisions import DATA, METRICS, RUNGS, dataset, with_validation
from sizewise.datasets import load
from sizewise.decisions.pools import pool
from sizewise.evaluation import evaluate
from sizewise.records import DecidedItem, ItemRow
from sizewise.retrieval import open_encoder
from sizewise.stats import wilson
from sizewise.stats.selective import choose_coverage
from sizewise.store import Store
from sizewise.training import train

RESULT = Path(__file__).parent / "results" / "cascades.json"
NEIGHBORS, SHARPNESS, NEIGHBOR_SHARE = 20, 15.0, 0.4
FOLDS = 5
ESCALATED = (0.237, 0.2, 0.15)
RISKS = (0.02, 0.03, 0.05)
TARGET = 0.976

Array = npt.NDArray[np.float64]


class Part(NamedTuple):
    """Predictions for the questions of one split, in one order."""

    pooled: Array
    rungs: list[Array]
    neighbors: Array
    answers: npt.NDArray[np.int64]
    """Index of the large model's answer; -1 if it is no label."""


def rows_of(out: Path) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Return the questions labeled with the large model's answers, and its answer to each."""
    rows = list(teacher_answers.answers(teacher_answers.fetch(out), DATA / "banking77"))
    labels = {row.label for row in rows}
    learned = [
        {
            "id": row.id,
            "text": row.text,
            "label": row.answer if row.answer in labels else row.label,
            "split": row.split,
        }
        for row in rows
        if row.answer in labels or row.split == "test"
    ]
    return with_validation(learned), {row.id: row.answer for row in rows}


def neighbor_shares(known: Array, labels: npt.NDArray[np.int64], asked: Array, options: int) -> Array:
    """Compute how often the nearest training questions were answered with each option, nearer ones counting more."""
    similar = asked @ known.T
    nearest = np.argpartition(-similar, NEIGHBORS, axis=1)[:, :NEIGHBORS]
    weights = np.exp(SHARPNESS * (np.take_along_axis(similar, nearest, axis=1) - 1))
    found = np.zeros((len(asked), options))
    np.add.at(found, (np.arange(len(asked))[:, None], labels[nearest]), weights)
    return np.asarray(found / found.sum(axis=1, keepdims=True))


def features(part: Part, pooled: Array) -> Array:
    """Build what the error model sees of each decision."""
    place, said = np.arange(len(pooled)), pooled.argmax(axis=1)
    ordered = np.sort(pooled, axis=1)
    agreeing = [(rung.argmax(axis=1) == said).astype(float) for rung in (*part.rungs, part.neighbors)]
    own = [np.log(np.clip(rung[place, said], 1e-4, 1)) for rung in (*part.rungs, part.neighbors)]
    entropy = -(pooled * np.log(np.clip(pooled, 1e-9, 1))).sum(axis=1)
    margin = np.log(np.clip(ordered[:, -1], 1e-6, 1) / np.clip(ordered[:, -2], 1e-6, 1))
    return np.stack([margin, entropy, np.log(np.clip(1 - ordered[:, -1], 1e-6, 1)), *agreeing, *own], axis=1)


def error_model(validation: Part, test: Part, beside: tuple[Array, Array]) -> tuple[Array, Array]:
    """Fit the error model on validation; return its confidences there, out of fold, and on test."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import KFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    seen, new = features(validation, beside[0]), features(test, beside[1])
    right = (beside[0].argmax(axis=1) == validation.answers).astype(int)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.3, max_iter=1_000))
    folds = KFold(FOLDS, shuffle=True, random_state=0)
    held_out = cross_val_predict(model, seen, right, cv=folds, method="predict_proba")[:, 1]
    return held_out, model.fit(seen, right).predict_proba(new)[:, 1]


def measure(validation: Part, test: Part, rows: tuple[Array, Array], confidence: tuple[Array, Array]) -> dict[str, Any]:
    """Choose thresholds on validation, for shares handed over and for stated risks, and apply them to test."""
    wrong = [
        (row.argmax(axis=1) != part.answers).astype(float) for row, part in zip(rows, (validation, test), strict=True)
    ]
    found: dict[str, Any] = {"agreement_alone": float(1 - wrong[1].mean()), "n": len(wrong[1])}

    def at(threshold: float) -> dict[str, float]:
        taken = confidence[1] >= threshold
        agreed = round(float((1 - wrong[1] * taken).sum()))
        ci_low, ci_high = wilson(agreed, len(taken))
        return {
            "threshold": threshold, "escalated": float(1 - taken.mean()), "agreement": agreed / len(taken),
            "ci_low": ci_low, "ci_high": ci_high, "wrong_of_decided": float(wrong[1][taken].mean()),
        }  # fmt: skip

    found["escalated"] = {str(share): at(float(np.quantile(confidence[0], share))) for share in ESCALATED}
    points = {risk: choose_coverage(confidence[0], wrong[0], risk) for risk in RISKS}
    found["risks"] = {str(risk): None if point is None else at(point.threshold) for risk, point in points.items()}
    order = np.argsort(-confidence[1], kind="stable")
    agreement = 1 - np.append(0, np.cumsum(wrong[1][order])) / len(order)
    most = int(np.flatnonzero(agreement >= TARGET).max())
    found["least_escalated_at_target"] = 1 - most / len(order)  # in hindsight: how good the order is, not a threshold
    return found


def main() -> None:
    """Train the rungs, build all confidences and measure them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/decisions"))
    parser.add_argument("--rungs", default="linear;MiniLM embeddings;MiniLM fine-tuned", help="separated by semicolons")
    args = parser.parse_args()
    out, names = args.out.resolve(), args.rungs.split(";")
    out.mkdir(parents=True, exist_ok=True)
    store, begun = Store(), time.process_time()
    rows, answers = rows_of(out)
    data = dataset(rows, out, "banking-teacher", store)
    contents = load(store, data.id)
    assert data.record.question is not None
    options = data.record.question.values
    place = {option: i for i, option in enumerate(options)}
    chances: dict[str, list[dict[str, Array]]] = {}
    for name in names:
        saved = train(RUNGS[name], data.id, store=store)
        print(f"{name} trained, {time.process_time() - begun:.0f} s of processor time", file=sys.stderr, flush=True)
        measured = evaluate(saved, data.id, METRICS, store=store)
        kept = store.read_rows(store.folder("classifier", saved.id), "validation.jsonl", DecidedItem)
        decided = store.read_rows(store.folder("evaluation", measured.id), "items.jsonl", ItemRow)
        chances[name] = [
            {row.item: np.array([(row.probabilities or {})[option] for option in options]) for row in some}
            for some in (kept, decided)
        ]
    encoder = open_encoder("pkg:minilm", store=store)
    training = contents.examples["train"]
    known = encoder.encode([one.prompt for one in training]).astype(np.float64)
    labels = np.array([place[one.label] for one in training])
    parts = []
    for split, name in enumerate(("validation", "test")):
        texts = {one.id: one.prompt for one in contents.examples[name]}
        items = list(chances[names[0]][split])
        rungs = [np.stack([chances[rung][split][item] for item in items]) for rung in names]
        vectors = encoder.encode([texts[item] for item in items]).astype(np.float64)
        near = neighbor_shares(known, labels, vectors, len(options))
        told = np.array([place.get(answers[item], -1) for item in items])
        pooled = pool(rungs[-2], rungs[-1], 0.5, False) if len(names) > 2 else rungs[-1]
        parts.append(Part(pooled, rungs, near, told))
    validation, test = parts
    beside = tuple(pool(part.pooled, np.clip(part.neighbors, 1e-2, 1), NEIGHBOR_SHARE, False) for part in parts)
    found: dict[str, Any] = {}
    tried: dict[str, tuple[Array, Array]] = {name: (validation.rungs[i], test.rungs[i]) for i, name in enumerate(names)}
    if len(names) > 2:
        tried["rungs pooled"] = validation.pooled, test.pooled
    tried["and neighbors"] = beside[0], beside[1]
    for name, pair in tried.items():
        found[name] = measure(validation, test, pair, (pair[0].max(axis=1), pair[1].max(axis=1)))
    pair = (beside[0], beside[1])
    found["error model"] = measure(validation, test, pair, error_model(validation, test, pair))
    report(found, time.process_time() - begun)


def report(found: dict[str, Any], processor_s: float) -> None:
    """Write the result and print it."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    best = max(found, key=lambda name: found[name]["escalated"]["0.2"]["agreement"])
    output = {
        "name": "cascades",
        "peer": "taskdistill's cascade: agreement 97.6 % with 23.7 % of the questions handed over",
        "ratio": found[best]["escalated"]["0.2"]["agreement"] / TARGET,
        "value": found[best]["escalated"]["0.2"]["agreement"],
        "unit": "agreement with the large model, a fifth of validation handed over",
        "best": best,
        "runs": 1,
        "processor_s": processor_s,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "commit": commit.stdout.strip(),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "confidences": found,
    }
    RESULT.write_text(json.dumps(output, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(output))


if __name__ == "__main__":
    main()
