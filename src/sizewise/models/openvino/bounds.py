"""Bounds on a JSON schema, so that its grammar is made in about a second.

The engine turns a schema into a grammar while all others wait. What that costs was measured for each kind of part on
two cores; the units here are about milliseconds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

MOST_COST = 1_500.0
NODE, LETTER, ATOM, OPTIONAL_PAIR, DIGIT = 0.2, 0.005, 0.25, 0.02, 2.5
MOST_SCHEMA_LETTERS, MOST_PATTERN_LETTERS, MOST_GROUPS = 400_000, 20_000, 50
ONE_REPEATED = 256  # a single letter or class that is repeated is cheap, however often


def unusable(schema: str) -> str:
    """Tell why a schema is not used; nothing where it is."""
    if len(schema) > MOST_SCHEMA_LETTERS:
        return f"it is longer than {MOST_SCHEMA_LETTERS:,} letters"
    try:
        whole = json.loads(schema)
    except (ValueError, RecursionError) as error:
        return f"it is no JSON ({error})"
    cost = 0.0
    for node in _nodes(whole):
        for pattern in _patterns(node):
            if len(pattern) > MOST_PATTERN_LETTERS:
                return f"a pattern is longer than {MOST_PATTERN_LETTERS:,} letters"
            size, depth = pattern_size(pattern)
            if depth > MOST_GROUPS:
                return f"a pattern has more than {MOST_GROUPS} groups inside of each other"
            if size * ATOM > MOST_COST:
                return f"the pattern '{pattern[:60]}' repeats too much: about {size:,.0f} parts when written out"
            cost += size * ATOM
        cost += _cost(node)
        if cost > MOST_COST:
            return (
                "it is too large (properties that are not required count by their square; repeated groups of a pattern "
                "as often as they may be repeated)"
            )
    return ""


def _nodes(whole: Any) -> Iterator[Any]:
    """Yield every object and list of a schema."""
    rest = [whole]
    while rest:
        node = rest.pop()
        if isinstance(node, dict):
            rest += node.values()
            yield node
        elif isinstance(node, list):
            rest += node
            yield node


def _patterns(node: Any) -> list[str]:
    """Give the patterns that stand in an object itself."""
    if not isinstance(node, dict):
        return []
    found = [node["pattern"]] if isinstance(node.get("pattern"), str) else []
    keyed = node.get("patternProperties")
    return found + (list(keyed) if isinstance(keyed, dict) else [])


def _cost(node: Any) -> float:
    """Give what an object or list costs without what stands in it."""
    if isinstance(node, list):
        return NODE + LETTER * sum(len(one) if isinstance(one, str) else 4 for one in node)
    cost = NODE + LETTER * sum(len(key) + (len(one) if isinstance(one, str) else 0) for key, one in node.items())
    properties, required = node.get("properties"), node.get("required")
    if isinstance(properties, dict):
        needed = {one for one in required if isinstance(one, str)} if isinstance(required, list) else set()
        cost += OPTIONAL_PAIR * len(properties.keys() - needed) ** 2
    for bound in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
        if isinstance(node.get(bound), float):
            cost += DIGIT * len(repr(node[bound]))
    return cost


def pattern_size(pattern: str) -> tuple[float, int]:
    """Give the number of parts of a regular expression when its repetitions are written out, and its depth of groups.

    It reads any dialect: what it does not know is a letter.
    """
    sums, depth = [0.0], 0
    last, is_group, in_run = 0.0, False, False  # the part before, which a repetition counts for
    place = 0
    while place < len(pattern):
        mark = pattern[place]
        place += 1
        times = (1, place) if mark in "*+?" else _times(pattern, place) if mark == "{" else None
        if times is not None:
            count, place = times
            more = (count if is_group else min(count, ONE_REPEATED)) - 1
            sums[-1] += max(0.0, last * more)
            last, in_run = last * max(1, more + 1), False
        elif mark == "(":
            sums.append(0.0)
            depth = max(depth, len(sums) - 1)
            last, in_run = 0.0, False
        elif mark == ")" and len(sums) > 1:
            last, is_group, in_run = max(1.0, sums.pop()), True, False
            sums[-1] += last
        elif mark in "|^$":
            last, in_run = 0.0, False
        else:
            if mark == "[":
                place = _class_end(pattern, place)
            elif mark == "\\":
                place += 1
            if not in_run or _is_repeated(pattern, place):  # a run of letters is one part
                sums[-1] += 1
            last, is_group, in_run = 1.0, False, mark not in "[\\."
    return sum(sums), depth


def _times(pattern: str, place: int) -> tuple[int, int] | None:
    """Read `m}`, `m,}` or `m,n}`; give the largest count, and where it ends. None where it is no repetition."""
    end = pattern.find("}", place, place + 40)
    ci_low, _, ci_high = pattern[place:end].partition(",") if end > 0 else ("", "", "")
    if not ci_low.isdecimal() and not ci_high.isdecimal():
        return None
    counts = [int(one) for one in (ci_low, ci_high) if one.isdecimal()]
    return max(counts), end + 1


def _is_repeated(pattern: str, place: int) -> bool:
    return pattern[place : place + 1] in ("*", "+", "?", "{")


def _class_end(pattern: str, place: int) -> int:
    """Give the place after a class of letters."""
    first = place
    while place < len(pattern):
        if pattern[place] == "\\":
            place += 1
        elif pattern[place] == "]" and place > first:
            return place + 1
        place += 1
    return place
