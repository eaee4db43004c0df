"""Synthesize task examples: a model drafts questions and answers from passages, and people review a sample.

A draft is kept only if its passage supports the answer, by the same measure that checks the support agent's sentences.
What a model finds worth asking differs from what users ask, so a study on drafted examples carries a caution.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

from filelock import FileLock, Timeout

from sizewise import datasets
from sizewise.errors import SizewiseError, UsageError
from sizewise.metrics.proportion import proportion_score
from sizewise.models import open_model
from sizewise.progress import Reporter, Silent
from sizewise.records import SPLITS, Completion, Message, Request, Score, Synthesis, fingerprint
from sizewise.retrieval import Library, Passage, cut
from sizewise.store import Store, make_folder, read_jsonl, write_atomically
from sizewise.synthesis.wording import LABELED_LINES, MENTIONS_PASSAGE, is_question
from sizewise.text import count_words, detect_language, words_of
from sizewise.text.languages import NAMES

DRAFTED, APPROVED, CORRECTED = "drafted", "approved", "corrected"
_CORRECTED_TAGS = frozenset((CORRECTED, "mended"))  # "mended" is in files of earlier versions
MIN_SUPPORT = 0.6
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
Verdict = Literal["yes", "no", "stop"]


class _Pair(NamedTuple):
    question: str
    answer: str


def draft(
    paths: Sequence[Path | str],
    by: str,
    out: Path,
    *,
    count: int = 100,
    max_usd: float | None = None,
    seed: int = 0,
    store: Store | None = None,
    reporter: Reporter | None = None,
) -> Synthesis:
    """Draft questions and answers from passages of documents with a model.

    Args:
        paths: Files, folders or `demo:NAME`.
        by: URI of the model.
        out: JSONL file to write; approved drafts already in the file are kept.
        count: Number of passages, spread over the documents.
        max_usd: Spending limit for a remote model.
        seed: Seed for choosing passages.
        store: Where records are saved; SIZEWISE_HOME by default.
        reporter: Receives progress events.

    Raises:
        UsageError: The count isn't positive, or the file holds something other than drafts.
        SizewiseError: No passage is long enough, or the model fails.
    """
    if count < 1:
        raise UsageError(f"The number of passages is {count}.", "a positive number", "")
    store, reporter = store or Store(), reporter or Silent()
    with _locked(out):
        approved = [row for row in _rows(out) if APPROVED in row["tags"]] if out.exists() else []
        rejected = _rows(_rejected_file(out)) if _rejected_file(out).exists() else []
        data = datasets.read([str(path) for path in paths], store=store, seed=seed)
        contents = datasets.load(store, data.id)
        documents = [document for split in SPLITS for document in contents.documents[split]]
        passages = cut(documents)
        chosen = _choose(passages, count, seed)
        answers = _generate(chosen, by, max_usd, store, reporter)
        known = {_normalized(row["prompt"]) for row in (*approved, *rejected)}
        rows, refused = _supported(chosen, answers, Library(passages, learn=False), known, by)
        _write(out, [*approved, *rows])
    usd = [answer.usd for answer in answers.values() if answer.usd is not None]
    return Synthesis(
        by=by,
        documents=len(documents),
        asked=len(chosen),
        kept=len(rows),
        refused=dict(refused),
        approved=len(approved),
        usd=sum(usd) if usd else None,
        file=str(out.resolve()),
    )


def _choose(passages: Sequence[Passage], count: int, seed: int) -> list[Passage]:
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


def _generate(
    passages: Sequence[Passage], by: str, max_usd: float | None, store: Store, reporter: Reporter
) -> dict[int, Completion]:
    """Generate an answer for each passage: index of the passage -> answer."""
    model = open_model(by, store=store, max_usd=max_usd, say=reporter.say)
    try:
        schema = SCHEMA if "json_schema" in model.describe().offers else None
        requests = [_request(i, passage, schema) for i, passage in enumerate(passages)]
        answers: dict[int, Completion] = {}
        for answer in model.complete(requests):
            answers[int(answer.id)] = answer
            reporter.advance("drafting", len(answers), len(requests))
    finally:
        model.close()
    return answers


def _request(number: int, passage: Passage, schema: str | None) -> Request:
    language = detect_language(passage.text)
    named = f" Write both in {NAMES[language]}." if language in NAMES and language != "en" else ""
    prompt = PROMPT_TEMPLATE.format(title=passage.title, passage=passage.text, language=named)
    message = Message(role="user", content=prompt)
    return Request(id=str(number), messages=(message,), max_tokens=ANSWER_TOKENS, json_schema=schema, fit=True)


def _supported(
    passages: Sequence[Passage], answers: Mapping[int, Completion], library: Library, known: set[str], by: str
) -> tuple[list[Draft], Counter[str]]:
    """Keep the drafts that their passage supports; count the others by reason."""
    refused: Counter[str] = Counter()
    rows: list[Draft] = []
    for i, passage in enumerate(passages):
        pair = _checked(answers.get(i), passage, library, known)
        if isinstance(pair, str):
            refused[pair] += 1
            continue
        known.add(_normalized(pair.question))
        rows.append(
            {
                "id": f"draft-{fingerprint([pair.question, passage.document])}",
                "prompt": pair.question,
                "references": [pair.answer],
                "source": passage.document,
                "tags": [DRAFTED, f"by {by}"],
                "passage": passage.text,
            }
        )
    return rows, refused


def _checked(answer: Completion | None, passage: Passage, library: Library, known: set[str]) -> _Pair | str:
    """Parse a draft and check it; return the question and answer, or the reason why the draft is rejected."""
    if answer is None or answer.finish == "error":
        return "the model did not answer"
    if answer.finish == "length":
        return "truncated"
    pair = _parse(answer.text)
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
    if _normalized(pair.question) in known:
        return "duplicate question"
    if library.support(pair.answer, [passage])[1] < MIN_SUPPORT:
        return "the passage doesn't support the answer"
    return pair


def _parse(text: str) -> _Pair | None:
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


def _normalized(text: str) -> str:
    return " ".join(words_of(text))


# -- review ---------------------------------------------------------------------------------------------


class Changed(NamedTuple):
    """A reviewer's decision on a draft."""

    verdict: Verdict
    answer: str | None = None
    """A corrected answer."""


def approve(path: Path, ask: Callable[[Draft, int, int], Changed], limit: int | None = None) -> Score:
    """Review drafts one at a time in random order; each decision is saved immediately.

    Rejected drafts are moved to `FILE.rejected`, which is not read as examples.

    Args:
        path: A file written by `draft`.
        ask: Shows a draft and returns the decision; receives the row, the number reviewed and the number to review.
        limit: Maximum number of drafts to review.

    Returns:
        The share of reviewed drafts, in this and earlier sessions, that were approved without a correction.

    Raises:
        UsageError: The file holds something other than drafts.
    """
    with _locked(path):
        rows, rejected_file = _rows(path), _rejected_file(path)
        pending = [row for row in rows if APPROVED not in row["tags"]]
        random.Random(fingerprint([row["id"] for row in rows])).shuffle(pending)
        for number, row in enumerate(pending[:limit]):
            decision = ask(row, number, len(pending))
            if decision.verdict == "stop":
                break
            if decision.verdict == "no":
                rows.remove(row)
                _write(rejected_file, [*(_rows(rejected_file) if rejected_file.exists() else []), row])
            else:
                row["tags"] = [*row["tags"], APPROVED]
                if decision.answer:
                    row["references"], row["tags"] = [decision.answer], [*row["tags"], CORRECTED]
            _write(path, rows)
        rejected = len(_rows(rejected_file)) if rejected_file.exists() else 0
    return _approved_share(rows, rejected)


def _approved_share(rows: Sequence[Draft], rejected: int) -> Score:
    corrected = sum(not _CORRECTED_TAGS.isdisjoint(row["tags"]) for row in rows)
    approved = sum(APPROVED in row["tags"] and _CORRECTED_TAGS.isdisjoint(row["tags"]) for row in rows)
    return proportion_score(
        "approved", approved, approved + corrected + rejected, missing_reason="no draft has been reviewed"
    )


def drafted_note(tags: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield a caution if some test examples with these tags are drafts."""
    drafts = [of_example for of_example in tags if DRAFTED in of_example]
    if drafts:
        approved = sum(APPROVED in of_example for of_example in drafts)
        yield (
            f"caution: {len(drafts)} of {len(tags)} test examples were drafted by a model, {approved} of them approved "
            "by a person. They reflect what the model found worth asking, not what users ask."
        )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Lock a file of drafts against other processes.

    Raises:
        SizewiseError: Another process has locked it.
    """
    make_folder(path.resolve().parent)
    try:
        with FileLock(path.with_name(f".{path.name}.lock"), timeout=0):
            yield
    except Timeout as error:
        raise SizewiseError(
            f"Another process is writing or reviewing {path}.",
            "one process for each file",
            "run the same command again when it is done",
        ) from error


def _rejected_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.rejected")


def _rows(path: Path) -> list[Draft]:
    """Read a file of drafts.

    Raises:
        UsageError: The file holds something else.
    """
    try:
        rows = [row for _, row in read_jsonl(path)]
        if not all(DRAFTED in row["tags"] and row["prompt"] and row["references"] and row["id"] for row in rows):
            raise ValueError("it has rows that aren't drafts")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path} is not a file of drafts: {error}.",
            "a file written by `sizewise synthesize`",
            "sizewise synthesize FOLDER --by MODEL --out ANOTHER-FILE",
        ) from error
    return rows


def _write(path: Path, rows: Sequence[Draft]) -> None:
    write_atomically(path.resolve(), "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
