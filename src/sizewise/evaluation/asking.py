"""Sends requests to a model, keeps every answer in a ledger, and saves the evaluation based on them."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from sizewise.errors import SizewiseError
from sizewise.models import Model
from sizewise.progress import Reporter
from sizewise.records import Completion, Evaluation, ItemRow, ModelDescription, Request, fingerprint
from sizewise.store import Ledger, Saved, Store

CHUNK = 128
"""Requests per batch for a model that runs on this machine."""
SHOWN_CHARACTERS, SHOWN_REASONS = 200, 3


class Work(NamedTuple):
    """A batch of requests, as the ledger and the progress bar know it."""

    topic: str
    """Ledger topic under which answers are kept as they arrive."""
    title: str
    """Label of the progress bar."""


def collect_answers(
    model: Model, requests: Sequence[Request], work: Work, ledger: Ledger, reporter: Reporter
) -> dict[str, Completion]:
    """Generate the answers that the ledger doesn't hold yet, and return the answers to all requests by id.

    A failed request is returned with its error but isn't stored, so the next identical call retries it.

    Args:
        model: model to query.
        requests: requests to answer.
        work: ledger topic and progress label.
        ledger: stores answers as they arrive.
        reporter: receives progress.
    """
    done = ledger.entries(work.topic)
    pending = [request for request in {request.id: request for request in requests}.values() if request.id not in done]
    failed: dict[str, Completion] = {}
    begun, tokens, count = time.monotonic(), 0, len(requests) - len(pending)
    size = max(1, len(pending)) if model.describe().api else CHUNK
    for start in range(0, len(pending), size):
        for answer in model.complete(pending[start : start + size]):
            if answer.finish == "error":
                failed[answer.id] = answer
            else:
                ledger.append(work.topic, answer.id, answer.model_dump(mode="json"))
            count, tokens = count + 1, tokens + answer.completion_tokens
            speed = tokens / max(1e-9, time.monotonic() - begun)
            reporter.advance(work.title, count, len(requests), f"{speed:,.0f} tokens/s")
    kept = {key: Completion.model_validate(body) for key, body in ledger.entries(work.topic).items()}
    return {request.id: kept.get(request.id) or failed[request.id] for request in requests}


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
    transient = [str(answer.error) for answer in answers if answer.finish == "error" and answer.transient]
    permanent = [str(answer.error) for answer in answers if answer.finish == "error" and not answer.transient]
    notes = []
    if transient:
        notes.append(
            f"Incomplete: {len(transient)} of {len(answers)} requests failed and aren't scored: "
            f"{_summarize(transient)}. Run the same command again to retry only these."
        )
    if permanent:
        scored = "count as wrong" if as_wrong else "aren't scored"
        scored += " (--count-failures-as-wrong scores them as wrong)" if as_wrong is False else ""
        notes.append(f"{len(permanent)} of {len(answers)} requests were refused and {scored}: {_summarize(permanent)}.")
    return notes


def answer_notes(
    answers: Iterable[Completion], max_tokens: int, description: ModelDescription, hint: str = ""
) -> list[str]:
    """Count the answers that were cut, empty, cached or preceded by reasoning, one note for each.

    Args:
        answers: all completions, failed ones included.
        max_tokens: token limit per answer.
        description: description of the model.
        hint: advice to add where answers were cut at the limit.
    """
    given = [answer for answer in answers if answer.finish != "error"]
    return [*_cut_notes(given, max_tokens, description, hint), *_content_notes(given)]


def _cut_notes(given: Sequence[Completion], max_tokens: int, description: ModelDescription, hint: str) -> list[str]:
    cut = [answer for answer in given if answer.finish == "length"]
    only_reasoning = [answer for answer in cut if answer.reasoning and not answer.text.strip()]
    cut = [answer for answer in cut if answer not in only_reasoning]
    # Token counts are exact for local models, so a cut answer below its limit must have hit the end of the context.
    exact = description.context is not None and not description.api
    out_of_context = [answer for answer in cut if exact and answer.completion_tokens < max_tokens]
    limited = len(cut) - len(out_of_context)
    notes = []
    if limited and description.engine == "recorded":
        notes.append(f"{limited} of {len(given)} answers were already cut at their limit when they were recorded.")
    elif limited:
        notes.append(f"{limited} of {len(given)} answers were cut at max_tokens={max_tokens}. {hint}".rstrip())
    if out_of_context:
        notes.append(f"{len(out_of_context)} of {len(given)} answers were cut at the end of the model's context.")
    if only_reasoning:
        notes.append(f"{len(only_reasoning)} of {len(given)} answers are empty: reasoning used up the token limit.")
    return notes


def _content_notes(given: Sequence[Completion]) -> list[str]:
    notes = []
    empty = sum(not answer.text.strip() for answer in given)
    if given and empty == len(given):
        notes.append(f"All {empty} answers are empty.")
    elif empty:
        notes.append(f"{empty} of {len(given)} answers are empty.")
    kept = sorted(answer.kept_from for answer in given if answer.kept_from)
    if kept:
        days = kept[0] if kept[0] == kept[-1] else f"{kept[0]} to {kept[-1]}"
        notes.append(
            f"{len(kept)} of {len(given)} answers are cached from {days}. If the model has changed since, "
            "add --new-run to generate new ones."
        )
    reasoned = sum(bool(answer.reasoning) for answer in given)
    if reasoned:
        notes.append(f"{reasoned} of {len(given)} answers came with reasoning, which isn't scored.")
    return notes


def find_existing(store: Store, evaluation_id: str) -> Saved[Evaluation] | None:
    """Load an evaluation if the store holds a complete one under this id."""
    return store.get(Evaluation, evaluation_id) if store.exists("evaluation", evaluation_id) else None


def age_note(found: Saved[Evaluation]) -> str:
    """Describe when an evaluation was measured; an address or model name may point to a different model today."""
    day = found.created[:10]
    return (
        f"{found.id} was measured on {day}, and its answers are reused. {found.record.model.uri} may be a different "
        "model by now; add --new-run to measure it again."
    )


def evaluation_id(model: ModelDescription, *parts: object) -> str:
    """Derive an evaluation's id from the model and everything else that determines its numbers.

    Args:
        model: the model that is measured.
        parts: data, metrics, sample and version of the method, as plain JSON data.
    """
    return f"eval-{fingerprint([model.uri, model.revision, *parts])}"


def next_run_id(store: Store, evaluation_id: str) -> str:
    """Return the id for a new run of an evaluation: the first one that has no complete record yet."""
    runs = (f"{evaluation_id}-run{number}" for number in itertools.count(2))
    return next(name for name in runs if not store.exists("evaluation", name))


def save(
    store: Store, evaluation_id: str, record: Evaluation, rows: Sequence[ItemRow], unanswered: Iterable[str]
) -> Saved[Evaluation]:
    """Save an evaluation with its items; an incomplete one gets a separate id.

    Records never change. A comparison or study that uses an incomplete evaluation keeps pointing at it, and a later run
    of the same command saves the complete one under the regular id.

    Args:
        store: where records are kept.
        evaluation_id: id of the complete evaluation.
        record: the evaluation.
        rows: its items.
        unanswered: ids of requests that are worth retrying.
    """
    absent = sorted(set(unanswered))
    if absent:
        record = record.model_copy(update={"unanswered": len(absent)})
        evaluation_id = f"{evaluation_id}-incomplete-{fingerprint(absent, 6)}"
    if (found := find_existing(store, evaluation_id)) is not None:
        return found
    store.write_rows(store.folder("evaluation", evaluation_id), "items.jsonl", rows)
    return store.write(evaluation_id, record)


def retryable(answers: Iterable[Completion]) -> list[str]:
    """Return the ids of requests that failed transiently and may succeed when sent again."""
    return [answer.id for answer in answers if answer.finish == "error" and answer.transient]


def _summarize(reasons: Sequence[str]) -> str:
    """Count the most frequent reasons; those that differ only in ids or token counts are grouped."""
    kinds: dict[str, list[str]] = {}
    for reason in reasons:
        kinds.setdefault(re.sub(r"\d+|0x[0-9a-f]+|\breq_\w+", "#", reason), []).append(reason)
    frequent = sorted(kinds.values(), key=len, reverse=True)[:SHOWN_REASONS]
    return "; ".join(
        (f"{len(group)} x " if len(reasons) > 1 else "") + group[0][:SHOWN_CHARACTERS] for group in frequent
    )
