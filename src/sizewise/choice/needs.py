"""Read needs from a TOML file."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sizewise.errors import UsageError, expected_of
from sizewise.records import Needs
from sizewise.records.upgrades import NEEDS_2


def check_keys(found: Iterable[str], known: Iterable[str], where: str) -> None:
    """Check that all keys are known; a former key is refused with its new name.

    Raises:
        UsageError: a key is unknown; the message suggests the closest one.
    """
    known = list(known)
    for key in found:
        if key not in known and NEEDS_2.get(key) in known:
            raise UsageError(
                f"The key '{key}' in {where} is now '{NEEDS_2[key]}'.", NEEDS_2[key], f"rename it in {where}"
            )
        if key not in known:
            closest = get_close_matches(key, known, n=1, cutoff=0.4)
            hint = f"; did you mean '{closest[0]}'?" if closest else "."
            raise UsageError(f"Unknown key '{key}' in {where}{hint}", ", ".join(known), f"edit {where}")


def make_needs(values: Mapping[str, Any], where: str) -> Needs:
    """Validate plain values and build needs.

    Raises:
        UsageError: a key is unknown or a value is invalid.
    """
    check_keys(values, Needs.model_fields, where)
    for key, value in values.items():
        kinds = str(Needs.model_fields[key].annotation)
        number = "float" in kinds or "int" in kinds
        if number and isinstance(value, bool | str):
            raise UsageError(f"{where}: {key} = {value!r} isn't a number.", "a number without quotes", f"edit {where}")
    try:
        return Needs.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UsageError(
            f"{where}: {key} = {first['input']!r} isn't valid.",
            expected_of(first["msg"]),
            f"edit {where}",
        ) from error


def read_toml(path: Path) -> dict[str, Any]:
    """Parse a TOML file.

    Raises:
        UsageError: the file doesn't exist or isn't valid TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"Can't read {path}: {error.strerror}.", "a TOML file", "check the path, then run the same command again"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} isn't valid TOML: {error}.", "a TOML file in UTF-8", f"edit {path}") from error


def read_needs(path: Path) -> Needs:
    """Read needs from a TOML file, from its [needs] table or from the top level."""
    values = read_toml(path)
    table = values.get("needs", values)
    if not isinstance(table, dict):
        raise UsageError(f"{path}: needs isn't a table.", "a [needs] table", f"edit {path}")
    return make_needs(table, f"{path} [needs]")
