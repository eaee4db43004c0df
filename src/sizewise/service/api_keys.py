"""API keys: only their hashes are kept; each names its models and its budget."""

from __future__ import annotations

import hashlib
import secrets
import tomllib
from base64 import b64decode
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request as HttpRequest

from sizewise.errors import SizewiseError
from sizewise.service.schemas import Refused

LONGEST_NAME = 60


class Key(BaseModel):
    """A key as the file holds it."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=LONGEST_NAME)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    models: tuple[str, ...] = ()
    """Names that it may ask; empty: all."""
    requests_per_minute: int | None = Field(None, ge=1)
    """Requests; one for several answers counts as many."""
    tokens_per_day: int | None = Field(None, ge=1)
    """Tokens read and written."""
    usd_per_day: float | None = Field(None, gt=0)
    """US dollars, by the list prices of models behind an API."""
    staff: bool = False
    """Whether conversations that were handed over may be read with it."""


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    key: tuple[Key, ...] = Field(min_length=1)


class Keys:
    """The keys of a service; with none, whoever reaches it may ask.

    Args:
        keys: keys that are known.
    """

    def __init__(self, keys: tuple[Key, ...] = ()) -> None:
        self._by_hash = {key.sha256: key for key in keys}
        self.names = frozenset(key.name for key in keys)

    @classmethod
    def load(cls, path: Path) -> Keys:
        """Read a file of keys.

        Raises:
            SizewiseError: it cannot be read, or is not one.
        """
        try:
            return cls(_File.model_validate(tomllib.loads(path.read_text(encoding="utf-8"))).key)
        except (OSError, ValueError, ValidationError) as error:
            raise SizewiseError(
                f"{path} is no file of keys: {str(error).splitlines()[0]}",
                '[[key]] tables with "name" and "sha256"',
                f"sizewise keys new NAME --keys {path}",
            ) from error

    @property
    def needed(self) -> bool:
        """Whether a key must be shown."""
        return bool(self._by_hash)

    def find(self, header: str | None, by_browser: bool = False) -> Key | None:
        """Find the key of an Authorization header; None where none is needed.

        Args:
            header: the header.
            by_browser: take a key as a password, which a browser asks a person for, whatever the name.

        Raises:
            Refused: it is missing or wrong.
        """
        if not self.needed:
            return None
        scheme, _, given = (header or "").strip().partition(" ")
        if by_browser and scheme.lower() == "basic":
            with suppress(ValueError):
                scheme, given = "bearer", b64decode(given).decode("utf-8").partition(":")[2]
        if scheme.lower() == "bearer":
            key = self._by_hash.get(hashlib.sha256(given.strip().encode("utf-8")).hexdigest())
            if key is not None:
                return key
        raise Refused(
            "This service wants a key: Authorization: Bearer KEY.", None, "invalid_api_key", 401,
            {"WWW-Authenticate": 'Basic realm="sizewise: any name, and a key"' if by_browser else "Bearer"},
        )  # fmt: skip


def key_of(http: HttpRequest) -> Key | None:
    """Give the key that the gate found; None where none is needed."""
    found: Key | None = getattr(http.state, "key", None)
    return found


def add_key(path: Path, name: str) -> str:
    """Make a new key, append its hash to a file, and give the key: it is shown this once.

    Raises:
        SizewiseError: the file cannot be written, or has the name already.
    """
    known = Keys.load(path).names if path.exists() else frozenset()
    if name in known or not name or len(name) > LONGEST_NAME or not name.isprintable() or '"' in name or "\\" in name:
        raise SizewiseError(f"'{name}' cannot name a new key.", "a short name that is not there yet", "")
    made = f"sw-{secrets.token_urlsafe(32)}"
    hashed = hashlib.sha256(made.encode("utf-8")).hexdigest()
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(f'[[key]]\nname = "{name}"\nsha256 = "{hashed}"\n\n')
        path.chmod(0o600)
    except OSError as error:
        raise SizewiseError(
            f"{path} cannot be written: {error.strerror}.", "a place that can be written", ""
        ) from error
    return made
