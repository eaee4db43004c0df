"""Asks a model for what a ledger lacks: one loop, and one policy for failures, for everything that is measured.

A request that fails for a reason that may pass (the service was busy, the connection broke) is asked again with
patience. One that still fails leaves the measurement incomplete: it isn't scored, and the same command asks it again. A
request that is refused for good (content filter, too long) isn't asked again; it is left out, or counted as wrong where
the user wants that. No failure enters the ledger.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from sizewise.errors import SizewiseError
from sizewise.progress import Reporter
from sizewise.records import Completion, Request
from sizewise.store import Ledger

WAITS_S = (1.0, 5.0, 20.0)
"""Wait before each further round of requests that failed for now, as long as the round before answered some."""
CHUNK, CHUNK_CHARACTERS = 128, 32_000
"""Requests, and characters of their prompts, per batch for a model that runs on this machine.

Engines read all prompts of a batch before they finish an answer: with long prompts, a smaller batch leaves something in
hand when time is up.
"""
SHOWN_CHARACTERS, SHOWN_REASONS = 200, 3
_FILTERED = re.compile(r"content[ _-]?(?:filter|management|policy)|safety (?:system|filter|policy)", re.IGNORECASE)
Complete = Callable[[Sequence[Request]], Iterator[Completion]]


class Work(NamedTuple):
    """A batch of requests, as the ledger and the progress bar know it."""

    topic: str
    """Ledger topic under which answers are kept as they arrive."""
    title: str
    """Label of the progress bar."""


class Inquiry:
    """The requests of one measurement and what became of them.

    Args:
        uri: model URI, for messages.
        complete: sends requests to the model; answers may arrive in any order.
        ledger: keeps answers as they arrive.
        reporter: receives progress.
        batch: most requests per call, of which long ones are fewer; None for all at once.
    """

    def __init__(
        self, uri: str, complete: Complete, ledger: Ledger, reporter: Reporter, *, batch: int | None = None
    ) -> None:
        self.uri, self._complete, self.ledger, self.reporter = uri, complete, ledger, reporter
        self._batch = batch
        self.found: dict[tuple[str, str], Completion] = {}
        """(topic, request id) -> answer, or the failure that is left."""

    def ask(self, requests: Sequence[Request], work: Work) -> dict[str, Completion]:
        """Generate the answers that the ledger doesn't hold yet, and return the outcome of all requests by id.

        Args:
            requests: requests to answer.
            work: ledger topic and progress label.
        """
        for _ in self.stream(requests, work):
            pass
        return {request.id: self.found[work.topic, request.id] for request in requests}

    def stream(self, requests: Sequence[Request], work: Work) -> Iterator[Completion]:
        """Yield the answers that the ledger holds, then each new one as it arrives, then the failures that are left.

        Args:
            requests: requests to answer.
            work: ledger topic and progress label.
        """
        done, wanted = self.ledger.entries(work.topic), {request.id: request for request in requests}
        for name in wanted.keys() & done.keys():
            yield self._note(work, Completion.model_validate(done[name]))
        todo = {name: request for name, request in wanted.items() if name not in done}
        failed = {name: _failure(name, "the model returned no answer", transient=True) for name in todo}
        progress = _Progress(self.reporter, work.title, len(wanted) - len(todo), len(wanted))
        for first, names in self.rounds(list(todo), lambda name: name in failed and failed[name].transient):
            # In a later round, an error that ends everything leaves the measurement incomplete, with all its answers.
            with contextlib.nullcontext() if first else contextlib.suppress(SizewiseError):
                for answer in self._send([todo[name] for name in names], work, progress):
                    if answer.finish == "error":
                        failed[answer.id] = answer
                    else:
                        failed.pop(answer.id, None)
                        yield self._note(work, answer)
        for answer in failed.values():
            yield self._note(work, answer)

    def rounds(self, names: Sequence[str], failed: Callable[[str], bool]) -> Iterator[tuple[bool, list[str]]]:
        """Yield what to try, all at first, then what failed for now, after a wait, while each round makes progress.

        Args:
            names: what to try.
            failed: whether one of them failed for now.

        Yields:
            Whether it is the first round, and what to try in it.
        """
        pending, size = list(names), len(names)
        for wait_s in (None, *WAITS_S):
            if wait_s is not None:
                self.reporter.say(
                    f"{len(pending)} of {size} requests to {self.uri} failed for now; asking again in {wait_s:g} s."
                )
                time.sleep(wait_s)
            yield wait_s is None, pending
            before, pending = len(pending), [name for name in pending if failed(name)]
            if not pending or len(pending) == before:
                return

    def _send(self, pending: Sequence[Request], work: Work, progress: _Progress) -> Iterator[Completion]:
        """Send requests, and keep each answer in the ledger before it is yielded."""
        for batch in self._batches(pending):
            for answer in self._complete(batch):
                if answer.finish != "error":
                    self.ledger.append(work.topic, answer.id, answer.model_dump(mode="json"))
                progress.advance(answer)
                yield answer

    def _batches(self, pending: Sequence[Request]) -> Iterator[Sequence[Request]]:
        """Split requests into those that are sent together."""
        if self._batch is None:
            yield from [pending] if pending else []
            return
        batch: list[Request] = []
        characters = 0
        for request in pending:
            length = sum(len(message.content) for message in request.messages)
            if batch and (len(batch) == self._batch or characters + length > CHUNK_CHARACTERS):
                yield batch
                batch, characters = [], 0
            batch.append(request)
            characters += length
        if batch:
            yield batch

    def _note(self, work: Work, answer: Completion) -> Completion:
        self.found[work.topic, answer.id] = answer
        return answer

    def add_failure(self, topic: str, name: str, reason: str, *, transient: bool) -> None:
        """Note a text that couldn't be scored by log-likelihood, as a failed request."""
        self.found[topic, name] = _failure(name, reason, transient=transient)

    def add_scored(self, topic: str, name: str) -> None:
        """Note a text that was scored by log-likelihood, so that failures are counted among all texts."""
        self.found[topic, name] = _failure(name, "", transient=False).model_copy(
            update={"finish": "stop", "error": None}
        )

    def error(self, topic: str, name: str) -> str | None:
        """Return why a request failed; None if it didn't."""
        answer = self.found.get((topic, name))
        return answer.error if answer is not None else None

    @property
    def unanswered(self) -> list[str]:
        """Requests that failed for now; with any, the measurement is incomplete and the same command goes on."""
        return [f"{topic} {name}" for (topic, name), answer in self.found.items() if is_transient(answer)]

    def outcomes(self, topic: str = "") -> dict[str, Completion]:
        """Return the answers and failures of a topic, or of all."""
        return {f"{about} {name}": one for (about, name), one in self.found.items() if topic in ("", about)}

    def notes(self, topic: str = "", *, as_wrong: bool | None = None) -> list[str]:
        """Summarize the failures of a topic, or of all; see `failure_notes`."""
        return failure_notes(self.outcomes(topic).values(), as_wrong=as_wrong)

    def require(self, topic: str = "", retry: str = "the same command again") -> None:
        """Check that at least one request of a topic, or of all, succeeded; see `require_answers`."""
        require_answers(self.uri, self.outcomes(topic), retry)


def _failure(name: str, reason: str, *, transient: bool) -> Completion:
    return Completion(
        id=name, text="", prompt_tokens=0, completion_tokens=0, seconds=0.0, finish="error", error=reason,
        transient=transient,
    )  # fmt: skip


class _Progress:
    """Counts answers and the speed at which they arrive; a request that is asked again counts once."""

    def __init__(self, reporter: Reporter, title: str, count: int, size: int) -> None:
        self._reporter, self._title, self._before, self._size = reporter, title, count, size
        self._begun, self._tokens = time.monotonic(), 0
        self._seen: set[str] = set()

    def advance(self, answer: Completion) -> None:
        self._seen.add(answer.id)
        self._tokens += answer.completion_tokens
        speed = self._tokens / max(1e-9, time.monotonic() - self._begun)
        self._reporter.advance(self._title, self._before + len(self._seen), self._size, f"{speed:,.0f} tokens/s")


def is_transient(answer: Completion) -> bool:
    """Check whether a request failed for a reason that may pass."""
    return answer.finish == "error" and answer.transient


def is_refused(answer: Completion) -> bool:
    """Check whether a request failed for good."""
    return answer.finish == "error" and not answer.transient


def is_withheld(answer: Completion) -> bool:
    """Check whether there is no answer because the provider refuses the content: a refusal, as if the model said so."""
    return is_refused(answer) and is_filtered(answer.error or "")


def is_filtered(error: str) -> bool:
    """Check whether a request failed because the provider refuses its content."""
    return bool(_FILTERED.search(error))


def require_answers(uri: str, answers: Mapping[str, Completion], retry: str = "the same command again") -> None:
    """Check that at least one request succeeded; without an answer there is nothing to score or save.

    Args:
        uri: model URI.
        answers: all completions, failed ones included.
        retry: command that the error recommends.

    Raises:
        SizewiseError: every request failed.
    """
    if not answers or any(answer.finish != "error" for answer in answers.values()):
        return
    reason = _summarize([str(answer.error) for answer in answers.values()])
    transient = any(answer.transient for answer in answers.values())
    if uri.startswith("recorded:") and not transient:
        raise SizewiseError(
            f"All {len(answers)} requests to {uri} failed: {reason}",
            "answers with the ids or the prompts of the data",
            f"correct them in the file, or name their columns: '{uri.partition('#')[0]}#id_column=COLUMN' "
            "(or prompt_column=COLUMN)",
        )
    raise SizewiseError(
        f"All {len(answers)} requests to {uri} failed: {reason}",
        "a service that is up and accepts requests" if transient else "a model that accepts these requests",
        f"{retry}, once the service is back" if transient else "sizewise models",
    )


def failure_notes(answers: Iterable[Completion], *, as_wrong: bool | None = None) -> list[str]:
    """Summarize failed requests and their causes, with transient failures counted separately from permanent ones.

    Args:
        answers: all completions, failed ones included.
        as_wrong: whether permanent failures are scored as empty answers; None if the caller offers no choice.
    """
    answers = list(answers)
    transient = [str(answer.error) for answer in answers if is_transient(answer)]
    permanent = [str(answer.error) for answer in answers if is_refused(answer)]
    notes = []
    if transient:
        notes.append(
            f"Incomplete: {len(transient)} of {len(answers)} requests failed and aren't scored: "
            f"{_summarize(transient)}. Run the same command again to retry only these."
        )
    if permanent:
        scored = "count as wrong" if as_wrong else "aren't scored"
        scored += " (--count-failures-as-wrong scores them as wrong)" if as_wrong is False else ""
        notes.append(
            f"{len(permanent)} of {len(answers)} requests were refused or have no answer and {scored}: "
            f"{_summarize(permanent)}."
        )
    return notes


def withheld_notes(answers: Iterable[Completion], counted: str) -> list[str]:
    """Count the answers that a content filter withheld, and summarize the other requests that failed.

    Args:
        answers: all completions, failed ones included.
        counted: what withheld answers count as.
    """
    answers = list(answers)
    rest = [answer for answer in answers if not is_withheld(answer)]
    withheld = len(answers) - len(rest)
    note = f"{withheld} of {len(answers)} answers were withheld by a content filter; they count as {counted}."
    return [*([note] if withheld else []), *failure_notes(rest)]


def _summarize(reasons: Sequence[str]) -> str:
    """Count the most frequent reasons; those that differ only in ids or token counts are grouped."""
    kinds: dict[str, list[str]] = {}
    for reason in reasons:
        kinds.setdefault(re.sub(r"\d+|0x[0-9a-f]+|\breq_\w+", "#", reason), []).append(reason)
    frequent = sorted(kinds.values(), key=len, reverse=True)[:SHOWN_REASONS]
    return "; ".join(
        (f"{len(group)} x " if len(reasons) > 1 else "") + group[0][:SHOWN_CHARACTERS] for group in frequent
    )
