"""serve(): open models and run the OpenAI-compatible service until it is asked to stop."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from sizewise.datasets.indexing import open_folder
from sizewise.errors import SizewiseError, UsageError
from sizewise.models import Engine, Model, open_model
from sizewise.models.fake import FakeModel
from sizewise.models.multi_lora import open_shared
from sizewise.models.prompted import FewShotModel, as_evaluated
from sizewise.progress import Reporter, Silent
from sizewise.records import Evaluation, Policy
from sizewise.retrieval import Library
from sizewise.routing import read_policy
from sizewise.service.agent import MIN_CONFIDENCE, Support
from sizewise.service.agent import NAME as AGENT
from sizewise.service.app import create_app
from sizewise.service.backends import BackendSettings, check_shared_key
from sizewise.service.guarding import GuardRules
from sizewise.service.hosting import allowed_hosts, ignore_hangup, load_keys, run_app
from sizewise.service.measured import implied_evaluations, resolve_studies
from sizewise.service.router import AUTO
from sizewise.service.state import Settings
from sizewise.store import Store

DRAIN_S = 30
GRACE_S = 3.0
"""Seconds after SIGTERM in which /health answers 503 while requests are still accepted."""


def open_all(
    uris: Sequence[str],
    store: Store,
    engine: Engine,
    delay_s: float = 0.0,
    reporter: Reporter | None = None,
    share_base: bool = False,
) -> dict[str, Model]:
    """Open models, keyed by the names that clients will use.

    Raises:
        UsageError: two models would have the same name, or `share_base` is set and no two models share a base.
        SizewiseError: a model cannot be opened.
    """
    reporter = reporter or Silent()
    models: dict[str, Model] = {}
    names = [name_of(uri) for uri in uris]
    duplicate = next((name for name in names if names.count(name) > 1), None)
    if duplicate is not None:
        raise UsageError(
            f"Two models would both be named '{duplicate}'.",
            "models with different names; in a file, each model states its own",
            "sizewise serve --config FILE",
        )
    shared = open_shared(uris, store, say=reporter.say) if share_base else {}
    for name, uri in zip(names, uris, strict=True):
        if uri in shared:
            models[name] = shared[uri]
            continue
        reporter.say(f"loading {uri}")
        fake = uri.partition(":")[2] if uri.startswith("fake:") else None
        models[name] = (
            FakeModel(fake, delay_s)
            if fake
            else open_model(uri, store=store, engine=engine, keep_prefixes=True, say=reporter.say)
        )
    return models


def _as_measured(
    models: dict[str, Model], evaluations: Sequence[str], store: Store, reporter: Reporter, strict: bool = True
) -> dict[str, Model]:
    """Wrap models so that they are prompted as in the given evaluations.

    If several evaluations are of the same model, the last one wins.

    Args:
        models: models by name.
        evaluations: ids of evaluations.
        store: where the evaluations are stored.
        reporter: receives how each model is prompted, and warnings.
        strict: raise an error for an evaluation that is missing or of a model that isn't served, instead of warning.

    Raises:
        UsageError: an evaluation is of a model that isn't served.
    """
    wrapped = dict(models)
    for evaluation in dict.fromkeys(evaluations):
        if not strict and not store.exists("evaluation", evaluation):
            reporter.say(
                f"{evaluation}, which the policy was calibrated on, is not stored here, so its prompt format is unknown"
            )
            continue
        uri = store.read(Evaluation, evaluation).model.uri
        name = next((name for name, model in models.items() if model.describe().uri == uri), None)
        if name is None and not strict:
            reporter.say(f"{evaluation}, which the policy was calibrated on, measured {uri}; that model is not served")
            continue
        if name is None:
            raise UsageError(
                f"{evaluation} measured {uri}, which is not served.",
                "the model that it measured among those served",
                f"sizewise serve {uri} --as-measured {evaluation}",
            )
        model = wrapped[name]
        if isinstance(model, FewShotModel):
            model = model.wrapped
        try:
            wrapped[name] = as_evaluated(model, evaluation, store)
        except SizewiseError as error:  # for example, its dataset was removed
            if strict:
                raise
            reporter.say(f"{name} is not served as {evaluation} measured it: {error.what}")
            continue
        if wrapped[name] is not model:
            reporter.say(f"{name}: {wrapped[name].describe().origin.rpartition('; ')[2]}")
    return wrapped


def name_of(uri: str) -> str:
    """Derive the client-facing name of a model from its URI: the last part of the path."""
    kind, separator, name = uri.partition(":")
    if kind in ("http", "https"):
        return uri.partition("#")[2] or uri
    return Path(name if separator else uri).name


def serve(
    uris: Sequence[str],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    keys: Path | None = None,
    engine: Engine = "auto",
    share_base: bool = False,
    lenient: bool = False,
    delay_s: float = 0.0,
    policy: Path | None = None,
    as_measured: Sequence[str] | None = (),
    shadow: float = 0.0,
    decide_at: tuple[float, float] | None = None,
    guard: GuardRules | None = None,
    inside: Sequence[str] = (),
    documents: Path | None = None,
    sure: float = MIN_CONFIDENCE,
    store: Store | None = None,
    reporter: Reporter | None = None,
) -> None:
    """Serve models until SIGINT or SIGTERM, then finish the requests in progress.

    Args:
        uris: model URIs, and studies, whose recommended model is served as the study measured it.
        host: address to bind; anything but loopback requires API keys.
        port: port to bind; 0 picks a free port.
        keys: file of API keys.
        engine: engine that runs local models.
        share_base: load the base of several adapters once and serve all of them with transformers.
        lenient: accept unknown model names and ignore unsupported parameters.
        delay_s: seconds per word of fake models.
        policy: routing policy; decides which of the first two models answers requests for the model `auto`.
        as_measured: evaluations whose prompt form models use, before the latest ones; None: their own form.
        shadow: fraction of the small model's routed answers that the large model checks.
        decide_at: minimum probability of a decision of the first and the second model for `auto`; others go to people.
        guard: guard rules; by default all parts are on, without rules for confidential text.
        inside: names of models on other servers that may see personal data and confidential text.
        documents: documents for a support agent, which answers with the first model.
        sure: minimum probability that the documents contain the answer; below it the agent declines to answer.
        store: where records are stored.
        reporter: receives progress.

    Raises:
        SizewiseError: the address is reachable without keys, a model cannot be opened, or the port is in use.
    """
    ignore_hangup()
    store, reporter = store or Store(), reporter or Silent()
    uris, recommended = resolve_studies(uris, store)
    settings = Settings(
        keys=load_keys(host, keys, "sizewise serve MODEL", "query the models"),
        hosts=allowed_hosts(host),
        lenient=lenient,
        policy=load_policy(policy, uris),
        guard=guard or GuardRules(),
        backends=_backends(uris, inside),
        support=None if documents is None else Support(load_library(documents, store, reporter), sure),
        shadow=shadow,
        decide_at=decide_at,
    )
    models = open_all(uris, store, engine, delay_s, reporter, share_base)
    chosen = None if as_measured is None else [*as_measured, *recommended]
    prompted = apply_evaluations(models, settings.policy, chosen, store, reporter)
    _run(prompted, settings, store, reporter, (host, port), keys)


def _backends(uris: Sequence[str], inside: Sequence[str]) -> dict[str, BackendSettings]:
    named = {name_of(uri): uri for uri in uris}
    unknown = [name for name in inside if name not in named]
    if unknown:
        raise UsageError(
            f"--inside names '{unknown[0]}', which is not served.", ", ".join(named), f"--inside {next(iter(named))}"
        )
    check_shared_key(named)
    return {name: BackendSettings(zone="inside") for name in inside}


def apply_evaluations(
    models: dict[str, Model], policy: Policy | None, chosen: Sequence[str] | None, store: Store, reporter: Reporter
) -> dict[str, Model]:
    """Prompt models as in the chosen evaluations, those of the policy, and the latest ones of models trained here."""
    calibrated_on = (policy.calibration.evaluations or ()) if policy else ()
    first = [*(chosen or ()), *calibrated_on]
    implied = implied_evaluations(models, first, store, reporter, own_prompt=chosen is None)
    weak = [evaluation for evaluation in (*implied, *calibrated_on) if evaluation not in (chosen or ())]
    return _as_measured(_as_measured(models, weak, store, reporter, strict=False), chosen or (), store, reporter)


def load_policy(path: Path | None, uris: Sequence[str]) -> Policy | None:
    """Read a routing policy, which needs two models.

    Raises:
        SizewiseError: the file isn't a policy, or there is one model only.
    """
    if path is None:
        return None
    policy = read_policy(path)
    if len(uris) < 2:
        raise UsageError(
            "A routing policy needs two models, but only one was given.", "sizewise serve SMALL LARGE --policy FILE", ""
        )
    return policy


def _run(
    models: dict[str, Model],
    settings: Settings,
    store: Store,
    reporter: Reporter,
    address: tuple[str, int],
    keys: Path | None,
) -> None:
    """Run the service, and close the models when it stops."""
    app = create_app(models, settings, store)
    if any(runner.outside for runner in app.state.sizewise.runners):
        reporter.say(f"guard: {settings.guard.summary()}")
    routed = settings.policy is not None or settings.decide_at is not None
    names = ", ".join([*([AUTO] if routed else []), *models, *([AGENT] if settings.support else [])])

    def announce(url: str) -> None:
        reporter.say(f"chat: {url}/   monitor: {url}/monitor   API: {url}/v1   models: {names}")

    try:
        stop = app.state.sizewise.stop
        reload = None if keys is None else partial(settings.keys.reload, keys)
        run_app(app, *address, announce, drain_s=DRAIN_S, grace_s=GRACE_S, on_stop=stop, on_hangup=reload)
    finally:
        for model in models.values():
            model.close()


def load_library(documents: Path, store: Store, reporter: Reporter) -> Library:
    """Open the index of the support agent's documents, and bring it up to date."""
    opened = open_folder(documents, store, reporter)
    library = opened.library
    reporter.say(
        f"support agent: indexed {opened.documents:,} document(s), {len(library):,} passage(s), found by "
        f"{library.found_by}"
    )
    return library
