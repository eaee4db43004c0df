"""Asking a model many things: what was answered before isn't asked again, and what failed is never an answer."""

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
"""Requests that a model of this machine is given at once."""
SHOWN_CHARACTERS, SHOWN_REASONS = 200, 3


class Work(NamedTuple):
    """What is asked for, as the reporter names it."""

    topic: str
    """Of the ledger, where answers are kept as they arrive."""
    title: str
    """For the progress bar."""


def ask(
    model: Model, requests: Sequence[Request], work: Work, ledger: Ledger, reporter: Reporter
) -> dict[str, Completion]:
    """Answer requests, those that the ledger already holds left out.

    A failed request stands in the result with its error and isn't kept: the same call asks it again.

    Args:
        model: what answers.
        requests: what is asked.
        work: under which topic, and how it is called.
        ledger: keeps answers as they arrive.
        reporter: told how far it is.
    """
    done = ledger.entries(work.topic)
    todo = [request for request in {one.id: one for one in requests}.values() if request.id not in done]
    failed: dict[str, Completion] = {}
    begun, tokens, count = time.monotonic(), 0, len(requests) - len(todo)
    size = max(1, len(todo)) if model.describe().api else CHUNK
    for start in range(0, len(todo), size):
        for answer in model.complete(todo[start : start + size]):
            if answer.finish == "error":
                failed[answer.id] = answer
            else:
                ledger.append(work.topic, answer.id, answer.model_dump(mode="json"))
            count, tokens = count + 1, tokens + answer.completion_tokens
            speed = tokens / max(1e-9, time.monotonic() - begun)
            reporter.advance(work.title, count, len(requests), f"{speed:,.0f} tokens/s")
    kept = {key: Completion.model_validate(body) for key, body in ledger.entries(work.topic).items()}
    return {request.id: kept.get(request.id) or failed[request.id] for request in requests}


def refuse_no_answer(uri: str, answers: Mapping[str, Completion], again: str = "the same command again") -> None:
    """Stop where not a single request was answered: nothing was measured, so nothing is written.

    Args:
        uri: of the model.
        answers: what came.
        again: what to run next.

    Raises:
        SizewiseError: every request failed.
    """
    if not answers or any(answer.finish != "error" for answer in answers.values()):
        return
    reason = _counted([str(answer.error) for answer in answers.values()])
    passing = any(answer.transient for answer in answers.values())
    raise SizewiseError(
        f"{uri} answered none of {len(answers)} requests: {reason}",
        "a service that answers" if passing else "a model that takes these requests",
        f"{again}, when it answers" if passing else "sizewise models",
    )


def failure_notes(answers: Iterable[Completion], *, as_wrong: bool | None = None) -> list[str]:
    """Say how many requests failed and why, those that are worth asking again apart from those that are not.

    Args:
        answers: what came.
        as_wrong: whether requests that no repetition helps are scored as empty answers; None where that is no choice.
    """
    answers = list(answers)
    later = [str(answer.error) for answer in answers if answer.finish == "error" and answer.transient]
    never = [str(answer.error) for answer in answers if answer.finish == "error" and not answer.transient]
    notes = []
    if later:
        notes.append(
            f"Incomplete: {len(later)} of {len(answers)} answers are missing because requests failed, and are not "
            f"scored: {_counted(later)}. Run the same command again to ask only for these."
        )
    if never:
        scored = "count as wrong" if as_wrong else "are not scored"
        scored += " (--count-failures-as-wrong scores them as wrong)" if as_wrong is False else ""
        notes.append(f"{len(never)} of {len(answers)} requests were refused and {scored}: {_counted(never)}.")
    return notes


def answer_notes(
    answers: Iterable[Completion], max_tokens: int, description: ModelDescription, hint: str = ""
) -> list[str]:
    """Say how many answers were cut or are empty, and how many began with thoughts.

    Args:
        answers: what came.
        max_tokens: limit of an answer.
        description: of the model.
        hint: what to do where answers were cut at the limit.
    """
    given = [answer for answer in answers if answer.finish != "error"]
    cut = [answer for answer in given if answer.finish == "length"]
    thinking = [answer for answer in cut if answer.reasoning and not answer.text.strip()]
    cut = [answer for answer in cut if answer not in thinking]
    # On this machine tokens are counted exactly: an answer below its limit ran into the end of the context.
    exact = description.context is not None and not description.api
    short = [answer for answer in cut if exact and answer.completion_tokens < max_tokens]
    limited = len(cut) - len(short)
    notes = []
    if limited and description.engine == "recorded":
        notes.append(f"{limited} of {len(given)} answers had been cut at their limit when they were recorded.")
    elif limited:
        notes.append(f"{limited} of {len(given)} answers were cut at max_tokens={max_tokens}. {hint}".rstrip())
    if short:
        notes.append(f"{len(short)} of {len(given)} answers were cut where the model's context ends.")
    if thinking:
        notes.append(
            f"{len(thinking)} of {len(given)} answers never began: thoughts took all tokens that were allowed."
        )
    empty = sum(not answer.text.strip() for answer in given)
    if given and empty == len(given):
        notes.append(f"Every one of the {empty} answers is empty.")
    elif empty:
        notes.append(f"{empty} of {len(given)} answers are empty.")
    kept = sorted(answer.kept_from for answer in given if answer.kept_from)
    if kept:
        days = kept[0] if kept[0] == kept[-1] else f"{kept[0]} to {kept[-1]}"
        notes.append(
            f"{len(kept)} of {len(given)} answers were kept from {days}. If another model answers there by now, ask it "
            "again with --new-run."
        )
    thought = sum(bool(answer.reasoning) for answer in given)
    if thought:
        notes.append(f"Thoughts before {thought} of {len(given)} answers are no part of what was scored.")
    return notes


def existing(store: Store, evaluation_id: str) -> Saved[Evaluation] | None:
    """Return an evaluation that is there already and complete."""
    return store.get(Evaluation, evaluation_id) if store.exists("evaluation", evaluation_id) else None


def age_of(found: Saved[Evaluation]) -> str:
    """Say how old an evaluation is: what answers at an address, or under a name, may be another model by now."""
    day = found.created[:10]
    return (
        f"{found.id} was measured on {day}, and its answers are kept. {found.record.model.uri} may be another model by "
        "now: --new-run asks it again."
    )


def evaluation_id(model: ModelDescription, *parts: object) -> str:
    """Name an evaluation by the model and by everything else that decides its numbers.

    Args:
        model: the model that is measured.
        parts: data, metrics, sample and version of the method, as plain JSON data.
    """
    return f"eval-{fingerprint([model.uri, model.revision, *parts])}"


def next_run(store: Store, evaluation_id: str) -> str:
    """Return the id of a further run of an evaluation: the first that is not there, or was not brought to its end."""
    runs = (f"{evaluation_id}-run{number}" for number in itertools.count(2))
    return next(name for name in runs if not store.exists("evaluation", name))


def write(
    store: Store, evaluation_id: str, record: Evaluation, rows: Sequence[ItemRow], unanswered: Iterable[str]
) -> Saved[Evaluation]:
    """Write an evaluation with its items; one that lacks answers gets an id of its own.

    A record is written once. What rests on an incomplete one (a comparison, a study) keeps its id, and the same command
    later writes the complete one under the id that it has without failures.

    Args:
        store: where records live.
        evaluation_id: id of the complete evaluation.
        record: what was measured.
        rows: its items.
        unanswered: ids of requests that are worth asking again.
    """
    missing = sorted(set(unanswered))
    if missing:
        record = record.model_copy(update={"unanswered": len(missing)})
        evaluation_id = f"{evaluation_id}-incomplete-{fingerprint(missing, 6)}"
    if (found := existing(store, evaluation_id)) is not None:
        return found
    store.write_rows(store.folder("evaluation", evaluation_id), "items.jsonl", rows)
    return store.write(evaluation_id, record)


def unanswered(answers: Iterable[Completion]) -> list[str]:
    """Return the ids of requests that may be answered when they are sent again."""
    return [answer.id for answer in answers if answer.finish == "error" and answer.transient]


def _counted(reasons: Sequence[str]) -> str:
    """Name the most frequent reasons, each by its first wording; ids and numbers of tokens make no other reason."""
    kinds: dict[str, list[str]] = {}
    for reason in reasons:
        kinds.setdefault(re.sub(r"\d+|0x[0-9a-f]+|\breq_\w+", "#", reason), []).append(reason)
    most = sorted(kinds.values(), key=len, reverse=True)[:SHOWN_REASONS]
    return "; ".join((f"{len(one)} x " if len(reasons) > 1 else "") + one[0][:SHOWN_CHARACTERS] for one in most)
