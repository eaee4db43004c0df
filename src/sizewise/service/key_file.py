"""Edit a file of API keys: list, revoke and rotate."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from sizewise.errors import SizewiseError
from sizewise.service.api_keys import Key, Keys, add_key, hash_of, new_secret
from sizewise.store import write_atomically
from sizewise.store.sharing import shared_url

DEFAULT_FILE = Path("keys.toml")


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
    made = new_secret()
    hashed = hash_of(made)
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


class KeyStore(Protocol):
    """Where the keys are kept."""

    @property
    def place(self) -> str:
        """Where, in words."""

    def read(self) -> list[Key]:
        """Read all keys."""

    def add(self, name: str, limits: Mapping[str, Any] | None = None) -> str:
        """Create a key and return it."""

    def revoke(self, name: str) -> None:
        """Remove a key."""

    def rotate(self, name: str) -> str:
        """Replace a key by a new one, and return it."""


class KeyFile:
    """The keys of a file.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path, self.place = path, str(path)

    def read(self) -> list[Key]:
        """Read all keys, as `read_keys`."""
        return read_keys(self._path)

    def add(self, name: str, limits: Mapping[str, Any] | None = None) -> str:
        """Create a key and return it, as `add_key`."""
        return add_key(self._path, name, limits)

    def revoke(self, name: str) -> None:
        """Remove a key, as `revoke_key`."""
        revoke_key(self._path, name)

    def rotate(self, name: str) -> str:
        """Replace a key by a new one and return it, as `rotate_key`."""
        return rotate_key(self._path, name)


def open_keys(path: Path | None) -> KeyStore:
    """Open a file of keys; without one the shared database, if there is one, else `keys.toml`.

    Raises:
        UsageError: the URL of the database isn't valid.
    """
    if path is None and shared_url():
        from sizewise.service.shared_keys import KeyTable
        from sizewise.store.shared_ledger import shared_database

        return KeyTable(shared_database(shared_url()))
    return KeyFile(path or DEFAULT_FILE)
