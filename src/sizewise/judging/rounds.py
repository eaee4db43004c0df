"""A round of blind judging: who sees what in which order, and the votes as they arrive."""

from __future__ import annotations

import hashlib
import random
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import combinations, pairwise
from typing import NamedTuple

from sizewise import dataset as datasets
from sizewise.errors import SizewiseError, UsageError
from sizewise.records import (
    CHOICES,
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
    Vote,
    fingerprint,
)
from sizewise.store import Store, Stored

TASKS_FILE = "tasks.jsonl"
VOTES, STATE = "votes", "state"
REPEAT_SHARE, GOLD_SHARE = 0.1, 0.08
REPEAT_AFTER = 4  # tasks between the first and the second showing
MOST_SHOWN = 20_000  # characters of a text
DAYS = 30
REFERENCE = "reference"
QUESTIONS: dict[JudgeKind, str] = {
    "pair": "Which answer serves better somebody who asked this?",
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


class Ballot:
    """The votes of one round; safe against replays, other people's tasks and a kill at any moment.

    Args:
        store: where records live.
        round_id: id of the round.
    """

    def __init__(self, store: Store, round_id: str) -> None:
        self.id = round_id
        self.round = store.read(JudgeRound, round_id)
        rows = store.read_rows(store.folder("round", round_id), TASKS_FILE, JudgeTask)
        self.tasks = {task.id: task for task in rows}
        self._by_token = {rater.token_sha256: rater for rater in self.round.raters}
        self._ledger = store.ledger("round", round_id, any_thread=True)
        self._votes: dict[tuple[str, str], Vote] = {}
        for body in self._ledger.entries(VOTES).values():
            self._take(body)

    def _take(self, body: Mapping[str, object]) -> None:
        vote = Vote.model_validate({key: value for key, value in body.items() if key != "undone"})
        if body.get("undone"):
            self._votes.pop((vote.rater, vote.task), None)
        else:
            self._votes[vote.rater, vote.task] = vote

    @property
    def closed(self) -> bool:
        """Whether votes are no longer taken."""
        return self._ledger.entry(STATE, "closed") is not None

    def close_votes(self) -> None:
        """Take no more votes from now on."""
        self._ledger.append(STATE, "closed", {"at": datetime.now(UTC).isoformat(timespec="seconds")})

    def rater(self, token: str) -> JudgeRater:
        """Give the rater of a token.

        Raises:
            SizewiseError: the token is forged, or its time is over.
        """
        found = self._by_token.get(_hash(token))
        if found is None:
            raise SizewiseError("This link is not known.", "the link that you were given", "ask whoever sent it")
        if datetime.now(UTC) > datetime.fromisoformat(self.round.expires):
            raise SizewiseError("This link is over.", f"a vote before {self.round.expires}", "ask whoever sent it")
        return found

    def next_task(self, rater: JudgeRater) -> JudgeTask | None:
        """Give the first task without a vote; None where all are done."""
        name = next((name for name in rater.tasks if (rater.name, name) not in self._votes), None)
        return None if name is None else self.tasks[name]

    def done(self, rater: JudgeRater) -> int:
        """Count a rater's tasks with a vote."""
        return sum((rater.name, name) in self._votes for name in rater.tasks)

    def last(self, rater: JudgeRater) -> str | None:
        """Give the task that this rater judged last, of those that still count."""
        found = [task for name, task in self._votes if name == rater.name]
        return found[-1] if found else None

    def vote(self, rater: JudgeRater, vote: Vote, nonce: str) -> None:
        """Keep a vote; the same nonce again changes nothing, another vote on the same task takes its place.

        Raises:
            SizewiseError: the round is closed, the task is another's, or the choice does not fit.
        """
        if self.closed:
            raise SizewiseError("This round is closed.", "a vote before its end", "")
        if vote.task not in rater.tasks or vote.rater != rater.name:
            raise SizewiseError("This task is not yours.", "a task of your own", "load the page again")
        if vote.choice != "skip" and vote.choice not in CHOICES[self.round.kind]:
            raise SizewiseError(f"'{vote.choice}' is no choice here.", " or ".join(CHOICES[self.round.kind]), "")
        if vote.choice == "rated" and not vote.ratings:
            raise SizewiseError("Nothing was rated.", "at least one scale", "")
        self._keep(vote.model_dump(mode="json"), f"{rater.name}:{vote.task}:{nonce}")

    def undo(self, rater: JudgeRater, nonce: str) -> None:
        """Take back the last vote of a rater, if there is one."""
        task = self.last(rater)
        if task is not None and not self.closed:
            body = self._votes[rater.name, task].model_dump(mode="json") | {"undone": True}
            self._keep(body, f"{rater.name}:{task}:undo:{nonce}")

    def _keep(self, body: dict[str, object], key: str) -> None:
        if self._ledger.entry(VOTES, key) is None:
            self._ledger.append(VOTES, key, body)
            self._votes.pop((str(body["rater"]), str(body["task"])), None)  # the last one stands last
            self._take(body)

    def votes(self) -> list[Vote]:
        """Give the votes that count, in the order of arrival."""
        return list(self._votes.values())

    def close(self) -> None:
        """Close the ledger."""
        self._ledger.close()


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8")).hexdigest()


# -- making a round -------------------------------------------------------------------------------------


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
    days: int = DAYS,
    seed: int = 0,
) -> Opened:
    """Make a round from what candidates answered.

    Sides are random and balanced, each item is shown to `votes_an_item` raters, nobody sees an item twice but in a
    repeat with swapped sides; in pairs and ratings a few gold tasks set the right answer beside that of another item.

    Args:
        ids: a study, a comparison, or two evaluations or more.
        store: where records live; by default SIZEWISE_HOME.
        kind: pairs, ratings of one answer, or who wrote it.
        items: most examples, drawn from those that share nothing with training and were answered by all.
        raters: names of those who will judge.
        votes_an_item: different raters that see each item.
        origin: whether they are people; what others say never enters a verdict.
        plain: even out typography, so that marks and quotes do not betray a model.
        show_reference: show the right answer beside.
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
    comparison, evaluations = _evaluations(ids, store)
    answers, data = _answers(evaluations, store)
    wanted = round(GOLD_SHARE * items) + 2 if kind == "pair" else 0
    drawn = _examples(answers, data, store, items + wanted, seed)
    kept = wanted if len(drawn) > 3 * wanted else 0
    examples, spare = drawn[: len(drawn) - kept], [row for row, _ in drawn[len(drawn) - kept :]]
    rng = random.Random(seed)
    tasks = list(_tasks(kind, evaluations, answers, examples, plain, show_reference, rng))
    gold = list(_gold(spare, plain))
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
            JudgeRater(name=one.rater, token_sha256=_hash(one.token), origin=origin, tasks=tuple(people[one.rater]))
            for one in invitations
        ),
        seed=seed,
        plain=plain,
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
            if row.kind == "example" and row.completion and not row.error
        }
        for name, one in evaluations.items()
    }
    return rows, data.pop()


def _examples(
    answers: Mapping[str, Mapping[str, ItemRow]], data: str, store: Store, items: int, seed: int
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
    chosen = rng.sample(rows, min(items, len(rows)))
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
    if kind == "pair" and len(names) < 2:
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
        else:
            name = singles[place % len(singles)]
            text = row.references[0] if name == REFERENCE else answers[name][row.item].completion or ""
            yield JudgeTask(id=f"t{place}", left=name, left_text=_shown(text, plain), **base)


def _gold(rows: Sequence[ItemRow], plain: bool) -> Iterable[JudgeTask]:
    """Make tasks whose right choice is known: a right answer beside the right answer to something else."""
    rows = [row for row in rows if row.references]
    for number, (row, other) in enumerate(pairwise(rows)):
        texts = [_shown(row.references[0], plain), _shown(other.references[0], plain)]
        names = [REFERENCE, "another item's"]
        if number % 2:
            texts.reverse()
            names.reverse()
        yield JudgeTask(
            id=f"g{number}",
            item=row.item,
            cluster=row.cluster,
            prompt=_shown(row.prompt, plain),
            left=names[0],
            right=names[1],
            left_text=texts[0],
            right_text=texts[1],
            purpose="gold",
            right_choice="right" if number % 2 else "left",
        )


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
            again = task.model_copy(
                update={
                    "id": f"r{number}-{task.id}", "left": task.right, "right": task.left, "purpose": "repeat",
                    "left_text": task.right_text, "right_text": task.left_text, "repeats": task.id,
                }
            )  # fmt: skip
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
