"""Do claims hold on people's grades? Right, wrong, not borne out and "ask people", per set of graded answers.

For each pair of systems, `choose` decides on the default quality measure from recorded answers: without grades, with
people's grades of 50 random questions, and of 50 questions that a grade sheet drew (`compare --grade-sheet`). A claim
is right if the grades of all answers separate the pair the same way at p < 0.05 (paired t-test over questions), wrong
if they separate it the other way, and not borne out if they don't.

Real sets: mts_dialog (factual F1 of four summarizers) from the folder that SIZEWISE_TEST_DATA names, and those of
graded_sets.py. Sets whose truth is known by construction: answers to webquestions, tatqa and medquad that are right at
a known rate, in a terse or a wordy style. `python benchmarks/validity.py` ends stdout with one JSON line and writes it
to benchmarks/results/validity.json; a set that was decided on is kept in the file that `--keep` names.
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
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from graded_sets import QUESTIONS, Graded, published
from sizewise import datasets
from sizewise.choice import choose
from sizewise.comparison import compare, write_grade_sheet
from sizewise.comparison.grade_sheet import answer_key
from sizewise.evaluation import evaluate
from sizewise.metrics import find_metric
from sizewise.store import Store

HERE = Path(__file__).parent
DATA = Path(os.environ.get("SIZEWISE_TEST_DATA", "/nonexistent"))
GRADED, LEVEL = 50, 0.05
WAYS = ("none", "random", "sheet")
"""Which answers people have graded: none, those to 50 random questions, or those to 50 questions of a grade sheet."""
METRICS: list[str] = []
"""Metrics of the evaluations; the default ones if empty."""
KINDS = ("right", "wrong", "not borne out", "ask people")


# -- real sets -----------------------------------------------------------------------------------------------------


def mts_dialog() -> Iterator[Graded]:
    """Read the summaries of four systems with people's factual F1."""
    folder = DATA / "mts_dialog"
    scores, summaries = (
        list(csv.DictReader((folder / f"MTS-Dialog-{name}.csv").open(encoding="utf-8-sig", newline="")))
        for name in ("Manual-Scores4CorrelationStudy", "Automatic-Summaries-ValidationSet")
    )
    count = len(summaries) // 4
    parts = {f"system {i + 1}": range(i * count, (i + 1) * count) for i in range(4)}
    yield Graded(
        "mts_dialog",
        [row["Dialogue"] for row in summaries[:count]],
        [(row["Reference Summary"],) for row in summaries[:count]],
        {name: [summaries[i]["Automatic Summary"] for i in part] for name, part in parts.items()},
        {name: [float(scores[i]["FactualF1"] or "nan") for i in part] for name, part in parts.items()},
    )


# -- sets whose truth is known -------------------------------------------------------------------------------------

FRAMES = (
    "Based on the information that is available, the answer to this question is {a}. Let me know if you "
    "need anything else.",
    "That's a good question. After looking at it step by step, I come to the conclusion that it is {a}, which is worth "
    "double-checking against a primary source.",
    "{a}. This follows from what is generally known about the topic, although details may depend on the context.",
)
REFUSED = (
    "I'm sorry, but I can't determine that from the information provided.",
    "As an AI language model, I don't have access to that information.",
)


def _say(rng: random.Random, right: str, wrong: str, rate: float, wordy: bool, refuse: float) -> tuple[str, float]:
    if rng.random() < refuse:
        return rng.choice(REFUSED), 0.0
    good = rng.random() < rate
    said = right if good else wrong
    return (rng.choice(FRAMES).format(a=said) if wordy else said), float(good)


SYSTEMS = {
    "terse, 55% right": (0.55, False, 0.0),
    "terse, 75% right": (0.75, False, 0.0),
    "wordy, 55% right": (0.55, True, 0.0),
    "wordy, 80% right": (0.80, True, 0.0),
    "wordy, refuses 30%": (0.85, True, 0.3),
}


def known(blocks: int) -> Iterator[Graded]:
    """Build answers that are right at a known rate to questions with short references."""
    for name, pairs in (("webquestions", _webquestions()), ("tatqa", _tatqa())):
        for block in range(blocks):
            rng = random.Random(f"{name} {block}")
            part = rng.sample(pairs, QUESTIONS)
            others = [rng.choice(pairs)[1][0] for _ in part]
            said = {
                system: [_say(rng, refs[0], wrong, *facts) for (_, refs), wrong in zip(part, others, strict=True)]
                for system, facts in SYSTEMS.items()
            }
            yield Graded(
                f"{name} (known truth)",
                [question for question, _ in part],
                [refs for _, refs in part],
                {system: [text for text, _ in one] for system, one in said.items()},
                {system: [grade for _, grade in one] for system, one in said.items()},
            )


def _webquestions() -> list[tuple[str, tuple[str, ...]]]:
    lines = (DATA / "webquestions" / "webq-test.jsonl").read_text(encoding="utf-8").splitlines()
    return [(row["question"], tuple(row["answer"])) for row in map(json.loads, lines) if row["answer"]]


def _tatqa() -> list[tuple[str, tuple[str, ...]]]:
    found = []
    for path in sorted((DATA / "tatqa").glob("*.json")):
        for table in json.loads(path.read_text(encoding="utf-8")):
            for one in table.get("questions", ()):
                answer = one.get("answer")
                if one.get("answer_type") in ("arithmetic", "count") and answer not in (None, ""):
                    scale = {"percent": "%", "million": " million", "thousand": " thousand"}.get(one.get("scale"), "")
                    found.append((one["question"], (f"{answer}{scale}",)))
    return found


def long_answers(blocks: int) -> Iterator[Graded]:
    """Build long answers that keep a known share of the reference's sentences, plain, padded or from elsewhere."""
    lines = (DATA / "medquad" / "medquad_qa.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines[:6000]) if 40 <= len(row["answer"].split()) <= 250]
    for block in range(blocks):
        rng = random.Random(block)
        part = rng.sample(rows, QUESTIONS)
        answers: dict[str, list[str]] = {}
        grades: dict[str, list[float]] = {}
        for system, (kept, padding) in {
            "keeps 80%": (0.8, 0),
            "keeps 80%, padded": (0.8, 3),
            "keeps 50%": (0.5, 0),
            "keeps 50%, padded": (0.5, 3),
            "keeps 45%": (0.45, 0),
        }.items():
            for row in part:
                sentences = [s for s in row["answer"].split(". ") if s]
                mine = [s for s in sentences if rng.random() < kept]
                extra = [rng.choice(rng.choice(rows)["answer"].split(". ")) for _ in range(padding)]
                answers.setdefault(system, []).append(". ".join(mine + extra) or "I don't know.")
                grades.setdefault(system, []).append(len(mine) / len(sentences))
        yield Graded(
            "medquad (known truth)", [r["question"] for r in part], [(r["answer"],) for r in part], answers, grades
        )


# -- deciding ------------------------------------------------------------------------------------------------------


def separated(left: Sequence[float], right: Sequence[float]) -> int:
    """Return the sign of the difference in grades if it is significant, else 0."""
    from scipy.stats import ttest_1samp

    difference = np.array(left) - np.array(right)
    difference = difference[np.isfinite(difference)]
    if not difference.any():
        return 0
    p = float(ttest_1samp(difference, 0).pvalue) if difference.std() else 0.0
    return int(np.sign(difference.mean())) if p < LEVEL else 0


def measured(found: Graded, folder: Path, store: Any, graded: int) -> dict[str, Any]:
    """Evaluate the recorded answers of all systems; the first `graded` questions have people's grades."""
    folder.mkdir(parents=True)
    data = folder / "data.jsonl"
    prompts = [f"{number}. {question}" for number, question in enumerate(found.questions)]
    ids = [f"q{number}" for number in range(len(prompts))]
    rows = zip(ids, prompts, found.references, strict=True)
    _write(data, [{"id": i, "prompt": p, "references": list(r), "source": i} for i, p, r in rows])
    saved = datasets.read([data], store=store, all_test=True)
    evaluations = {}
    for number, (system, answers) in enumerate(found.answers.items()):
        path = folder / f"system{number}.jsonl"
        lines = [{"id": i, "completion": answer} for i, answer in zip(ids, answers, strict=True)]
        for line, grade in zip(lines[:graded], found.grades[system], strict=False):
            if np.isfinite(grade):
                line["grade"] = grade
        _write(path, lines)
        evaluations[system] = evaluate(f"recorded:{path}", saved, METRICS, store=store)
    return evaluations


def _write(path: Path, rows: Sequence[Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def decide(found: Graded) -> dict[str, Counter[str]]:
    """Count the outcomes of all pairs of a set, for each way of grading."""
    counts: dict[str, Counter[str]] = {way: Counter() for way in WAYS}
    with tempfile.TemporaryDirectory() as name:
        store, folder = Store(Path(name) / "home"), Path(name)
        plain = measured(found, folder / "files", store, 0)
        random_part = measured(found, folder / "graded", store, GRADED)
        for left, right in combinations(found.answers, 2):
            truth = separated(found.grades[left], found.grades[right])
            pair = {left: plain[left], right: plain[right]}
            sheet = _graded_sheet(found, pair, folder / f"{left} {right}.csv".replace("/", "-"), store)
            compared = {
                "none": compare(pair, store=store),
                "random": compare({left: random_part[left], right: random_part[right]}, store=store),
                "sheet": compare(pair, store=store, grades=sheet),
            }
            for way, one in compared.items():
                chosen = choose(one, store=store).record
                claim = 0 if chosen.pick is None or not chosen.decisive else 1 if chosen.pick == left else -1
                counts[way] += Counter(("pairs", _kind(claim, truth), *(["separated"] if truth else [])))
            raw = next(one for one in compared["none"].record.differences if one.metric == "token_f1")
            naive = 0 if raw.p is None or raw.p >= LEVEL else 1 if raw.value > 0 else -1
            counts["none"][f"token F1 alone: {_kind(naive, truth)}"] += 1
    return counts


def _kind(claim: int, truth: int) -> str:
    if not claim:
        return "ask people"
    return "not borne out" if not truth else "right" if claim == truth else "wrong"


def _graded_sheet(found: Graded, pair: dict[str, Any], path: Path, store: Any) -> Path:
    """Write a grade sheet and fill in people's grades."""
    write_grade_sheet(path, pair, store=store, items=GRADED)
    grade_of = {
        answer_key(pair[system].id, f"q{number}"): grade
        for system in pair
        for number, grade in enumerate(found.grades[system])
    }
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        for row in rows:
            grade = grade_of[row["answer"]]
            writer.writerow({**row, "grade": repr(grade) if np.isfinite(grade) else ""})
    return path


def main() -> None:
    """Decide on all sets and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=4, help="blocks of questions of each set")
    parser.add_argument("--only", default="", help="sets whose name contains this")
    parser.add_argument("--metrics", default="", help="metrics in place of the default ones, with commas")
    parser.add_argument("--keep", type=Path, help="file (JSONL) of finished blocks, to go on after an interruption")
    options = parser.parse_args()
    METRICS[:] = filter(None, options.metrics.split(","))
    if not DATA.exists():
        print("skipped: set SIZEWISE_TEST_DATA to the folder of the test data", file=sys.stderr)
        return
    blocks = options.blocks
    done = [] if options.keep is None or not options.keep.exists() else options.keep.read_text().splitlines()
    for name in ("reference_match", "reference_recall", "fact_precision"):  # each pair reads the same answers again
        metric: Any = find_metric(name)
        metric.measure = cache(metric.measure)
    outcomes: dict[str, dict[str, Counter[str]]] = {}
    for number, found in enumerate((*mts_dialog(), *published(blocks), *known(blocks), *long_answers(blocks))):
        if options.only not in found.name:
            continue
        kept = next((row for row in map(json.loads, done) if row["block"] == f"{number} {found.name}"), None)
        counts = {way: Counter(one) for way, one in kept["counts"].items()} if kept else decide(found)
        if options.keep is not None and not kept:
            with options.keep.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"block": f"{number} {found.name}", "counts": counts}) + "\n")
        for way, one in counts.items():
            outcomes.setdefault(found.name, {way: Counter() for way in WAYS})[way].update(one)
    rows = []
    for name, by_way in outcomes.items():
        for way, counts_of in by_way.items():
            claims = counts_of["right"] + counts_of["wrong"] + counts_of["not borne out"]
            rows.append({"set": name, "graded": way, **counts_of, "claims": claims})
            listed = ", ".join(f"{kind} {counts_of[kind]}" for kind in KINDS)
            print(f"{name:28} {way:7} {counts_of['pairs']} pairs, {counts_of['separated']} separated; {listed}")
    _report(rows)


def _report(rows: list[dict[str, Any]]) -> None:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=HERE, check=False
    )
    best = [row for row in rows if row["graded"] == "sheet"]
    line = {
        "name": "validity",
        "ratio": sum(r["right"] for r in best) / max(1, sum(r["separated"] for r in best)),
        "peer": "people's grades of all answers",
        "value": sum(r.get("wrong", 0) for r in rows),
        "unit": "claims opposite to people's grades",
        "not_borne_out": sum(r.get("not borne out", 0) for r in rows) / max(1, sum(r["claims"] for r in rows)),
        "runs": sum(r["pairs"] for r in best),
        "machine": platform.machine(),
        "commit": commit.stdout.strip(),
        "date": datetime.now(UTC).date().isoformat(),
        "sets": rows,
    }
    (HERE / "results" / "validity.json").write_text(json.dumps(line, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(line))


if __name__ == "__main__":
    main()
