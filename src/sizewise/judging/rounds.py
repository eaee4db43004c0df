"""A round of blind judging: who sees what in which order."""

from __future__ import annotations

import random
import secrets
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import Any, NamedTuple

from sizewise import datasets
from sizewise.errors import SizewiseError, UsageError
from sizewise.judging.answered import Answered, letters_of, read_answered, shown
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
from sizewise.store import Saved, Store

REPEAT_SHARE, GOLD_SHARE = 0.1, 0.08
REPEAT_AFTER = 4  # tasks between the first and the second showing
MOST_AT_ONCE = 6  # answers to choose the best of
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

    stored: Saved[JudgeRound]
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
    repeat with swapped sides; in pairs a few gold tasks set the right answer beside that of another item. A candidate
    none of whose answers has text is left out, and two answers with the same text are not asked about.

    Args:
        ids: a study, a comparison, or two evaluations or more.
        store: where records live; by default SIZEWISE_HOME.
        kind: pairs, the best of several, ratings of one answer, or who wrote it.
        items: most examples, drawn from those that share nothing with training and have answers to set side by side.
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
        raise UsageError(f"A judge model cannot be held to {bar:g}.", "a share between 0 and 1", "--min-agreement 0.7")
    comparison, evaluations = _evaluations(ids, store)
    answered = read_answered(evaluations, plain, store)
    _enough(answered, kind, ids)
    among = min(len(answered.texts), MOST_AT_ONCE) if kind == "best" else 2
    wanted = round(GOLD_SHARE * items) + among if kind in ("pair", "best") else 0
    pool = _examples(answered, store, seed)
    kept = wanted if len(pool) >= 3 * wanted else 0
    rng = random.Random(seed)
    drawn = _draw(kind, answered, pool[: len(pool) - kept], items, plain, show_reference, rng)
    if not drawn.tasks:
        raise SizewiseError(
            f"There is nothing to ask: {', '.join(answered.texts)} gave the same texts, or answered other examples.",
            "an example with two different answers",
            f"sizewise judge open {' '.join(ids)} --kind rating",
        )
    tasks = drawn.tasks
    gold = list(_gold([row for row, _ in pool[len(pool) - kept :]], plain, kind, among))
    people, more = _assign(tasks, gold, raters, votes_an_item, rng)
    invitations = tuple(Invitation(name, secrets.token_urlsafe(18)) for name in raters)
    every = [*tasks, *gold, *more]
    record = JudgeRound(
        kind=kind,
        question=QUESTIONS[kind],
        data=answered.data,
        comparison=comparison,
        evaluations={name: evaluations[name] for name in answered.texts},
        items=len(tasks),
        tasks=len(every),
        raters=tuple(
            JudgeRater(
                name=one.rater, token_sha256=token_hash(one.token), origin=origin, tasks=tuple(people[one.rater])
            )
            for one in invitations
        ),
        seed=seed,
        plain=plain,
        min_agreement=bar,
        expires=(datetime.now(UTC) + timedelta(days=days)).isoformat(timespec="seconds"),
        left_out=answered.left_out,
        same=drawn.same,
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


def _enough(answered: Answered, kind: JudgeKind, ids: Sequence[str]) -> None:
    """Refuse a round that has too few candidates with answers, and name the others with the reason."""
    names, least = list(answered.texts), 2 if kind in ("pair", "best") else 1
    if len(names) + len(answered.left_out) < least:
        raise UsageError("There is one candidate only.", "two to set side by side, or --kind rating", "")
    if len(names) < least:
        who = f"Only {names[0]} has" if names else "No candidate has"
        raise SizewiseError(
            f"{who} answers to judge. " + " ".join(f"{name}: {why}." for name, why in answered.left_out.items()),
            f"{'two candidates' if least == 2 else 'a candidate'} with answers that have text",
            f"sizewise judge open {' '.join(ids)} --kind rating"
            if names
            else f"sizewise evaluate MODEL --data {answered.data} --metrics chrf",
        )


def _examples(answered: Answered, store: Store, seed: int) -> list[tuple[ItemRow, Example | None]]:
    """Give all examples in the order of the draw."""
    known: dict[str, Example] = {}
    if not answered.data.startswith("suite:"):
        known = {example.id: example for example in datasets.load(store, answered.data).examples["test"]}
    rows = list(answered.rows.values())
    random.Random(seed).shuffle(rows)
    return [(row, known.get(row.item)) for row in rows]


class Drawn(NamedTuple):
    """What a round asks."""

    tasks: list[JudgeTask]
    same: tuple[tuple[str, str, int], ...]
    """Two candidates, and how many of the examples they answered with the same text."""


def _draw(
    kind: JudgeKind,
    answered: Answered,
    examples: Iterable[tuple[ItemRow, Example | None]],
    most: int,
    plain: bool,
    show_reference: bool,
    rng: random.Random,
) -> Drawn:
    """Make a task of each example until there are enough; one that nothing can be asked about is passed over.

    Each pair, or each single candidate, is asked about equally often, as far as they answered. The same text twice is
    a tie by definition, and nobody is asked about it.
    """
    names = list(answered.texts)
    pairs = list(combinations(names, 2))
    singles = [*names, REFERENCE] if kind == "origin" else names
    rng.shuffle(pairs)
    asked: Counter[Any] = Counter()
    same: Counter[tuple[str, str]] = Counter()
    tasks: list[JudgeTask] = []
    for row, example in examples:
        if len(tasks) == most:
            break
        place, texts = len(tasks), {name: own.get(row.item, "") for name, own in answered.texts.items()}
        texts[REFERENCE] = shown(row.references[0], plain) if row.references else ""
        same.update((one, other) for one, other in pairs if texts[one] and texts[one] == texts[other])
        if kind == "pair":
            free = [(one, other) for one, other in pairs if texts[one] and texts[other] and texts[one] != texts[other]]
            chosen = min(free, key=lambda pair: asked[pair], default=())
            order = chosen[:: -1 if asked[chosen] % 2 else 1]  # each pair lies both ways equally often
            asked[chosen] += 1
        elif kind == "best":
            if place % len(names) == 0:
                rng.shuffle(names)
            turn = place % len(names)  # each lies first equally often
            some = answered.distinct(row.item, [*names[turn:], *names[:turn]])[:MOST_AT_ONCE]
            order = tuple(some) if len(some) > 1 else ()
        else:
            order = tuple(sorted((name for name in singles if texts[name]), key=lambda name: asked[name])[:1])
            asked.update(order)
        if not order:
            continue
        beside = show_reference and row.references and kind != "origin"
        tasks.append(
            _task(
                f"t{place}",
                [(name, texts[name]) for name in order],
                item=row.item,
                cluster=row.cluster,
                prompt=shown(row.prompt, plain),
                passage=texts[REFERENCE] if beside else "",
                tags=example.tags if example else (),
            )
        )
    return Drawn(tasks, tuple((*pair, count) for pair, count in sorted(same.items())))


def _task(name: str, said: Sequence[tuple[str, str]], **others: Any) -> JudgeTask:
    """Make a task of one answer or more."""
    (left, left_text), *more = said
    if more:
        others |= {"right": more[0][0], "right_text": more[0][1], "more": tuple(more[1:])}
    return JudgeTask(id=name, left=left, left_text=left_text, **others)


def _gold(rows: Sequence[ItemRow], plain: bool, kind: JudgeKind, among: int) -> Iterable[JudgeTask]:
    """Make tasks whose right choice is known: a right answer beside the right answers to something else.

    None of those may be a right answer here too: as yes, no, or a label it often is.
    """
    rows = [row for row in rows if row.references]
    number = 0
    for place, row in enumerate(rows):
        taken = {letters_of(one) for one in row.references}
        others: list[str] = []
        for other in [*rows[place + 1 :], *rows[:place]]:
            text = other.references[0]
            if len(others) < among - 1 and letters_of(text) not in taken and other.prompt != row.prompt:
                others.append(shown(text, plain))
                taken.add(letters_of(text))
        if len(others) < among - 1 or number > len(rows) - among:
            continue
        said = [(f"another item's {i + 1}", text) for i, text in enumerate(others)]
        right = number % among
        said.insert(right, (REFERENCE, shown(row.references[0], plain)))
        yield _task(
            f"g{number}",
            said,
            item=row.item,
            cluster=row.cluster,
            prompt=shown(row.prompt, plain),
            purpose="gold",
            right_choice=str(right + 1) if kind == "best" else ("left", "right")[right],
        )
        number += 1


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
    answered = read_answered(record.evaluations, record.plain, store)
    used = {task.item for task in known.values() if not task.id.startswith("m")}
    free = [one for one in _examples(answered, store, seed) if one[0].item not in used]
    made = _draw(record.kind, answered, free, most, record.plain, True, random.Random(seed)).tasks
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
