"""serve(): open models and keep the service running until it is told to stop."""

from __future__ import annotations

import ipaddress
import signal
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from fastapi import FastAPI

from sizewise.documents import read_paths
from sizewise.errors import MissingExtraError, SizewiseError, UsageError
from sizewise.evaluation import AskedAs, asked_as
from sizewise.models import Engine, Model, open_model
from sizewise.models.fake import FakeModel
from sizewise.models.multi_lora import open_shared
from sizewise.progress import Reporter, Silent
from sizewise.records import Evaluation
from sizewise.retrieval import Library, cut
from sizewise.routing import read_policy
from sizewise.service.agent import NAME as AGENT
from sizewise.service.agent import SURE, Support
from sizewise.service.api_keys import Keys
from sizewise.service.app import create_app
from sizewise.service.guarding import GuardRules
from sizewise.service.router import AUTO
from sizewise.service.state import Settings
from sizewise.store import Store

DRAIN_S = 30
GRACE_S = 3.0
"""Seconds in which /health says 503 and requests are still taken, after SIGTERM."""
BACKLOG = 2_048


def open_all(
    uris: Sequence[str],
    store: Store,
    engine: Engine,
    delay_s: float = 0.0,
    reporter: Reporter | None = None,
    share_base: bool = False,
) -> dict[str, Model]:
    """Open models under the names that clients will use.

    Raises:
        UsageError: two models would have one name, or none share a base where some are to.
        SizewiseError: one cannot be opened.
    """
    reporter = reporter or Silent()
    found: dict[str, Model] = {}
    names = [name_of(uri) for uri in uris]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"Two models would be called '{twice}'.", "models of different names", "")
    shared = open_shared(uris, store, say=reporter.say) if share_base else {}
    for name, uri in zip(names, uris, strict=True):
        if uri in shared:
            found[name] = shared[uri]
            continue
        reporter.say(f"opening {uri}")
        fake = uri.partition(":")[2] if uri.startswith("fake:") else None
        found[name] = (
            FakeModel(fake, delay_s) if fake else open_model(uri, store=store, engine=engine, say=reporter.say)
        )
    return found


def _as_measured(
    models: dict[str, Model], evaluations: Sequence[str], store: Store, reporter: Reporter, strict: bool = True
) -> dict[str, Model]:
    """Let models be asked as evaluations asked them; a later evaluation of a model counts instead of an earlier one.

    Args:
        models: models by name.
        evaluations: ids.
        store: where they live.
        reporter: told how models are asked, and what could not be found out.
        strict: refuse an evaluation that is not here, or of a model that is not served, instead of telling so.

    Raises:
        UsageError: an evaluation is of a model that is not served.
    """
    found = dict(models)
    for one in dict.fromkeys(evaluations):
        if not strict and not store.exists("evaluation", one):
            reporter.say(f"{one}, which the policy was learnt from, is not here: how it asked is not known")
            continue
        uri = store.read(Evaluation, one).model.uri
        name = next((name for name, model in models.items() if model.describe().uri == uri), None)
        if name is None and not strict:
            reporter.say(f"{one}, which the policy was learnt from, measured {uri}: another model is served")
            continue
        if name is None:
            raise UsageError(f"{one} measured {uri}, which is not served.", f"sizewise serve {uri}", "")
        bare = found[name]
        if isinstance(bare, AskedAs):
            bare = bare.asked
        found[name] = asked_as(bare, one, store)
        if found[name] is not bare:
            reporter.say(f"{name}: {found[name].describe().origin.rpartition('; ')[2]}")
    return found


def name_of(uri: str) -> str:
    """Name a model for clients: what stands after the kind, the last part of a path."""
    kind, found, name = uri.partition(":")
    if kind in ("http", "https"):
        return uri.partition("#")[2] or uri
    return Path(name if found else uri).name


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
    as_measured: Sequence[str] = (),
    shadow: float = 0.0,
    guard: GuardRules | None = None,
    documents: Path | None = None,
    sure: float = SURE,
    store: Store | None = None,
    reporter: Reporter | None = None,
) -> None:
    """Serve models until SIGINT or SIGTERM; then answers under way are finished.

    Args:
        uris: model URIs.
        host: address to listen at; any but this machine's own needs keys.
        port: port; 0 takes a free one.
        keys: file of API keys.
        engine: what runs models of this machine.
        share_base: keep the base of several adapters in memory once, and let transformers answer for all of them.
        lenient: take unknown model names and leave out what cannot be done.
        delay_s: seconds a word of fake models.
        policy: file that says which of two models answers what is asked of `auto`.
        as_measured: evaluations; their models are asked as they were measured. Those that the policy was learnt from
            count by themselves.
        shadow: share of the small model's answers to `auto` that the large one checks.
        documents: files of the organisation; a support agent answers from them, with the first model.
        sure: least chance that they hold the answer; below it the agent says that it does not know.
        guard: what stands in front of the models; None: all of it, without rules of one's own.
        store: where records live.
        reporter: told what is going on.

    Raises:
        UsageError: the address is open to others and there are no keys.
        SizewiseError: a model cannot be opened, or the port is taken.
    """
    store, reporter = store or Store(), reporter or Silent()
    _outlive_the_terminal()
    known = known_keys(host, keys, "sizewise serve MODEL", "ask the models")
    routed = read_policy(policy) if policy else None
    if routed is not None and len(uris) < 2:
        raise UsageError("A policy decides between two models.", "sizewise serve SMALL LARGE --policy FILE", "")
    models = open_all(uris, store, engine, delay_s, reporter, share_base)
    known_of = (routed.calibration.evaluations or ()) if routed else ()
    models = _as_measured(models, [one for one in known_of if one not in as_measured], store, reporter, strict=False)
    models = _as_measured(models, as_measured, store, reporter)
    hosts = hosts_of(host)
    support = None if documents is None else Support(_library(documents, reporter), sure)
    guard = guard or GuardRules()
    settings = Settings(
        keys=known, hosts=hosts, lenient=lenient, policy=routed, guard=guard, support=support, shadow=shadow
    )
    app = create_app(models, settings, store)
    if not all(model.describe().local for model in models.values()):
        reporter.say(f"guard: {settings.guard.told()}")
    names = ", ".join([*([AUTO] if routed else []), *models, *([AGENT] if support else [])])
    told = "chat: {0}/   monitor: {0}/monitor   API: {0}/v1   models: " + names
    try:
        run_app(
            app,
            host,
            port,
            lambda address: reporter.say(told.format(address)),
            drain_s=DRAIN_S,
            grace_s=GRACE_S,
            stopping=app.state.sizewise.stop,
        )
    finally:
        for model in models.values():
            model.close()


def known_keys(host: str, keys: Path | None, command: str, what: str) -> Keys:
    """Read the keys of a service.

    Args:
        host: address to listen at.
        keys: file of keys.
        command: what is run.
        what: what everybody could do without keys.

    Raises:
        UsageError: the address is open to others and there are no keys.
    """
    known = Keys.load(keys) if keys else Keys()
    if not is_own(host) and not known.needed:
        raise UsageError(
            f"At {host} everybody who reaches this machine could {what}.",
            "API keys for any address but 127.0.0.1",
            f"{command} --host {host} --keys FILE, made with: sizewise keys new NAME --keys FILE",
        )
    return known


def run_app(
    app: FastAPI,
    host: str,
    port: int,
    announce: Callable[[str], None],
    *,
    drain_s: int = 5,
    grace_s: float = 0.0,
    stopping: Callable[[], None] | None = None,
) -> None:
    """Run an application until SIGINT or SIGTERM.

    Args:
        app: the application.
        host: address to listen at.
        port: port; 0 takes a free one.
        announce: told the address once the port is taken.
        drain_s: longest time that answers under way may take to end.
        grace_s: seconds between SIGTERM and the end of listening, in which `stopping` can be seen.
        stopping: called as soon as the service is told to stop.

    Raises:
        SizewiseError: nobody can listen there.
        MissingExtraError: uvicorn is not installed.
    """
    try:
        from sizewise.service.connections import server_of
    except ImportError as error:
        raise MissingExtraError("uvicorn", "serve") from error
    try:
        listening = listen(host, port)
    except OSError as error:
        raise SizewiseError(
            f"The service cannot listen at {host}, port {port}: {error.strerror or error}.",
            "an address of this machine and a free port",
            "--port 0 takes a free port",
        ) from error
    announce(f"http://{'[' + host + ']' if ':' in host else host}:{listening.getsockname()[1]}")
    _outlive_the_terminal()
    signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn drains, and then hands the signal on
    stopping = stopping or (lambda: None)
    server_of(app, host=host, port=port, drain_s=drain_s, stopping=stopping, grace_s=grace_s, backlog=BACKLOG).run(
        sockets=[listening]
    )


def _outlive_the_terminal() -> None:
    """Go on when the terminal is closed; models' processes that are started from now on do so, too."""
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


def hosts_of(host: str) -> tuple[str, ...]:
    """Give the names under which a service at an address may be called; any where others reach it."""
    return ("127.0.0.1", "localhost", "[::1]", "::1", host) if is_own(host) else ("*",)


def _library(documents: Path, reporter: Reporter) -> Library:
    reading = read_paths([documents])
    library = Library(cut(reading.documents))
    reporter.say(f"support agent: {len(reading.documents):,} documents, {len(library):,} passages")
    for note in reading.notes:
        reporter.say(note)
    return library


def listen(host: str, port: int) -> socket.socket:
    """Listen at an address.

    The socket names its protocol: asyncio sends small pieces at once only then, and else a first token waits 40 ms for
    the client's acknowledgement.

    Raises:
        OSError: the port is taken.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listening = socket.socket(family, kind, protocol or socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(BACKLOG)  # whoever comes before the first answer can be given waits instead of being refused
    except OSError:
        listening.close()
        raise
    return listening


def is_own(host: str) -> bool:
    """Tell whether an address is reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
