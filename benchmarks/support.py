"""The support agent on real articles: retrieval accuracy, abstention, and lexical grounding of its answers.

The questions are the symptoms in Microsoft's troubleshooting articles (CC BY 4.0). The articles are indexed without
that section, so a question can't match itself. Half of the articles with a question are left out of the index: their
questions have no answer in it, except in near-duplicates. Questions of bank customers (Banking77) are off topic.

1. Retrieval: recall of the correct article in the first passages; share answered at some thresholds, by kind, learned
   from the articles alone, and from half of the questions, tried on the other half.
2. Answers of a small model, with the agent and without: share of numbers and content words that occur in the correct
   article, and ROUGE-L against its resolution.

`python benchmarks/support.py` reads the folder that SIZEWISE_TEST_DATA names, ends stdout with one JSON line and writes
it to benchmarks/results/support.json.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import os
import platform
import random
import re
import subprocess
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from sizewise.metrics.base import AnswerItem
from sizewise.metrics.manner import LexicalGrounding
from sizewise.metrics.match import RougeL
from sizewise.models import open_model
from sizewise.models.fake import FakeModel
from sizewise.records import Document, Message, Request
from sizewise.retrieval import Finding, Library, cut
from sizewise.retrieval.answerability import Asked, learn_answerability
from sizewise.retrieval.packaged_encoders import open_encoder
from sizewise.service.agent import UNKNOWN, Agent, Desk, Support
from sizewise.service.cases import Cases
from sizewise.service.guarding import Guard, GuardRules
from sizewise.service.handovers import Handovers
from sizewise.service.model_runner import ModelRunner
from sizewise.stats import percentile_interval, wilson

HERE = Path(__file__).parent
_TEMPORARY = Path(tempfile.mkdtemp(prefix="support-"))
DESK = Desk(Handovers(_TEMPORARY / "handovers.sqlite"), Cases(_TEMPORARY / "cases.sqlite"), lambda _: None)
DATA = Path(os.environ.get("SIZEWISE_TEST_DATA", "/nonexistent"))
BANK = 250
THRESHOLDS = (0.3, 0.5, 0.55, 0.6, 0.7)


def rows(name: str) -> list[dict[str, str]]:
    """Read a JSONL file of the support data."""
    return [json.loads(line) for line in (DATA / "ms_office_support" / name).read_text(encoding="utf-8").splitlines()]


def share(values: list[bool], times: int = 1) -> dict[str, Any]:
    """Compute a share with its Wilson interval, of questions that were each asked so many times."""
    ci_low, ci_high = wilson(sum(values) / times, len(values) // times)
    return {"value": float(np.mean(values)), "ci_low": ci_low, "ci_high": ci_high, "n": len(values) // times}


def mean(values: list[float]) -> dict[str, Any]:
    """Compute a mean with its bootstrap interval."""
    draws = np.random.default_rng(0).integers(0, len(values), (2_000, len(values)))
    ci_low, ci_high = percentile_interval(np.array(values)[draws].mean(axis=1))
    return {"value": float(np.mean(values)), "ci_low": ci_low, "ci_high": ci_high, "n": len(values)}


async def answer_of(runner: ModelRunner, question: str) -> str:
    """Query a served model."""
    request = Request(id="q", messages=(Message(role="user", content=question),), max_tokens=200, fit=True)
    async for piece in runner.answer(request):
        if piece.end is not None:
            return piece.end.text
    return ""


def main() -> None:
    """Run both parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="pkg:smollm2-135m")
    parser.add_argument("--answers", type=int, default=30, help="0 leaves the model out and writes no file")
    parser.add_argument("--encoder", help="find by meaning, too, such as pkg:minilm")
    args = parser.parse_args()
    articles, pairs = rows("articles.jsonl"), rows("symptom_resolution_qa.jsonl")
    random.Random(0).shuffle(pairs)
    gone = {pair["path"] for pair in pairs[: len(pairs) // 2]}
    kept = [article for article in articles if article["path"] not in gone]
    documents = [
        Document(
            id=one["path"],
            title=one["title"],
            text=re.sub(r"(?ms)^#+ *Symptoms?.*?(?=^#|\Z)", "", one["text"]),
            origin="ms_office_support",
            sha256="0" * 64,
        )
        for one in kept
    ]
    begun = time.perf_counter()
    library = Library(cut(documents), encoder=open_encoder(args.encoder) if args.encoder else None)
    built = time.perf_counter() - begun
    answered = [pair for pair in pairs if pair["path"] not in gone]
    with (DATA / "banking77" / "test.csv").open(encoding="utf-8") as lines:
        bank = [row["text"] for row in csv.DictReader(lines)]
    random.Random(0).shuffle(bank)
    kinds = {
        "held": [pair["question"] for pair in answered],
        "left_out": [pair["question"] for pair in pairs if pair["path"] in gone],
        "elsewhere": bank[:BANK],
    }
    begun = time.process_time()
    looked = look_up(library, kinds)
    spent = 1_000 * (time.process_time() - begun) / sum(map(len, kinds.values()))
    found: dict[str, Any] = {"documents": len(documents), "passages": len(library), "built_s": built, "ms": spent}
    for first in (1, 2, 4):
        found[f"right_in_{first}"] = share(
            [
                any(hit.passage.document == pair["path"] for hit in finding.hits[:first])
                for pair, finding in zip(answered, looked["held"], strict=True)
            ]
        )
    found["answered"] = {
        str(sure): {kind: share([(one.probability or 0.0) >= sure for one in ones]) for kind, ones in looked.items()}
        for sure in THRESHOLDS
    }
    found["replies"] = {
        str(sure): {name: share(one) for name, one in outcomes(library, sure, looked, answered).items()}
        for sure in THRESHOLDS
    }
    found["replies_taught"] = replies_taught(library, kinds, answered)
    print(json.dumps(found, indent=1))
    if not args.answers:
        return
    texts = {document.id: document.text for document in documents}
    found["model"] = answer_quality(args.model, args.answers, library, answered, texts)
    print(json.dumps(found["model"], indent=1))
    save(args.model, args.answers, found)


def look_up(library: Library, kinds: dict[str, list[str]]) -> dict[str, list[Finding]]:
    """Search for all questions."""
    return {kind: [library.find(question) for question in questions] for kind, questions in kinds.items()}


def outcomes(
    library: Library, sure: float, looked: dict[str, list[Finding]], pairs: list[dict[str, str]]
) -> dict[str, list[bool]]:
    """Return what the agent does: it answers from the first passage, which is of the right article or of another one.

    Near-duplicates of the right article count as wrong.
    """
    base = ModelRunner("fake", FakeModel("silent"), Guard(GuardRules(), lambda *_: None))
    agent = Agent(base, Support(library, sure), DESK)
    answers = {
        kind: [agent._explanation("", one, [hit.passage for hit in one.hits]) is None for one in found]
        for kind, found in looked.items()
    }
    right = [
        bool(one.hits) and one.hits[0].passage.document == pair["path"]
        for one, pair in zip(looked["held"], pairs, strict=True)
    ]
    held = list(zip(answers["held"], right, strict=True))
    return {
        "answered_correctly": [told and is_right for told, is_right in held],
        "answered_wrongly": [told and not is_right for told, is_right in held],
        "answered_when_absent": answers["left_out"],
        "answered_elsewhere": answers["elsewhere"],
    }


def replies_taught(library: Library, kinds: dict[str, list[str]], pairs: list[dict[str, str]]) -> dict[str, Any]:
    """Count what the agent does about one half of the questions after the other half taught it when to answer.

    Questions without an answer are asked of the agents of both halves.
    """
    found: dict[str, dict[str, list[bool]]] = {str(sure): {} for sure in THRESHOLDS}
    for half in (0, 1):
        asked = [Asked(pair["question"], pair["path"]) for pair in pairs[half::2]]
        learned = learn_answerability(library._index, random.Random(0), asked)
        taught = Library.of_index(library._index, library._lines, learned)
        others = pairs[1 - half :: 2]
        looked = look_up(taught, kinds | {"held": [pair["question"] for pair in others]})
        for sure in THRESHOLDS:
            for name, one in outcomes(taught, sure, looked, others).items():
                found[str(sure)].setdefault(name, []).extend(one)
    times = {"answered_when_absent": 2, "answered_elsewhere": 2}
    return {sure: {name: share(one, times.get(name, 1)) for name, one in of.items()} for sure, of in found.items()}


def save(model: str, answers: int, found: dict[str, Any]) -> None:
    """Write the results and print them as one JSON line."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    agent, alone = (
        found["model"]["agent"]["lexical_grounding"]["value"],
        found["model"]["alone"]["lexical_grounding"]["value"],
    )
    result = {
        "name": "support",
        "ratio": agent / alone,
        "peer": f"{model} without the documents",
        "value": agent,
        "unit": "share of numbers and content words that occur in the correct article",
        "runs": answers,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "commit": commit.stdout.strip(),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "parts": found,
    }
    (HERE / "results" / "support.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


def answer_quality(
    uri: str, count: int, library: Library, pairs: list[dict[str, str]], texts: dict[str, str]
) -> dict[str, Any]:
    """Score answers of the agent and of the bare model; abstentions of the agent are counted separately."""
    guard = Guard(GuardRules(), lambda *_: None)
    alone = ModelRunner("alone", open_model(uri), guard)
    runners = {"agent": Agent(alone, Support(library), DESK), "alone": alone}
    told: dict[str, Any] = {}
    for name, runner in runners.items():
        lexical_grounding, overlap, unknown, seconds = [], [], 0, []
        for pair in pairs[:count]:
            begun = time.perf_counter()
            text = asyncio.run(answer_of(runner, pair["question"]))
            seconds.append(time.perf_counter() - begun)
            if text == UNKNOWN:
                unknown += 1
                continue
            body = re.sub(r"\s*\[\d+\]", "", text.partition("\n\nSources:")[0])
            right, words = LexicalGrounding().measure(_item(body, texts[pair["path"]], pair["answer"]))
            lexical_grounding.append(right / max(1.0, words))
            overlap.append(float(RougeL().value(np.array(RougeL().measure(_item(body, "", pair["answer"]))))))
        told[name] = {
            "lexical_grounding": mean(lexical_grounding),
            "rouge_l": mean(overlap),
            "unknown": unknown,
            "seconds": float(np.median(seconds)),
        }
    return told


def _item(completion: str, prompt: str, reference: str) -> AnswerItem:
    return AnswerItem(completion=completion, references=(reference,), prompt=prompt)


if __name__ == "__main__":
    main()
