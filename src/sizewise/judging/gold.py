"""Gold tasks: pairs and groups of answers of which exactly one is correct, to check a rater's attention."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sizewise.judging.answered import has_text, letters_of, shown, turns_of
from sizewise.records import Example, ItemRow, JudgeKind, JudgeTask

REFERENCE = "reference"
MIN_SHUFFLED = 7  # words, or letters of a text without spaces, above which a random order looks wrong
MAX_SHARED_WORDS = 0.5  # of the shorter text; two texts that share more may both be acceptable


class Gold(NamedTuple):
    """Gold tasks of a round."""

    tasks: list[JudgeTask]
    """Tasks, each with the correct choice."""
    notes: tuple[str, ...]
    """Why there are fewer than planned."""


def make_gold(
    examples: Sequence[tuple[ItemRow, Example | None]],
    others: Sequence[ItemRow],
    plain: bool,
    kind: JudgeKind,
    choices: int,
    wanted: int,
) -> Gold:
    """Create tasks with a known answer: the reference answer next to reference answers of other items.

    A task must be decidable. A reference of another item is used only if it differs from every reference of this item
    and of every item with the same prompt, isn't contained in one, and shares at most half of its words with it.

    Args:
        examples: rows without another task, which become gold tasks, each with its example if the dataset is known.
        others: further examples whose references may be the wrong answers.
        plain: normalize typography.
        kind: pairs, or the best of several.
        choices: answers in a task.
        wanted: number of gold tasks to create.
    """
    rows = [row for row, _ in examples]
    known: dict[str, list[str]] = {}
    for row in [*rows, *others]:
        known.setdefault(letters_of(row.prompt), []).extend(row.references)
    tasks: list[JudgeTask] = []
    for position, (row, example) in enumerate(examples):
        if len(tasks) == wanted:
            break
        correct = shown(row.references[0], plain) if row.references else ""
        pool = [*rows[position + 1 :], *rows[:position], *others]
        wrong = list(_wrong_answers(row, known[letters_of(row.prompt)], pool, plain, choices - 1))
        if has_text(correct) and len(wrong) == choices - 1:
            common = {"prompt": shown(row.prompt, plain), "conversation": turns_of(row, example, plain)}
            tasks.append(_task(len(tasks), row, correct, wrong, kind, common))
    if len(tasks) >= wanted:
        return Gold(tasks, ())
    return Gold(
        tasks,
        (
            f"{len(tasks)} of {wanted} gold tasks: too few reference answers are clearly wrong for another question"
            + ("" if tasks else ", so the attention of raters isn't checked"),
        ),
    )


def make_shuffled(
    examples: Sequence[tuple[ItemRow, Example | None]], plain: bool, wanted: int, rng: random.Random
) -> Gold:
    """Create tasks that anyone who reads can answer: our text next to the same words in random order.

    Args:
        examples: rows without another task, each with its example if the dataset is known.
        plain: normalize typography.
        wanted: number of tasks to create.
        rng: random order.
    """
    tasks: list[JudgeTask] = []
    for row, example in examples:
        ours = shown(row.references[0], plain) if row.references else ""
        parts = ours.split() if len(ours.split()) > MIN_SHUFFLED else list(ours)
        if len(tasks) == wanted or len(parts) <= MIN_SHUFFLED:
            continue
        shuffled = rng.sample(parts, len(parts))
        wrong = (" " if " " in ours else "").join(shuffled)
        common = {"prompt": shown(row.prompt, plain), "conversation": turns_of(row, example, plain)}
        if shuffled != parts:
            tasks.append(_task(len(tasks), row, ours, [wrong], "pair", common))
    fewer = f"{len(tasks)} of {wanted} gold tasks: too few texts are long enough"
    return Gold(tasks, (fewer,) if len(tasks) < wanted else ())


def _wrong_answers(
    row: ItemRow, acceptable: Sequence[str], pool: Sequence[ItemRow], plain: bool, wanted: int
) -> Iterator[str]:
    """Yield texts that are wrong for an item, no two of them alike."""
    taken = list(acceptable)
    for other in pool:
        if not wanted:
            return
        text = shown(other.references[0], plain) if other.references else ""
        if has_text(text) and all(is_distinct(text, known) for known in taken):
            taken.append(text)
            wanted -= 1
            yield text


def is_distinct(text: str, other: str) -> bool:
    """Check that two answers can't both be right: neither contains the other, and they share few words."""
    one, two = letters_of(text).split(), letters_of(other).split()
    shorter, longer = sorted((set(one), set(two)), key=len)
    return len(shorter & longer) <= MAX_SHARED_WORDS * len(shorter) and "".join(one) != "".join(two)


def _task(
    number: int, row: ItemRow, correct: str, wrong: Sequence[str], kind: JudgeKind, common: Mapping[str, Any]
) -> JudgeTask:
    answers = [(f"another item's {i + 1}", text) for i, text in enumerate(wrong)]
    right = number % (len(wrong) + 1)
    answers.insert(right, (REFERENCE, correct))
    (left, left_text), (second, second_text), *more = answers
    return JudgeTask(
        id=f"g{number}",
        item=row.item,
        cluster=row.cluster,
        left=left,
        left_text=left_text,
        right=second,
        right_text=second_text,
        more=tuple(more),
        purpose="gold",
        right_choice=str(right + 1) if kind == "best" else ("left", "right")[right],
        **common,
    )
