"""Fields out of financial reports: a rule, a small model off the shelf, constrained to the schema, and fine-tuned.

Questions of TAT-QA whose answer is one or several passages of a report page (a table and its paragraphs), asked for as
JSON: {"answer": [...], "scale": ...}. The development pages are for training and validation, the pages of the gold test
set are the test set. Each row is an evaluation of the same test questions, resampled by page.

nothing       an empty answer for every question
rule          the cell at the row and column with the question's words, or the sentence with most of them
model         SmolLM2-135M, answers as they come
constrained   the same, its answers constrained to the schema
fine-tuned    LoRA for some minutes; also constrained
gold          the reference answers: how many of their values the page contains, and where the evidence points

`python benchmarks/extraction.py` reads the folder that SIZEWISE_TEST_DATA names, ends stdout with one JSON line and
writes it to benchmarks/results/extraction.json.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import re
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from reporter import StderrReporter
from sizewise import datasets
from sizewise.evaluation import EvaluationOptions, evaluate
from sizewise.metrics.display import score_text
from sizewise.metrics.extraction import find_evidence
from sizewise.records import Checkpoint, Dataset, Evaluation, Example, Recipe, Score
from sizewise.store import Saved, Store
from sizewise.training import train

HERE = Path(__file__).parent
DATA = Path(os.environ.get("SIZEWISE_TEST_DATA", "/nonexistent")) / "tatqa"
FILES = {"train": "tatqa_dataset_dev.json", "test": "tatqa_dataset_test_gold.json"}
MODEL = "pkg:smollm2-135m"
METRICS = ("field_f1", "field_precision", "field_recall", "value_in_source", "json_valid", "json_repaired")
SCHEMA = {
    "type": "object",
    "properties": {
        "answer": {"type": "array", "items": {"type": "string", "maxLength": 300}, "minItems": 1, "maxItems": 8},
        "scale": {"enum": ["", "thousand", "million", "billion", "percent"]},
    },
    "required": ["answer", "scale"],
    "additionalProperties": False,
}
TASK = (
    'Answer with JSON: {"answer": [texts copied from the report], "scale": "", "thousand", "million", "billion" or '
    '"percent"}.'
)
MAX_TOKENS = 96
"""Longest answer; 98 in 100 reference answers have fewer than 70 tokens."""
MAX_CHARACTERS = 3_000
"""Longest report page; the model's examples must fit into minutes of training."""
_WORDS = re.compile(r"[a-z]+|\d[\d,.]*\d|\d")
_NUMERIC = re.compile(r"\b(how much|how many|amount|total|value|number|rate|percentage)\b")
_COMMON = frozenset(
    [
        "the",
        "of",
        "in",
        "is",
        "was",
        "what",
        "how",
        "much",
        "many",
        "a",
        "an",
        "and",
        "or",
        "to",
        "for",
        "by",
        "as",
        "at",
        "on",
        "from",
        "which",
        "did",
        "do",
        "does",
    ]
)


class Row(NamedTuple):
    """A question with its page."""

    id: str
    table: list[list[str]]
    paragraphs: list[str]
    question: str
    answer: dict[str, Any]
    split: str
    page: str
    places: list[str]
    """Texts of the cells and paragraphs that contain the gold answer, if they are published."""

    @property
    def source(self) -> str:
        """The page as text."""
        cells = [" | ".join(cell.strip() for cell in line) for line in self.table]
        return "\n".join(cells) + "\n\n" + "\n".join(self.paragraphs)

    @property
    def prompt(self) -> str:
        """The page with the question."""
        return f"{self.source}\n\n{TASK}\n{self.question}"


def rows_of(split: str) -> Iterable[Row]:
    """Read the questions of one file whose answers are passages of their page."""
    for page in json.loads((DATA / FILES[split]).read_text(encoding="utf-8")):
        table = page["table"]["table"]
        paragraphs = [one["text"] for one in sorted(page["paragraphs"], key=lambda one: one["order"])]
        by_order = {f"paragraph_{one['order']}": one["text"] for one in page["paragraphs"]}
        for question in page["questions"]:
            if question["answer_type"] not in ("span", "multi-span"):
                continue
            answer = question["answer"] if isinstance(question["answer"], list) else [question["answer"]]
            row = Row(
                question["uid"], table, paragraphs, question["question"],
                {"answer": [str(one) for one in answer], "scale": question["scale"]},
                split, page["table"]["uid"], places_of(question, table, by_order),
            )  # fmt: skip
            if len(row.source) <= MAX_CHARACTERS:
                yield row


def places_of(question: dict[str, Any], table: list[list[str]], paragraphs: dict[str, str]) -> list[str]:
    """List the gold cells and paragraphs of a question."""
    found = []
    for mapping in question.get("mappings") or ():
        for where, position in mapping.items():
            found.append(table[position[0]][position[1]] if where == "table" else paragraphs.get(where, ""))
    return [one.strip() for one in found if one.strip()]


def words_of(text: str) -> Counter[str]:
    """Count the words of a text that say something."""
    return Counter(word for word in _WORDS.findall(text.casefold()) if word not in _COMMON)


def rule(row: Row, weights: Mapping[str, float]) -> dict[str, Any]:
    """Answer with the cell whose row and column share most with the question, or with the closest sentence."""

    def shared(text: str) -> float:
        return sum(weights.get(word, 8.0) for word in words_of(text).keys() & asked.keys())

    asked = words_of(row.question)
    header = [" ".join(line[i] for line in row.table[:2] if i < len(line)) for i in range(len(row.table[0]))]
    cells = [
        (shared(line[0]) + shared(header[i]), cell)
        for line in row.table[1:]
        for i, cell in enumerate(line)
        if i and i < len(header) and re.search(r"\d", cell) and line[0]
    ]
    sentences = [
        (shared(part) / math.sqrt(1 + len(part.split())), part)
        for paragraph in row.paragraphs
        for part in re.split(r"(?<=[.;:])\s+", paragraph)
    ]
    numeric = bool(_NUMERIC.search(row.question.casefold()))
    pool = cells if (numeric and cells) or not sentences else sentences
    best = max(pool, key=lambda one: one[0])[1].strip() if pool else ""
    scale = re.search(r"in (thousand|million|billion)s?", row.source.casefold())
    return {"answer": [best], "scale": scale[1] if scale and pool is cells and "%" not in best else ""}


def inverse_frequency(rows: Sequence[Row]) -> dict[str, float]:
    """Compute how rare each word is over the training pages."""
    pages = {row.page: set(words_of(row.source)) for row in rows}
    counts = Counter(word for words in pages.values() for word in words)
    return {word: math.log(1 + len(pages) / count) for word, count in counts.items()}


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write rows and return the path."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def read_dataset(rows: Sequence[Row], folder: Path, store: Store) -> Saved[Dataset]:
    """Read the questions as a dataset; every eighth development page is for validation."""
    pages = sorted({row.page for row in rows if row.split == "train"})
    validation = set(pages[::8])
    path = write_jsonl(
        folder / "tatqa.jsonl",
        (
            {
                "id": row.id, "prompt": row.prompt, "references": [json.dumps(row.answer, ensure_ascii=False)],
                "schema": SCHEMA, "source": row.page, "split": "validation" if row.page in validation else row.split,
            }
            for row in rows
        ),
    )  # fmt: skip
    return datasets.read([path], store=store, split="given")


def recorded(name: str, answers: Mapping[str, Any], folder: Path) -> str:
    """Write answers to a file and return its URI."""
    rows = ({"id": key, "completion": json.dumps(body, ensure_ascii=False)} for key, body in answers.items())
    return f"recorded:{write_jsonl(folder / f'{name}.jsonl', rows)}"


def in_short(score: Score) -> dict[str, Any]:
    """Keep what a table needs of a score."""
    return {
        "value": score.value, "ci_low": score.ci_low, "ci_high": score.ci_high, "n": score.n,
        "clusters": score.clusters, "missing_reason": score.missing_reason,
    }  # fmt: skip


def table_row(found: Evaluation) -> dict[str, Any]:
    """Keep the scores of an evaluation on all its items, and those of its fields."""
    return {
        **{name: in_short(found.scores[f"{name}@all"]) for name in METRICS},
        "latency_s": in_short(found.scores["latency_s"]),
        "fields": {
            one.path: {"precision": in_short(one.precision), "recall": in_short(one.recall), "f1": in_short(one.f1)}
            for one in found.fields
        },
        "engine": found.model.engine,
        "parameters": found.model.parameters,
        "seconds": found.seconds,
        "notes": list(found.notes),
    }


def evidence_part(rows: Sequence[Row]) -> dict[str, Any]:
    """Compare the evidence of the gold values with the published cells and paragraphs."""
    counts: Counter[str] = Counter()
    for row in rows:
        for one in find_evidence(json.dumps(row.answer), [row.source], json.dumps(SCHEMA)):
            counts["values"] += 1
            counts["found"] += bool(one.spans)
            if not one.spans or not row.places:
                continue
            spans = [[holds(row, span.start, place) for place in row.places] for span in one.spans]
            several = "several" if len(spans) > 1 else "single"
            counts[f"{several}_located"] += 1
            counts[f"{several}_first_right"] += any(spans[0])
            counts[f"{several}_some_right"] += any(map(any, spans))
    return dict(counts)


def holds(row: Row, start: int, place: str) -> bool:
    """Return whether a position of the page lies in a cell or paragraph with this text."""
    found = row.source.find(place)
    while found >= 0:
        if found <= start < found + len(place):
            return True
        found = row.source.find(place, found + 1)
    return False


def fine_tune(data: Saved[Dataset], minutes: float, store: Store) -> Saved[Checkpoint]:
    """Train the model with LoRA."""
    recipe = Recipe(start=MODEL, method="lora", minutes=minutes, seed=0)
    return train(recipe, data, store=store, reporter=StderrReporter())


def main() -> None:
    """Measure every candidate on the same test questions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=120, help="test questions of the models")
    parser.add_argument("--minutes", type=float, default=4.0, help="training; 0 leaves the fine-tuned model out")
    parser.add_argument("--without-models", action="store_true")
    args = parser.parse_args()
    begun = time.perf_counter()
    store = Store()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        training, testing = list(rows_of("train")), list(rows_of("test"))
        data = read_dataset([*training, *testing], folder, store)
        test: tuple[Example, ...] = datasets.load(store, data.id).examples["test"]
        by_id, weights = {row.id: row for row in testing}, inverse_frequency(training)
        runs: list[tuple[str, str | Saved[Checkpoint], EvaluationOptions, int | None]] = []
        plain = EvaluationOptions(max_tokens=MAX_TOKENS, engine="openvino")
        constrained = EvaluationOptions(max_tokens=MAX_TOKENS, engine="openvino", constrained=True)
        answers = {
            "nothing": {one.id: {"answer": [], "scale": ""} for one in test},
            "rule": {one.id: rule(by_id[one.id], weights) for one in test},
            "gold": {one.id: by_id[one.id].answer for one in test},
        }
        for kind, given in answers.items():
            runs += [(kind, recorded(kind, given, folder), EvaluationOptions(), args.limit)]
        runs += [("rule, all questions", recorded("rule", answers["rule"], folder), EvaluationOptions(), None)]
        if not args.without_models:
            runs += [("model", MODEL, plain, args.limit), ("model, constrained", MODEL, constrained, args.limit)]
            if args.minutes:
                tuned = fine_tune(data, args.minutes, store)
                runs += [
                    ("fine-tuned", tuned, plain, args.limit),
                    ("fine-tuned, constrained", tuned, constrained, args.limit),
                ]
        table = {}
        for kind, model, options, limit in runs:
            found = evaluate(
                model, data, METRICS, store=store, limit=limit, options=options, reporter=StderrReporter()
            ).record
            table[kind] = table_row(found)
            print(f"{kind}: " + "; ".join(f"{m} {score_text(found.scores[m + '@all'])}" for m in METRICS), flush=True)
    write(table, evidence_part(testing), len(training), len(testing), time.perf_counter() - begun)


def write(table: dict[str, Any], evidence: dict[str, Any], training: int, testing: int, seconds: float) -> None:
    """Write the result and print it as one line."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    best = max((row for kind, row in table.items() if kind != "gold"), key=lambda row: row["field_f1"]["value"] or 0.0)
    result = {
        "name": "extraction",
        "ratio": (best["field_f1"]["value"] or 0.0) / max(1e-9, table["rule"]["field_f1"]["value"] or 0.0),
        "peer": "a rule of 20 lines: the cell or sentence that shares most words with the question",
        "value": best["field_f1"]["value"],
        "unit": "field F1 on the same test questions",
        "runs": table["rule"]["field_f1"]["n"],
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "commit": commit.stdout.strip(),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": seconds,
        "training_questions": training,
        "test_questions": testing,
        "max_page_characters": MAX_CHARACTERS,
        "table": table,
        "evidence": evidence,
    }
    (HERE / "results" / "extraction.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
