"""Needs from a TOML file."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sizewise.errors import UsageError
from sizewise.records import Needs
from sizewise.records.upgrades import NEEDS_2


def check_keys(found: Iterable[str], known: Iterable[str], where: str) -> None:
    """Refuse unknown keys, naming the new name of a former key, or the nearest known one.

    Raises:
        UsageError: a key is unknown.
    """
    known = list(known)
    for key in found:
        if key not in known and NEEDS_2.get(key) in known:
            raise UsageError(
                f"The key '{key}' in {where} is now '{NEEDS_2[key]}'.", NEEDS_2[key], f"rename it in {where}"
            )
        if key not in known:
            near = get_close_matches(key, known, n=1, cutoff=0.4)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise UsageError(f"Unknown key '{key}' in {where}{hint}", ", ".join(known), f"mend {where}")


def make_needs(values: Mapping[str, Any], where: str) -> Needs:
    """Check plain values and make needs of them.

    Raises:
        UsageError: a key is unknown or a value is of the wrong kind.
    """
    check_keys(values, Needs.model_fields, where)
    try:
        return Needs.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UsageError(
            f"{where}: {key} = {first['input']!r}: {first['msg'].lower()}.",
            "a fitting value",
            f"mend {where}",
        ) from error


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        UsageError: it does not exist or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.", "a TOML file", "") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}.", "a TOML file in UTF-8", f"mend {path}") from error


def read_needs(path: Path) -> Needs:
    """Read needs from a file that holds them in a table [needs] or at its top."""
    values = read_toml(path)
    inner = values.get("needs", values)
    if not isinstance(inner, dict):
        raise UsageError(f"{path}: needs is not a table.", "[needs]", f"mend {path}")
    return make_needs(inner, f"{path} [needs]")
