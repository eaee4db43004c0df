"""How far measures of facts follow people: groundedness on 400 summaries, and a small local judge on some.

1. mts_dialog: 400 summaries of 100 dialogues with people's factual precision, hallucination rate, omission rate and
   factual F1. Rank correlation (Spearman) of groundedness, lexical grounding and supported facts with the first two,
   and of kept facts with omissions, with 95 % intervals from resampled dialogues.
2. Summaries of DialSummEval and QAGS (see graded_sets.py) with people's ratings: the same measures of support with
   consistency, and measures without a reference with fluency, coherence and relevance.
3. `--judge URI`: a rubric judge grades summaries of 10 dialogues of at most 60 words from 1 to 5. It counts as
   validated if the interval of its rank correlation with people's factual F1 lies above 0, and the correlation isn't
   below that of chrF on the same summaries. LLMFAO can't be used for it: it publishes votes, but not the answers voted
   on.

The data come from the folder that SIZEWISE_TEST_DATA names. `python benchmarks/measures.py --judge pkg:smollm2-135m`
ends stdout with one JSON line and writes it to benchmarks/results/measures.json.
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
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr

from graded_sets import rated
from sizewise.evaluation import EvaluationOptions, evaluate
from sizewise.metrics import AnswerItem, find_metric
from sizewise.records import Criterion, Evaluation, ItemRow, Rubric
from sizewise.store import Store

HERE = Path(__file__).parent
DATA = Path(os.environ.get("SIZEWISE_TEST_DATA", "/nonexistent"))
DIALOGUES, SYSTEMS = 100, 4
MAX_WORDS = 60  # words of a dialogue that the judge reads
JUDGED = 10  # dialogues
ROUNDS = 2_000
GRADES = ("FactualPrecision", "HallucinationRate", "FactualF1")
SUPPORT, MANNER = ("groundedness", "lexical_grounding", "fact_precision"), ("repetition", "answer_words")
OMISSIONS = ("FactualRecall", "OmissionRate", "FactualF1")
Array = npt.NDArray[np.float64]
RUBRIC = Rubric(
    criteria=(
        Criterion(
            name="factual",
            description="Does the summary state the facts of the conversation, all of them and nothing else?",
            scale=("1", "2", "3", "4", "5"),
        ),
    )
)


def summaries() -> list[dict[str, str]]:
    """Read dialogue, reference and summary of each of the four systems, with people's grades."""
    scores, texts = (
        list(csv.DictReader((DATA / "mts_dialog" / f"MTS-Dialog-{name}.csv").open(encoding="utf-8-sig", newline="")))
        for name in ("Manual-Scores4CorrelationStudy", "Automatic-Summaries-ValidationSet")
    )
    return [text | score for text, score in zip(texts, scores, strict=True)]


def correlation(values: Array, grades: Array, clusters: Array) -> dict[str, float | None]:
    """Compute the rank correlation of a measure with grades, and its interval over dialogues; None where unknown."""
    known = np.isfinite(values) & np.isfinite(grades)
    values, grades, clusters = values[known], grades[known], clusters[known]
    by_cluster = [np.flatnonzero(clusters == one) for one in np.unique(clusters)]
    rng = np.random.default_rng(0)
    found = []
    for _ in range(ROUNDS):
        drawn = np.concatenate([by_cluster[i] for i in rng.integers(0, len(by_cluster), len(by_cluster))])
        if np.ptp(values[drawn]) and np.ptp(grades[drawn]):
            found.append(float(spearmanr(values[drawn], grades[drawn]).statistic))
    varies = len(values) > 1 and np.ptp(values) and np.ptp(grades)
    point = float(spearmanr(values, grades).statistic) if varies else None
    low, high = np.quantile(found, [0.025, 0.975]).tolist() if varies and found else (None, None)
    return {"rho": point, "ci_low": low, "ci_high": high, "n": len(values)}


def values_of(name: str, rows: Sequence[dict[str, str]]) -> Array:
    """Measure each summary, with the dialogue as the prompt; NaN where there is nothing to measure."""
    metric = find_metric(name)
    found = []
    for row in rows:
        item = AnswerItem(row["Automatic Summary"], (row["Reference Summary"],), row["Dialogue"])
        found.append(float(metric.value(np.array(metric.measure(item), dtype=np.float64))))
    return np.array(found)


def without_a_judge(rows: Sequence[dict[str, str]]) -> dict[str, Any]:
    """Correlate groundedness and lexical grounding with people's grades of facts."""
    clusters = np.arange(len(rows)) % DIALOGUES * 1.0
    parts = {}
    for name in ("groundedness", "lexical_grounding", "fact_precision", "fact_recall"):
        values = values_of(name, rows)
        for grade in OMISSIONS if name == "fact_recall" else GRADES:
            grades = np.array([float(row[grade] or "nan") for row in rows])
            parts[f"{name} with {grade}"] = correlation(values, grades, clusters)
    return parts


def on_rated_texts() -> dict[str, Any]:
    """Correlate measures that need no reference with people's ratings of single texts."""
    parts = {}
    for found in rated():
        clusters = np.array(found.clusters) * 1.0
        for name in (*SUPPORT, *MANNER):
            metric = find_metric(name)
            values = [_value(metric, one) for one in zip(found.texts, found.references, found.sources, strict=True)]
            for dimension, grades in found.grades.items():
                if (name in SUPPORT) == (dimension == "consistency"):
                    key = f"{found.name}: {name} with {dimension}"
                    parts[key] = correlation(np.array(values), np.array(grades), clusters)
    return parts


def _value(metric: Any, given: tuple[str, tuple[str, ...], str]) -> float:
    return float(metric.value(np.array(metric.measure(AnswerItem(*given)), dtype=np.float64)))


def with_a_judge(rows: Sequence[dict[str, str]], judge: str, engine: str, systems: Sequence[int]) -> dict[str, Any]:
    """Grade the summaries of short dialogues by a rubric, and correlate the grades with people's factual F1."""
    short = [i for i in range(DIALOGUES) if len(rows[i]["Dialogue"].split()) <= MAX_WORDS]
    chosen = sorted(random.Random(0).sample(short, JUDGED))
    numbers = [system * DIALOGUES + i for i in chosen for system in systems]
    with tempfile.TemporaryDirectory() as folder:
        store, data, answers = Store(), Path(folder) / "data.jsonl", Path(folder) / "answers.jsonl"
        data.write_text("".join(json.dumps(_example(rows[i], i)) + "\n" for i in numbers), encoding="utf-8")
        told = [{"id": f"s{i}", "completion": rows[i]["Automatic Summary"]} for i in numbers]
        answers.write_text("".join(json.dumps(one) + "\n" for one in told), encoding="utf-8")
        options = EvaluationOptions(rubric=RUBRIC, judge=judge, engine=engine)  # type: ignore[arg-type]
        begun = time.monotonic()
        saved = evaluate(f"recorded:{answers}", str(data), ["chrf"], store=store, options=options)
        seconds = time.monotonic() - begun
        items = {row.item: row for row in store.read_rows(saved.path.parent, "items.jsonl", ItemRow)}
    return _judged(rows, numbers, saved.record, items) | {"judge": judge, "engine": engine, "seconds": seconds}


def _kept_judge() -> dict[str, Any] | None:
    """Return the stored result of a judge, with the commit that it was measured at."""
    path = HERE / "results" / "measures.json"
    stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    judge = stored.get("judge")
    return {"commit": stored["commit"], **judge} if judge else None


def _example(row: dict[str, str], number: int) -> dict[str, Any]:
    prompt = f"Summarize this conversation for the patient's record.\n\n{row['Dialogue']}"
    source = f"dialogue {number % DIALOGUES}"
    return {"id": f"s{number}", "prompt": prompt, "references": [row["Reference Summary"]], "source": source}


def _judged(
    rows: Sequence[dict[str, str]], numbers: Sequence[int], record: Evaluation, items: dict[str, ItemRow]
) -> dict[str, Any]:
    grades = [items[f"s{i}"].stats.get("rubric_grade", (float("nan"),))[0] for i in numbers]
    people = np.array([float(rows[i]["FactualF1"] or "nan") for i in numbers])
    clusters = np.array([i % DIALOGUES for i in numbers]) * 1.0
    found = correlation(np.array(grades), people, clusters)
    chrf = correlation(values_of("chrf", [rows[i] for i in numbers]), people, clusters)
    assert record.rubric is not None
    stated = Counter(f"{1 + 4 * grade:.0f}" for grade in grades if np.isfinite(grade))
    return {
        "with people's factual F1": found,
        "chrf with people's factual F1": chrf,
        "graded": record.rubric.graded,
        "unreadable": record.rubric.unreadable,
        "truncated": record.rubric.truncated,
        "grades": dict(sorted(stated.items())),
        "validated": (found["ci_low"] or 0) > 0 and (found["rho"] or 0) >= (chrf["rho"] or 0),
    }


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--judge", default="")
    parser.add_argument("--engine", default="transformers")
    parser.add_argument(
        "--systems", type=int, nargs="+", default=range(SYSTEMS), help="0 to 3: whose summaries are judged"
    )
    options = parser.parse_args()
    if not (DATA / "mts_dialog").is_dir():
        print("skipped: set SIZEWISE_TEST_DATA to the folder of the test data", file=sys.stderr)
        return
    rows = summaries()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=HERE, check=False
    )
    parts = without_a_judge(rows) | on_rated_texts()
    line = {
        "name": "measures",
        "ratio": parts["groundedness with FactualPrecision"]["rho"],
        "peer": "people's factual precision of 400 summaries",
        "value": parts["groundedness with FactualPrecision"]["rho"],
        "unit": "rank correlation of groundedness",
        "runs": ROUNDS,
        "machine": platform.machine(),
        "commit": commit.stdout.strip(),
        "date": datetime.now(UTC).date().isoformat(),
        "parts": parts,
        "judge": with_a_judge(rows, options.judge, options.engine, options.systems) if options.judge else _kept_judge(),
    }
    (HERE / "results" / "measures.json").write_text(json.dumps(line, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(line))


if __name__ == "__main__":
    main()
