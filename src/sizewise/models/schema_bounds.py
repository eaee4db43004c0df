"""Limits on JSON schemas, so that their grammars compile in about a second.

All other requests wait while the engine compiles a grammar. The cost of each part of a schema was measured on
two cores; one unit is about a millisecond.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

MAX_COST = 1_500.0
NODE, LETTER, ATOM, OPTIONAL_PAIR, DIGIT = 0.2, 0.005, 0.25, 0.02, 2.5
MAX_SCHEMA_LENGTH, MAX_PATTERN_LENGTH, MAX_GROUPS = 400_000, 20_000, 50
ONE_REPEATED = 256  # repeats of a single character or class beyond this are free


def unusable(schema: str) -> str:
    """Return why a schema is rejected; "" if it is accepted."""
    if len(schema) > MAX_SCHEMA_LENGTH:
        return f"it is longer than {MAX_SCHEMA_LENGTH:,} characters"
    try:
        whole = json.loads(schema)
    except (ValueError, RecursionError) as error:
        return f"it is not valid JSON ({error})"
    cost = 0.0
    for node in _nodes(whole):
        for pattern in _patterns(node):
            if len(pattern) > MAX_PATTERN_LENGTH:
                return f"a pattern is longer than {MAX_PATTERN_LENGTH:,} characters"
            size, depth = pattern_size(pattern)
            if depth > MAX_GROUPS:
                return f"a pattern has more than {MAX_GROUPS} nested groups"
            if size * ATOM > MAX_COST:
                return f"the pattern '{pattern[:60]}' repeats too much: it expands to about {size:,.0f} parts"
            cost += size * ATOM
        cost += _cost(node)
        if cost > MAX_COST:
            return (
                "it is too complex (optional properties count quadratically, and repeated groups in patterns count "
                "once for each repetition)"
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
    """Return the patterns of an object, without those of nested objects."""
    if not isinstance(node, dict):
        return []
    found = [node["pattern"]] if isinstance(node.get("pattern"), str) else []
    keyed = node.get("patternProperties")
    return found + (list(keyed) if isinstance(keyed, dict) else [])


def _cost(node: Any) -> float:
    """Compute the cost of an object or list, without its contents."""
    if isinstance(node, list):
        return NODE + LETTER * sum(len(item) if isinstance(item, str) else 4 for item in node)
    cost = NODE + LETTER * sum(len(key) + (len(value) if isinstance(value, str) else 0) for key, value in node.items())
    properties, required = node.get("properties"), node.get("required")
    if isinstance(properties, dict):
        needed = {name for name in required if isinstance(name, str)} if isinstance(required, list) else set()
        cost += OPTIONAL_PAIR * len(properties.keys() - needed) ** 2
    for bound in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
        if isinstance(node.get(bound), float):
            cost += DIGIT * len(repr(node[bound]))
    return cost


def pattern_size(pattern: str) -> tuple[float, int]:
    """Count the parts of a regular expression with its repetitions expanded, and its nesting depth.

    Any dialect is accepted: unknown syntax counts as characters.
    """
    sums, depth = [0.0], 0
    last, is_group, in_run = 0.0, False, False  # the previous part, to which a repetition applies
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
            if not in_run or _is_repeated(pattern, place):  # a run of characters is one part
                sums[-1] += 1
            last, is_group, in_run = 1.0, False, mark not in "[\\."
    return sum(sums), depth


def _times(pattern: str, place: int) -> tuple[int, int] | None:
    """Parse `m}`, `m,}` or `m,n}`; return the largest count and the end. None if it isn't a repetition."""
    end = pattern.find("}", place, place + 40)
    minimum, _, maximum = pattern[place:end].partition(",") if end > 0 else ("", "", "")
    if not minimum.isdecimal() and not maximum.isdecimal():
        return None
    counts = [int(count) for count in (minimum, maximum) if count.isdecimal()]
    return max(counts), end + 1


def _is_repeated(pattern: str, place: int) -> bool:
    return pattern[place : place + 1] in ("*", "+", "?", "{")


def _class_end(pattern: str, place: int) -> int:
    """Return the index after a character class."""
    first = place
    while place < len(pattern):
        if pattern[place] == "\\":
            place += 1
        elif pattern[place] == "]" and place > first:
            return place + 1
        place += 1
    return place
