"""draft(): where there are no examples of the job, a model turns passages into some, and people approve a share.

A draft is kept only if its answer stands in the passage it was made of, by the same measure that the support agent's
sentences are looked up by. What a model thinks worth asking is not what people ask: a study that rests on drafts says
so.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
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
from sizewise.store import Store, make_folder, read_lines, write_atomically

DRAFTED, APPROVED, MENDED = "drafted", "approved", "mended"
SUPPORTED = 0.6
LEAST_PASSAGE, LEAST_QUESTION, MOST_QUESTION, MOST_ANSWER = 25, 4, 60, 150
ANSWER_TOKENS = 768  # of a question and an answer as long as MOST_QUESTION and MOST_ANSWER allow, in any language
ORDERS = (
    "Here is a passage of '{title}'.\n\n{passage}\n\nWrite one question that somebody who does not see the passage "
    "could ask and that it answers, and the answer, in the passage's own words. Reply with JSON only: "
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
_LINES = re.compile(r"question\W*(?P<question>[^\n]+\?)\W*answer\W*(?P<answer>.+)", re.IGNORECASE | re.DOTALL)
_POINTS = re.compile(
    r"\b(this|the|that|above|given|following) (passage|text|document|section|excerpt|article)\b", re.IGNORECASE
)
_PUNCTUATION = re.compile(r"\W+")


class _Draft(NamedTuple):
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
    """Let a model write questions and answers to passages of documents.

    Args:
        paths: files, folders or `demo:NAME`.
        by: URI of the model.
        out: JSONL file to write; drafts that people have approved in it are kept.
        count: passages to ask about, spread over the documents.
        max_usd: most that may be spent on a remote model.
        seed: seed of the passages.
        store: where records live; by default SIZEWISE_HOME.
        reporter: told how far it is.

    Raises:
        UsageError: the count is not positive, or the file holds something else.
        SizewiseError: there is no text, or the model can answer nothing.
    """
    if count < 1:
        raise UsageError(f"{count} passages give no examples.", "a positive number", "")
    with _alone(out):
        return _drafted(paths, by, out, count, max_usd, seed, store or Store(), reporter or Silent())


def _drafted(
    paths: Sequence[Path | str],
    by: str,
    out: Path,
    count: int,
    max_usd: float | None,
    seed: int,
    store: Store,
    reporter: Reporter,
) -> Synthesis:
    known = [row for row in _rows(out) if APPROVED in row["tags"]] if out.exists() else []
    turned_down = _rows(_rejected(out)) if _rejected(out).exists() else []
    data = datasets.read([str(path) for path in paths], store=store, seed=seed)
    contents = datasets.load(store, data.id)
    documents = [document for split in SPLITS for document in contents.documents[split]]
    passages = cut(documents)
    chosen = _spread([one for one in passages if len(one.text.split()) >= LEAST_PASSAGE], count, seed)
    if not chosen:
        raise SizewiseError(
            "No passage is long enough to ask about.", f"passages of {LEAST_PASSAGE} words", "sizewise read PATH"
        )
    model = open_model(by, store=store, max_usd=max_usd, say=reporter.say)
    try:
        told = model.describe()
        schema = SCHEMA if "json_schema" in told.offers else None
        requests = [_request(i, one, schema) for i, one in enumerate(chosen)]
        answers: dict[int, Completion] = {}
        for answer in model.complete(requests):
            answers[int(answer.id)] = answer
            reporter.advance("drafting", len(answers), len(requests))
    finally:
        model.close()
    refused: Counter[str] = Counter()
    library = Library(passages, learn=False)
    seen = {_normal(row["prompt"]) for row in (*known, *turned_down)}
    rows = []
    for i, passage in enumerate(chosen):
        reason, found = _checked(answers.get(i), passage, library, seen)
        if found is None:
            refused[reason] += 1
            continue
        seen.add(_normal(found.question))
        rows.append(
            {
                "id": f"draft-{fingerprint([found.question, passage.document])}",
                "prompt": found.question,
                "references": [found.answer],
                "source": passage.document,
                "tags": [DRAFTED, f"by {by}"],
                "passage": passage.text,
            }
        )
    _write(out, [*known, *rows])
    usd = [answer.usd for answer in answers.values() if answer.usd is not None]
    return Synthesis(
        by=by,
        documents=len(documents),
        asked=len(chosen),
        kept=len(rows),
        refused=dict(refused),
        approved=len(known),
        usd=sum(usd) if usd else None,
        file=str(out.resolve()),
    )


def _spread(passages: Sequence[Passage], count: int, seed: int) -> list[Passage]:
    """Choose passages so that no document has two before all have one."""
    drawn = random.Random(seed)
    by_document: dict[str, list[Passage]] = {}
    for one in passages:
        by_document.setdefault(one.document, []).append(one)
    for some in by_document.values():
        drawn.shuffle(some)
    order = sorted(by_document)
    drawn.shuffle(order)
    found: list[Passage] = []
    while len(found) < count and any(by_document.values()):
        found += [by_document[name].pop() for name in order if by_document[name]][: count - len(found)]
    return found


def _request(number: int, passage: Passage, schema: str | None) -> Request:
    asked = ORDERS.format(title=passage.title, passage=passage.text)
    message = Message(role="user", content=asked)
    return Request(id=str(number), messages=(message,), max_tokens=ANSWER_TOKENS, json_schema=schema, fit=True)


def _checked(
    answer: Completion | None, passage: Passage, library: Library, seen: set[str]
) -> tuple[str, _Draft | None]:
    """Read a draft and tell why it is not kept, if it is not."""
    if answer is None or answer.finish == "error":
        return "the model did not answer", None
    if answer.finish == "length":
        return "cut off", None
    found = _read(answer.text)
    if found is None:
        return "no question with an answer", None
    words = len(found.question.split())
    if not LEAST_QUESTION <= words <= MOST_QUESTION or not found.question.endswith("?"):
        return "no question", None
    if _POINTS.search(found.question):
        return "the question points at the passage, which nobody sees", None
    if not found.answer or len(found.answer.split()) > MOST_ANSWER:
        return "no answer, or a far too long one", None
    if _normal(found.question) in seen:
        return "asked before", None
    if library.support(found.answer, [passage])[1] < SUPPORTED:
        return "the answer does not stand in the passage", None
    return "", found


def _read(text: str) -> _Draft | None:
    """Find a question and its answer: JSON, or lines that are called so."""
    for begun in (place for place, letter in enumerate(text) if letter == "{"):
        try:
            row, _ = json.JSONDecoder().raw_decode(text, begun)
        except (ValueError, RecursionError):
            continue
        if isinstance(row.get("question"), str) and isinstance(row.get("answer"), str):
            return _Draft(row["question"].strip(), row["answer"].strip())
    if "{" in text:
        return None
    lines = _LINES.search(text)
    return _Draft(lines["question"].strip(), lines["answer"].strip().split("\n\n")[0]) if lines else None


def _normal(text: str) -> str:
    return _PUNCTUATION.sub(" ", text.lower()).strip()


# -- people's approval ----------------------------------------------------------------------------------

Verdict = Literal["yes", "no", "stop"]


class Changed(NamedTuple):
    """What a person says of a draft."""

    verdict: Verdict
    answer: str | None = None
    """A better answer, where one was given."""


def approve(path: Path, ask: Callable[[dict[str, Any], int, int], Changed], most: int | None = None) -> Score:
    """Show drafts to a person, one after the other in random order; each word of theirs is on disk at once.

    What is turned down leaves the file for `FILE.rejected`, which is not read as examples.

    Args:
        path: what `draft` wrote.
        ask: shows a row and gives what the person says; told how many were seen and how many there are.
        most: stop after so many.

    Returns:
        The share of the drafts looked at, in this and earlier sittings, that were approved as they were.

    Raises:
        UsageError: the file does not hold drafts.
    """
    with _alone(path):
        return _approved(path, ask, most)


def _approved(path: Path, ask: Callable[[dict[str, Any], int, int], Changed], most: int | None) -> Score:
    rows, rejected = _rows(path), _rejected(path)
    open_rows = [row for row in rows if APPROVED not in row["tags"]]
    random.Random(fingerprint([row["id"] for row in rows])).shuffle(open_rows)
    for number, row in enumerate(open_rows[:most]):
        said = ask(row, number, len(open_rows))
        if said.verdict == "stop":
            break
        if said.verdict == "no":
            rows.remove(row)
            _write(rejected, [*(_rows(rejected) if rejected.exists() else []), row])
        else:
            row["tags"] = [*row["tags"], APPROVED]
            if said.answer:
                row["references"], row["tags"] = [said.answer], [*row["tags"], MENDED]
        _write(path, rows)
    good = sum(APPROVED in row["tags"] and MENDED not in row["tags"] for row in rows)
    bad = sum(MENDED in row["tags"] for row in rows) + (len(_rows(rejected)) if rejected.exists() else 0)
    return proportion_score("approved", good, good + bad, missing_reason="no draft has been reviewed")


def drafted_note(tags: Sequence[Sequence[str]]) -> Iterator[str]:
    """Say of test examples with these tags that they are drafts, if some are."""
    drafts = [some for some in tags if DRAFTED in some]
    if drafts:
        seen = sum(APPROVED in some for some in drafts)
        yield (
            f"caution: {len(drafts)} of {len(tags)} test examples were drafted by a model, {seen} of them approved by "
            "a person: they show what that model thought worth asking"
        )


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep others from writing a file of drafts.

    Raises:
        SizewiseError: somebody else is at it.
    """
    make_folder(path.resolve().parent)
    try:
        with FileLock(path.with_name(f".{path.name}.lock"), timeout=0):
            yield
    except Timeout as error:
        raise SizewiseError(
            f"Somebody else is writing or looking at {path}.",
            "one at a time",
            "run the same command when they are done",
        ) from error


def _rejected(path: Path) -> Path:
    return path.with_name(f"{path.name}.rejected")


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        rows = [json.loads(line) for line in read_lines(path)]
        if not all(DRAFTED in row["tags"] and row["prompt"] and row["references"] and row["id"] for row in rows):
            raise ValueError("a row that is no draft")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path} does not hold drafts: {error}.",
            "a file that `sizewise synthesize` wrote",
            "sizewise synthesize FOLDER --by MODEL --out ANOTHER-FILE",
        ) from error
    return rows


def _write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    write_atomically(path.resolve(), "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
