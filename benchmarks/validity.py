"""Do claims hold on people's grades? Right, wrong, not borne out and "ask people", per set of graded answers.

For each pair of systems, `choose` decides on the default quality measure from recorded answers: without grades, and
with people's grades of 50 questions. A claim is right if the grades of all answers separate the pair the same way at
p < 0.05 (paired t-test over questions), wrong if they separate it the other way, and not borne out if they don't.

Real sets come from the folder that SIZEWISE_TEST_DATA names: mts_dialog (factual F1 of four summarizers), and the
published answers of Evouna (five systems on Natural Questions and TriviaQA with people's right and wrong; folder
`evouna`, skipped where it is absent). Sets whose truth is known by construction: answers to webquestions, tatqa and
medquad that are right at a known rate, in a terse or a wordy style. `python benchmarks/validity.py` ends stdout with
one JSON line and writes it to benchmarks/results/validity.json.
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
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

HERE = Path(__file__).parent
DATA = Path(os.environ.get("SIZEWISE_TEST_DATA", "/nonexistent"))
QUESTIONS, GRADED, LEVEL = 150, 50, 0.05
METRICS: list[str] = []
"""Metrics of the evaluations; the default ones if empty."""
KINDS = ("right", "wrong", "not borne out", "ask people")


class Graded(NamedTuple):
    """Answers of several systems to the same questions, with a grade of each answer."""

    name: str
    questions: list[str]
    references: list[tuple[str, ...]]
    answers: dict[str, list[str]]
    grades: dict[str, list[float]]


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


def evouna(blocks: int) -> Iterator[Graded]:
    """Read random blocks of questions with answers of five systems that people called right or wrong."""
    for name in ("NQ", "TQ"):
        path = DATA / "evouna" / f"{name}.json"
        if not path.exists():
            path = Path(os.environ.get("SIZEWISE_EVOUNA", "/nonexistent")) / f"{name}.json"
        if not path.exists():
            continue
        systems = ("fid", "gpt35", "chatgpt", "gpt4", "newbing")
        rows = [
            row
            for row in json.loads(path.read_text(encoding="utf-8"))
            if not row["improper"] and all(row[f"judge_{s}"] is not None for s in systems)
        ]
        random.Random(0).shuffle(rows)
        for block in range(blocks):
            part = rows[block * QUESTIONS : (block + 1) * QUESTIONS]
            yield Graded(
                f"evouna {name}",
                [row["question"] for row in part],
                [tuple(r.strip() for r in row["golden_answer"].split("/") if r.strip()) for row in part],
                {s: [row[f"answer_{s}"] or "" for row in part] for s in systems},
                {s: [float(row[f"judge_{s}"]) for row in part] for s in systems},
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
    from sizewise import datasets
    from sizewise.evaluation import evaluate

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


def decide(found: Graded, graded: int) -> Counter[str]:
    """Count the outcomes of all pairs of a set."""
    from sizewise.choice import choose
    from sizewise.comparison import compare
    from sizewise.store import Store

    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        store = Store(Path(name) / "home")
        evaluations = measured(found, Path(name) / "files", store, graded)
        for left, right in combinations(found.answers, 2):
            compared = compare({left: evaluations[left], right: evaluations[right]}, store=store)
            chosen = choose(compared, store=store).record
            truth = separated(found.grades[left], found.grades[right])
            claim = 0 if chosen.pick is None or not chosen.decisive else 1 if chosen.pick == left else -1
            raw = next(d for d in compared.record.differences if d.metric == "token_f1")
            naive = 0 if raw.p is None or raw.p >= LEVEL else 1 if raw.value > 0 else -1
            counts["separated"] += truth != 0
            counts["pairs"] += 1
            for label, said in (("", claim), ("token F1 alone: ", naive)):
                kind = (
                    "ask people"
                    if not said
                    else "not borne out"
                    if not truth
                    else "right"
                    if said == truth
                    else "wrong"
                )
                counts[label + kind] += 1
    return counts


def main() -> None:
    """Decide on all sets and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=4, help="blocks of questions of each set")
    parser.add_argument("--only", default="", help="sets whose name contains this")
    parser.add_argument("--metrics", default="", help="metrics in place of the default ones, with commas")
    options = parser.parse_args()
    METRICS[:] = filter(None, options.metrics.split(","))
    if not DATA.exists():
        print("skipped: set SIZEWISE_TEST_DATA to the folder of the test data", file=sys.stderr)
        return
    totals: dict[str, dict[int, Counter[str]]] = {}
    blocks = options.blocks
    for found in (*mts_dialog(), *evouna(blocks), *known(blocks), *long_answers(blocks)):
        if options.only in found.name:
            for graded in (0, GRADED):
                totals.setdefault(found.name, {}).setdefault(graded, Counter()).update(decide(found, graded))
    rows = []
    for name, by_grades in totals.items():
        for graded, counts in by_grades.items():
            claims = counts["right"] + counts["wrong"] + counts["not borne out"]
            rows.append({"set": name, "graded": graded, **counts, "claims": claims})
            outcomes = ", ".join(f"{kind} {counts[kind]}" for kind in KINDS)
            naive = ", ".join(f"{kind} {counts[f'token F1 alone: {kind}']}" for kind in KINDS)
            print(
                f"{name:28} {graded:2} graded: {counts['pairs']} pairs, {counts['separated']} separated by people; "
                f"{outcomes} (token F1 alone: {naive})"
            )
    _report(rows)


def _report(rows: list[dict[str, Any]]) -> None:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=HERE, check=False
    )
    best = [row for row in rows if row["graded"] == GRADED]
    line = {
        "name": "validity",
        "ratio": sum(r["right"] for r in best) / max(1, sum(r["separated"] for r in best)),
        "peer": "people's grades of all answers",
        "value": sum(r.get("wrong", 0) for r in rows),
        "unit": "claims opposite to people's grades",
        "not_borne_out": sum(r.get("not borne out", 0) for r in rows) / max(1, sum(r["claims"] for r in rows)),
        "runs": sum(r["pairs"] for r in rows),
        "machine": platform.machine(),
        "commit": commit.stdout.strip(),
        "date": datetime.now(UTC).date().isoformat(),
        "sets": rows,
    }
    (HERE / "results" / "validity.json").write_text(json.dumps(line, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(line))


if __name__ == "__main__":
    main()
