"""Load the guard's rules, a file of regular expressions."""

from __future__ import annotations

import re
import tomllib
from functools import lru_cache
from importlib.resources import files
from typing import Any

Rules = dict[str, tuple[re.Pattern[str], ...]]


@lru_cache(maxsize=1)
def _file() -> dict[str, Any]:
    return tomllib.loads(files("sizewise.guard").joinpath("rules.toml").read_text(encoding="utf-8"))


@lru_cache(maxsize=16)
def rules_of(section: str) -> Rules:
    """Compile the rules of a section, by name; `<name>` in a rule is replaced with the part of that name."""
    parts: dict[str, str] = _file()["parts"]

    def expanded(rule: str) -> str:
        return re.sub(r"<([a-z]+)>", lambda name: expanded(parts[name[1]]) if name[1] in parts else name[0], rule)

    rules_by_name: dict[str, str | list[str]] = _file()[section]
    return {
        name: tuple(re.compile(expanded(rule), re.DOTALL) for rule in ([rules] if isinstance(rules, str) else rules))
        for name, rules in rules_by_name.items()
    }


@lru_cache(maxsize=4)
def words_of(section: str) -> dict[str, tuple[str, ...]]:
    """Return the word lists of a section, by name."""
    lists: dict[str, list[str]] = _file()["words"][section]
    return {name: tuple(words) for name, words in lists.items()}
