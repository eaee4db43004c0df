"""Ask the writer: every answer is kept on disk when it arrives, and a check shows whether the writer can be trusted."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sizewise.errors import SizewiseError, UsageError
from sizewise.metrics.content import content_match
from sizewise.metrics.proportion import proportion_score
from sizewise.models.base import Model
from sizewise.models.on_ray import open_spread as open_model
from sizewise.progress import Reporter
from sizewise.records import Completion, Message, Request, Score, fingerprint
from sizewise.store import Store, make_folder, open_private, read_lines

MIN_ACCURACY, MIN_SAMPLE = 0.8, 50
"""Share of an approved sample that a writer must answer, and the least size of the sample."""
MARK = "writer correct "
"""Beginning of the tag with the share that the writer answered correctly."""
MIN_MATCH = 0.5
"""Share of a reference answer's content from which an answer counts as correct."""
CHECK_TOKENS, KEY_DIGITS = 200, 32
CHECK_PROMPT = (
    "Here is a passage of '{title}'.\n\n{passage}\n\nAnswer from the passage, in its own words and in one or two "
    "sentences: {question}"
)


class Writer:
    """The model that writes, and its answers so far.

    Args:
        by: URI of the model.
        answers: file of the answers; those of an earlier, stopped session are used again.
        max_usd: spending limit for a remote model.
        store: where weights are kept.
        reporter: receives progress.
    """

    def __init__(self, by: str, answers: Path, max_usd: float | None, store: Store, reporter: Reporter) -> None:
        self.by, self._path, self._reporter = by, answers, reporter
        self._model: Model = open_model(by, store=store, max_usd=max_usd, say=reporter.say)
        self._revision = self._model.describe().revision  # other weights under the same URI give other answers
        self._known = _known_answers(answers)
        self.usd: float | None = None

    @property
    def takes_schemas(self) -> bool:
        """Whether the model follows a JSON schema."""
        return "json_schema" in self._model.describe().offers

    def close(self, done: bool) -> None:
        """Close the model; with `done`, its answers are no longer needed."""
        self._model.close()
        if done:
            self._path.unlink(missing_ok=True)

    def ask(self, requests: Sequence[Request], what: str) -> dict[str, Completion]:
        """Return the answers by id; requests that an earlier session answered aren't sent again."""
        keys = {request.id: self._key(request) for request in requests}
        found = {
            request.id: self._known[keys[request.id]].model_copy(update={"id": request.id})
            for request in requests
            if keys[request.id] in self._known
        }
        if found:
            self._reporter.say(f"{len(found):,} of {len(requests):,} answers are there from an earlier session.")
        absent = [request for request in requests if request.id not in found]
        make_folder(self._path.parent)
        with open(self._path, "ab", opener=open_private) as file:
            # The first answer tells how long the others take.
            for part in (absent[:1], absent[1:]):
                begun = time.monotonic()
                for answer in self._model.complete(part) if part else ():
                    found[answer.id] = answer
                    if answer.usd is not None:
                        self.usd = (self.usd or 0.0) + answer.usd
                    if answer.finish != "error":
                        line = json.dumps([keys[answer.id], answer.model_dump(mode="json")])
                        file.write(line.encode() + b"\n")
                        file.flush()
                    self._reporter.advance(what, len(found), len(requests))
                if len(part) == 1 and part[0] is absent[0] and len(absent) > 1:
                    self._tell(len(absent) - 1, time.monotonic() - begun, found.get(absent[0].id))
        return found

    def _key(self, request: Request) -> str:
        return fingerprint([self.by, self._revision, request.model_dump(mode="json", exclude={"id"})], KEY_DIGITS)

    def _tell(self, left: int, seconds: float, first: Completion | None) -> None:
        """Report how long the other requests will take, and what they cost."""
        cost = "" if first is None or first.usd is None else f" and {left * first.usd:.2f} USD"
        minutes = left * seconds / 60
        takes = f"{minutes:.0f} minutes" if minutes >= 2 else f"{left * seconds:.0f} seconds"
        self._reporter.say(f"{self.by} writes {left:,} more texts: about {takes}{cost} one by one, less in batches")


@contextmanager
def writing(by: str, answers: Path, max_usd: float | None, store: Store, reporter: Reporter) -> Iterator[Writer]:
    """Open a writer, and close it; its answers are kept if it is stopped. See `Writer` for the arguments."""
    writer = Writer(by, answers, max_usd, store, reporter)
    done = False
    try:
        yield writer
        done = True
    finally:
        writer.close(done)


def check_writer(writer: Writer, sample: Sequence[Mapping[str, Any]], accept: bool) -> Score:
    """Ask the writer the questions of an approved sample, each with its passage in view.

    Args:
        writer: the writer.
        sample: rows with prompt, references and passage that people approved.
        accept: go on even if it fails.

    Returns:
        The share of questions that it answered correctly: with half of the content of a reference answer, and all of
        its numbers.

    Raises:
        UsageError: the sample has fewer than 50 rows.
        SizewiseError: the writer answers too few correctly, or some not at all.
    """
    if len(sample) < MIN_SAMPLE:
        raise UsageError(
            f"The sample has {len(sample)} approved question{'s' * (len(sample) != 1)} with a passage.",
            f"at least {MIN_SAMPLE}",
            "sizewise synthesize --approve FILE",
        )
    requests = [
        Request(
            id=f"check-{i}",
            messages=(Message(role="user", content=_check_prompt(row)),),
            max_tokens=CHECK_TOKENS,
            fit=True,
        )
        for i, row in enumerate(sample)
    ]
    answers = writer.ask(requests, "checking the writer")
    failed = [request for request in requests if request.id not in answers or answers[request.id].error]
    if failed:
        reason = next((answers[one.id].error for one in failed if one.id in answers), "no answer")
        raise SizewiseError(
            f"{writer.by} did not answer {len(failed)} of {len(sample)} questions of its check: {reason}.",
            "an answer to each, or the check would measure the connection",
            "run the same command again; the answers so far are kept",
        )
    right = sum(
        max(content_match(answers[request.id].text, reference) for reference in row["references"]) >= MIN_MATCH
        for request, row in zip(requests, sample, strict=True)
    )
    found = proportion_score("writer_accuracy", right, len(sample))
    if right < MIN_ACCURACY * len(sample) and not accept:
        raise SizewiseError(
            f"{writer.by} answered {right} of {len(sample)} approved questions correctly ({right / len(sample):.0%}), "
            "with the passage in view.",
            f"at least {MIN_ACCURACY:.0%}",
            "use a larger model, or --by extractive, which needs none; --accept-writer goes on and marks every example",
        )
    return found


def _check_prompt(row: Mapping[str, Any]) -> str:
    return CHECK_PROMPT.format(title=row.get("source", ""), passage=row["passage"], question=row["prompt"])


def _known_answers(path: Path) -> dict[str, Completion]:
    """Read the answers of an earlier session; a line that was cut off when it was killed is left out."""
    found: dict[str, Completion] = {}
    for line in read_lines(path) if path.is_file() else ():
        try:
            key, answer = json.loads(line)
            found[str(key)] = Completion.model_validate(answer)
        except (ValueError, TypeError):
            continue
    return found
