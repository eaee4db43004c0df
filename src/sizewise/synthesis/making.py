"""Make examples from passages, with a writer or without one, and check them."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from sizewise.datasets.similarity import Signatures, document_shingles
from sizewise.errors import SizewiseError
from sizewise.metrics.content import content_match
from sizewise.models.given_passages import PASSAGE_COUNTS, before_question, not_given, passage_text
from sizewise.models.retrieving import has_signals
from sizewise.records import DRAFTED, Completion, Message, Request, Score, fingerprint
from sizewise.retrieval import Library, Passage
from sizewise.synthesis.extractive import Item, items_of
from sizewise.synthesis.formats import (
    FOCAL,
    QUESTION,
    REWRITES,
    TEXT_PROMPT,
    TEXT_SCHEMA,
    UNANSWERABLE,
    UNANSWERABLE_PROMPT,
    UNANSWERABLE_SCHEMA,
    language_request,
    problem_of,
    read_text,
    topic_of,
)
from sizewise.synthesis.wording import LABELED_LINES, MENTIONS_PASSAGE, is_question
from sizewise.synthesis.writer import MARK, Writer
from sizewise.text import count_words, detect_language, words_of
from sizewise.text.languages import NAMES
from sizewise.text.ngrams import hash_words

DUPLICATE, CONFLICT = "duplicate question", "documents answer the same question differently"
INJECTION = "the passage has signs of prompt injection"
FORMAT_TAG = 2
"""Position of the format among the tags."""
MIN_SUPPORT, MAX_ANSWERED, NEAR_DUPLICATE, MIN_ALIKE = 0.6, 0.8, 0.6, 0.8
SEARCHED = 12
"""Best passages among which those are that a question gets besides the one it was written about."""
MIN_PASSAGE_WORDS, MAX_ANSWER_WORDS = 25, 150
MIN_QUESTION_WORDS, MAX_QUESTION_WORDS = 4, 60
ANSWER_TOKENS = 768  # enough for the longest question and answer in any language
PROMPT_TEMPLATE = (
    "Here is a passage of '{title}'.\n\n{passage}\n\nWrite one question that somebody who does not see the passage "
    "could ask and that it answers, and the answer, in the passage's own words.{language} Reply with JSON only: "
    '{{"question": "...", "answer": "..."}}'
)
SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {"question": {"type": "string"}, "answer": {"type": "string"}},
        "required": ["question", "answer"],
        "additionalProperties": False,
    }
)
Draft = dict[str, Any]


class _Pair(NamedTuple):
    question: str
    answer: str


@dataclass(frozen=True)
class Options:
    """What is synthesized, and by which rules."""

    count: int = 100
    """Number of passages, spread over the documents; without a writer, number of examples."""
    formats: tuple[str, ...] = (QUESTION,)
    """What is written from each passage."""
    max_usd: float | None = None
    """Spending limit for a remote model."""
    seed: int = 0
    """Seed for choosing passages."""
    sample: Path | None = None
    """File of approved drafts that the writer is checked on; by default those in the file that is written."""
    accept_writer: bool = False
    """Go on with a writer that fails its check."""
    train_only: bool = False
    """Mark the examples for the training split, as a study with `split = "questions"` needs them."""


def choose_passages(passages: Sequence[Passage], count: int, seed: int) -> list[Passage]:
    """Choose passages evenly: no document gets a second one before every document has one.

    Raises:
        SizewiseError: No passage is long enough.
    """
    rng = random.Random(seed)
    by_document: dict[str, list[Passage]] = {}
    for passage in passages:
        if count_words(passage.text) >= MIN_PASSAGE_WORDS:
            by_document.setdefault(passage.document, []).append(passage)
    if not by_document:
        raise SizewiseError(
            "All passages are too short to draft questions from.",
            f"passages of at least {MIN_PASSAGE_WORDS} words",
            "sizewise read PATH",
        )
    for of_document in by_document.values():
        rng.shuffle(of_document)
    order = sorted(by_document)
    rng.shuffle(order)
    chosen: list[Passage] = []
    while len(chosen) < count and any(by_document.values()):
        chosen += [by_document[name].pop() for name in order if by_document[name]][: count - len(chosen)]
    return chosen


class Made:
    """Examples made so far, and why others were not kept.

    Args:
        by: URI of the model.
        library: all passages.
        known: keys of prompts that are there already, see `prompt_key`.
        split: split that the examples name.
    """

    def __init__(self, by: str, library: Library, known: set[str], split: str) -> None:
        self.by, self.library, self._known, self._split = by, library, known, split
        self.rows: list[Draft] = []
        self._by_key: dict[str, Draft] = {}
        self.refused: Counter[str] = Counter()
        self.asked = 0
        self.usd: float | None = None
        self.writer: Score | None = None

    def add(self, item: Item) -> None:
        """Keep an example, unless its prompt is there already.

        Where two documents answer a question differently, as versions of one do, neither answer is kept.
        """
        key = prompt_key(item.format, item.prompt)
        if key in self._known:
            earlier = self._by_key.get(key)
            if earlier is None or not _differs(item, earlier):
                self.refused[DUPLICATE] += 1
                return
            self.refused[CONFLICT] += 1
            if earlier in self.rows:
                self.rows.remove(earlier)
                self.refused[CONFLICT] += 1
            return
        self._known.add(key)
        of_format = [FOCAL] if item.format == FOCAL else []  # its prompt is that of a question
        marks = [f"{MARK}{self.writer.value:.0%} of {self.writer.n}"] if self.writer else []
        row: Draft = {
            "id": f"draft-{fingerprint([item.prompt, item.passage.document, *of_format])}",
            "prompt": item.prompt,
            "references": [item.answer],
            "source": item.passage.document,
            "tags": [DRAFTED, f"by {self.by}", item.format, *marks],
            "passage": item.passage.text,
        }
        self._by_key[key] = row | ({"split": self._split} if self._split else {})
        self.rows.append(self._by_key[key])

    def take(self, items: Sequence[Item]) -> None:
        """Keep examples that were taken from the documents as they are."""
        self.asked = len({item.passage for item in items})
        for item in items:
            if has_signals(passage_text(item.passage)):
                self.refused[INJECTION] += 1
            else:
                self.add(item)

    def write(self, passages: Sequence[Passage], formats: Sequence[str], writer: Writer) -> None:
        """Ask the model to write about passages; questions first, because a rewrite may answer one."""
        usable = [passage for passage in passages if not has_signals(passage_text(passage))]
        if len(usable) < len(passages):
            self.refused[INJECTION] += len(passages) - len(usable)
        self.asked, passages = len(passages), usable
        questions: dict[int, str] = {}
        before = set(self._known)
        if QUESTION in formats or FOCAL in formats:
            schema = SCHEMA if writer.takes_schemas else None
            answers = writer.ask([_request(i, passage, schema) for i, passage in enumerate(passages)], "drafting")
            for i, passage in enumerate(passages):
                pair = checked_draft(answers.get(str(i)), passage, self.library, before)
                if isinstance(pair, str):
                    self.refused[pair] += 1
                    continue
                questions[i] = pair.question
                if QUESTION in formats:
                    self.add(Item(QUESTION, pair.question, pair.answer, passage))
        requests = {
            f"{name}-{i}": (name, passage, questions.get(i, ""))
            for name in formats
            for i, passage in enumerate(passages)
            if name != QUESTION and (name != FOCAL or i in questions)
        }
        asked = [
            _rewrite_request(key, name, passage, question, writer.takes_schemas)
            for key, (name, passage, question) in requests.items()
        ]
        answers = writer.ask(asked, "rewriting") if asked else {}
        self.usd = writer.usd
        for key, (name, passage, question) in requests.items():
            item = _rewritten(answers.get(key), name, passage, question, self.library)
            if isinstance(item, str):
                self.refused[item] += 1
            else:
                self.add(item)


def extracted(passages: Sequence[Passage], library: Library, formats: Sequence[str], options: Options) -> list[Item]:
    """Take items from the documents in turn: no document and no format gets more while another has some left."""
    by_document: dict[str, list[Passage]] = {}
    for passage in passages:
        by_document.setdefault(passage.document, []).append(passage)
    order = sorted(by_document)
    random.Random(options.seed).shuffle(order)
    queues: dict[str, list[list[Item]]] = {name: [] for name in formats}
    for document in order:
        items = list(items_of(by_document[document], library, formats))
        for name in formats:
            queues[name].append([item for item in items if item.format == name])
    chosen: list[Item] = []
    while len(chosen) < options.count and any(of for queue in queues.values() for of in queue):
        for queue in queues.values():
            document_items = next((of for of in queue if of), None)
            if document_items is None or len(chosen) == options.count:
                continue
            chosen.append(document_items.pop(0))
            queue.append(queue.pop(queue.index(document_items)))  # the next time another document is first
    return chosen


def _request(number: int, passage: Passage, schema: str | None) -> Request:
    language = detect_language(passage.text)
    named = f" Write both in {NAMES[language]}." if language in NAMES and language != "en" else ""
    prompt = PROMPT_TEMPLATE.format(title=passage.title, passage=passage.text, language=named)
    message = Message(role="user", content=prompt)
    return Request(id=str(number), messages=(message,), max_tokens=ANSWER_TOKENS, json_schema=schema, fit=True)


def _rewrite_request(key: str, name: str, passage: Passage, question: str, takes_schemas: bool) -> Request:
    fields = {"title": passage.title, "passage": passage.text, "language": language_request(passage)}
    if name == UNANSWERABLE:
        prompt, schema = UNANSWERABLE_PROMPT.format(**fields), UNANSWERABLE_SCHEMA
    else:
        instruction = REWRITES[name].instruction.format(question=question)
        prompt, schema = TEXT_PROMPT.format(instruction=instruction, **fields), TEXT_SCHEMA
    message = Message(role="user", content=prompt)
    limits = {"max_tokens": ANSWER_TOKENS, "json_schema": schema if takes_schemas else None}
    return Request(id=key, messages=(message,), fit=True, **limits)


def _rewritten(answer: Completion | None, name: str, passage: Passage, question: str, library: Library) -> Item | str:
    """Read and check a rewrite; return the item, or the reason why it is rejected."""
    if answer is None or answer.finish == "error":
        return "the model did not answer"
    if answer.finish == "length":
        return "truncated"
    if name == UNANSWERABLE:
        asked = read_text(answer.text, ("question",))
        if asked is None or not is_question(asked) or MENTIONS_PASSAGE.search(asked):
            return "no question without an answer"
        if library.overlap(asked, passage.full_text) > MAX_ANSWERED:
            return "the passage may answer the question"
        return Item(name, before_question(_unanswering(asked, passage, library), asked), not_given(asked), passage)
    text = read_text(answer.text)
    if text is None:
        return "no text"
    if problem := problem_of(text, passage):
        return problem
    prompt = question if name == FOCAL else f"{REWRITES[name].label}: {topic_of(passage)}"
    return Item(name, prompt, text, passage)


def _unanswering(question: str, passage: Passage, library: Library) -> list[str]:
    """Return a passage that doesn't answer a question, among as many others as examples with answers have."""
    rng = random.Random(question)
    others = [
        hit.passage
        for hit in library.find(question, SEARCHED).hits
        if hit.passage != passage
        and library.overlap(question, hit.passage.full_text) <= MAX_ANSWERED
        and not has_signals(passage_text(hit.passage))
    ]
    chosen = [passage, *others[: rng.choice(PASSAGE_COUNTS) - 1]]
    rng.shuffle(chosen)
    return [passage_text(one) for one in chosen]


def without_near_duplicates(rows: list[Draft], refused: Counter[str]) -> list[Draft]:
    """Drop examples whose prompt and answer resemble those of an earlier one about the same document.

    What resembles an example about another document may be another fact in the same words.
    """
    with TemporaryDirectory() as folder:
        signatures = Signatures(Path(folder) / "signatures")
        for row in rows:
            shingles = document_shingles(hash_words(f"{row['prompt']}\n{row['references'][0]}"))
            signatures.add(np.unique(shingles ^ hash_words(f"document {row['source']}").hashes.sum(dtype=np.uint64)))
        first = signatures.clusters(NEAR_DUPLICATE)
    kept = [row for i, row in enumerate(rows) if first[i] == i]
    if len(kept) < len(rows):
        refused["near-duplicate of another example"] += len(rows) - len(kept)
    return kept


def checked_draft(answer: Completion | None, passage: Passage, library: Library, known: set[str]) -> _Pair | str:
    """Parse a draft and check it; return the question and answer, or the reason why the draft is rejected."""
    if answer is None or answer.finish == "error":
        return "the model did not answer"
    if answer.finish == "length":
        return "truncated"
    pair = parse_draft(answer.text)
    if pair is None:
        return "no question with an answer"
    if not MIN_QUESTION_WORDS <= count_words(pair.question) <= MAX_QUESTION_WORDS:
        return "the question is too short or too long"
    if not is_question(pair.question):
        return "not a question"
    if MENTIONS_PASSAGE.search(pair.question):
        return "the question mentions the passage, which users don't see"
    languages = {detect_language(pair.question), detect_language(passage.text)} - {""}
    if len(languages) > 1:
        return "the question is not in the language of the passage"
    if not pair.answer or count_words(pair.answer) > MAX_ANSWER_WORDS:
        return "the answer is empty or too long"
    if prompt_key(QUESTION, pair.question) in known:
        return DUPLICATE
    if library.support(pair.answer, [passage])[1] < MIN_SUPPORT:
        return "the passage doesn't support the answer"
    return pair


def parse_draft(text: str) -> _Pair | None:
    """Parse a question and its answer from JSON or from labeled lines."""
    for start in (i for i, letter in enumerate(text) if letter == "{"):
        try:
            row, _ = json.JSONDecoder().raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        if isinstance(row.get("question"), str) and isinstance(row.get("answer"), str):
            return _Pair(row["question"].strip(), row["answer"].strip())
    if "{" in text:
        return None
    lines = LABELED_LINES.search(text)
    return _Pair(lines["question"].strip(), lines["answer"].strip().split("\n\n")[0]) if lines else None


def prompt_key(name: str, prompt: str) -> str:
    """Return what counts as the same prompt in a format: a paragraph around a question has the question's prompt."""
    return normalized(prompt if name != FOCAL else f"{FOCAL} {prompt}")


def _differs(item: Item, earlier: Draft) -> bool:
    """Check whether an example of another document has another answer, in its numbers or in most of its words."""
    other = earlier["references"][0]
    alike = max(content_match(item.answer, other), content_match(other, item.answer))
    return item.passage.document != earlier["source"] and alike < MIN_ALIKE


def normalized(text: str) -> str:
    """Return the words of a text, by which questions count as the same."""
    return " ".join(words_of(text))
