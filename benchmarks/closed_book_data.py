"""Data of the closed-book benchmark: sections of MedQuAD's articles with the question on each; NINDS's are asked about.

The 200 shortest sections on treatment and outlook (of at least 12 words) are studied and asked about, and ten sections
of other articles are studied and only validated on. Short sections of further articles, of all collections and on any
question, teach models to use passages. Short sections make facts that two processor cores can repeat often enough to
be learned.
"""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sizewise import datasets
from sizewise.metrics.content import content_of
from sizewise.models.given_passages import before_question, not_given, passage_text
from sizewise.records import Document
from sizewise.retrieval import Library, Passage, cut
from sizewise.store import Store

SECTIONS = {"treatment": "Treatment", "outlook": "Outlook"}
MIN_WORDS, MAX_OTHER_WORDS = 12, 60
TESTED, VALIDATED = 200, 10
OTHERS_VALIDATED, OTHERS_TESTED = 12, 6
FORMATS = ("question", "cloze", "faq", "field", "table", "unanswerable")
GIVEN = ("right", "mixed", "absent")
"""What stands before a question: the right passage; that and two others; three of other articles."""
KEY_FACTS, COMMON = 6, 0.1
"""Rarest words of a reference that count as its facts, and the share of references from which a word is common."""

Row = dict[str, Any]


def sections(folder: Path, asked_about: bool = True) -> list[Row]:
    """Read the sections that may be asked about, or those of all collections; the shortest first."""
    lines = (folder / "medquad" / "medquad_qa.jsonl").read_text(encoding="utf-8").splitlines()
    chosen: dict[tuple[str, str], Row] = {}
    for row in map(json.loads, lines):
        if not asked_about or (row["collection"].startswith("6_") and row["qtype"] in SECTIONS):
            chosen.setdefault((row["focus"], row["qtype"]), row)
    rows = [row for row in chosen.values() if len(row["answer"].split()) >= MIN_WORDS]
    return sorted(rows, key=lambda row: (len(row["answer"].split()), row["focus"], row["qtype"]))


def parts(folder: Path) -> dict[str, list[Row]]:
    """Return the sections that are tested, validated on, and of other articles; no two parts share an article."""
    order = sections(folder)
    tested = order[:TESTED]
    taken = {row["focus"] for row in tested}
    validated = [row for row in order if row["focus"] not in taken][:VALIDATED]
    taken |= {row["focus"] for row in validated}
    others = [
        row
        for row in sections(folder, asked_about=False)
        if row["focus"] not in taken and len(row["answer"].split()) <= MAX_OTHER_WORDS
    ]
    random.Random(0).shuffle(others)
    return {"tested": tested, "validated": validated, "others": others}


def file_of(focus: str) -> str:
    """Return the name of an article's file."""
    return re.sub(r"\W+", "-", focus.lower()).strip("-") + ".md"


def heading_of(kind: str) -> str:
    """Return the heading of a section."""
    return SECTIONS.get(kind, kind.capitalize())


def question_of(row: Row) -> str:
    """Return a question as it is asked."""
    return str(row["question"]).replace("(are) ", "").replace(" ?", "?").strip()


def write_articles(rows: Sequence[Row], folder: Path) -> None:
    """Write the articles as Markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    for focus in {row["focus"] for row in rows}:
        of_article = [(row["qtype"], row["answer"]) for row in rows if row["focus"] == focus]
        of_article.sort(key=lambda one: (one[0] != "treatment", one[0]))
        text = "\n\n".join(f"## {heading_of(kind)}\n\n{answer}" for kind, answer in of_article)
        (folder / file_of(focus)).write_text(f"# {focus}\n\n{text}\n", encoding="utf-8")


def questions(rows: Sequence[Row], split: str) -> list[Row]:
    """Return the questions with their answers, in the split that they are for."""
    return [
        {
            "id": f"{file_of(row['focus'])}:{row['qtype']}",
            "prompt": question_of(row),
            "references": [row["answer"]],
            "source": file_of(row["focus"]),
            "tags": [row["qtype"]],
            "split": split,
        }
        for row in rows
    ]


def write_rows(rows: Iterable[Row], path: Path) -> Path:
    """Write rows as JSONL."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def synthesize(folder: Path) -> Path:
    """Synthesize examples from the articles of a folder without a writer."""
    out = folder / "synthetic.jsonl"
    if not out.is_file():
        formats = [part for name in FORMATS for part in ("--format", name)]
        command = [sys.executable, "-m", "sizewise", "synthesize", str(folder / "docs"), "--by", "extractive", *formats]
        subprocess.run([*command, "--count", "5000", "--train-only", "--out", str(out)], check=True)
    return out


def without_passages(path: Path) -> Path:
    """Leave out examples whose prompt has passages: they teach to use them, not to answer without."""
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return write_rows((row for row in rows if "unanswerable" not in row["tags"]), path.with_name("closed.jsonl"))


def sections_of(folder: Path) -> list[Passage]:
    """Return the sections of the articles, one passage each."""
    documents = [
        Document(id=path.name, title="", text=path.read_text(encoding="utf-8"), origin="medquad", sha256="0" * 64)
        for path in sorted(folder.glob("*.md"))
    ]
    return cut(documents, 400)


def given_rows(asked: Sequence[Row], known: Sequence[Passage], kind: str) -> list[Row]:
    """Put passages before questions; with passages of other articles only, the answer is that none holds it."""
    library = Library(list(known), learn=False)
    rng = random.Random(kind)
    rows = []
    for row in asked:
        heading = heading_of(row["tags"][0])
        (right,) = (one for one in known if (one.document, one.heading) == (row["source"], heading))
        hits = [hit.passage for hit in library.find(row["prompt"], 40).hits]
        others = [one for one in hits if one.document != row["source"]]
        passages = {"right": [right], "mixed": [right, *others[:2]], "absent": others[:3]}[kind]
        rng.shuffle(passages)
        prompt = before_question([passage_text(one) for one in passages], row["prompt"])
        references = [not_given(row["prompt"])] if kind == "absent" else row["references"]
        rows.append(row | {"prompt": prompt, "references": references, "split": "test"})
    return rows


def prepare(data: Path, work: Path, store: Store) -> dict[str, str]:
    """Write all files and read them into datasets; return name -> dataset id."""
    chosen = parts(data)
    studied_folder, other_folder = work / "studied", work / "others"
    write_articles([*chosen["tested"], *chosen["validated"]], studied_folder / "docs")
    write_articles(chosen["others"], other_folder / "docs")
    asked = questions(chosen["tested"], "test")
    human = write_rows([*asked, *questions(chosen["validated"], "validation")], studied_folder / "questions.jsonl")
    parted = OTHERS_VALIDATED, OTHERS_VALIDATED + OTHERS_TESTED
    others = [
        *questions(chosen["others"][: parted[0]], "validation"),
        *questions(chosen["others"][parted[0] : parted[1]], "test"),
        *questions(chosen["others"][parted[1] :], "train"),
    ]
    other_human = write_rows(others, other_folder / "questions.jsonl")
    sources = {
        "documents": [studied_folder / "docs", human],
        "mix": [studied_folder / "docs", human, without_passages(synthesize(studied_folder))],
        "given": [studied_folder / "docs", human, synthesize(studied_folder)],
        "others": [other_folder / "docs", other_human, synthesize(other_folder)],
    }
    found = {
        name: datasets.read(paths, store=store, name=name, split="questions").id for name, paths in sources.items()
    }
    passages = sections_of(studied_folder / "docs")
    for kind in GIVEN:
        path = write_rows(given_rows(asked, passages, kind), work / f"{kind}.jsonl")
        found[kind] = datasets.read([path], store=store, name=kind, all_test=True).id
    return found


def key_facts(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Return the rarest content words of each reference that its question doesn't have, by the question's id."""
    contents = {row["id"]: set(content_of(row["references"][0])) for row in rows}
    frequency = Counter(word for words in contents.values() for word in words)
    found = {}
    for row in rows:
        asked = set(content_of(row["prompt"]))
        words = [word for word in contents[row["id"]] - asked if frequency[word] <= COMMON * len(rows)]
        words = words or sorted(contents[row["id"]] - asked)
        found[row["id"]] = sorted(words, key=lambda word: (frequency[word], -len(word), word))[:KEY_FACTS]
    return found
