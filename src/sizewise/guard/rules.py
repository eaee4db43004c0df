"""The guard's rules, read from a file of regular expressions."""

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
    """Give the compiled rules of a section by name; `<name>` in a rule stands for the part of that name."""
    parts: dict[str, str] = _file()["parts"]

    def whole(rule: str) -> str:
        return re.sub(r"<([a-z]+)>", lambda found: whole(parts[found[1]]) if found[1] in parts else found[0], rule)

    found: dict[str, str | list[str]] = _file()[section]
    return {
        name: tuple(re.compile(whole(rule), re.DOTALL) for rule in ([rules] if isinstance(rules, str) else rules))
        for name, rules in found.items()
    }
