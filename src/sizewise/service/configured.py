"""A service from a file: opened, reloaded on SIGHUP, and run in one process or several."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from sizewise.errors import SizewiseError
from sizewise.models import Model, open_model
from sizewise.models.remote import RemoteModel
from sizewise.models.thinking import split_reasoning
from sizewise.progress import Reporter, Silent
from sizewise.records import fingerprint
from sizewise.service.agent import Support
from sizewise.service.app import create_app
from sizewise.service.backends import Backend, BackendSettings, check_shared_key
from sizewise.service.config_file import ModelSection, ServerSection, ServiceConfig, load_config
from sizewise.service.engines import Engines, stop_engines, why_not_running, with_engines
from sizewise.service.hosting import allowed_hosts, bind, ignore_hangup, load_keys, serve_app
from sizewise.service.reloading import Reloading
from sizewise.service.request_log import log_as_json
from sizewise.service.running import GRACE_S, apply_evaluations, load_library, load_policy
from sizewise.service.state import Settings, State
from sizewise.store import Store

RESTART_S, MAX_RESTART_S = 1.0, 30.0
"""Seconds before a worker that ended is started again; they double each time."""
STABLE_S = 60.0
WARM_UP_S = 60.0
"""Seconds that a worker waits for its models before it accepts connections, which other workers serve meanwhile."""
POLL_S = 0.2
_LOG = logging.getLogger("sizewise.service")


class ConfiguredService:
    """The models and the application of a file.

    Args:
        path: the file.
        store: where records are stored.
        reporter: receives progress.
        engines: folder of the addresses of started engines.
        warm_up_s: seconds to wait for the models before connections are accepted.

    Raises:
        SizewiseError: the file isn't valid, or a model can't be opened.
    """

    def __init__(self, path: Path, store: Store, reporter: Reporter, engines: Path, warm_up_s: float = 0.0) -> None:
        self._path, self._store, self._reporter, self._engines = path, store, reporter, engines
        self._opened: dict[tuple[str, ...], Model] = {}
        self._reloads = threading.Lock()
        self.config = with_engines(load_config(path), engines)
        self.app = Reloading(self._build(self.config, None), warm_up_s)

    @property
    def state(self) -> State:
        """State of the application that receives new requests."""
        state: State = self.app.app.state.sizewise
        return state

    def stop(self) -> None:
        """Mark the service as draining."""
        self.state.stop()

    def reload(self) -> None:
        """Read the file again, and replace the application; if anything fails, the old one goes on.

        Models that didn't change stay open, and so do usage, metrics and queues. Address, encryption and workers keep
        their values until a restart.
        """
        with self._reloads:
            before = dict(self._opened)
            try:
                config = with_engines(load_config(self._path), self._engines)
                app = self._build(config, self.state)
            except Exception as error:
                for opening in [opening for opening in self._opened if opening not in before]:
                    self._opened.pop(opening).close()
                reason = f"{error.what} Expected: {error.expected}" if isinstance(error, SizewiseError) else repr(error)
                _LOG.error("%s was not reloaded: %s", self._path, reason)
                return
            kept = {section.opening for section in config.model}
            gone = [self._opened.pop(opening) for opening in before if opening not in kept]
            self.state.replaced = True
            self.app.replace(app, partial(_close, gone))
            if config.server != self.config.server:
                _LOG.warning("Changes of [server] other than keys, allowed_hosts and timeout_s need a restart")
            self.config = config
            _LOG.warning("Reloaded %s: models %s", self._path, ", ".join(model.name for model in config.model))

    def close(self) -> None:
        """Close the models."""
        _close(list(self._opened.values()))

    def _build(self, config: ServiceConfig, previous: State | None) -> FastAPI:
        server = config.server
        documents, support = config.documents, None
        if documents is not None:
            library = load_library(documents.path, self._store, self._reporter)
            support = Support(library, documents.min_confidence, documents.lookup, documents.draft)
        settings = Settings(
            keys=load_keys(server.host, server.keys, "sizewise serve --config FILE", "query the models"),
            hosts=(*allowed_hosts(server.host), *server.allowed_hosts),
            lenient=server.lenient,
            timeout_s=server.timeout_s,
            policy=load_policy(config.routing.policy, [model.uri for model in config.model]),
            shadow=config.routing.shadow,
            decide_at=config.routing.decide_at,
            guard=config.guard.rules(),
            backends={model.name: self._backend(model) for model in config.model},
            support=support,
            usage_url=server.usage_database,
        )
        own = [section for section in config.model if not section.key_env]
        check_shared_key({uri: uri for section in own for uri in (section.uri, *section.replicas)})
        models = {section.name: self._open(section) for section in config.model}
        measured = [section.as_measured for section in config.model if section.as_measured is not None]
        prompted = apply_evaluations(models, settings.policy, measured, self._store, self._reporter)
        return create_app(prompted, settings, self._store, previous)

    def _backend(self, section: ModelSection) -> BackendSettings:
        supervised = None if section.start is None else partial(why_not_running, self._engines)
        return replace(section.backend(), supervised=supervised)

    def _open(self, section: ModelSection) -> Model:
        if section.opening not in self._opened:
            self._reporter.say(f"loading {section.uri}")
            self._opened[section.opening] = _open_section(section, self._store, self._reporter)
        return self._opened[section.opening]


def _open_section(section: ModelSection, store: Store, reporter: Reporter) -> Model:
    if section.key_env and split_reasoning(section.uri)[0].partition(":")[0] in Backend.KINDS:
        answers = store.home / "answers" / f"{fingerprint([section.uri])}.sqlite"
        return RemoteModel(section.uri, answers, api_key=section.api_key)
    return open_model(section.uri, store=store, engine=section.engine, keep_prefixes=True, say=reporter.say)


def _close(models: list[Model]) -> None:
    for model in models:
        model.close()


def serve_config(path: Path, store: Store | None = None, reporter: Reporter | None = None) -> None:
    """Serve what a file describes until SIGINT or SIGTERM; SIGHUP reloads the file.

    Raises:
        SizewiseError: the file isn't valid, a model can't be opened, or the port is in use.
    """
    ignore_hangup()
    store, reporter = store or Store(), reporter or Silent()
    config = load_config(path)
    server = config.server
    load_keys(server.host, server.keys, "sizewise serve --config FILE", "query the models")
    with bind(server.host, server.port) as listener:
        scheme = "https" if server.tls_certificate else "http"
        host = f"[{server.host}]" if ":" in server.host else server.host
        address = f"{scheme}://{host}:{listener.getsockname()[1]}{server.root_path}"
        names = ", ".join(model.name for model in config.model)

        def announce() -> None:
            reporter.say(f"chat: {address}/   monitor: {address}/monitor   API: {address}/v1   models: {names}")

        with tempfile.TemporaryDirectory(prefix="sizewise-engines-") as folder:
            engines = Engines(Path(folder))
            engines.update(config)
            try:
                if server.workers == 1:
                    _serve_here(path, store, reporter, listener, announce, Reloader(path, engines), Path(folder))
                else:
                    announce()
                    Workers(path, store.home, listener, server, Reloader(path, engines), Path(folder)).run()
            finally:
                engines.close()


class Reloader:
    """Starts and stops engines when the file changes, around the reload of whatever sends requests to them.

    Args:
        path: file of the service.
        engines: the engines.
    """

    def __init__(self, path: Path, engines: Engines) -> None:
        self._path, self._engines = path, engines

    def reload(self, then: Callable[[], None]) -> None:
        """Start new engines, reload, and stop the engines that are gone when their answers have ended."""
        try:
            config = load_config(self._path)
        except SizewiseError:  # the reload says why
            then()
            return
        gone = self._engines.update(config)
        then()
        if gone:
            timer = threading.Timer(config.server.drain_s + GRACE_S, stop_engines, (gone,))
            timer.daemon = True
            timer.start()


def _serve_here(
    path: Path,
    store: Store,
    reporter: Reporter,
    listener: socket.socket,
    announce: Callable[[], None],
    reloader: Reloader | None,
    engines: Path,
) -> None:
    service = ConfiguredService(path, store, reporter, engines, WARM_UP_S if reloader is None else 0.0)
    server = service.config.server
    if server.log == "json":
        log_as_json()
    options: dict[str, Any] = {
        "root_path": server.root_path,
        "forwarded_allow_ips": ",".join(server.forwarded_allow_ips),
        "ssl_certfile": server.tls_certificate,
        "ssl_keyfile": server.tls_key,
    }
    try:
        announce()
        serve_app(
            service.app,
            listener,
            drain_s=server.drain_s,
            grace_s=GRACE_S,
            on_stop=service.stop,
            on_hangup=service.reload if reloader is None else partial(reloader.reload, service.reload),
            options=options,
        )
    finally:
        service.close()


def _work(path: Path, home: Path, listener: socket.socket, engines: Path) -> None:
    """Serve in a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent passes it on as SIGTERM
    ignore_hangup()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
    threading.Thread(target=_end_with_parent, daemon=True).start()
    logging.basicConfig(level=logging.WARNING)
    try:
        _serve_here(path, Store(home), Silent(), listener, lambda: None, None, engines)
    except SizewiseError as error:
        _LOG.error("%s Expected: %s", error.what, error.expected)
        raise SystemExit(1) from None


def _end_with_parent() -> None:
    """Drain when the parent is gone, for example because it was killed, so that no worker keeps the port."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


class Workers:
    """Processes that share a port. One that ends is started again; SIGHUP and SIGTERM are passed on to all.

    Args:
        path: file of the service.
        home: SIZEWISE_HOME.
        listener: the socket.
        server: settings of the service.
        reloader: starts and stops engines when the file changes.
        engines: folder of their addresses.
    """

    def __init__(
        self,
        path: Path,
        home: Path,
        listener: socket.socket,
        server: ServerSection,
        reloader: Reloader,
        engines: Path,
    ) -> None:
        self._path, self._home, self._listener, self._engines = path, home, listener, engines
        self._number, self._drain_s, self._reloader = server.workers, server.drain_s, reloader
        self._context = multiprocessing.get_context("spawn")
        self._signals: list[int] = []

    def run(self) -> None:
        """Run until SIGTERM or SIGINT.

        Raises:
            SizewiseError: the workers end right after they start.
        """
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda received, _: self._signals.append(received))
        with tempfile.TemporaryDirectory(prefix="sizewise-metrics-") as folder:
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
            workers = [_Worker(self._start()) for _ in range(self._number)]
            try:
                while not {signal.SIGTERM, signal.SIGINT} & set(self._signals):
                    if signal.SIGHUP in self._signals:
                        self._signals.remove(signal.SIGHUP)
                        self._reloader.reload(partial(_send, workers, signal.SIGHUP))
                    self._revive(workers)
                    time.sleep(POLL_S)
            finally:
                _send(workers, signal.SIGTERM)
                end = time.monotonic() + GRACE_S + self._drain_s + 5
                for worker in workers:
                    worker.process.join(max(0.1, end - time.monotonic()))
                    if worker.process.is_alive():
                        worker.process.kill()
                        worker.process.join()
                del os.environ["PROMETHEUS_MULTIPROC_DIR"]

    def _start(self) -> BaseProcess:
        process = self._context.Process(target=_work, args=(self._path, self._home, self._listener, self._engines))
        # A SIGHUP would end a worker that is still starting; it reads the file after this.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return process

    def _revive(self, workers: list[_Worker]) -> None:
        """Start workers again that have ended.

        Raises:
            SizewiseError: all workers ended before any was stable.
        """
        now = time.monotonic()
        if all(not worker.process.is_alive() and worker.process.exitcode == 1 for worker in workers):
            raise SizewiseError(
                f"All {self._number} workers failed; their errors are above.",
                "a file that serves with one worker",
                "sizewise serve --config FILE",
            )
        for worker in workers:
            if worker.process.is_alive():
                continue
            if worker.restart_at is None:
                _forget_metrics(worker.process.pid)
                stable = now - worker.started > STABLE_S
                worker.wait_s = RESTART_S if stable else min(MAX_RESTART_S, 2 * worker.wait_s)
                worker.restart_at = now + worker.wait_s
                _LOG.error("A worker ended with exit code %s", worker.process.exitcode)
            elif now >= worker.restart_at:
                worker.process, worker.started, worker.restart_at = self._start(), now, None


class _Worker:
    def __init__(self, process: BaseProcess) -> None:
        self.process, self.started = process, time.monotonic()
        self.wait_s, self.restart_at = RESTART_S / 2, None  # type: float, float | None


def _send(workers: list[_Worker], number: int) -> None:
    for worker in workers:
        if worker.process.is_alive() and worker.process.pid is not None:
            os.kill(worker.process.pid, number)


def _forget_metrics(pid: int | None) -> None:
    from prometheus_client.multiprocess import mark_process_dead

    if pid is not None:
        mark_process_dead(pid)  # type: ignore[no-untyped-call]
