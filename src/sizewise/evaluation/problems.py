"""Arithmetic and reasoning problems, generated from a fixed seed, so no model has studied the answers.

A model may work a problem out; what it states as its answer counts. Similar sets: Cobbe et al. (2021), Training
verifiers to solve math word problems; Weston et al. (2016), Towards AI-complete question answering.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from sizewise.errors import UsageError
from sizewise.evaluation.likelihoods import Continuation
from sizewise.evaluation.suite_types import FloatArray, Stats, SuiteItem
from sizewise.metrics.content import content_match
from sizewise.metrics.figures import main_quantities, plain_numbers
from sizewise.models.prompts import question_prompt
from sizewise.records import ItemRow, Message, Request

PER_GROUP, SEED = 40, 20_261
WORKING_TOKENS = 512
"""Maximum length of an answer with its working; reasoning has a limit of its own."""
TEXT_TOKENS = 24
"""Maximum length of an answer that continues a text: it ends with its line."""
MAX_WORDS = 30
"""Words of a stated answer that are read: a longer one may list every possible answer."""
INSTRUCTION = "Work it out. Then write one last line: Answer: followed by the answer alone."
SHOTS = {
    "arithmetic": (
        ("What is 14 + 9?", "23"),
        ("What is 6 x 8?", "48"),
        ("A box holds 4 cups. How many cups do 5 boxes hold?", "20"),
    ),
    "reasoning": (
        ("Uma is older than Vic. Vic is older than Wes. Who is the youngest?", "Wes"),
        ("Today is Monday. Which day of the week is it in 3 days?", "Thursday"),
        ("Every zorn is a mip. Tal is a zorn. Is Tal a mip?", "yes"),
    ),
}
"""Worked examples for models that continue a text; none of them is asked."""
_STATED = re.compile(r"(?:^|\n|[.!?]\s)\W*(?:final\s+)?answer\W*(?:is\b)?[:\s*]*", re.IGNORECASE)
NAMES = ("Ana", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hana", "Ivo", "Jana", "Kim", "Leo", "Mia", "Noor", "Ola")
THINGS = ("apples", "books", "coins", "pens", "stamps", "tickets", "keys", "cards", "shells", "nuts")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
DIRECTIONS = ("north", "east", "south", "west")
_SYLLABLES = ("bl", "dr", "fl", "gr", "kl", "pr", "sn", "tr", "vl", "zw")
_ENDINGS = ("ack", "eb", "im", "oft", "ump", "arn", "isk", "olp")


class Problem(NamedTuple):
    """A problem and its answer."""

    question: str
    answer: str


def _addition(rng: random.Random) -> Problem:
    left, right = rng.randint(11, 999), rng.randint(11, 999)
    return Problem(f"What is {left} + {right}?", str(left + right))


def _subtraction(rng: random.Random) -> Problem:
    right = rng.randint(11, 499)
    left = right + rng.randint(5, 499)
    return Problem(f"What is {left} - {right}?", str(left - right))


def _multiplication(rng: random.Random) -> Problem:
    left, right = rng.randint(3, 99), rng.randint(3, 19)
    return Problem(f"What is {left} x {right}?", str(left * right))


def _division(rng: random.Random) -> Problem:
    right, found = rng.randint(3, 19), rng.randint(3, 99)
    return Problem(f"What is {right * found} divided by {right}?", str(found))


def _two_steps(rng: random.Random) -> Problem:
    name, thing = rng.choice(NAMES), rng.choice(THINGS)
    boxes, each, more = rng.randint(3, 12), rng.randint(4, 25), rng.randint(3, 40)
    if rng.random() < 0.5:
        question = f"{name} has {boxes} boxes with {each} {thing} each and gets {more} more {thing}."
        return Problem(f"{question} How many {thing} does {name} have now?", str(boxes * each + more))
    more = min(more, boxes * each - 1)
    question = f"{name} buys {boxes} packs of {each} {thing} and gives {more} of them away."
    return Problem(f"{question} How many {thing} are left?", str(boxes * each - more))


def _order(rng: random.Random) -> Problem:
    people = rng.sample(NAMES, 4)  # from the oldest to the youngest
    clues = [f"{older} is older than {younger}." for older, younger in pairwise(people)]
    rng.shuffle(clues)
    oldest = rng.random() < 0.5
    question = f"{' '.join(clues)} Who is the {'oldest' if oldest else 'youngest'}?"
    return Problem(question, people[0] if oldest else people[-1])


def _rules(rng: random.Random) -> Problem:
    first, second, third = rng.sample([start + end for start in _SYLLABLES for end in _ENDINGS], 3)
    name = rng.choice(NAMES)
    rules = [f"Every {first} is a {second}.", f"No {second} is a {third}."]
    positive = rng.random() < 0.5
    if positive:
        rules[1] = f"Every {second} is a {third}."
    rng.shuffle(rules)
    return Problem(f"{' '.join(rules)} {name} is a {first}. Is {name} a {third}?", "yes" if positive else "no")


def _calendar(rng: random.Random) -> Problem:
    today, days = rng.randrange(7), rng.randint(4, 60)
    later = rng.random() < 0.5
    when = f"in {days} days" if later else f"{days} days ago"
    verb = "is" if later else "was"
    answer = DAYS[(today + (days if later else -days)) % 7]
    return Problem(f"Today is {DAYS[today]}. Which day of the week {verb} it {when}?", answer)


def _transfers(rng: random.Random) -> Problem:
    (one, other, third), thing = rng.sample(NAMES, 3), rng.choice(THINGS)
    counts = {name: rng.randint(8, 20) for name in (one, other, third)}
    told = [f"{name} has {count} {thing}." for name, count in counts.items()]
    for giver, taker in ((one, other), (other, third), (third, one)):
        given = rng.randint(1, 7)
        counts[giver], counts[taker] = counts[giver] - given, counts[taker] + given
        told.append(f"{giver} gives {given} to {taker}.")
    asked = rng.choice((one, other, third))
    return Problem(f"{' '.join(told)} How many {thing} does {asked} have now?", str(counts[asked]))


def _turns(rng: random.Random) -> Problem:
    facing = start = rng.randrange(4)
    told = []
    for _ in range(rng.randint(3, 5)):
        turn = rng.choice(("left", "right", "around"))
        facing += {"left": -1, "right": 1, "around": 2}[turn]
        told.append(f"turns {turn}")
    name = rng.choice(NAMES)
    question = f"{name} faces {DIRECTIONS[start]}, {', '.join(told[:-1])} and then {told[-1]}."
    return Problem(f"{question} Which direction does {name} face now?", DIRECTIONS[facing % 4])


GENERATORS: Mapping[str, Mapping[str, Callable[[random.Random], Problem]]] = {
    "arithmetic": {
        "addition": _addition,
        "subtraction": _subtraction,
        "multiplication": _multiplication,
        "division": _division,
        "two steps": _two_steps,
    },
    "reasoning": {
        "order": _order,
        "rules": _rules,
        "calendar": _calendar,
        "transfers": _transfers,
        "turns": _turns,
    },
}


def _different(generate: Callable[[random.Random], Problem], rng: random.Random) -> Iterator[Problem]:
    """Yield problems with different questions."""
    known: set[str] = set()
    while len(known) < PER_GROUP:
        found = generate(rng)
        if found.question not in known:
            known.add(found.question)
            yield found


def _load(suite: str, path: Path | None) -> list[SuiteItem]:
    if path is not None:
        raise UsageError(f"The suite {suite} takes no data.", f"--suite {suite} alone", "remove --data")
    items = []
    for group, generate in GENERATORS[suite].items():
        for number, problem in enumerate(_different(generate, random.Random(f"{SEED} {group}"))):
            texts = (Continuation(question_prompt(problem.question), f" {problem.answer}"),)
            name = f"{group.replace(' ', '-')}-{number}"
            items.append(SuiteItem(name, group, name, texts, _unscored, problem.question))
    return items


def arithmetic(path: Path | None) -> list[SuiteItem]:
    """Generate the arithmetic problems, 40 in each of five groups.

    Raises:
        UsageError: a path is given.
    """
    return _load("arithmetic", path)


def reasoning(path: Path | None) -> list[SuiteItem]:
    """Generate the reasoning problems, 40 in each of five groups.

    Raises:
        UsageError: a path is given.
    """
    return _load("reasoning", path)


def _unscored(nats: FloatArray, tokens: FloatArray) -> Stats:
    raise TypeError("problems are measured on answers")


def problem_request(suite: str, item: SuiteItem, *, chat: bool) -> Request:
    """Build the request for a problem: a message, or worked examples for a model that continues a text."""
    if chat:
        prompt = f"{item.question}\n\n{INSTRUCTION}"
        return Request(id=item.id, messages=(Message(role="user", content=prompt),), max_tokens=WORKING_TOKENS)
    shots = "\n\n".join(question_prompt(question, answer) for question, answer in SHOTS[suite])
    text = f"{shots}\n\n{question_prompt(item.question)}"
    return Request(id=item.id, text=text, stop=("\n",), max_tokens=TEXT_TOKENS)


def is_solved(answer: str, references: Sequence[str], question: str) -> bool:
    """Check whether what an answer states as the answer is right: after the last "Answer:", or else its last line."""
    stated = list(_STATED.finditer(answer))
    lines = [line for line in answer[stated[-1].end() if stated else 0 :].splitlines() if line.strip()]
    if not lines:
        return False
    line = lines[0] if stated else lines[-1]
    if len(line.split()) > MAX_WORDS or line.rstrip().endswith("?"):
        return False
    line = line.rsplit("=", 1)[-1]
    return any(
        content_match(line, reference, question) == 1.0 and _is_alone(line, reference, bool(stated))
        for reference in references
    )


def problem_stats(metric: str, row: ItemRow) -> Stats:
    """Compute the statistics of an answered problem: (1 or 0, 1)."""
    return {metric: (float(is_solved(row.completion or "", row.references, row.prompt)), 1.0)}


def _is_alone(line: str, reference: str, stated: bool) -> bool:
    """Check that a line states no other number, name, day or direction; after "Answer:" the first one counts."""
    if reference.isdecimal():
        return len({one.amounts[:1] for one in main_quantities(plain_numbers(line))}) == 1
    options = next((some for some in (NAMES, DAYS, DIRECTIONS) if reference in some), ())
    named = [word for word in re.findall(r"\w+", line) if word.lower() in {option.lower() for option in options}]
    return not named or (stated and named[0].lower() == reference.lower()) or len({*map(str.lower, named)}) == 1
