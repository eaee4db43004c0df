"""What the routes of a service share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from sizewise import datasets
from sizewise.errors import SizewiseError
from sizewise.models import Model
from sizewise.records import Policy, Request
from sizewise.routing import DomainWatch
from sizewise.service.agent import Agent, Support
from sizewise.service.api_keys import Key, Keys
from sizewise.service.budgets import Budgets
from sizewise.service.guarding import Guard, GuardRules
from sizewise.service.handovers import Handovers
from sizewise.service.limits import BODY_S
from sizewise.service.metrics import Counts
from sizewise.service.model_runner import ModelRunner
from sizewise.service.router import Router
from sizewise.service.schemas import Refused
from sizewise.store import Store

MOST_PROMPTS = 2_000
"""Training prompts that are looked at to tell what a model was trained for."""


@dataclass(frozen=True)
class Settings:
    """How a service behaves."""

    keys: Keys = field(default_factory=Keys)
    """Who may ask."""
    hosts: tuple[str, ...] = ("127.0.0.1", "localhost", "[::1]", "testserver")
    """Names under which it may be reached; other Host headers are refused (DNS rebinding)."""
    lenient: bool = False
    """Take unknown model names, and leave out what cannot be done instead of refusing it."""
    timeout_s: float = 600.0
    """Longest time of an answer."""
    most_body_bytes: int = 8_000_000
    """Longest body."""
    body_s: float = BODY_S
    """Longest time that a body may take to arrive."""
    policy: Policy | None = None
    """Who of the first two models answers what is asked of `auto`."""
    shadow: float = 0.0
    """Share of the small model's answers to `auto` that the large one checks."""
    guard: GuardRules = field(default_factory=GuardRules)
    """What stands in front of the models."""
    support: Support | None = None
    """What the support agent goes by; None: there is none."""
    most_answer_tokens: int = 8_192
    """Longest answer that may be asked for."""


class State:
    """What the routes share."""

    def __init__(self, models: dict[str, Model], settings: Settings, store: Store) -> None:
        policy = settings.policy
        rules = settings.guard
        if policy is not None:
            rules = replace(rules, confidential=(*rules.confidential, *policy.confidential))
        self.guard = Guard(rules, partial(self._keep, "crossings"))
        self.handovers = Handovers(store.home / "service" / "handovers.sqlite", _handed_over_before(store))
        self.served = [ModelRunner(name, model, self.guard) for name, model in models.items()]
        if not all(one.description.local for one in self.served):
            self.guard.prepare()
        if settings.support is not None:
            self.served.append(Agent(self.served[0].bare(), settings.support, self.handovers.keep))
        for one in self.served:
            one.domain = _domain_of(one, store)
        self.by_name = {one.name: one for one in self.served}
        self.settings, self.store = settings, store
        self.counts = Counts()
        self.budgets = Budgets(store.home / "service" / "usage.sqlite")
        self.router: Router | None = None
        if policy is not None:
            self.router = Router(policy, self.served[0], self.served[1], self.guard, settings.shadow)
        self.draining = False

    def troubles(self) -> dict[str, str]:
        """Say why models cannot answer; one that asks another has the trouble of that one."""
        found: dict[str, str] = {}
        for one in self.served:
            same = [one, *(other for other in self.served if other.admission is one.admission)]
            trouble = next((other.trouble for other in same if other.trouble), "")
            if trouble:
                found[one.name] = trouble
        return found

    def stop(self) -> None:
        """Say from now on that the service stops; what is asked is answered until it no longer listens."""
        self.draining = True

    async def admit(self, requests: Sequence[Request]) -> tuple[str, ...]:
        """Look at what is asked before a model does; gives the signs of injection in it.

        Raises:
            Refused: a longer answer is asked for than is given here, or signs are refused.
        """
        most = self.settings.most_answer_tokens
        if any(request.max_tokens > most for request in requests):
            raise Refused(f"Answers here have at most {most:,} tokens.", "max_tokens")
        return await self.guard.look(requests)

    def _keep(self, topic: str, key: str, body: dict[str, Any]) -> None:
        with self.store.service_ledger() as ledger:
            ledger.append(topic, key, body)

    def find(self, name: str, key: Key | None) -> ModelRunner:
        """Find a model by its name.

        Raises:
            Refused: there is none, or the key may not ask it.
        """
        one = self.by_name.get(name) or (self.served[0] if self.settings.lenient else None)
        if one is None:
            known = ", ".join(self.by_name)
            raise Refused(f"There is no model '{name[:200]}' here; there is {known}.", "model", "model_not_found", 404)
        if key and key.models and one.name not in key.models:
            raise Refused(f"This key may not ask {one.name}.", "model", "permission_denied", 403)
        return one


def _handed_over_before(store: Store) -> dict[str, dict[str, Any]]:
    """Give the conversations that wait in the ledger, where earlier versions kept them."""
    if not (store.home / "service" / "ledger.sqlite").exists():
        return {}
    with store.service_ledger() as ledger:
        done = ledger.entries("handovers_done")
        return {number: body for number, body in ledger.entries("handovers").items() if number not in done}


def _domain_of(one: ModelRunner, store: Store) -> DomainWatch | None:
    """Learn what a model was trained for from the prompts of its training examples; None where there are too few."""
    data = one.description.trained_on
    if data is None or not store.exists("dataset", data):
        return None
    examples = datasets.load(store, data).examples["train"]
    step = max(1, len(examples) // MOST_PROMPTS)
    try:
        return DomainWatch([example.prompt for example in examples[::step]])
    except SizewiseError:
        return None
