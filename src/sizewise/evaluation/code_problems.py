"""Small programming problems, generated from a fixed seed; a function is right if it returns what it should.

Similar sets: Chen et al. (2021), Evaluating large language models trained on code (HumanEval), with functions that
complete a signature; Austin et al. (2021), Program synthesis with large language models (MBPP).
"""

from __future__ import annotations

import ast
import json
import math
import random
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, NamedTuple

from sizewise.errors import UsageError
from sizewise.evaluation.likelihoods import Continuation
from sizewise.evaluation.sandbox import run_calls
from sizewise.evaluation.suite_types import FloatArray, Stats, SuiteItem
from sizewise.models.prompts import question_prompt
from sizewise.records import ItemRow, Message, Request

METRIC = "code"
PER_GROUP, CALLS, SEED = 40, 6, 20_261
INSTRUCTION = "Write the function in a Python code block, without examples of its use."
STOPS = ("\ndef ", "\nclass ", "\nprint(", "\n#", "\nif ", "\n```", "\nassert ")
"""What follows a function that a model continues."""
SHOTS = '''def double(number):
    """Return the number times 2."""
    return number * 2


def shorter(words, limit):
    """Return the words with fewer letters than the limit, in their order."""
    return [word for word in words if len(word) < limit]


'''
"""Functions before the one that a model without a chat template continues."""
WORDS = ("river", "Stone", "cloud", "maple", "Orchid", "lamp", "window", "Paper", "salt", "engine", "tree", "a", "Is")
PEOPLE = ("Ana", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus")
_FENCE = re.compile(r"```[a-zA-Z0-9+]*[ \t]*\n(.*?)(?:\n```|\Z)", re.DOTALL)
_BEGIN = re.compile(r"^(?:import |from |def |class |@)", re.MULTILINE)


class Task(NamedTuple):
    """A function to write."""

    name: str
    arguments: str
    does: str
    """What it does, as a sentence."""
    solve: Callable[..., Any]
    """A right solution."""
    draw: Callable[[random.Random], tuple[Any, ...]]
    """Draws the arguments of a call."""
    edge: tuple[Any, ...]
    """Arguments of a call that is easily forgotten."""


def _ints(rng: random.Random, lower: int = -20, upper: int = 60) -> list[int]:
    return [rng.randint(lower, upper) for _ in range(rng.randint(3, 9))]


def _text(rng: random.Random) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(3, 9)))


def _nth(number: int) -> str:
    return f"{number}{ {2: 'nd', 3: 'rd'}.get(number, 'th') }"


def _numbers(rng: random.Random) -> list[Task]:
    k, m = rng.randint(2, 9), rng.randint(10, 19)
    return [
        Task("sum_divisible", "numbers", f"Return the sum of the numbers that are divisible by {k}.",
             lambda xs: sum(x for x in xs if x % k == 0), lambda r: (_ints(r),), ([],)),
        Task("digit_sum", "n", f"Return the sum of the digits of the whole number n, which isn't negative, times {k}.",
             lambda n: k * sum(map(int, str(n))), lambda r: (r.randint(0, 99_999),), (0,)),
        Task("count_between", "a, b",
             f"Return how many whole numbers from a to b, both included, are divisible by {k} but not by {m}.",
             lambda a, b: sum(x % k == 0 and x % m != 0 for x in range(a, b + 1)),
             lambda r: (r.randint(0, 50), r.randint(51, 300)), (7, 6)),
        Task("largest_power", "n", f"Return the largest power of {k} that is at most n; n is at least 1.",
             lambda n: max(k**e for e in range(40) if k**e <= n), lambda r: (r.randint(1, 9_000),), (1,)),
        Task("steps_to_zero", "n", f"Return how often n has to be divided by {k}, without remainder, until it is 0.",
             lambda n: next(s for s in range(99) if n // k**s == 0), lambda r: (r.randint(1, 9_000),), (0,)),
    ]  # fmt: skip


def _lists(rng: random.Random) -> list[Task]:
    k = rng.randint(2, 9)
    return [
        Task("every", "items", f"Return a list with every {_nth(k)} item, beginning with the first one.",
             lambda xs: xs[::k], lambda r: (_ints(r),), ([],)),
        Task("rotate", "items",
             f"Return the list rotated by {k} places to the left: what leaves it at the left comes back at the right.",
             lambda xs: [xs[(i + k) % len(xs)] for i in range(len(xs))], lambda r: (_ints(r),), ([],)),
        Task("largest_step", "numbers",
             f"Return the largest difference, without its sign, of two neighbors in the list, and at most {10 * k}; 0 "
             "if the list has fewer than two numbers.",
             lambda xs: min(10 * k, max((abs(a - b) for a, b in pairwise(xs)), default=0)),
             lambda r: (_ints(r),), ([3],)),
        Task("parts", "items", f"Return the items as a list of lists of {k} items each; the last one may be shorter.",
             lambda xs: [xs[i : i + k] for i in range(0, len(xs), k)], lambda r: (_ints(r),), ([],)),
        Task("sum_largest", "numbers", f"Return the sum of the {k} largest numbers, or of all if there are fewer.",
             lambda xs: sum(sorted(xs)[-k:]), lambda r: (_ints(r),), ([],)),
    ]  # fmt: skip


def _strings(rng: random.Random) -> list[Task]:
    k, letter, mark = rng.randint(2, 9), rng.choice("aeiostrn"), rng.choice("*#-+_")
    return [
        Task("count_long", "text", f"Return how many words of the text have more than {k} letters.",
             lambda t: sum(len(w) > k for w in t.split()), lambda r: (_text(r),), ("",)),
        Task("hide", "text", f"Return the text with every {_nth(k)} character replaced by '{mark}'.",
             lambda t: "".join(mark if i % k == 0 else c for i, c in enumerate(t, 1)), lambda r: (_text(r),), ("",)),
        Task("reverse_words", "text", f"Return the words of the text in reverse order, joined by '{mark * k}'.",
             lambda t: (mark * k).join(t.split()[::-1]), lambda r: (_text(r),), ("",)),
        Task("count_letter", "text",
             f"Return how often the letter '{letter}' is in the text, large or small, but at most {3 * k}.",
             lambda t: min(3 * k, t.lower().count(letter)), lambda r: (_text(r),), (letter.upper() * 40,)),
        Task("shorten", "text", f"Return the text with each word cut after {k} letters, joined by single spaces.",
             lambda t: " ".join(w[:k] for w in t.split()), lambda r: (_text(r),), ("  a  longword ",)),
    ]  # fmt: skip


def _sales(rng: random.Random) -> list[dict[str, Any]]:
    return [{"name": rng.choice(PEOPLE), "amount": rng.randint(1, 60)} for _ in range(rng.randint(3, 9))]


def _by_name(rows: list[dict[str, Any]]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for row in rows:
        found.setdefault(row["name"], []).append(row["amount"])
    return found


def _tables(rng: random.Random) -> list[Task]:
    k = rng.randint(2, 50)
    return [
        Task("totals", "rows",
             "Each row is a dict with 'name' and 'amount'. Return a dict from name to the sum of its amounts, for the "
             f"names whose sum is at least {k}.",
             lambda rows: {n: sum(a) for n, a in _by_name(rows).items() if sum(a) >= k}, lambda r: (_sales(r),), ([],)),
        Task("ranking", "rows",
             f"Each row is a dict with 'name' and 'amount'. Return the names of the rows whose amount is at most {k}, "
             "sorted by amount, largest first, and by name where amounts are equal.",
             lambda rows: [x["name"] for x in sorted((x for x in rows if x["amount"] <= k),
                                                      key=lambda x: (-x["amount"], x["name"]))],
             lambda r: (_sales(r),), ([],)),
        Task("counts", "rows",
             f"Each row is a dict with 'name' and 'amount'. Return a dict from name to the number of its rows with an "
             f"amount above {k}; leave out names without any.",
             lambda rows: {n: c for n, a in _by_name(rows).items() if (c := sum(x > k for x in a))},
             lambda r: (_sales(r),), ([],)),
        Task("best_name", "rows",
             "Each row is a dict with 'name' and 'amount'. Return the name with the largest sum of amounts, the first "
             f"one in the alphabet if several have it, or None if no sum is above {k}.",
             lambda rows: min(((-sum(a), n) for n, a in _by_name(rows).items() if sum(a) > k), default=(0, None))[1],
             lambda r: (_sales(r),), ([],)),
        Task("invert", "table",
             f"The table is a dict from name to number. Return a list of pairs [number, names], sorted by number, with "
             f"the sorted names that have this number, for numbers up to {k}.",
             lambda t: [[v, sorted(n for n in t if t[n] == v)] for v in sorted({*t.values()}) if v <= k],
             lambda r: ({name: r.randint(1, 6) * 9 for name in r.sample(PEOPLE, 5)},), ({},)),
    ]  # fmt: skip


def _fee(minutes: int, free: int, price: int, most: int) -> int:
    return min(most, price * max(0, math.ceil(minutes / 60) - free))


def _days_below(amounts: list[int], limit: int) -> int:
    balance, days = 0, 0
    for amount in amounts:
        balance += amount
        days += balance < -limit
    return days


def _closed(text: str, pairs: Mapping[str, str]) -> bool:
    waiting: list[str] = []
    for letter in text:
        if letter in pairs:
            waiting.append(pairs[letter])
        elif letter in pairs.values() and (not waiting or waiting.pop() != letter):
            return False
    return not waiting


def _rules(rng: random.Random) -> list[Task]:
    k, price, word = rng.randint(2, 9), rng.randint(2, 9), rng.choice(WORDS)
    pairs = {brackets[0]: brackets[1] for brackets in rng.sample(("()", "[]", "{}", "<>"), 2)}
    shown = " and ".join(f"'{one}{other}'" for one, other in pairs.items())
    signs = "".join([*pairs, *pairs.values()])
    return [
        Task("count_up", "n",
             f"Return a list of the numbers from 1 to n as texts, with '{word}' in place of each multiple of {k}.",
             lambda n: [word if i % k == 0 else str(i) for i in range(1, n + 1)], lambda r: (r.randint(1, 20),), (0,)),
        Task("parking_fee", "minutes",
             f"Parking costs {price} for each begun hour after the first {k % 4 + 2} hours, which are free, but at "
             f"most {price * 5}. Return the price.",
             lambda m: _fee(m, k % 4 + 2, price, price * 5), lambda r: (r.randint(0, 900),), (60,)),
        Task("days_below", "amounts",
             f"An account begins at 0, and one amount is added each day. Return on how many days it ends below {-k}.",
             lambda xs: _days_below(xs, k), lambda r: (_ints(r, -20, 20),), ([],)),
        Task("is_closed", "text",
             f"Return True if all brackets {shown} in the text are closed in the right order, else False. Other "
             "characters don't matter.",
             lambda t: _closed(t, pairs),
             lambda r: ("".join(r.choice(signs + "x") for _ in range(r.choice((2, 4)))),), ("",)),
        Task("runs", "text",
             "Return a list of pairs [letter, count] for the runs of equal letters in the text that have at least "
             f"{k % 4 + 2} letters.",
             lambda t: [[c, n] for c, run in groupby(t) if (n := len([*run])) >= k % 4 + 2],
             lambda r: ("".join(r.choice("aab") * r.randint(1, 4) for _ in range(5)),), ("",)),
    ]  # fmt: skip


GROUPS: Mapping[str, Callable[[random.Random], list[Task]]] = {
    "numbers": _numbers,
    "lists": _lists,
    "text": _strings,
    "tables": _tables,
    "rules": _rules,
}


def _different(group: str) -> Iterator[tuple[Task, list[tuple[Any, ...]]]]:
    """Yield functions with different descriptions, and the arguments of their calls."""
    rng, known = random.Random(f"{SEED} {group}"), set[str]()
    while len(known) < PER_GROUP:
        for task in GROUPS[group](rng):
            if task.does not in known and len(known) < PER_GROUP:
                known.add(task.does)
                yield task, [task.edge, *(task.draw(rng) for _ in range(CALLS - 1))]


def code_problems(path: Path | None) -> list[SuiteItem]:
    """Generate the problems, 40 in each of five groups. The reference of each is its function's calls as JSON.

    Raises:
        UsageError: a path is given.
    """
    if path is not None:
        raise UsageError("The suite code takes no data.", "--suite code alone", "remove --data")
    items = []
    for group in GROUPS:
        for number, (task, calls) in enumerate(_different(group)):
            checked = [[list(call), task.solve(*call)] for call in calls]
            tests = json.dumps({"name": task.name, "head": _head(task), "calls": checked})
            question = f"{task.does} The function is {task.name}({task.arguments})."
            texts = (Continuation(question_prompt(question), f" {tests}"),)
            name = f"{group}-{number}"
            items.append(SuiteItem(name, group, name, texts, _unscored, question))
    return items


def _head(task: Task) -> str:
    return f'def {task.name}({task.arguments}):\n    """{task.does}"""\n'


def _unscored(nats: FloatArray, tokens: FloatArray) -> Stats:
    raise TypeError("code is measured by running it")


def code_request(item: SuiteItem, max_tokens: int, *, chat: bool) -> Request:
    """Build the request for a function: a message, or functions before it for a model that continues a text."""
    if chat:
        asked = f"Write a Python function. {item.question}\n\n{INSTRUCTION}"
        return Request(id=item.id, messages=(Message(role="user", content=asked),), max_tokens=max_tokens)
    head = json.loads(item.texts[0].text)["head"]
    return Request(id=item.id, text=SHOTS + head, stop=STOPS, max_tokens=max_tokens)


def code_of(answer: str, name: str, head: str) -> str:
    """Return the code in an answer: its last code block with the function, its lines of code, or the function's body.

    Args:
        answer: what a model wrote.
        name: name of the function.
        head: beginning of the function, which an answer without it continues.
    """
    defines = re.compile(rf"^[ \t]*(?:async )?def {re.escape(name)}\b", re.MULTILINE)
    blocks = [block for block in _FENCE.findall(answer) if defines.search(block)]
    if blocks:
        return str(blocks[-1])
    if defines.search(answer) and (begin := _BEGIN.search(answer)):
        return _compiling(answer[begin.start() :])
    return _compiling(head + answer)


def _compiling(text: str) -> str:
    """Leave out the lines at the end of a text that follow its code."""
    lines = text.split("\n")
    for count in range(len(lines), 0, -1):
        part = "\n".join(lines[:count])
        try:
            ast.parse(part)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        return part
    return text


def _does_something(code: str) -> bool:
    """Check that code is valid and has more than names, texts and empty functions, so that it's worth a process."""
    try:
        nodes = ast.walk(ast.parse(code))
        return any(
            isinstance(node, ast.Return | ast.Yield | ast.Lambda | ast.Import | ast.ImportFrom) for node in nodes
        )
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def code_stats(row: ItemRow) -> Stats:
    """Run an answer's function and compare what it returns: (1 or 0, 1)."""
    tests = json.loads(row.references[0])
    code = code_of(row.completion or "", tests["name"], tests["head"])
    if not _does_something(code):
        return {METRIC: (0.0, 1.0)}
    ran = run_calls(code, tests["name"], [arguments for arguments, _ in tests["calls"]])
    right = not ran.error and all(map(_same, ran.values, (value for _, value in tests["calls"])))
    return {METRIC: (float(right), 1.0)}


def _same(found: Any, wanted: Any) -> bool:
    """Compare values in the forms of JSON; whole numbers equal decimal ones, but truth values equal no numbers."""
    if isinstance(found, bool) or isinstance(wanted, bool):
        return found is wanted
    if isinstance(found, int | float) and isinstance(wanted, int | float):
        return math.isclose(found, wanted, rel_tol=1e-9, abs_tol=1e-9)
    if isinstance(found, list) and isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(_same, found, wanted))
    if isinstance(found, dict) and isinstance(wanted, dict):
        return found.keys() == wanted.keys() and all(_same(found[key], wanted[key]) for key in wanted)
    return bool(found == wanted)
