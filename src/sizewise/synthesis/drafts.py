"""Synthesize task examples: a model drafts questions and answers from passages, and people review a sample.

A draft is kept only if its passage supports the answer, by the same measure that checks the support agent's sentences.
What a model finds worth asking differs from what users ask, so a study on drafted examples carries a caution.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

from filelock import FileLock, Timeout

from sizewise import datasets
from sizewise.errors import SizewiseError, UsageError
from sizewise.metrics.proportion import proportion_score
from sizewise.progress import Reporter, Silent
from sizewise.records import DRAFTED, SPLITS, Document, Score, Synthesis, fingerprint
from sizewise.retrieval import Library, cut
from sizewise.store import Store, make_folder, read_jsonl, write_atomically
from sizewise.synthesis import extractive
from sizewise.synthesis.extractive import EXTRACTIVE
from sizewise.synthesis.formats import FORMATS, QUESTION, check_formats
from sizewise.synthesis.making import (
    FORMAT_TAG,
    Draft,
    Made,
    Options,
    choose_passages,
    extracted,
    prompt_key,
    without_near_duplicates,
)
from sizewise.synthesis.writer import MARK, MIN_ACCURACY, MIN_SAMPLE, check_writer, writing

APPROVED, CORRECTED = "approved", "corrected"
_CORRECTED_TAGS = frozenset((CORRECTED, "mended"))  # "mended" is in files of earlier versions
Verdict = Literal["yes", "no", "stop"]


def draft(
    paths: Sequence[Path | str],
    by: str,
    out: Path,
    options: Options | None = None,
    *,
    store: Store | None = None,
    reporter: Reporter | None = None,
) -> Synthesis:
    """Synthesize examples from passages of documents with a model, or without one.

    Args:
        paths: Files, folders or `demo:NAME`.
        by: URI of the model; `extractive` takes questions and answers from the documents as they are.
        out: JSONL file to write; approved drafts in it are kept, and those of other writers and in other formats.
        options: What is synthesized.
        store: Where records are saved; SIZEWISE_HOME by default.
        reporter: Receives progress events.

    Raises:
        UsageError: The count isn't positive, a format is unknown, or the file holds something other than drafts.
        SizewiseError: No passage is long enough, the model fails, or it fails its check.
    """
    options, store, reporter = options or Options(), store or Store(), reporter or Silent()
    if options.count < 1:
        raise UsageError(f"The number of passages is {options.count}.", "a positive number", "")
    formats = check_formats(options.formats, extractive.FORMATS if by == EXTRACTIVE else FORMATS)
    with _locked(out):
        found = _rows(out) if out.exists() else []
        approved = [row for row in found if APPROVED in row["tags"]]
        others = [row for row in found if APPROVED not in row["tags"] and not _is_made_again(row, by, formats)]
        _tell_kept(len(found) - len(approved) - len(others), len(others), out, reporter)
        rejected = _rows(_rejected_file(out)) if _rejected_file(out).exists() else []
        sample = approved if options.sample is None else [r for r in _rows(options.sample) if APPROVED in r["tags"]]
        sample = [row for row in sample if row.get("passage") and _format_of(row) == QUESTION]
        documents = _read_documents(paths, options.seed, store)
        passages = cut(documents)
        known = {prompt_key(_format_of(row), row["prompt"]) for row in (*approved, *others, *rejected)}
        made = Made(by, Library(passages, learn=False), known, "train" if options.train_only else "")
        if by == EXTRACTIVE:
            made.take(extracted(passages, made.library, formats, options))
        else:
            chosen = choose_passages(passages, options.count, options.seed)
            with writing(by, out.with_name(f".{out.name}.answers"), options.max_usd, store, reporter) as writer:
                if options.sample is not None or len(sample) >= MIN_SAMPLE:
                    made.writer = check_writer(writer, sample, options.accept_writer)
                made.write(chosen, formats, writer)
        rows = without_near_duplicates(made.rows, made.refused)
        _write(out, [*approved, *others, *rows])
    return _record(made, rows, len(documents), len(approved), out)


def _read_documents(paths: Sequence[Path | str], seed: int, store: Store) -> list[Document]:
    sources = [str(path) for path in paths]
    try:
        data = datasets.read(sources, store=store, seed=seed)
    except SizewiseError:  # perhaps too few documents to hold any out, which synthesis doesn't need
        data = datasets.read(sources, store=store, seed=seed, all_test=True)
    contents = datasets.load(store, data.id)
    return [document for split in SPLITS for document in contents.documents[split]]


def _format_of(row: Draft) -> str:
    """Return the format of a draft; files of earlier versions have questions only and don't name it."""
    return next((tag for tag in row["tags"][FORMAT_TAG:] if tag in (*FORMATS, *extractive.FORMATS)), QUESTION)


def _is_made_again(row: Draft, by: str, formats: Sequence[str]) -> bool:
    return f"by {by}" in row["tags"] and _format_of(row) in formats


def _tell_kept(replaced: int, others: int, out: Path, reporter: Reporter) -> None:
    if replaced:
        reporter.say(f"{replaced:,} drafts in {out} that were not approved are made again")
    if others:
        reporter.say(f"{others:,} drafts of other writers or formats stay in {out}")


def _record(made: Made, rows: Sequence[Draft], documents: int, approved: int, out: Path) -> Synthesis:
    return Synthesis(
        by=made.by,
        documents=documents,
        asked=made.asked,
        kept=len(rows),
        refused=dict(made.refused),
        approved=approved,
        usd=made.usd,
        formats=dict(Counter(row["tags"][FORMAT_TAG] for row in rows)),
        writer=made.writer,
        file=str(out.resolve()),
    )


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


def drafted_note(tags: Sequence[Sequence[str]], trained: Sequence[Sequence[str]] = ()) -> Iterator[str]:
    """Yield cautions if some examples are drafts.

    Args:
        tags: Tags of each test example.
        trained: Tags of each training example.
    """
    drafts = [of_example for of_example in tags if DRAFTED in of_example]
    if drafts:
        approved = sum(APPROVED in of_example for of_example in drafts)
        yield (
            f"caution: {len(drafts)} of {len(tags)} test examples were drafted by a model, {approved} of them approved "
            "by a person. They reflect what the model found worth asking, not what users ask."
        )
    marks = Counter(mark for of_example in (*tags, *trained) for mark in of_example if mark.startswith(MARK))
    for mark, count in marks.items():
        share = re.search(r"(\d+)%", mark)
        if share and int(share[1]) < 100 * MIN_ACCURACY:
            yield (
                f"caution: {count} examples were written by a model that failed its check ({mark}), so what was "
                "learned from them may be wrong."
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
