"""Rounds of blind judging: which rater sees which answers, in which order."""

from __future__ import annotations

import random
import secrets
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import Any, NamedTuple

from sizewise import datasets
from sizewise.errors import SizewiseError, UsageError
from sizewise.judging.answered import Answered, read_answered, same_answer, shown, turns_of
from sizewise.judging.ballot import MORE_TASKS_FILE, REPEAT_AFTER, TASKS_FILE, tasks_of, token_hash
from sizewise.judging.gold import REFERENCE, Gold, make_gold, make_shuffled
from sizewise.records import (
    MAX_GUIDELINES,
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
GOLD_SPARE = 2  # examples kept for each gold task, as some have no clearly wrong answer
MAX_ANSWERS = 6  # in a best-of-several task
MAX_OTHER_PAIRS = 9  # that may be asked on an example instead of the assigned one
DAYS = 30
MIN_AGREEMENT = 0.7
QUESTIONS: dict[JudgeKind, str] = {
    "pair": "Which answer is more helpful?",
    "best": "Which answer is the most helpful?",
    "rating": "How good is this answer?",
    "origin": "Was this written by a person or by a model?",
    "ours": "Which of these texts is ours?",
}


class RoundDesign(NamedTuple):
    """Design of a round: what raters see, how much of it, and under which conditions."""

    kind: JudgeKind = "pair"
    """Pairs, the best of several, ratings of single answers, person or model, or which of two texts is ours."""
    items: int = 60
    """Maximum number of examples, drawn from the uncontaminated ones that have answers to compare."""
    raters: Sequence[str] = ("rater 1",)
    """Names of the raters."""
    votes_per_item: int = 1
    """Different raters who see each item."""
    origin: Origin = "person"
    """Origin of the raters; only votes of people enter a verdict."""
    plain: bool = True
    """Normalize typography, so that markup and quotation marks don't identify a model."""
    show_reference: bool = True
    """Show the reference answer next to the candidates' answers."""
    min_agreement: float = MIN_AGREEMENT
    """Agreement with people that a judge model must reach before its votes count."""
    days: int = DAYS
    """Validity of the links in days."""
    guidelines: str = ""
    """Instructions to the raters, as plain text or Markdown."""
    adaptive: bool = False
    """With three candidates or more, ask the pair next that tells most about the best one; see `most_informative`."""

    def check(self) -> None:
        """Check that the numbers fit together.

        Raises:
            UsageError: they don't.
        """
        if not self.raters or len(set(self.raters)) < len(self.raters):
            raise UsageError(
                f"Rater names must be different: {', '.join(self.raters) or 'none given'}.",
                "--raters 3, or different names separated by commas",
                "--raters Ada,Ben",
            )
        if not 1 <= self.votes_per_item <= len(self.raters):
            raise UsageError(
                f"Each item needs {self.votes_per_item} raters, but there are {len(self.raters)}.",
                "at least one vote per item, and as many raters as votes per item",
                f"--votes-per-item {len(self.raters)}",
            )
        if not 0 < self.min_agreement < 1:
            raise UsageError(
                f"A minimum agreement of {self.min_agreement:g} isn't possible.",
                "a share between 0 and 1",
                "--min-agreement 0.7",
            )
        if self.adaptive and self.kind != "pair":
            raise UsageError(
                f"--adaptive chooses the next pair, and a round of the kind '{self.kind}' has no pairs to choose.",
                "--kind pair with it",
                f"--kind {self.kind} without --adaptive",
            )
        if len(self.guidelines) > MAX_GUIDELINES:
            raise UsageError(
                f"The guidelines have {len(self.guidelines):,} characters.",
                f"at most {MAX_GUIDELINES:,}, so that raters read them",
                "shorten the file",
            )


class Invitation(NamedTuple):
    """A rater and the secret token of their link, which isn't stored."""

    rater: str
    token: str


class Opened(NamedTuple):
    """A new round and its invitations."""

    stored: Saved[JudgeRound]
    invitations: tuple[Invitation, ...]


def open_round(
    ids: Sequence[str], design: RoundDesign | None = None, *, store: Store | None = None, seed: int = 0
) -> Opened:
    """Create a round of blind judging from the candidates' answers.

    Sides are random and balanced. Each item goes to `votes_per_item` raters, and no rater sees an item twice, except in
    a repeat with swapped sides. In pairs, some gold tasks show a reference answer next to that of another item.
    Candidates whose answers are all empty are left out, and two answers with the same text are never compared: they are
    counted as ties.

    Args:
        ids: a study, a comparison, or two evaluations or more.
        design: kind of round, examples and raters.
        store: where records live; by default SIZEWISE_HOME.
        seed: seed of the draw, of the sides and of the order.

    Raises:
        UsageError: the design is inconsistent, or these records can't be judged.
        SizewiseError: a record is missing, or no example can be judged.
    """
    store, design = store or Store(), design or RoundDesign()
    design.check()
    comparison, evaluations = _evaluations(ids, store)
    answered = read_answered(evaluations, design.plain, store)
    _check_candidates(answered, design.kind, ids)
    rng = random.Random(seed)
    drawn, gold = _drawn_and_gold(answered, design, ids, store, seed, rng)
    assigned, repeats = _assign(drawn.tasks, gold.tasks, design, rng)
    invitations = tuple(Invitation(name, secrets.token_urlsafe(18)) for name in design.raters)
    tasks = [*drawn.tasks, *gold.tasks, *repeats]
    repeated = {task.repeats for task in repeats}
    others = [task for task in drawn.others if task.replaces not in repeated]  # a repeat shows what its rater saw
    record = JudgeRound(
        kind=design.kind,
        question=QUESTIONS[design.kind],
        data=answered.data,
        comparison=comparison,
        evaluations={name: evaluations[name] for name in answered.texts},
        items=len(drawn.tasks),
        tasks=len(tasks),
        raters=_rater_records(invitations, assigned, design.origin),
        seed=seed,
        plain=design.plain,
        min_agreement=design.min_agreement,
        expires=(datetime.now(UTC) + timedelta(days=design.days)).isoformat(timespec="seconds"),
        left_out=answered.left_out,
        same=drawn.same,
        both_answered=drawn.both_answered,
        guidelines=design.guidelines,
        adaptive=design.adaptive and design.kind == "pair" and len(answered.texts) > 2,
        harm_by_answer=True,
        notes=gold.notes,
    )
    round_id = f"round-{fingerprint([record.model_dump(mode='json')])}"
    store.write_rows(store.folder("round", round_id), TASKS_FILE, [*tasks, *others])
    return Opened(store.write(round_id, record), invitations)


def _rater_records(
    invitations: Sequence[Invitation], assigned: Mapping[str, Sequence[str]], origin: Origin
) -> tuple[JudgeRater, ...]:
    """Create the record of each rater, with the hash of the token only."""
    return tuple(
        JudgeRater(
            name=invitation.rater,
            token_sha256=token_hash(invitation.token),
            origin=origin,
            tasks=tuple(assigned[invitation.rater]),
        )
        for invitation in invitations
    )


def _drawn_and_gold(
    answered: Answered, design: RoundDesign, ids: Sequence[str], store: Store, seed: int, rng: random.Random
) -> tuple[Drawn, Gold]:
    """Draw the tasks of a round and its gold tasks, from different examples.

    Raises:
        SizewiseError: no example has two different answers.
    """
    choices = min(len(answered.texts), MAX_ANSWERS) if design.kind == "best" else 2
    pool = _examples(answered, store, seed)
    asked = min(design.items, len(pool))
    wanted = max(1, round(GOLD_SHARE * asked)) if design.kind in ("pair", "best", "ours") else 0
    kept = min(GOLD_SPARE * wanted, len(pool) // 3)
    drawn = _draw(answered, pool[: len(pool) - kept], design, rng)
    if not drawn.tasks and design.kind == "ours":
        raise SizewiseError(
            "No example has a text of ours next to another one.",
            "examples with a reference answer that differs from the candidates' answers",
            f"sizewise judge open {' '.join(ids)} --kind rating",
        )
    if not drawn.tasks:
        raise SizewiseError(
            f"There is nothing to compare: {', '.join(answered.texts)} gave the same answers, or answered different "
            "examples.",
            "an example with two different answers",
            f"sizewise judge open {' '.join(ids)} --kind rating",
        )
    reserved, others = pool[len(pool) - kept :], [row for row, _ in pool[: len(pool) - kept]]
    if not wanted:
        return drawn, Gold([], ())
    if design.kind == "ours":
        return drawn, make_shuffled(reserved, design.plain, wanted, rng)
    return drawn, make_gold(reserved, others, design.plain, design.kind, choices, wanted)


def _evaluations(ids: Sequence[str], store: Store) -> tuple[str | None, dict[str, str]]:
    kinds = [store.kind_of(record_id) for record_id in ids]
    if kinds == ["study"]:
        study = store.read(Study, ids[0])
        return _without_baselines(study.comparison, store)
    if kinds == ["comparison"]:
        return _without_baselines(ids[0], store)
    if len(ids) < 1 or set(kinds) != {"evaluation"}:
        raise UsageError(f"{', '.join(ids)} can't be judged.", "a study, a comparison, or evaluations", "sizewise runs")
    return None, {store.read(Evaluation, record_id).model.uri: record_id for record_id in ids}


def _without_baselines(comparison: str, store: Store) -> tuple[str, dict[str, str]]:
    compared = store.read(Comparison, comparison)
    kept = {name: found for name, found in compared.evaluations.items() if compared.models[name].role == "candidate"}
    return comparison, kept


def _check_candidates(answered: Answered, kind: JudgeKind, ids: Sequence[str]) -> None:
    """Check that enough candidates have answers, and name the others with the reason.

    Raises:
        SizewiseError: too few candidates have answers.
    """
    names, needed = list(answered.texts), 2 if kind in ("pair", "best") else 1
    if len(names) + len(answered.left_out) < needed:
        raise UsageError(
            "There is only one candidate.",
            "two candidates to compare, or --kind rating",
            f"sizewise judge open {' '.join(ids)} --kind rating",
        )
    if len(names) < needed:
        who = f"Only {names[0]} has" if names else "No candidate has"
        raise SizewiseError(
            f"{who} answers to judge. " + " ".join(f"{name}: {why}." for name, why in answered.left_out.items()),
            f"{'two candidates' if needed == 2 else 'a candidate'} with answers that have text",
            f"sizewise judge open {' '.join(ids)} --kind rating"
            if names
            else f"sizewise evaluate MODEL --data {answered.data} --metrics chrf",
        )


def _examples(answered: Answered, store: Store, seed: int) -> list[tuple[ItemRow, Example | None]]:
    """Return all examples in random order."""
    known: dict[str, Example] = {}
    if not answered.data.startswith("suite:"):
        known = {example.id: example for example in datasets.load(store, answered.data).examples["test"]}
    rows = list(answered.rows.values())
    random.Random(seed).shuffle(rows)
    return [(row, known.get(row.item)) for row in rows]


class Drawn(NamedTuple):
    """Tasks of a round, and pairs of equal answers that were skipped."""

    tasks: list[JudgeTask]
    same: tuple[tuple[str, str, int], ...]
    """Two candidates, and the number of examples that both answered with the same text."""
    both_answered: tuple[tuple[str, str, int], ...]
    """Two candidates, and the number of examples that both answered."""
    others: list[JudgeTask]
    """Other pairs on the same examples, in case they tell more by then."""


def _draw(
    answered: Answered,
    examples: Iterable[tuple[ItemRow, Example | None]],
    design: RoundDesign,
    rng: random.Random,
) -> Drawn:
    """Create a task from each example until there are enough; examples without a possible task are skipped.

    Each pair, or each single candidate, gets the same number of tasks as far as their answers allow. Two answers with
    the same text are a tie by definition and need no vote.
    """
    names = list(answered.texts)
    pairs = list(combinations(names, 2))
    singles = [*names, REFERENCE] if design.kind == "origin" else names
    rng.shuffle(pairs)
    used: Counter[Any] = Counter()
    same: Counter[tuple[str, str]] = Counter()
    both: Counter[tuple[str, str]] = Counter()
    tasks: list[JudgeTask] = []
    others: list[JudgeTask] = []
    used_elsewhere: Counter[Any] = Counter()
    for row, example in examples:
        if len(tasks) == design.items:
            break
        number, texts = len(tasks), {name: answers.get(row.item, "") for name, answers in answered.texts.items()}
        texts[REFERENCE] = shown(row.references[0], design.plain) if row.references else ""
        answering = [(left, right) for left, right in pairs if texts[left] and texts[right]]
        both.update(answering)
        different = [pair for pair in answering if not same_answer(texts[pair[0]], texts[pair[1]])]
        same.update(set(answering) - set(different))
        if design.kind == "pair":
            order = _next_pair(different, used)
        elif design.kind == "best":
            order = _next_several(answered, row.item, names, number, rng)
        elif design.kind == "ours":
            order = _with_ours(names, texts, used)
        else:
            order = tuple(sorted((name for name in singles if texts[name]), key=lambda name: used[name])[:1])
            used.update(order)
        if not order:
            continue
        with_reference = design.show_reference and row.references and design.kind not in ("origin", "ours")
        common = {
            "item": row.item,
            "cluster": row.cluster,
            "prompt": shown(row.prompt, design.plain),
            "conversation": turns_of(row, example, design.plain),
            "passage": texts[REFERENCE] if with_reference else "",
            "tags": example.tags if example else (),
        }
        tasks.append(_task(f"t{number}", [(name, texts[name]) for name in order], **common))
        if design.kind == "pair" and design.adaptive:
            rest = [pair for pair in different if set(pair) != set(order)]
            others += _other_pairs(f"t{number}", rest, texts, used_elsewhere, common)
    same_counts, both_counts = (tuple((*pair, n) for pair, n in sorted(found.items())) for found in (same, both))
    return Drawn(tasks, same_counts, both_counts, others)


def _other_pairs(
    place: str,
    pairs: Sequence[tuple[str, str]],
    texts: Mapping[str, str],
    used: Counter[Any],
    common: Mapping[str, Any],
) -> Iterable[JudgeTask]:
    """Create the tasks of other pairs that may be asked in the place of a task; the least used pairs come first."""
    for turn, pair in enumerate(sorted(pairs, key=lambda pair: used[pair])[:MAX_OTHER_PAIRS]):
        order = pair[:: -1 if used[pair] % 2 else 1]
        used[pair] += 1
        yield _task(f"o{place}-{turn}", [(name, texts[name]) for name in order], replaces=place, **common)


def _next_pair(possible: Sequence[tuple[str, str]], used: Counter[Any]) -> tuple[str, ...]:
    """Choose the pair with the fewest tasks among those with two different answers; sides alternate."""
    chosen: tuple[str, ...] = min(possible, key=lambda pair: used[pair], default=())
    order = chosen[:: -1 if used[chosen] % 2 else 1]  # each candidate of a pair is on the left equally often
    used[chosen] += 1
    return order


def _next_several(answered: Answered, item: str, names: list[str], number: int, rng: random.Random) -> tuple[str, ...]:
    """Choose up to MAX_ANSWERS candidates with different answers; each comes first equally often."""
    if number % len(names) == 0:
        rng.shuffle(names)
    turn = number % len(names)
    distinct = answered.distinct(item, [*names[turn:], *names[:turn]])[:MAX_ANSWERS]
    return tuple(distinct) if len(distinct) > 1 else ()


def _with_ours(names: Sequence[str], texts: Mapping[str, str], used: Counter[Any]) -> tuple[str, ...]:
    """Choose the candidate with the fewest tasks whose text differs from ours; sides alternate."""
    differing = [name for name in names if texts[name] and not same_answer(texts[name], texts[REFERENCE])]
    if not texts[REFERENCE] or not differing:
        return ()
    chosen = min(differing, key=lambda name: used[name])
    used[chosen] += 1
    return (chosen, REFERENCE) if used[chosen] % 2 else (REFERENCE, chosen)


def _task(name: str, answers: Sequence[tuple[str, str]], **others: Any) -> JudgeTask:
    """Create a task from one or more (candidate, answer)."""
    (left, left_text), *more = answers
    if more:
        others |= {"right": more[0][0], "right_text": more[0][1], "more": tuple(more[1:])}
    return JudgeTask(id=name, left=left, left_text=left_text, **others)


def more_tasks(round_id: str, limit: int, *, store: Store | None = None, seed: int = 1) -> list[JudgeTask]:
    """Draw additional tasks for judge models from examples outside the round; they are drawn once and then reused.

    Args:
        round_id: a round of pairs.
        limit: maximum number of examples.
        store: where records live; by default SIZEWISE_HOME.
        seed: seed of the draw.
    """
    store = store or Store()
    record = store.read(JudgeRound, round_id)
    known = tasks_of(round_id, store)
    found = [task for task in known.values() if task.id.startswith("m")]
    if len(found) >= limit:
        return found[:limit]
    answered = read_answered(record.evaluations, record.plain, store)
    used = {task.item for task in known.values() if not task.id.startswith("m")}
    free = [(row, example) for row, example in _examples(answered, store, seed) if row.item not in used]
    design = RoundDesign(kind=record.kind, items=limit, plain=record.plain)
    drawn = _draw(answered, free, design, random.Random(seed)).tasks
    tasks = [task.model_copy(update={"id": f"m{task.id[1:]}"}) for task in drawn]
    store.write_rows(store.folder("round", round_id), MORE_TASKS_FILE, tasks)
    return tasks


def _assign(
    tasks: Sequence[JudgeTask], gold: Sequence[JudgeTask], design: RoundDesign, rng: random.Random
) -> tuple[dict[str, list[str]], list[JudgeTask]]:
    """Assign tasks evenly to raters, in a different order for each, and create the repeats.

    Every rater gets the gold tasks, whose items have no other tasks.

    Returns:
        Rater -> task ids in order, and the repeats.
    """
    raters, votes_per_item = design.raters, design.votes_per_item
    order = list(tasks)
    rng.shuffle(order)
    by_rater: dict[str, list[JudgeTask]] = {name: [] for name in raters}
    for position, task in enumerate(order):
        for turn in range(votes_per_item):
            by_rater[raters[(position * votes_per_item + turn) % len(raters)]].append(task)
    repeats: list[JudgeTask] = []
    assigned: dict[str, list[str]] = {}
    for number, (name, mine) in enumerate(by_rater.items()):
        rng.shuffle(mine)
        queue = [task.id for task in mine]
        for task in gold:
            queue.insert(rng.randrange(len(queue) + 1), task.id)
        for task in mine[: round(REPEAT_SHARE * len(mine))] if tasks[0].right else ():
            kept = {
                field: getattr(task, field)
                for field in ("item", "cluster", "prompt", "conversation", "passage", "tags")
            }
            repeat = _task(f"r{number}-{task.id}", task.answers[::-1], purpose="repeat", repeats=task.id, **kept)
            repeats.append(repeat)
            first = queue.index(task.id)
            queue.insert(rng.randint(min(len(queue), first + REPEAT_AFTER), len(queue)), repeat.id)
        assigned[name] = queue
    return assigned, repeats
