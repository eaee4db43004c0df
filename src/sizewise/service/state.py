"""Settings of a service, and the state that its routes share."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from sizewise import datasets
from sizewise.errors import SizewiseError
from sizewise.models import Model
from sizewise.models.remote import RemoteModel
from sizewise.models.signal_classifier import open_signal_classifier
from sizewise.records import Policy, Request
from sizewise.routing import TrainingDrift
from sizewise.service.admission import Admission
from sizewise.service.agent import Agent, Desk, Support
from sizewise.service.api_keys import Key, Keys
from sizewise.service.backends import Backend, BackendSettings
from sizewise.service.budgets import Budgets
from sizewise.service.cases import Cases
from sizewise.service.detecting import open_detectors
from sizewise.service.guard_processes import GuardProcesses
from sizewise.service.guarding import Guard, GuardRules
from sizewise.service.handovers import Handovers
from sizewise.service.limits import BODY_TIMEOUT_S
from sizewise.service.metrics import Metrics
from sizewise.service.model_runner import MAX_QUEUED_PER_KEY, REMOTE_MAX_TOKENS, ModelRunner
from sizewise.service.router import AUTO, Router
from sizewise.service.schemas import APIError
from sizewise.service.series import Series
from sizewise.store import Store
from sizewise.store.database import url_for

MAX_DRIFT_PROMPTS = 2_000
"""Maximum number of training prompts used to describe the training distribution."""


@dataclass(frozen=True)
class Settings:
    """Settings of a service."""

    keys: Keys = field(default_factory=Keys)
    """API keys; without any, all clients are accepted."""
    hosts: tuple[str, ...] = ("127.0.0.1", "localhost", "[::1]", "testserver")
    """Accepted Host headers; others are rejected to prevent DNS rebinding."""
    lenient: bool = False
    """Accept unknown model names, and ignore unsupported parameters instead of rejecting them."""
    timeout_s: float = 600.0
    """Maximum duration of a response."""
    max_body_bytes: int = 8_000_000
    """Maximum size of a request body."""
    body_timeout_s: float = BODY_TIMEOUT_S
    """Maximum time to receive a request body."""
    policy: Policy | None = None
    """Routing policy for the model `auto`, which chooses between the first two models."""
    decide_at: tuple[float, float] | None = None
    """Minimum probability of a decision of the small (or only) model and of the large one for `auto`; what is less
    goes on to the next, and then to people. None: a policy, if any, chooses the model."""
    shadow: float = 0.0
    """Fraction of the small model's routed answers that the large model checks."""
    guard: GuardRules = field(default_factory=GuardRules)
    """Rules for text that is sent to external models."""
    backends: Mapping[str, BackendSettings] = field(default_factory=dict)
    """Zones, keys, prices and limits of models behind an API, by name; others have the defaults."""
    support: Support | None = None
    """Documents and settings of the support agent; None: no agent."""
    usage_url: str = ""
    """SQLAlchemy URL of the database of usage; empty: the shared database, or a SQLite file in SIZEWISE_HOME."""
    max_answer_tokens: int = 8_192
    """Maximum value of max_tokens."""


class State:
    """State shared by the routes of a service."""

    def __init__(
        self, models: dict[str, Model], settings: Settings, store: Store, previous: State | None = None
    ) -> None:
        policy = settings.policy
        rules = settings.guard
        if policy is not None:
            rules = replace(rules, confidential=(*rules.confidential, *policy.confidential))
        previous_guard: Guard | None = previous.guard if previous else None
        self.guard: Guard = Guard(
            rules,
            partial(self._log, "crossings"),
            partial(open_detectors, store=store),
            lambda uri, share: open_signal_classifier(uri, store, share),
            previous_guard.processes if previous_guard else GuardProcesses(store.home),
        )
        for detect, signal_classifier in settings.keys.detectors():
            self.guard.open(detect, signal_classifier)
        if previous is None:
            self.handovers = Handovers(store.home / "service" / "handovers.sqlite", _handovers_in_ledger(store))
        else:
            self.handovers, self.guard.counts = previous.handovers, previous.guard.counts
        self.cases: Cases = previous.cases if previous else Cases(store.home / "service" / "cases.sqlite")
        self.runners = [ModelRunner(name, model, self.guard) for name, model in models.items()]
        for runner in self.runners:
            _connect(runner, settings.backends.get(runner.name))
        self.has_backends = any(runner.backend is not None for runner in self.runners)
        if any(runner.outside for runner in self.runners) or settings.keys.mask_always:
            self.guard.prepare(settings.keys.mask_always)
        if settings.support is not None:
            audit = partial(self._log_unnamed, "lookups")
            desk = Desk(self.handovers, self.cases, audit)
            self.runners.append(Agent(self.runners[0].unwrapped(), settings.support, desk))
        for runner in self.runners:
            earlier = previous.by_name.get(runner.name) if previous else None
            if earlier is not None and earlier.is_same(runner):
                runner.keep(earlier)
            else:
                runner.drift = _training_drift(runner, store)
        self.series: Series = previous.series if previous else Series(store.home / "service" / "series.sqlite")
        for runner in self.runners:
            runner.series = self.series
        self.by_name: dict[str, ModelRunner] = {runner.name: runner for runner in self.runners}
        self.settings, self.store = settings, store
        self.metrics: Metrics = previous.metrics if previous else Metrics()
        self.started_at = int(time.time())
        self.budgets: Budgets = previous.budgets if previous else _budgets(settings, store, self.metrics)
        self.router: Router | None = None
        if policy is not None:
            self.router = Router(policy, self.runners[0], self.runners[1], self.guard, settings.shadow)
        self.draining = False
        self.replaced = False
        """Whether another state uses the budgets and metrics now."""

    @property
    def starting(self) -> list[str]:
        """Names of models that aren't ready yet, and haven't failed."""
        failed = self.failures()
        return [runner.name for runner in self.runners if not runner.ready and runner.name not in failed]

    def failures(self) -> dict[str, str]:
        """Return why models cannot answer, by name; a model that shares another's engine shares its failure."""
        failures: dict[str, str] = {}
        for runner in self.runners:
            sharing = [runner, *(other for other in self.runners if other.admission is runner.admission)]
            failure = next((other.failure for other in sharing if other.failure), "")
            if failure:
                failures[runner.name] = failure
        return failures

    def stop(self) -> None:
        """Mark the service as draining; requests are answered until the port is closed."""
        self.draining = True

    def keep_series(self) -> None:
        """Write the figures over time to their file."""
        for runner in self.runners:
            self.series.look(runner.name, runner.admission.queued, runner.drift.p if runner.drift else None)
        self.series.flush()

    async def admit(self, requests: Sequence[Request]) -> tuple[str, ...]:
        """Check requests before a model sees them, and return the signs of prompt injection found in them.

        Raises:
            APIError: max_tokens is too large, or the service rejects signs of injection and some were found.
        """
        limit = self.settings.max_answer_tokens
        if any(request.max_tokens > limit for request in requests):
            raise APIError(f"max_tokens is too large; the maximum is {limit:,}.", "max_tokens")
        return await self.guard.check_injection(requests)

    def _log(self, topic: str, key: str, body: dict[str, Any]) -> None:
        with self.store.service_ledger() as ledger:
            ledger.append(topic, key, body)

    def _log_unnamed(self, topic: str, body: dict[str, Any]) -> None:
        self._log(topic, secrets.token_hex(8), body)

    @property
    def agent(self) -> Agent | None:
        """The support agent, if there is one."""
        return next((runner for runner in self.runners if isinstance(runner, Agent)), None)

    def find(self, name: str, key: Key | None, by_auto: bool = False) -> ModelRunner:
        """Find a model by name.

        Args:
            name: client-facing name.
            key: key of the client.
            by_auto: `auto` chose the model, so a key for `auto` may use it.

        Raises:
            APIError: the model does not exist, or the key may not use it.
        """
        runner = self.by_name.get(name) or (self.runners[0] if self.settings.lenient else None)
        if runner is None:
            available = ", ".join(one for one in self.by_name if key is None or key.may_use(one)) or "none"
            raise APIError(
                f"The model '{name[:200]}' does not exist. Available models: {available}.",
                "model",
                "model_not_found",
                404,
            )
        if key and not (key.may_use(runner.name) or (by_auto and key.may_use(AUTO))):
            raise APIError(f"This key may not use {runner.name}.", "model", "permission_denied", 403)
        return runner


def _budgets(settings: Settings, store: Store, metrics: Metrics) -> Budgets:
    path = store.home / "service" / "usage.sqlite"
    return Budgets(lambda: settings.usage_url or url_for(path), metrics.count_use)


def _connect(runner: ModelRunner, settings: BackendSettings | None) -> None:
    """Connect a model behind an API to its server, and set who may see the texts."""
    description = runner.description
    if not description.api:
        return
    if settings is not None:
        runner.outside = settings.zone == "outside"
    if Backend.takes(description.uri) and isinstance(runner.model, RemoteModel):
        runner.backend = Backend(runner.name, description.uri, settings or BackendSettings())
        most = runner.backend.settings.max_concurrent
        runner.admission = Admission(most, REMOTE_MAX_TOKENS, REMOTE_MAX_TOKENS // 2, MAX_QUEUED_PER_KEY)


def _handovers_in_ledger(store: Store) -> dict[str, dict[str, Any]]:
    """Return the waiting conversations from the ledger, where earlier versions stored them."""
    if not (store.home / "service" / "ledger.sqlite").exists():
        return {}
    with store.service_ledger() as ledger:
        done = ledger.entries("handovers_done")
        return {number: body for number, body in ledger.entries("handovers").items() if number not in done}


def _training_drift(runner: ModelRunner, store: Store) -> TrainingDrift | None:
    """Build the drift detector of a fine-tuned model from its training prompts; None if there are too few."""
    data = runner.description.trained_on
    if data is None or not store.exists("dataset", data):
        return None
    examples = datasets.load(store, data).examples["train"]
    step = max(1, len(examples) // MAX_DRIFT_PROMPTS)
    try:
        return TrainingDrift([example.prompt for example in examples[::step]])
    except SizewiseError:
        return None
