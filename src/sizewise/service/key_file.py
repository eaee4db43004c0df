"""Edit a file of API keys: list, revoke and rotate."""

from __future__ import annotations

import hashlib
import json
import secrets
import tomllib
from pathlib import Path

from sizewise.errors import SizewiseError
from sizewise.service.api_keys import Key, Keys
from sizewise.store import write_atomically


def read_keys(path: Path) -> list[Key]:
    """Read all keys of a file.

    Raises:
        SizewiseError: the file can't be read, or holds no valid keys.
    """
    if not path.exists():
        raise SizewiseError(
            f"The API key file {path} doesn't exist.", "a file of API keys", f"sizewise keys new NAME --keys {path}"
        )
    Keys.load(path)
    return [Key.model_validate(table) for table in tomllib.loads(path.read_text(encoding="utf-8"))["key"]]


def revoke_key(path: Path, name: str) -> None:
    """Remove a key from a file.

    Raises:
        SizewiseError: the file has no such key, no other key, or can't be written.
    """
    keys = _keys_with(path, name)
    if len(keys) == 1:
        raise SizewiseError(
            f"'{name}' is the only key in {path}, and `sizewise serve` needs at least one.",
            "another key in the file",
            f"sizewise keys new NAME --keys {path}, or sizewise keys rotate {name} --keys {path}",
        )
    _write(path, [key for key in keys if key.name != name])


def rotate_key(path: Path, name: str) -> str:
    """Replace a key by a new one with the same name, models and limits; return the new key.

    Raises:
        SizewiseError: the file has no such key, or can't be written.
    """
    keys = _keys_with(path, name)
    made = f"sw-{secrets.token_urlsafe(32)}"
    hashed = hashlib.sha256(made.encode("utf-8")).hexdigest()
    _write(path, [key.model_copy(update={"sha256": hashed}) if key.name == name else key for key in keys])
    return made


def _keys_with(path: Path, name: str) -> list[Key]:
    """Read all keys of a file, which must include the given name."""
    keys = read_keys(path)
    if all(key.name != name for key in keys):
        raise SizewiseError(
            f"{path} has no key named '{name}'.",
            ", ".join(key.name for key in keys),
            f"sizewise keys list --keys {path}",
        )
    return keys


def _write(path: Path, keys: list[Key]) -> None:
    """Write a file of keys; JSON strings and lists of strings are valid TOML."""
    tables = []
    for key in keys:
        values = key.model_dump(mode="json", exclude_defaults=True)
        lines = [f"{field} = {json.dumps(value, ensure_ascii=False)}" for field, value in values.items()]
        tables.append("\n".join(["[[key]]", *lines, ""]))
    write_atomically(path, "\n".join(tables))
