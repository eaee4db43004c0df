"""What all evaluations share: their ids, the notes on their answers, and how they are saved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta

from sizewise.evaluation.options import EvaluationOptions
from sizewise.evaluation.run_conditions import run_conditions
from sizewise.inquiry import CHUNK, Inquiry
from sizewise.models import Model
from sizewise.models.base import bypass_cache
from sizewise.models.opening import former_revision
from sizewise.models.thinking import cut_by_reasoning
from sizewise.progress import Reporter
from sizewise.records import Completion, Evaluation, ItemRow, ModelDescription, fingerprint
from sizewise.store import Ledger, Saved, Store, sha256_of
from sizewise.store.repetitions import next_run_id, runs_of

MAX_NAMES = 3  # names of models that a note lists


def inquire(model: Model, ledger: Ledger, reporter: Reporter) -> Inquiry:
    """Prepare the requests to a model: all at once to a service or cluster, in batches to a model on this machine."""
    description = model.describe()
    batch = None if description.api or getattr(model, "takes_all", False) else CHUNK
    return Inquiry(description.uri, model.complete, ledger, reporter, batch=batch)


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
    only_reasoning = [answer for answer in cut if cut_by_reasoning(answer) and not answer.text.strip()]
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
    told = sum(cut_by_reasoning(answer) and not answer.text.strip() for answer in given)
    if given and empty == len(given):
        notes.append(f"All {empty} answers are empty.")
    elif empty > told:
        notes.append(f"{empty} of {len(given)} answers are empty.")
    kept = sorted(answer.kept_from for answer in given if answer.kept_from)
    if kept:
        days = kept[0] if kept[0] == kept[-1] else f"{kept[0]} to {kept[-1]}"
        notes.append(
            f"{len(kept)} of {len(given)} answers are cached from {days}. If the model has changed since, "
            "add --new-run to generate new ones."
        )
    names = Counter(answer.served_model for answer in given if answer.served_model)
    if len(names) > 1:
        shown = ", ".join(f"'{name}' ({count})" for name, count in names.most_common(MAX_NAMES))
        more = f" and {len(names) - MAX_NAMES:,} others" if len(names) > MAX_NAMES else ""
        notes.append(
            f"The service named {len(names):,} different models in {names.total():,} answers: {shown}{more}. "
            "The scores are those of the mixture that answered."
        )
    reasoned = [answer for answer in given if answer.reasoning or answer.reasoning_tokens]
    if reasoned:
        tokens = sum(answer.reasoning_tokens for answer in reasoned) / len(reasoned)
        counted = f", {tokens:,.0f} tokens on average" if tokens else ""
        notes.append(f"{len(reasoned)} of {len(given)} answers came with reasoning{counted}, which isn't scored.")
    return notes


def find_existing(store: Store, evaluation_id: str) -> Saved[Evaluation] | None:
    """Load an evaluation if the store holds a complete one under this id."""
    return store.get(Evaluation, evaluation_id) if store.exists("evaluation", evaluation_id) else None


def age_note(found: Saved[Evaluation]) -> str:
    """Describe when an evaluation was measured; after a day an address or name may point to a different model."""
    reused = f"{found.id} was measured on {found.created[:10]}, and its answers are reused"
    if datetime.now(UTC) - datetime.fromisoformat(found.created) < timedelta(days=1):
        return f"{reused}; add --new-run to measure it again."
    return f"{reused}. {found.record.model.uri} may be a different model by now; add --new-run to measure it again."


def evaluation_id(model: ModelDescription, *parts: object) -> str:
    """Derive an evaluation's id from the model and everything else that determines its numbers.

    Args:
        model: the model that is measured.
        parts: data, metrics, sample and version of the method, as plain JSON data.
    """
    dated = [["date of prompts", model.template_date]] if model.template_date else []
    return f"eval-{fingerprint([model.uri, model.revision, *dated, *parts])}"


def choose_run(store: Store, model: Model, evaluation_id: str, options: EvaluationOptions) -> str:
    """Return the id of the run to make: the first one, or with `new_run` the next one, which asks anew.

    Args:
        store: where runs are kept.
        model: the model that is measured.
        evaluation_id: id of the first run.
        options: whether a new run was asked for.
    """
    if not options.new_run:
        return evaluation_id
    bypass_cache(model)
    return next_run_id(store, evaluation_id) if runs_of(store, evaluation_id) else evaluation_id


def take_over(store: Store, evaluation_id: str, ledger: Ledger) -> None:
    """Copy the answers to test items of another evaluation's ledger, so that they aren't asked again.

    Args:
        store: where evaluations are kept.
        evaluation_id: the evaluation whose answers are copied.
        ledger: where they are copied to.
    """
    with store.ledger("evaluation", evaluation_id) as other:
        for form in ("chat", "few_shot"):
            topic = f"test:{form}"
            known = ledger.entries(topic)
            for key, body in other.entries(topic).items():
                if key not in known:
                    ledger.append(topic, key, body)


def note_former(
    store: Store, reporter: Reporter, model: ModelDescription, id_of_model: Callable[[ModelDescription], str]
) -> None:
    """Note why an evaluation isn't reused whose id doesn't cover the commit on the Hub, or the subfolders of a folder.

    Args:
        store: where evaluations are kept.
        reporter: receives the note.
        model: the model that is measured.
        id_of_model: computes the id of this evaluation for a description of the model.
    """
    former = former_revision(model.uri)
    if not model.revision or model.revision.startswith(former or "+"):
        return
    engine = model.revision.partition("+")[1:]
    name = id_of_model(model.model_copy(update={"revision": former + "".join(engine)}))
    if not store.exists("evaluation", name) or store.exists("evaluation", id_of_model(model)):
        return
    covered = "the commit on the Hub" if model.uri.startswith("hf:") else "the files in subfolders"
    reporter.say(
        f"{name} measured {model.uri} before ids covered {covered}. It is kept and not reused, because nothing shows "
        "that it was the same model."
    )


def save(
    store: Store,
    evaluation_id: str,
    record: Evaluation,
    rows: Sequence[ItemRow],
    unanswered: Iterable[str],
    answers: Iterable[Completion] = (),
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
        answers: the answers, for the names of the models that gave them.
    """
    record = record.model_copy(update={"conditions": run_conditions(evaluation_id, record, answers)})
    absent = sorted(set(unanswered))
    if absent:
        record = record.model_copy(update={"unanswered": len(absent)})
        evaluation_id = f"{evaluation_id}-incomplete-{fingerprint(absent, 6)}"
    if (found := find_existing(store, evaluation_id)) is not None:
        return found
    path = store.write_rows(store.folder("evaluation", evaluation_id), "items.jsonl", rows)
    return store.write(evaluation_id, record.model_copy(update={"items_sha256": sha256_of(path)}))
