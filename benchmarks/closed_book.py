"""Knowledge of documents: closed book after training, with passages, and both, on the same 200 questions.

    python benchmarks/closed_book.py --work FOLDER [--only STEP ...]
    python benchmarks/closed_book.py --work FOLDER --search             what search declines
    python benchmarks/closed_book.py --work FOLDER --sheet grades.tsv    a blind sheet of 100 answers to grade
    python benchmarks/closed_book.py --work FOLDER --grades grades.tsv   what the grades say
    python benchmarks/closed_book.py --table

SIZEWISE_TEST_DATA names the folder with MedQuAD, SIZEWISE_HOME keeps models and answers: a step that was done isn't
done again, and one that was stopped goes on where it was. Results go to benchmarks/results/closed_book.json; the
answers stay in the work folder, and their hash is in the results.

An answer is right with half of the content words of its reference, which agreed best with blind grades; half of the
rarest ones (`key_facts`) is stricter, because a model that learned only the style says what all references say.
Reference recall and token F1, which decide together in a comparison, stand beside them. Intervals resample articles;
differences are paired by question.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import subprocess
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from closed_book_data import Row, key_facts, prepare, sections_of
from knowledge import processor
from reporter import StderrReporter
from sizewise import datasets
from sizewise.metrics import AnswerItem, find_metric
from sizewise.metrics.content import content_of
from sizewise.metrics.manner import refuses
from sizewise.models import Engine, open_model
from sizewise.records import Recipe, Request
from sizewise.retrieval import open_encoder
from sizewise.retrieval.answerability import Asked, Taught, learn_answerability, teach
from sizewise.retrieval.meaning import TextEncoder, encode_passages
from sizewise.retrieval.search_index import SearchIndex
from sizewise.stats import percentile_interval
from sizewise.store import Store, write_atomically
from sizewise.text import fold_text, sentences_of
from sizewise.training import train

HERE = Path(__file__).parent
TARGET = HERE / "results" / "closed_book.json"
BASE, LARGE = "pkg:smollm2-135m", "pkg:qwen2.5-coder-1.5b"
METRICS = ("reference_recall", "token_f1")
SCORES = ("right", "rare", "facts", *METRICS)
TOKENS = 60_000
"""Tokens of a training at 1x: about six times the studied text."""
MAX_TOKENS, RIGHT, ROUNDS = 48, 0.5, 10_000
CLOSED, PLAIN, MIX = "documents", {"example_share": 0.0}, {"example_share": 0.5}


class Arm(NamedTuple):
    """A training."""

    data: str
    """Name of its dataset."""
    changes: Mapping[str, Any]
    """Settings that differ from those of all arms."""
    times: float = 1.0
    """Tokens, as a multiple of TOKENS."""


class Measurement(NamedTuple):
    """Answers of a model to the questions."""

    model: str
    """Arm, or model URI."""
    data: str = CLOSED
    """Dataset whose questions are asked: closed book, or with passages before the question."""
    limit: int | None = None
    """Maximum number of questions."""
    retrieve: bool = False
    """Whether the passages are found by the search."""
    engine: Engine = "transformers"


CONTEXT = {"passage_share": 1.0, "context": 512, "rows_per_step": 1, "example_share": 0.9}
ARMS = {
    **{f"plain, seed {seed}": Arm(CLOSED, PLAIN | {"seed": seed}, 2) for seed in range(3)},
    **{f"mix, seed {seed}": Arm("mix", MIX | {"seed": seed}, 2) for seed in range(3)},
    "mix, 1x": Arm("mix", MIX),
    "plain, 1x": Arm(CLOSED, PLAIN),
    "mix, 4x": Arm("mix", MIX, 4),
    "plain, 4x": Arm(CLOSED, PLAIN, 4),
    "context": Arm("others", CONTEXT, 3),
    "both": Arm("given", CONTEXT | {"passage_share": 0.5, "example_share": 0.7}, 4),
    "studied context": Arm("given", CONTEXT, 3),
}
MEASURED = {
    "base, closed book": Measurement(BASE),
    "base, right passage": Measurement(BASE, "right"),
    "retrieval, base": Measurement(BASE, retrieve=True),
    "1.5B, right passage": Measurement(LARGE, "right", engine="openvino"),
    "context, right passage": Measurement("context", "right"),
    "context, no answer": Measurement("context", "absent"),
    "retrieval, context": Measurement("context", retrieve=True),
    "mix, seed 0": Measurement("mix, seed 0"),
    "plain, seed 0": Measurement("plain, seed 0"),
    "both, retrieval": Measurement("both", retrieve=True),
    "both, closed book": Measurement("both"),
    "retrieval, studied context": Measurement("studied context", retrieve=True),
    "studied context, closed book": Measurement("studied context"),
    "studied context, no answer": Measurement("studied context", "absent"),
    "retrieval, 1.5B": Measurement(LARGE, retrieve=True, engine="openvino"),
    "mix, seed 1": Measurement("mix, seed 1"),
    "plain, seed 1": Measurement("plain, seed 1"),
    "mix, 1x": Measurement("mix, 1x"),
    "mix, retrieval": Measurement("mix, seed 0", retrieve=True),
    "mix, seed 2": Measurement("mix, seed 2"),
    "plain, seed 2": Measurement("plain, seed 2"),
    "mix, 4x": Measurement("mix, 4x"),
    "plain, 1x": Measurement("plain, 1x"),
    "plain, 4x": Measurement("plain, 4x"),
    "mix 4x, retrieval": Measurement("mix, 4x", retrieve=True),
    "context, three passages": Measurement("context", "mixed"),
    "both, no answer": Measurement("both", "absent"),
    "base, no answer": Measurement(BASE, "absent"),
    "1.5B, closed book": Measurement(LARGE, engine="openvino"),
    "1.5B, no answer": Measurement(LARGE, "absent", engine="openvino"),
}
GRADED = ("base, right passage", "mix, seed 0", "mix, 4x", "retrieval, context", "1.5B, right passage")
"""Measurements whose answers are graded blind."""
LOST = (("both, closed book", "both, retrieval"), ("mix, 4x", "mix 4x, retrieval"),
        ("1.5B, closed book", "retrieval, 1.5B"))  # fmt: skip
"""Closed book, and the same model with passages: how many answers that it knew are wrong then."""


def search_index(folder: Path, encoder: TextEncoder) -> SearchIndex:
    """Index the sections of articles, by words and by meaning."""
    passages = sections_of(folder)
    index = SearchIndex.of_passages(passages)
    index.add_meaning(encoder, encode_passages(encoder, passages))
    return index


class Bench:
    """Trains and measures, and keeps what was measured.

    Args:
        work: folder of the articles and questions.
        data: folder of the public data.
    """

    def __init__(self, work: Path, data: Path) -> None:
        self.work, self.store = work, Store()
        self.data = prepare(data, work, self.store)
        rows = map(json.loads, (work / "studied" / "questions.jsonl").read_text(encoding="utf-8").splitlines())
        self.asked: dict[str, Row] = {row["id"]: row for row in rows if row["split"] == "test"}
        self.facts = key_facts(list(self.asked.values()))
        self.parts: dict[str, Any] = json.loads(TARGET.read_text(encoding="utf-8"))["parts"] if TARGET.is_file() else {}

    def recipe(self, name: str) -> Recipe:
        """Return the recipe of an arm."""
        arm = ARMS[name]
        settings = {"context": 256, "rows_per_step": 2, "control": "none", "patience": 0, "max_epochs": 64.0}
        return Recipe(start=BASE, tokens=round(TOKENS * arm.times), **(settings | dict(arm.changes)))

    def model(self, name: str) -> str:
        """Train an arm and return its URI; a model URI is returned as it is."""
        if name not in ARMS:
            return name
        begun = time.perf_counter(), time.process_time()
        made = train(self.recipe(name), self.data[ARMS[name].data], store=self.store, reporter=StderrReporter())
        record = made.record
        arms = self.parts.setdefault("arms", {})
        arms.setdefault(name, {"wall_s": time.perf_counter() - begun[0], "processor_s": time.process_time() - begun[1]})
        arms[name] |= {
            "run": made.id,
            "tokens": record.tokens,
            "seconds": record.seconds,
            "bits_per_byte": [record.start_bits_per_byte, record.best_bits_per_byte],
        }
        return f"run:{made.id}"

    def measure(self, name: str) -> None:
        """Ask a model and keep its answers."""
        wanted = MEASURED[name]
        path = self.work / "answers" / f"{name}.json"
        if not path.is_file():
            uri = self.model(wanted.model)
            uri = f"rag:{self.data[CLOSED]}:{uri}" if wanted.retrieve else uri
            path.parent.mkdir(exist_ok=True)
            write_atomically(path, json.dumps(self.ask(uri, wanted), indent=1))
        self.parts.setdefault("measured", {})[name] = summary(self.scored(name))

    def ask(self, uri: str, wanted: Measurement) -> dict[str, Row]:
        """Ask all questions of a dataset, or as many as the measurement allows; return the answers by question."""
        examples = list(datasets.load(self.store, self.data[wanted.data]).examples["test"])[: wanted.limit]
        requests = [Request(id=one.id, messages=one.messages, max_tokens=MAX_TOKENS) for one in examples]
        model = open_model(uri, store=self.store, engine=wanted.engine)
        begun = time.perf_counter(), time.process_time()
        try:
            found = {
                one.id: {"answer": one.text, "finish": one.finish, "error": one.error, "passages": one.passages}
                for one in model.complete(requests)
            }
        finally:
            model.close()
        failed = [row["error"] for row in found.values() if row["error"]]
        if failed:
            raise RuntimeError(f"{len(failed)} of {len(found)} questions weren't answered: {failed[0]}")
        spent = {"wall_s": time.perf_counter() - begun[0], "processor_s": time.process_time() - begun[1]}
        print(uri, len(found), spent, flush=True)
        prompts = {one.id: one.messages[-1].content for one in examples}
        return {item: row | {"prompt": prompts[item]} for item, row in found.items()}

    def scored(self, name: str) -> dict[str, Row]:
        """Score the answers of a measurement."""
        rows = json.loads((self.work / "answers" / f"{name}.json").read_text(encoding="utf-8"))
        return {item: self.score(item, row, MEASURED[name].data) for item, row in rows.items()}

    def score(self, item: str, row: Row, data: str) -> Row:
        """Score an answer."""
        answer = row["answer"] or ""
        known, facts = set(content_of(answer)), self.facts[item]
        share = sum(fact in known for fact in facts) / len(facts)
        passages = "\n".join([row["prompt"], *row["passages"]])
        quoted = [part for part in answer.split('"')[1::2] if len(part.split()) > 2]
        sentences = [one.strip() for one in sentences_of(answer) if len(one.split()) > 2]
        found: Row = {
            "answer": answer,
            "facts": share,
            "rare": float(share >= RIGHT),
            "declined": float(refuses(answer)),
            "words": float(len(answer.split())),
            "copied": float(np.mean([one in passages for one in sentences])) if sentences else 0.0,
            "quotes": [float(quote in passages) for quote in quoted],
        }
        if row["passages"]:
            found["retrieved"] = float(fold_text(self.asked[item]["references"][0]) in fold_text(passages))
        measured = AnswerItem(answer, tuple(self.asked[item]["references"]), row["prompt"])
        found |= {metric: find_metric(metric).measure(measured)[0] for metric in METRICS}
        return found | {"right": float(found["reference_recall"] >= RIGHT)}

    def check_search(self) -> None:
        """Measure how well search knows that no article answers, where the other articles taught it and its threshold.

        The article that answers is left out of the index for one half of the measurement.
        """
        encoder = open_encoder("pkg:minilm", store=self.store)
        asked = {name: self.questions_about(name) for name in ("others", "studied")}
        index = {name: search_index(self.work / name / "docs", encoder) for name in asked}
        taught = teach(index["others"], asked["others"])
        alone = learn_answerability(index["studied"], random.Random(0))
        if not isinstance(taught, Taught) or alone is None:
            raise RuntimeError("too few questions or articles to learn from")
        learned, check = taught
        found: Row = {"questions": len(asked["studied"]), "threshold": check.threshold}
        for name, chance, least in (("taught by others", learned, check.threshold), ("from the articles", alone, 0.5)):
            answered: dict[str, list[float]] = {"with": [], "without": []}
            for one in asked["studied"]:
                similarities = index["studied"].similarities(one.question)
                for kind, hidden in (("with", ()), ("without", (one.document,))):
                    ranking = index["studied"].rank(one.question, similarities, hidden)
                    features = index["studied"].features(one.question, ranking)
                    answered[kind].append(float(chance.predict(features) < least))
            names = [f"{one.document}:{number}" for number, one in enumerate(asked["studied"])]
            found[name] = {
                "declined by mistake": interval(dict(zip(names, answered["with"], strict=True))),
                "declined without the article": interval(dict(zip(names, answered["without"], strict=True))),
            }
        self.parts["search_check"] = found

    def questions_about(self, name: str) -> list[Asked]:
        """Return the questions about articles, without those about the studied ones that are only validated on."""
        lines = (self.work / name / "questions.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [row for row in map(json.loads, lines) if name == "others" or row["split"] == "test"]
        return [Asked(row["prompt"], row["source"]) for row in rows]

    def save(self) -> None:
        """Write the results."""
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
        answers = self.answers()
        self.parts["differences"] = differences(answers)
        self.parts["lost"] = lost(answers)
        files = sorted((self.work / "answers").glob("*.json"))
        self.parts["answers_sha256"] = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
        result = {
            "name": "closed_book",
            "ratio": None,
            "peer": "the untouched base",
            "value": None,
            "unit": "share of questions answered closed book",
            "runs": len(self.asked),
            "machine": processor(),
            "commit": commit.stdout.strip(),
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "parts": self.parts,
        }
        right = {name: one["right"]["value"] for name, one in self.parts.get("measured", {}).items()}
        if {"mix, seed 0", "base, closed book"} <= right.keys():
            result |= {
                "value": right["mix, seed 0"],
                "ratio": right["mix, seed 0"] / max(right["base, closed book"], 1e-9),
            }
        TARGET.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")

    def answers(self) -> dict[str, dict[str, Row]]:
        """Score the answers that are there, by measurement."""
        return {name: self.scored(name) for name in MEASURED if (self.work / "answers" / f"{name}.json").is_file()}


def article_of(item: str) -> str:
    """Return the article that a question is about."""
    return item.split(":", maxsplit=1)[0]


def interval(values: Mapping[str, float]) -> Row:
    """Compute a mean with its interval from resampled articles."""
    names = sorted({article_of(item) for item in values})
    index = {name: i for i, name in enumerate(names)}
    sums, counts = np.zeros(len(names)), np.zeros(len(names))
    for item, value in values.items():
        sums[index[article_of(item)]] += value
        counts[index[article_of(item)]] += 1
    draws = np.random.default_rng(0).integers(0, len(names), (ROUNDS, len(names)))
    ci_low, ci_high = percentile_interval(sums[draws].sum(axis=1) / counts[draws].sum(axis=1))
    return {"value": float(sums.sum() / counts.sum()), "ci_low": ci_low, "ci_high": ci_high, "n": len(values)}


def summary(answers: Mapping[str, Row]) -> Row:
    """Summarize answers."""
    names = ("right", "rare", "facts", "declined", "words", "copied", "retrieved", *METRICS)
    found = {
        name: interval({item: one[name] for item, one in answers.items() if name in one})
        for name in names
        if any(name in one for one in answers.values())
    }
    quotes = [quote for one in answers.values() for quote in one["quotes"]]
    return found | {"quotes": len(quotes), "quotes_verbatim": int(sum(quotes))}


PAIRS = (
    ("mix, seed 0", "plain, seed 0"),
    ("mix, seed 1", "plain, seed 1"),
    ("mix, seed 2", "plain, seed 2"),
    ("mix, seed 0", "base, closed book"),
    ("plain, seed 0", "base, closed book"),
    ("mix, seed 0", "mix, 1x"),
    ("mix, 4x", "mix, seed 0"),
    ("mix, 1x", "plain, 1x"),
    ("mix, 4x", "plain, 4x"),
    ("mix, 4x", "1.5B, right passage"),
    ("mix, 4x", "retrieval, 1.5B"),
    ("both, retrieval", "mix, 4x"),
    ("both, retrieval", "mix 4x, retrieval"),
    ("both, retrieval", "retrieval, base"),
    ("1.5B, right passage", "base, closed book"),
    ("1.5B, right passage", "mix, seed 0"),
    ("context, right passage", "base, right passage"),
    ("context, right passage", "1.5B, right passage"),
    ("retrieval, base", "base, closed book"),
    ("retrieval, context", "retrieval, base"),
    ("retrieval, context", "mix, seed 0"),
    ("mix, retrieval", "retrieval, base"),
    ("both, retrieval", "retrieval, context"),
    ("retrieval, studied context", "retrieval, context"),
    ("retrieval, studied context", "both, retrieval"),
    ("both, retrieval", "both, closed book"),
    ("retrieval, context", "retrieval, 1.5B"),
    ("both, retrieval", "retrieval, 1.5B"),
)


def differences(answers: Mapping[str, Mapping[str, Row]]) -> Row:
    """Compute paired differences of all measures; the pair of all seeds is the mean over them by question."""
    found = {}
    for one, other in PAIRS:
        if one in answers and other in answers:
            shared = answers[one].keys() & answers[other].keys()
            found[f"{one} - {other}"] = {
                name: interval({item: answers[one][item][name] - answers[other][item][name] for item in shared})
                for name in SCORES
            }
    seeds = [i for i in range(3) if {f"mix, seed {i}", f"plain, seed {i}"} <= answers.keys()]
    if len(seeds) > 1:
        found[f"mix - plain, mean of {len(seeds)} seeds"] = {
            name: interval(
                {
                    item: float(
                        np.mean(
                            [
                                answers[f"mix, seed {i}"][item][name] - answers[f"plain, seed {i}"][item][name]
                                for i in seeds
                            ]
                        )
                    )
                    for item in answers["mix, seed 0"]
                }
            )
            for name in SCORES
        }
    return found


def lost(answers: Mapping[str, Mapping[str, Row]]) -> Row:
    """Count the answers that a model knew closed book, and those of them that are wrong with passages."""
    found = {}
    for closed, given in LOST:
        if closed in answers and given in answers:
            known = [item for item, one in answers[closed].items() if one["right"]]
            found[given] = {"known": len(known), "lost": sum(not answers[given][item]["right"] for item in known)}
    return found


def write_sheet(bench: Bench, path: Path, count: int = 100) -> None:
    """Write answers in random order, without their arm; the key stays in the work folder."""
    answers = {name: of for name, of in bench.answers().items() if name in GRADED}
    rng = random.Random(0)
    items = rng.sample(sorted(bench.asked), count)
    arms = [name for _ in range(0, count, len(answers)) for name in answers]
    rng.shuffle(arms)
    key, lines = [], ["number\tquestion\treference\tanswer\tgrade"]
    for number, (item, name) in enumerate(zip(items, arms, strict=False)):
        key.append([item, name])
        cells = (bench.asked[item]["prompt"], bench.asked[item]["references"][0], answers[name][item]["answer"])
        lines.append("\t".join([str(number), *(" ".join(cell.split()) for cell in cells), ""]))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    (bench.work / "sheet-key.json").write_text(json.dumps(key), encoding="utf-8")


def read_grades(bench: Bench, path: Path) -> Row:
    """Compare grades (0, 0.5 or 1) with the measures of the same answers."""
    key = json.loads((bench.work / "sheet-key.json").read_text(encoding="utf-8"))
    lines = path.read_text(encoding="utf-8").splitlines()[1:]
    grades = [float(line.split("\t")[4]) for line in lines]
    answers = bench.answers()
    graded = [(grade, name, answers[name][item]) for grade, (item, name) in zip(grades, key, strict=True)]
    by_arm: dict[str, list[float]] = {}
    for grade, name, _ in graded:
        by_arm.setdefault(name, []).append(grade)
    of = [grade for grade, _, _ in graded]
    correlations = {name: float(np.corrcoef(of, [one[name] for _, _, one in graded])[0, 1]) for name in SCORES}
    right = [(grade >= RIGHT, one["right"] == 1) for grade, _, one in graded]
    return {
        "answers": len(graded),
        "mean_by_arm": {name: [float(np.mean(some)), len(some)] for name, some in sorted(by_arm.items())},
        "correlation": correlations,
        "right_by_both": sum(a and b for a, b in right),
        "right_by_grade_only": sum(a and not b for a, b in right),
        "right_by_facts_only": sum(b and not a for a, b in right),
        "wrong_by_both": sum(not a and not b for a, b in right),
    }


def report(names: Sequence[str], parts: Row) -> None:
    """Print what was measured."""
    for name in names:
        if name in parts.get("measured", {}):
            one = parts["measured"][name]
            cells = (f"{key} {one[key]['value']:.3f}" for key in (*SCORES, "declined") if key in one)
            print(f"{name:28} {'  '.join(cells)}", flush=True)


def tables(parts: Row) -> str:
    """Format the results as Markdown."""

    def percent(one: Row, sign: str = "") -> str:
        value, ci_low, ci_high = (100 * one[key] for key in ("value", "ci_low", "ci_high"))
        return f"{value:{sign}.0f} [{ci_low:{sign}.0f}, {ci_high:{sign}.0f}]"

    lines = ["| | answered | rare facts | reference recall | token F1 | declined | copied | n |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    names = ("right", "rare", *METRICS, "declined", "copied")
    for name, one in parts["measured"].items():
        cells = " | ".join(percent(one[key]) for key in names)
        lines.append(f"| {name} | {cells} | {one['right']['n']} |")
    lines += ["", "| | answered | rare facts | reference recall | token F1 |", "|---|---|---|---|---|"]
    for name, one in parts["differences"].items():
        cells = " | ".join(percent(one[key], "+") for key in ("right", "rare", *METRICS))
        lines.append(f"| {name} | {cells} |")
    return "\n".join(lines)


def main() -> None:
    """Run the steps that aren't done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--table", action="store_true", help="print the results as Markdown and stop")
    parser.add_argument("--only", nargs="*", default=list(MEASURED))
    parser.add_argument("--search", action="store_true", help="measure what search declines, and stop")
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--grades", type=Path)
    args = parser.parse_args()
    if args.table or args.work is None:
        print(tables(json.loads(TARGET.read_text(encoding="utf-8"))["parts"]))
        return
    bench = Bench(args.work, Path(os.environ.get("SIZEWISE_TEST_DATA", "/nonexistent")))
    if args.sheet:
        write_sheet(bench, args.sheet)
        return
    if args.grades:
        bench.parts["grades"] = read_grades(bench, args.grades)
        args.only = []
    if args.search:
        bench.check_search()
        args.only = []
    for name in args.only:
        bench.measure(name)
        bench.save()
        report([name], bench.parts)
    bench.save()
    report(list(MEASURED), bench.parts)


if __name__ == "__main__":
    main()
