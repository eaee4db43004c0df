"""Published sets of answers that people graded, for benchmarks/validity.py.

They are read from clones of their repositories in the folder that SIZEWISE_GRADED names; a set that is absent is
skipped. Nothing of them is part of this project:

    git clone https://github.com/wangcunxiang/QA-Eval              five systems on NQ and TriviaQA, right or wrong
    git clone https://github.com/ehsk/OpenQA-eval                  eleven systems on 301 questions of NQ
    git clone https://github.com/kite99520/DialSummEval            thirteen summarizers, three raters, 1 to 5
    git clone https://github.com/google/wmt-mqm-human-evaluation   thirteen translators of TED talks, MQM
    git clone https://github.com/W4ngatang/qags                     sentences of summaries, supported or not
"""

from __future__ import annotations

import csv
import json
import os
import random
import re
import string
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

FOLDER = Path(os.environ.get("SIZEWISE_GRADED", "/nonexistent"))
QUESTIONS = 150


class Graded(NamedTuple):
    """Answers of several systems to the same questions, with a grade of each answer."""

    name: str
    questions: list[str]
    references: list[tuple[str, ...]]
    answers: dict[str, list[str]]
    grades: dict[str, list[float]]
    """System -> grade of each answer from 0 to 1; NaN where people gave none."""


def blocks_of(found: Graded, blocks: int, size: int = QUESTIONS) -> Iterator[Graded]:
    """Cut a set into random blocks of questions, as many as it has and at most `blocks`."""
    order = list(range(len(found.questions)))
    random.Random(0).shuffle(order)
    for start in range(0, min(len(order) // size, blocks) * size, size):
        part = order[start : start + size]
        yield Graded(
            found.name,
            [found.questions[i] for i in part],
            [found.references[i] for i in part],
            {name: [texts[i] for i in part] for name, texts in found.answers.items()},
            {name: [grades[i] for i in part] for name, grades in found.grades.items()},
        )


def published(blocks: int) -> Iterator[Graded]:
    """Read blocks of all published sets that are there."""
    readers = (
        ("QA-Eval", _evouna("NQ"), QUESTIONS),
        ("QA-Eval", _evouna("TQ"), QUESTIONS),
        ("OpenQA-eval", _open_qa(), QUESTIONS),
        ("DialSummEval", _summaries(), 100),
        ("wmt-mqm-human-evaluation", _talks(), 2 * QUESTIONS),
    )
    for folder, sets, size in readers:
        if (FOLDER / folder).is_dir():
            for found in sets:
                yield from blocks_of(found, blocks, size)


def _evouna(name: str) -> Iterator[Graded]:
    """Read answers of five systems that people called right or wrong (Wang et al., 2023)."""
    systems = ("fid", "gpt35", "chatgpt", "gpt4", "newbing")
    rows = [
        row
        for row in json.loads((FOLDER / "QA-Eval" / "EVOUNA" / f"{name}.json").read_text(encoding="utf-8"))
        if not row["improper"] and all(row[f"judge_{one}"] is not None for one in systems)
    ]
    yield Graded(
        f"evouna {name}",
        [row["question"] for row in rows],
        [tuple(one.strip() for one in row["golden_answer"].split("/") if one.strip()) for row in rows],
        {one: [row[f"answer_{one}"] or "" for row in rows] for one in systems},
        {one: [float(row[f"judge_{one}"]) for row in rows] for one in systems},
    )


def _open_qa() -> Iterator[Graded]:
    """Read answers of eleven systems to 301 questions (Kamalloo et al., 2023).

    People judged each different answer once. EMDR2 is left out, because 27 of its answers have no judgment.
    """
    folder = FOLDER / "OpenQA-eval" / "data"
    judged: dict[str, dict[str, float]] = defaultdict(dict)
    with (folder / "NQ301_human.tsv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            right = row["Acceptable?"].strip().lower() == "yes"
            judged[_letters(row["Question"])][_normalized(row["Model answer"])] = float(right)
    files = sorted((folder / "model_outputs").glob("NQ*.jsonl"))
    asked = _jsonl(folder / "model_outputs" / "NQ301_text-davinci-003_zeroshot.jsonl")
    answers: dict[str, list[str]] = {}
    grades: dict[str, list[float]] = {}
    for path in files:
        if "EMDR2" in path.stem:
            continue
        said = {_letters(row["question"]): row["prediction"] for row in _jsonl(path)}
        texts = [said[_letters(row["question"])] for row in asked]
        answers[path.stem] = [(text[0] if isinstance(text, list) else text) or "" for text in texts]
        grades[path.stem] = [
            _judgment(judged[_letters(row["question"])], row["answer"], text)
            for row, text in zip(asked, answers[path.stem], strict=True)
        ]
    references = [tuple(row["answer"]) for row in asked]
    yield Graded("open-qa NQ301", [row["question"] for row in asked], references, answers, grades)


def _judgment(judged: dict[str, float], references: list[str], text: str) -> float:
    said = _normalized(text)
    found = judged.get(said)
    return found if found is not None else 1.0 if said in map(_normalized, references) else float("nan")


def _summaries() -> Iterator[Graded]:
    """Read summaries of 100 dialogues by thirteen systems (Gao and Wan, 2022); A is the reference.

    The grade is the mean of consistency and relevance over three raters.
    """
    rows = _jsonl(FOLDER / "DialSummEval" / "annotation_campus" / "human_judgment.jsonl")
    by_place = {(row["model_id"], row["id"]): row for row in rows}
    ids = list(dict.fromkeys(row["id"] for row in rows))
    systems = sorted({row["model_id"] for row in rows} - {"A"})

    def grade(row: dict[str, Any]) -> float:
        return float(mean(mean((one["consistency"], one["relevance"])) for one in row["annotations"]) - 1) / 4

    yield Graded(
        "DialSummEval",
        [f"Summarize this conversation.\n\n{by_place['A', i]['dialogue'].replace('| ', chr(10))}" for i in ids],
        [(by_place["A", i]["summary"],) for i in ids],
        {one: [by_place[one, i]["summary"] for i in ids] for one in systems},
        {one: [grade(by_place[one, i]) for i in ids] for one in systems},
    )


class Rated(NamedTuple):
    """Texts with their sources and what people said of them."""

    name: str
    texts: list[str]
    sources: list[str]
    references: list[tuple[str, ...]]
    grades: dict[str, list[float]]
    """Dimension -> grade of each text."""
    clusters: list[int]
    """Source of each text, by number."""


def rated() -> Iterator[Rated]:
    """Read single texts that people rated: summaries of dialogues by four dimensions, and of news by their support."""
    if (FOLDER / "DialSummEval").is_dir():
        rows = _jsonl(FOLDER / "DialSummEval" / "annotation_campus" / "human_judgment.jsonl")
        told = {row["id"]: row["summary"] for row in rows if row["model_id"] == "A"}
        rows = [row for row in rows if row["model_id"] != "A"]
        ids = list(told)
        yield Rated(
            "DialSummEval",
            [row["summary"] for row in rows],
            [row["dialogue"].replace("| ", "\n") for row in rows],
            [(told[row["id"]],) for row in rows],
            {
                name: [mean(one[name] for one in row["annotations"]) for row in rows]
                for name in ("consistency", "relevance", "fluency", "coherence")
            },
            [ids.index(row["id"]) for row in rows],
        )
    for name in ("cnndm", "xsum") if (FOLDER / "qags").is_dir() else ():
        rows = _jsonl(FOLDER / "qags" / "data" / f"mturk_{name}.jsonl")
        yield Rated(
            f"QAGS {name}",
            [" ".join(one["sentence"] for one in row["summary_sentences"]) for row in rows],
            [row["article"] for row in rows],
            [()] * len(rows),
            {"consistency": [mean(map(_supported, row["summary_sentences"])) for row in rows]},
            list(range(len(rows))),
        )


def _supported(sentence: dict[str, Any]) -> float:
    """Return 1 if most of the three readers call a sentence supported, else 0."""
    return float(mean(one["response"] == "yes" for one in sentence["responses"]) > 0.5)


def _talks() -> Iterator[Graded]:
    """Read translations of TED talks from Chinese by thirteen systems (Freitag et al., 2021); 1 is free of errors."""
    folder = FOLDER / "wmt-mqm-human-evaluation" / "ted" / "zhen"
    texts: dict[tuple[str, str], str] = {}
    sources: dict[str, str] = {}
    with (folder / "mqm_ted_zhen.tsv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            texts[row["system"], row["seg_id"]] = re.sub(r"</?v>", "", row["target"])
            sources[row["seg_id"]] = row["source"]
    grades = {}
    for line in (folder / "mqm_ted_zhen.avg_seg_scores.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        system, score, segment = line.split()
        if score != "None":
            grades[system, segment] = 1 + max(-25.0, float(score)) / 25
    systems = sorted({system for system, _ in grades if not system.startswith("ref")})
    segments = [one for one in sources if ("ref", one) in texts and all((s, one) in grades for s in systems)]
    yield Graded(
        "TED zh-en",
        [sources[one] for one in segments],
        [(texts["ref", one],) for one in segments],
        {system: [texts[system, one] for one in segments] for system in systems},
        {system: [grades[system, one] for one in segments] for system in systems},
    )


def _jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _letters(text: str) -> str:
    return re.sub(r"\W", "", text.lower())


def _normalized(text: str) -> str:
    """Normalize an answer as SQuAD does: no case, accents, punctuation or articles."""
    plain = unicodedata.normalize("NFD", text).lower()
    plain = "".join(one for one in plain if one not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", plain).split())
