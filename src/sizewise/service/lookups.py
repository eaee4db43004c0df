"""Look-ups of the support agent: facts about a customer, from functions and addresses that the operator allows.

The agent never writes a request itself. A rule of the operator decides that a question asks for a fact, and which parts
of the customer's messages are its parameters; the result fills a sentence of the operator. What a model or a document
says therefore can't reach another address or another customer's facts.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from importlib import import_module
from typing import Any, NamedTuple
from urllib.error import URLError
from urllib.parse import quote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from sizewise.errors import SizewiseError
from sizewise.network import LOOPBACK
from sizewise.privacy import offline

CUSTOMER: ContextVar[str] = ContextVar("customer", default="")
"""Who asks, as the application says whose key vouches for it; empty: not known."""
TIMEOUT_S, MAX_BYTES, MAX_VALUE_CHARACTERS = 5.0, 65_536, 300
_FIELD = re.compile(r"\{(\w+)\}")
Fact = Mapping[str, Any]


class Lookup(BaseModel):
    """A fact that the agent may look up."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")
    title: str = Field(min_length=1, max_length=100)
    """What is looked up, as customers read it: "the state of your order"."""
    when: tuple[str, ...] = Field(min_length=1)
    """Regular expressions of questions, in any case; one must match."""
    parameters: dict[str, str] = {}
    """Name -> regular expression of what a customer has to write, such as `order = "[A-Z]{2}-\\\\d{6}"`."""
    url: str = ""
    """Address that answers with a JSON object; `{customer}` and the parameters in braces are filled in."""
    function: str = ""
    """Instead of an address: `module:function`, called with the customer and the parameters, returns a mapping."""
    say: str = Field(min_length=1, max_length=2_000)
    """Answer; fields of the result, the parameters and `{customer}` in braces are filled in."""
    needs_customer: bool = True
    """Whether it is refused unless the key vouches for the customer."""

    @field_validator("when", "parameters")
    @classmethod
    def _check_rules(cls, rules: Any) -> Any:
        for rule in rules.values() if isinstance(rules, dict) else rules:
            try:
                re.compile(rule)
            except re.error as error:
                raise ValueError(f"'{rule}' is not a regular expression: {error}") from error
        return rules

    @model_validator(mode="after")
    def _check_source(self) -> Lookup:
        if bool(self.url) == bool(self.function):
            raise ValueError(f"look-up '{self.name}' needs either a url or a function")
        parts = urlsplit(self.url)
        if self.url and (parts.scheme not in ("http", "https") or "{" in parts.netloc):
            raise ValueError(f"the url of look-up '{self.name}' must name a host and begin with http:// or https://")
        return self

    def asked_by(self, question: str) -> bool:
        """Return whether a question asks for this fact."""
        return any(re.search(rule, question, re.IGNORECASE) for rule in self.when)

    def values(self, texts: Sequence[str]) -> dict[str, str]:
        """Find the parameters in a customer's messages; the newest one counts."""
        found = {}
        for name, rule in self.parameters.items():
            matches = (match[0] for text in reversed(texts) for match in re.finditer(rule, text))
            if value := next(matches, ""):
                found[name] = value
        return found


class Looked(NamedTuple):
    """The result of a look-up."""

    text: str
    """Answer for the customer."""
    status: str
    """`found`, `missing` (a parameter), `unknown_customer` or `failed`."""


def ask_for(lookup: Lookup, absent: Sequence[str]) -> str:
    """Ask for the parameters that a look-up needs."""
    return f"{_asking(lookup)} {', '.join(name.replace('_', ' ') for name in absent)}."


def _asking(lookup: Lookup) -> str:
    return f"To look up {lookup.title}, I need:"


def choose(lookups: Sequence[Lookup], question: str, asked_before: str) -> Lookup | None:
    """Return the look-up that a question asks for, or whose parameter the agent has just asked for."""
    begun = (one for one in lookups if asked_before.startswith(_asking(one)))
    return next((one for one in lookups if one.asked_by(question)), None) or next(begun, None)


def look_up(lookup: Lookup, texts: Sequence[str], audit: Callable[[dict[str, Any]], None]) -> Looked:
    """Look up a fact for the customer of this request.

    Args:
        lookup: what.
        texts: the customer's messages, oldest first.
        audit: receives who asked for what and what became of it, without the result.
    """
    customer = CUSTOMER.get()
    values = lookup.values(texts)
    absent = [name for name in lookup.parameters if name not in values]
    if lookup.needs_customer and not customer:
        looked = Looked(f"I can't look up {lookup.title}, because I don't know who you are.", "unknown_customer")
    elif absent:
        looked = Looked(ask_for(lookup, absent), "missing")
    else:
        looked = _answer(lookup, {"customer": customer} | values)
    audit({"at": time.time(), "lookup": lookup.name, "customer": customer, "status": looked.status, **values})
    return looked


def _answer(lookup: Lookup, values: dict[str, str]) -> Looked:
    try:
        fact = _from_function(lookup, values) if lookup.function else _from_url(lookup, values)
        text = _filled(lookup.say, values | {name: _shown(value) for name, value in fact.items()})
    except Exception:  # whatever the operator's function or server does, the customer gets an answer
        return Looked(f"I couldn't look up {lookup.title} just now.", "failed")
    shown = ", ".join(value for name, value in values.items() if name != "customer")
    return Looked(f"{text}\n\nLooked up: {lookup.title}{f' ({shown})' if shown else ''}.", "found")


def _shown(value: Any) -> str:
    if not isinstance(value, str | int | float):
        raise TypeError("only texts and numbers can be shown")
    return " ".join(str(value).split())[:MAX_VALUE_CHARACTERS]


def _filled(template: str, values: Mapping[str, str]) -> str:
    return _FIELD.sub(lambda field: values[field[1]], template)


def _from_function(lookup: Lookup, values: dict[str, str]) -> Fact:
    module, _, name = lookup.function.partition(":")
    fact: Fact = getattr(import_module(module), name)(**values)
    return fact


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Follow no redirect: it could lead to an address that isn't allowed."""


def _from_url(lookup: Lookup, values: dict[str, str]) -> Fact:
    url = _filled(lookup.url, {name: quote(value, safe="") for name, value in values.items()})
    if offline() and urlsplit(url).hostname not in LOOPBACK:
        raise SizewiseError("SIZEWISE_OFFLINE forbids this look-up.", "an address of this machine", "")
    request = Request(url, headers={"Accept": "application/json", "User-Agent": "sizewise"})
    with build_opener(_NoRedirects).open(request, timeout=TIMEOUT_S) as response:
        body = response.read(MAX_BYTES + 1)
    fact = json.loads(body) if len(body) <= MAX_BYTES else None
    if not isinstance(fact, dict):
        raise URLError("the answer is not a small JSON object")
    return {name: value for name, value in fact.items() if isinstance(value, str | int | float)}
