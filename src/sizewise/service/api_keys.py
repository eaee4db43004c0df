"""API keys: stored as hashes, each with the models it may use and its budget."""

from __future__ import annotations

import hashlib
import logging
import re
import secrets
import shlex
import tomllib
from base64 import b64decode
from collections.abc import Mapping
from contextlib import suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import tomlkit
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from starlette.requests import Request as HttpRequest

from sizewise.errors import SizewiseError
from sizewise.service.schemas import APIError

MAX_NAME_LENGTH = 60
ACCOUNT = "backend "
"""Beginning of the names under which backends are charged."""
_LOG = logging.getLogger("sizewise.service")
POLICY_FIELDS = ("never_outside", "mask_always", "detect", "confidential", "refuse_signals", "signal_classifier")
CLIENT: ContextVar[Key | None] = ContextVar("client", default=None)
"""Key of the request that is being handled."""


class Key(BaseModel):
    """An API key as stored in the key file."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=MAX_NAME_LENGTH)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    models: tuple[str, ...] = ()
    """Models the key may use; empty: all. `auto` allows every model that `auto` chooses, through `auto` only."""
    requests_per_minute: int | None = Field(None, ge=1)
    """Rate limit; a request with n completions counts n times."""
    tokens_per_day: int | None = Field(None, ge=1)
    """Daily budget of prompt and completion tokens."""
    usd_per_day: float | None = Field(None, gt=0)
    """Daily budget in US dollars, at the list prices of models behind an API."""
    staff: bool = False
    """Whether the key may read conversations that were handed over."""
    vouches: bool = False
    """Whether its client has authenticated the customer whom `user` of a request names; look-ups need it."""
    never_outside: bool = False
    """Whether all its text is confidential: no model outside gets it, and `auto` keeps to a model inside."""
    mask_always: bool = False
    """Whether personal data is masked for models inside, too, and even if the service masks nothing."""
    detect: tuple[str, ...] = ()
    """Detectors of personal data for this key, beside those of the service."""
    confidential: tuple[str, ...] = ()
    """Regular expressions of confidential text, beside those of the service."""
    refuse_signals: bool = False
    """Whether requests with signs of prompt injection are refused."""
    signal_classifier: str = ""
    """URI of a classifier that recognizes attacks, beside the rules and that of the service."""

    @field_validator("confidential")
    @classmethod
    def _check_rules(cls, rules: tuple[str, ...]) -> tuple[str, ...]:
        for rule in rules:
            try:
                re.compile(rule)
            except re.error as error:
                raise ValueError(f"'{rule}' is not a valid regular expression: {error}") from error
        return rules

    @property
    def policy(self) -> dict[str, Any]:
        """What the guard does more for this key than for others, by field."""
        return {field: value for field in POLICY_FIELDS if (value := getattr(self, field))}

    @property
    def has_limits(self) -> bool:
        """Whether the usage of the key is limited."""
        return bool(self.requests_per_minute or self.tokens_per_day or self.usd_per_day)

    def may_use(self, model: str) -> bool:
        """Whether the key may ask for a model by this name."""
        return not self.models or model in self.models


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    key: tuple[Key, ...] = Field(min_length=1)

    @field_validator("key")
    @classmethod
    def _check_names(cls, keys: tuple[Key, ...]) -> tuple[Key, ...]:
        if any(key.name.startswith(ACCOUNT) for key in keys):
            raise ValueError(f"names that start with '{ACCOUNT}' are those of the budgets of backends")
        return keys


class Keys:
    """The API keys of a service; without any, all clients are accepted.

    Args:
        keys: the keys.
    """

    def __init__(self, keys: tuple[Key, ...] = ()) -> None:
        self._by_hash = {key.sha256: key for key in keys}
        self.names = frozenset(key.name for key in keys)

    @classmethod
    def load(cls, path: Path) -> Keys:
        """Load a key file.

        Raises:
            SizewiseError: the file cannot be read, or is not a key file.
        """
        try:
            return cls(_File.model_validate(tomllib.loads(path.read_text(encoding="utf-8"))).key)
        except (OSError, ValueError, ValidationError) as error:
            raise SizewiseError(
                f"{path} is not a valid key file: {str(error).splitlines()[0]}",
                '[[key]] tables with "name" and "sha256"',
                f"sizewise keys new NAME --keys {path}",
            ) from error

    @property
    def mask_always(self) -> bool:
        """Whether a key asks for masking for all models."""
        return any(key.mask_always for key in self._by_hash.values())

    def detectors(self) -> set[tuple[tuple[str, ...], str]]:
        """Return the detectors of personal data and the classifier of signals that keys ask for."""
        keys = self._by_hash.values()
        return {(key.detect, key.signal_classifier) for key in keys if key.detect or key.signal_classifier}

    def reload(self, path: Path) -> None:
        """Replace the keys by those of a file; if it isn't valid, the old ones stay."""
        try:
            loaded = Keys.load(path)
        except SizewiseError as error:
            _LOG.error("The API keys were not reloaded: %s", error.what)
            return
        self._by_hash, self.names = loaded._by_hash, loaded.names
        _LOG.warning("Reloaded %d API keys", len(self.names))

    @property
    def required(self) -> bool:
        """Whether clients must send a key."""
        return bool(self._by_hash)

    def find(self, header: str | None, browser_login: bool = False) -> Key | None:
        """Find the key in an Authorization header; None if no key is required.

        Args:
            header: the header.
            browser_login: accept the key as a password of HTTP basic authentication, with any user name.

        Raises:
            APIError: the key is missing or invalid.
        """
        if not self.required:
            return None
        scheme, _, token = (header or "").strip().partition(" ")
        if browser_login and scheme.lower() == "basic":
            with suppress(ValueError):
                scheme, token = "bearer", b64decode(token).decode("utf-8").partition(":")[2]
        if scheme.lower() == "bearer":
            key = self._by_hash.get(hashlib.sha256(token.strip().encode("utf-8")).hexdigest())
            if key is not None:
                return key
        challenge = 'Basic realm="sizewise: any user name, API key as password"' if browser_login else "Bearer"
        raise APIError(
            "Missing or invalid API key. Send it in the header 'Authorization: Bearer KEY'.",
            None,
            "invalid_api_key",
            401,
            {"WWW-Authenticate": challenge},
        )


def key_of(http: HttpRequest) -> Key | None:
    """Return the key that `Gate` found in the request; None if no key is required."""
    key: Key | None = getattr(http.state, "key", None)
    return key


def add_key(path: Path, name: str, limits: Mapping[str, Any] | None = None) -> str:
    """Create a key, append its hash to a key file, and return the key, which is not stored anywhere.

    Args:
        path: the key file.
        name: name of the key.
        limits: further fields of `Key`, such as `tokens_per_day`.

    Raises:
        SizewiseError: the file cannot be written, or the name is invalid or already used.
    """
    names = Keys.load(path).names if path.exists() else frozenset()
    if name in names:
        raise SizewiseError(
            f"The key file already has a key named '{name}'.",
            "a new name; or a new key under this one, with the same limits",
            f"sizewise keys rotate {shlex.quote(name)} --keys {shlex.quote(str(path))}",
        )
    check_name(name)
    key = new_secret()
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(tomlkit.dumps({"key": [{"name": name, "sha256": hash_of(key), **(limits or {})}]}) + "\n")
        path.chmod(0o600)
    except OSError as error:
        raise SizewiseError(
            f"Cannot write {path}: {error.strerror}.",
            "a file that you may write",
            f"sizewise keys new {shlex.quote(name)} --keys FILE",
        ) from error
    return key


def check_name(name: str) -> None:
    """Check the name of a new key.

    Raises:
        SizewiseError: it isn't valid.
    """
    if (
        not name
        or len(name) > MAX_NAME_LENGTH
        or not name.isprintable()
        or name.startswith(ACCOUNT)
        or '"' in name
        or "\\" in name
    ):
        raise SizewiseError(
            f"'{name}' is not a valid key name.",
            f"1 to {MAX_NAME_LENGTH} printable characters without quotes and backslashes",
            "sizewise keys new NAME",
        )


def new_secret() -> str:
    """Create the text of a new key."""
    return f"sw-{secrets.token_urlsafe(32)}"


def hash_of(key: str) -> str:
    """Hash a key; only the hash is stored."""
    return hashlib.sha256(key.encode("utf-8")).hexdigest()
