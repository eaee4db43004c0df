"""Hosting of a web application: bind a port, load API keys, and run until the process is stopped."""

from __future__ import annotations

import ipaddress
import signal
import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from sizewise.errors import MissingExtraError, SizewiseError, UsageError
from sizewise.service.api_keys import Keys
from sizewise.store.sharing import shared_url

BACKLOG = 2_048


def load_keys(host: str, keys: Path | None, command: str, risk: str) -> Keys:
    """Load the API keys of a service, and require some if other machines can reach it.

    Args:
        host: address to bind.
        keys: file of API keys; None: those of the shared database, if there is one.
        command: the command being run, for the error message.
        risk: what anyone could do without keys, for the error message.

    Raises:
        UsageError: the address is reachable from other machines and no keys are given.
    """
    loaded = _loaded(keys)
    if not is_loopback(host) and not loaded.required:
        raise UsageError(
            f"With --host {host} and no API keys, anyone who can reach this machine could {risk}.",
            "API keys for any address except 127.0.0.1",
            f"{command} --host {host} --keys FILE (create a key with: sizewise serve --keys FILE --new-key NAME)",
        )
    return loaded


def _loaded(keys: Path | None) -> Keys:
    """Load the keys of a file; without one, those of the shared database, if there is one."""
    if keys is not None:
        return Keys.load(keys)
    if not shared_url():
        return Keys()
    from sizewise.service.shared_keys import shared_keys

    return shared_keys(shared_url())


def run_app(
    app: FastAPI,
    host: str,
    port: int,
    announce: Callable[[str], None],
    *,
    drain_s: int = 5,
    grace_s: float = 0.0,
    on_stop: Callable[[], None] | None = None,
    on_hangup: Callable[[], None] | None = None,
) -> None:
    """Run an application until SIGINT or SIGTERM.

    Args:
        app: the application.
        host: address to bind.
        port: port to bind; 0 picks a free port.
        announce: called with the address once the port is bound.
        drain_s: seconds that requests in progress may take to finish.
        grace_s: seconds after SIGTERM in which the service still accepts connections.
        on_stop: called as soon as the service is asked to stop.
        on_hangup: called in a thread on SIGHUP.

    Raises:
        SizewiseError: the address cannot be bound.
        MissingExtraError: uvicorn is not installed.
    """
    with bind(host, port) as listener:
        announce(f"http://{'[' + host + ']' if ':' in host else host}:{listener.getsockname()[1]}")
        serve_app(app, listener, drain_s=drain_s, grace_s=grace_s, on_stop=on_stop, on_hangup=on_hangup)


def bind(host: str, port: int) -> socket.socket:
    """Bind a port.

    Raises:
        SizewiseError: the address cannot be bound.
    """
    try:
        return listen(host, port)
    except OSError as error:
        raise SizewiseError(
            f"Cannot bind {host}, port {port}: {error.strerror or error}.",
            "an address of this machine and a free port",
            "--port 0 picks a free port",
        ) from error


def serve_app(
    app: Any,
    listener: socket.socket,
    *,
    drain_s: int = 5,
    grace_s: float = 0.0,
    on_stop: Callable[[], None] | None = None,
    on_hangup: Callable[[], None] | None = None,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Run an application on a socket until SIGINT or SIGTERM.

    Args:
        app: the application.
        listener: the socket.
        drain_s: seconds that requests in progress may take to finish.
        grace_s: seconds after SIGTERM in which the service still accepts connections.
        on_stop: called as soon as the service is asked to stop.
        on_hangup: called in a thread on SIGHUP.
        options: options of uvicorn.

    Raises:
        MissingExtraError: uvicorn is not installed.
    """
    try:
        from sizewise.service.connections import make_server
    except ImportError as error:
        raise MissingExtraError("uvicorn", "serve") from error
    ignore_hangup()
    if on_hangup is not None and hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, lambda *_: threading.Thread(target=on_hangup, daemon=True).start())
    signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn drains and then re-raises the signal
    host, port = listener.getsockname()[:2]
    server = make_server(
        app,
        host=host,
        port=port,
        drain_s=drain_s,
        on_stop=on_stop or (lambda: None),
        grace_s=grace_s,
        options=options,
    )
    server.run(sockets=[listener])


def ignore_hangup() -> None:
    """Keep running when the terminal closes, together with model processes started after this call."""
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


def allowed_hosts(host: str) -> tuple[str, ...]:
    """Return the Host headers to accept for a bind address; any header if other machines can reach it."""
    return ("127.0.0.1", "localhost", "[::1]", "::1", host) if is_loopback(host) else ("*",)


def listen(host: str, port: int) -> socket.socket:
    """Bind a TCP socket and listen.

    The socket is created with an explicit protocol number. asyncio sets TCP_NODELAY only then; without it the first
    token waits 40 ms for the client's delayed acknowledgement.

    Raises:
        OSError: the port is in use.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol or socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)  # clients that connect during startup wait instead of being refused
    except OSError:
        listener.close()
        raise
    return listener


def is_loopback(host: str) -> bool:
    """Check whether an address is reachable from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
