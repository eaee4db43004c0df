"""A round of blind judging: who sees what in which order."""

from __future__ import annotations

import random
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import Any, NamedTuple

from sizewise import dataset as datasets
from sizewise.errors import SizewiseError, UsageError
from sizewise.judging.ballot import MORE_TASKS_FILE, TASKS_FILE, tasks_of, token_hash
from sizewise.records import (
    Comparison,
    Evaluation,
    Example,
    ItemRow,
    JudgeKind,
    JudgeRater,
    JudgeRound,
    JudgeTask,
    Origin,
    Study,
    fingerprint,
)
from sizewise.store import Store, Stored

REPEAT_SHARE, GOLD_SHARE = 0.1, 0.08
REPEAT_AFTER = 4  # tasks between the first and the second showing
MOST_AT_ONCE = 6  # answers to choose the best of
MOST_SHOWN = 20_000  # characters of a text
DAYS = 30
BAR = 0.7
REFERENCE = "reference"
QUESTIONS: dict[JudgeKind, str] = {
    "pair": "Which answer serves better somebody who asked this?",
    "best": "Which answer serves best somebody who asked this?",
    "rating": "How good is this answer?",
    "origin": "Was this written by a person or by a model?",
}


class Invitation(NamedTuple):
    """A rater and the token of the link; the token is known only now."""

    rater: str
    token: str


class Opened(NamedTuple):
    """A round that was made."""

    stored: Stored[JudgeRound]
    invitations: tuple[Invitation, ...]


def open_round(
    ids: Sequence[str],
    *,
    store: Store | None = None,
    kind: JudgeKind = "pair",
    items: int = 60,
    raters: Sequence[str] = ("rater 1",),
    votes_an_item: int = 1,
    origin: Origin = "person",
    plain: bool = True,
    show_reference: bool = True,
    bar: float = BAR,
    days: int = DAYS,
    seed: int = 0,
) -> Opened:
    """Make a round from what candidates answered.

    Sides are random and balanced, each item is shown to `votes_an_item` raters, nobody sees an item twice but in a
    repeat with swapped sides; in pairs and ratings a few gold tasks set the right answer beside that of another item.

    Args:
        ids: a study, a comparison, or two evaluations or more.
        store: where records live; by default SIZEWISE_HOME.
        kind: pairs, the best of several, ratings of one answer, or who wrote it.
        items: most examples, drawn from those that share nothing with training and were answered by all.
        raters: names of those who will judge.
        votes_an_item: different raters that see each item.
        origin: whether they are people; what others say never enters a verdict.
        plain: even out typography, so that marks and quotes do not betray a model.
        show_reference: show the right answer beside.
        bar: share of people's choices that a judge model must meet before its votes count.
        days: how long links hold.
        seed: seed of the draw, of the sides and of the order.

    Raises:
        UsageError: numbers do not fit.
        SizewiseError: a record is missing, or there is nothing to judge.
    """
    store = store or Store()
    if not raters or len(set(raters)) < len(raters):
        raise UsageError("Raters need names of their own.", "--raters 3, or names with commas", "")
    if not 1 <= votes_an_item <= len(raters):
        raise UsageError(
            f"{votes_an_item} of {len(raters)} raters cannot see each item.", "at least as many raters", ""
        )
    if not 0 < bar < 1:
        raise UsageError(f"A judge model cannot be held to {bar:g}.", "a share between 0 and 1", "--bar 0.7")
    comparison, evaluations = _evaluations(ids, store)
    answers, data = _answers(evaluations, store)
    shown = min(len(evaluations), MOST_AT_ONCE) if kind == "best" else 2
    wanted = round(GOLD_SHARE * items) + shown if kind in ("pair", "best") else 0
    drawn = _examples(answers, data, store, items + wanted, seed)
    kept = wanted if len(drawn) >= 3 * wanted else 0
    examples, spare = drawn[: len(drawn) - kept], [row for row, _ in drawn[len(drawn) - kept :]]
    rng = random.Random(seed)
    tasks = list(_tasks(kind, evaluations, answers, examples, plain, show_reference, rng))
    gold = list(_gold(spare, plain, kind, shown))
    people, more = _assign(tasks, gold, raters, votes_an_item, rng)
    invitations = tuple(Invitation(name, secrets.token_urlsafe(18)) for name in raters)
    every = [*tasks, *gold, *more]
    record = JudgeRound(
        kind=kind,
        question=QUESTIONS[kind],
        data=data,
        comparison=comparison,
        evaluations=evaluations,
        items=len(examples),
        tasks=len(every),
        raters=tuple(
            JudgeRater(
                name=one.rater, token_sha256=token_hash(one.token), origin=origin, tasks=tuple(people[one.rater])
            )
            for one in invitations
        ),
        seed=seed,
        plain=plain,
        bar=bar,
        expires=(datetime.now(UTC) + timedelta(days=days)).isoformat(timespec="seconds"),
    )
    round_id = f"round-{fingerprint([record.model_dump(mode='json')])}"
    store.write_rows(store.folder("round", round_id), TASKS_FILE, every)
    return Opened(store.write(round_id, record), invitations)


def _evaluations(ids: Sequence[str], store: Store) -> tuple[str | None, dict[str, str]]:
    kinds = [store.kind_of(one) for one in ids]
    if kinds == ["study"]:
        study = store.read(Study, ids[0])
        return _without_baselines(study.comparison, store)
    if kinds == ["comparison"]:
        return _without_baselines(ids[0], store)
    if len(ids) < 1 or set(kinds) != {"evaluation"}:
        raise UsageError(
            f"{', '.join(ids)} cannot be judged.", "a study, a comparison, or evaluations", "sizewise runs"
        )
    return None, {store.read(Evaluation, one).model.uri: one for one in ids}


def _without_baselines(comparison: str, store: Store) -> tuple[str, dict[str, str]]:
    compared = store.read(Comparison, comparison)
    kept = {name: one for name, one in compared.evaluations.items() if compared.models[name].role == "candidate"}
    return comparison, kept


def _answers(evaluations: Mapping[str, str], store: Store) -> tuple[dict[str, dict[str, ItemRow]], str]:
    records = {name: store.read(Evaluation, one) for name, one in evaluations.items()}
    data = {record.data for record in records.values()}
    if len(data) > 1:
        raise SizewiseError(
            f"These were measured on different data: {', '.join(sorted(data))}.", "evaluations of one dataset", ""
        )
    rows = {
        name: {
            row.item: row
            for row in store.read_rows(store.folder("evaluation", one), "items.jsonl", ItemRow)
            if row.kind == "example" and (row.completion or "").strip() and not row.error
        }
        for name, one in evaluations.items()
    }
    return rows, data.pop()


def _examples(
    answers: Mapping[str, Mapping[str, ItemRow]], data: str, store: Store, items: int | None, seed: int
) -> list[tuple[ItemRow, Example | None]]:
    first, *others = answers.values()
    rows = [row for item, row in first.items() if row.clean and all(item in other for other in others)]
    if not rows:
        raise SizewiseError(
            "There is no example that all of these answered and that shares nothing with training.",
            "evaluations with answers (bleu, chrf or others among the metrics)",
            "sizewise evaluate MODEL --data ID --metrics bleu",
        )
    known: dict[str, Example] = {}
    if not data.startswith("suite:"):
        known = {example.id: example for example in datasets.load(store, data).examples["test"]}
    rng = random.Random(seed)
    chosen = rng.sample(rows, len(rows) if items is None else min(items, len(rows)))
    return [(row, known.get(row.item)) for row in chosen]


def _tasks(
    kind: JudgeKind,
    names: Iterable[str],
    answers: Mapping[str, Mapping[str, ItemRow]],
    examples: Sequence[tuple[ItemRow, Example | None]],
    plain: bool,
    show_reference: bool,
    rng: random.Random,
) -> Iterable[JudgeTask]:
    names = list(names)
    if kind in ("pair", "best") and len(names) < 2:
        raise UsageError("There is one candidate only.", "two to set side by side, or --kind rating", "")
    pairs = list(combinations(names, 2))
    singles = [*names, REFERENCE] if kind == "origin" else names
    rng.shuffle(pairs)
    for place, (row, example) in enumerate(examples):
        base = {
            "item": row.item,
            "cluster": row.cluster,
            "prompt": _shown(row.prompt, plain),
            "passage": _shown(row.references[0], plain)
            if show_reference and row.references and kind != "origin"
            else "",
            "tags": example.tags if example else (),
        }
        if kind == "pair":
            one, other = pairs[place % len(pairs)]
            if (place // len(pairs)) % 2:  # each pair lies both ways equally often
                one, other = other, one
            yield JudgeTask(
                id=f"t{place}",
                left=one,
                right=other,
                left_text=_shown(answers[one][row.item].completion or "", plain),
                right_text=_shown(answers[other][row.item].completion or "", plain),
                **base,
            )
        elif kind == "best":
            if place % len(names) == 0:
                rng.shuffle(names)
            turn = place % len(names)  # each lies first equally often
            order = [*names[turn:], *names[:turn]][:MOST_AT_ONCE]
            said = [(name, _shown(answers[name][row.item].completion or "", plain)) for name in order]
            yield _task(f"t{place}", said, **base)
        else:
            name = singles[place % len(singles)]
            text = row.references[0] if name == REFERENCE else answers[name][row.item].completion or ""
            yield JudgeTask(id=f"t{place}", left=name, left_text=_shown(text, plain), **base)


def _task(name: str, said: Sequence[tuple[str, str]], **others: Any) -> JudgeTask:
    (left, left_text), (right, right_text), *more = said
    return JudgeTask(
        id=name, left=left, left_text=left_text, right=right, right_text=right_text, more=tuple(more), **others
    )


def _gold(rows: Sequence[ItemRow], plain: bool, kind: JudgeKind, shown: int) -> Iterable[JudgeTask]:
    """Make tasks whose right choice is known: a right answer beside the right answers to something else."""
    rows = [row for row in rows if row.references]
    for number in range(len(rows) - shown + 1):
        row, *others = rows[number : number + shown]
        said = [(f"another item's {i + 1}", _shown(other.references[0], plain)) for i, other in enumerate(others)]
        place = number % shown
        said.insert(place, (REFERENCE, _shown(row.references[0], plain)))
        yield _task(
            f"g{number}",
            said,
            item=row.item,
            cluster=row.cluster,
            prompt=_shown(row.prompt, plain),
            purpose="gold",
            right_choice=str(place + 1) if kind == "best" else ("left", "right")[place],
        )


def more_tasks(round_id: str, most: int, *, store: Store | None = None, seed: int = 1) -> list[JudgeTask]:
    """Draw further tasks for judge models, on examples that the round did not use; drawn once, the same ever after.

    Args:
        round_id: a round of pairs.
        most: most examples.
        store: where records live; by default SIZEWISE_HOME.
        seed: seed of the draw.
    """
    store = store or Store()
    record = store.read(JudgeRound, round_id)
    known = tasks_of(round_id, store)
    found = [task for task in known.values() if task.id.startswith("m")]
    if len(found) >= most:
        return found[:most]
    answers, data = _answers(record.evaluations, store)
    used = {task.item for task in known.values() if not task.id.startswith("m")}
    free = [one for one in _examples(answers, data, store, None, seed) if one[0].item not in used]
    rng = random.Random(seed)
    made = _tasks(record.kind, record.evaluations, answers, free[:most], record.plain, True, rng)
    tasks = [task.model_copy(update={"id": f"m{task.id[1:]}"}) for task in made]
    store.write_rows(store.folder("round", round_id), MORE_TASKS_FILE, tasks)
    return tasks


def _assign(
    tasks: Sequence[JudgeTask],
    gold: Sequence[JudgeTask],
    raters: Sequence[str],
    votes_an_item: int,
    rng: random.Random,
) -> tuple[dict[str, list[str]], list[JudgeTask]]:
    """Share tasks out evenly, each rater's in an order of its own; give also the repeats that were made.

    Everybody sees the gold tasks, whose items nobody votes on.
    """
    order = list(tasks)
    rng.shuffle(order)
    by_rater: dict[str, list[JudgeTask]] = {name: [] for name in raters}
    for place, task in enumerate(order):
        for turn in range(votes_an_item):
            by_rater[raters[(place * votes_an_item + turn) % len(raters)]].append(task)
    made: list[JudgeTask] = []
    people: dict[str, list[str]] = {}
    for number, (name, own) in enumerate(by_rater.items()):
        rng.shuffle(own)
        line = [task.id for task in own]
        for task in gold:
            line.insert(rng.randrange(len(line) + 1), task.id)
        for task in own[: round(REPEAT_SHARE * len(own))] if tasks[0].right else ():
            kept = {name: getattr(task, name) for name in ("item", "cluster", "prompt", "passage", "tags")}
            again = _task(f"r{number}-{task.id}", task.answers[::-1], purpose="repeat", repeats=task.id, **kept)
            made.append(again)
            first = line.index(task.id)
            line.insert(rng.randint(min(len(line), first + REPEAT_AFTER), len(line)), again.id)
        people[name] = line
    return people, made


_MARKS = re.compile(r"(?m)^\s{0,3}(#{1,6}\s+|[-*+]\s+|>\s?)|\*\*|__|`+")
_LINES = re.compile(r"\n{3,}")
_EVEN = str.maketrans(
    {
        "\u201c": '"', "\u201d": '"', "\u201e": '"', "\u2018": "'", "\u2019": "'", "\u2013": "-", "\u2014": "-",
        "\u2026": "...", "\u00a0": " ",
    }
)  # fmt: skip


def _shown(text: str, plain: bool) -> str:
    """Cut a text at what a page can hold, and even out its typography."""
    text = text[:MOST_SHOWN] + (" [cut]" if len(text) > MOST_SHOWN else "")
    if not plain:
        return text.strip()
    return _LINES.sub("\n\n", _MARKS.sub("", text).translate(_EVEN)).strip()
