"""Posts the outcome of a pass to a webhook: https only, or this machine; public addresses only; no redirects."""

from __future__ import annotations

import http.client
import ipaddress
import json
import socket
import ssl
import threading
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from sizewise.errors import SizewiseError, UsageError
from sizewise.network import LOOPBACK, check_certificates, proxy_of
from sizewise.privacy import is_loopback, offline

TIMEOUT_S = 10.0
"""Longest wait for a connection, or for a part of the response."""
WHOLE_S = 30.0
"""Longest wait for the whole exchange."""
EXPECTED = "https://HOST/PATH, or http://localhost:PORT/PATH"


class Target(NamedTuple):
    """Where a webhook is."""

    scheme: str
    host: str
    port: int
    path: str
    here: bool
    """Whether it is on this machine."""


def read_target(url: str) -> Target:
    """Check the address of a webhook, without looking up its host.

    Raises:
        UsageError: it is neither https nor on this machine, or contains a user.
        SizewiseError: SIZEWISE_OFFLINE forbids the connection, or the host is written as a private address.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise UsageError(f"The webhook's address isn't valid: {error}.", EXPECTED, "--webhook URL") from error
    here = host in LOOPBACK or (bool(host) and is_loopback(host))
    if not host or parts.scheme not in ("https", "http") or (parts.scheme == "http" and not here):
        raise UsageError(
            f"The webhook's address begins with {parts.scheme or 'nothing'}://{host}.", EXPECTED, "--webhook URL"
        )
    if parts.username or parts.password:
        raise UsageError("The webhook's address contains a user or a password.", EXPECTED, "--webhook URL")
    if offline() and not here:
        raise SizewiseError(
            f"SIZEWISE_OFFLINE forbids connections to {host}.", "a webhook on this machine", "unset SIZEWISE_OFFLINE"
        )
    if not here:
        _check_address(_literal_address(host), host)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, host, port or (443 if parts.scheme == "https" else 80), path, here)


def send_webhook(url: str, body: Mapping[str, object]) -> None:
    """Post JSON to a webhook.

    Raises:
        UsageError: the address isn't allowed.
        SizewiseError: the host has a private address, can't be reached in time, or doesn't answer with a status of 2xx.
    """
    target = read_target(url)
    outcome: list[int | Exception] = []

    def post() -> None:
        try:
            outcome.append(_post(target, json.dumps(body).encode()))
        except Exception as error:  # handed to the thread that waits
            outcome.append(error)

    worker = threading.Thread(target=post, daemon=True)
    worker.start()
    worker.join(WHOLE_S)
    found = outcome[0] if outcome else TimeoutError(f"no response after {WHOLE_S:g} s")
    if isinstance(found, SizewiseError):
        raise found
    if isinstance(found, Exception) or not 200 <= found < 300:
        why = f"it answered with status {found}" if isinstance(found, int) else str(found) or type(found).__name__
        raise SizewiseError(
            f"The webhook at {target.host} wasn't notified: {why}.",
            "a status of 2xx, without a redirect",
            "check --webhook URL, and the log of its server",
        )


def _post(target: Target, body: bytes) -> int:
    connection = _connect(target)
    try:
        connection.request("POST", target.path, body, {"Content-Type": "application/json", "User-Agent": "sizewise"})
        return connection.getresponse().status
    finally:
        connection.close()


def _connect(target: Target) -> http.client.HTTPConnection:
    """Open a connection to an address that was checked, so that a second lookup can't lead elsewhere."""
    if target.here and target.scheme == "http":
        return http.client.HTTPConnection(target.host, target.port, timeout=TIMEOUT_S)
    check_certificates()
    context = ssl.create_default_context()
    proxy = None if target.here else proxy_of("https", target.host)
    if proxy is not None:
        _check_address(target.host, target.host)
        tunnel = http.client.HTTPSConnection(proxy.host, proxy.port, timeout=TIMEOUT_S, context=context)
        tunnel.set_tunnel(target.host, target.port, proxy.headers)
        return tunnel
    connection = http.client.HTTPSConnection(target.host, target.port, timeout=TIMEOUT_S, context=context)
    connection.sock = context.wrap_socket(
        socket.create_connection((_address_of(target), target.port), TIMEOUT_S), server_hostname=target.host
    )
    return connection


def _address_of(target: Target) -> str:
    """Look up the host, and check that all of its addresses are public.

    Raises:
        SizewiseError: one isn't.
    """
    found = [str(one[4][0]) for one in socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)]
    if not target.here:
        for address in found:
            _check_address(address, target.host)
    return found[0]


def _literal_address(host: str) -> str:
    """Return a host that is written as an address in its usual form, also `10.8` and `0x0a000008`; others unchanged."""
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except OSError:
        return host


def _check_address(address: str, host: str) -> None:
    try:
        number = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return  # a name, which the proxy looks up
    mapped = number.ipv4_mapped if isinstance(number, ipaddress.IPv6Address) else None
    if not (mapped or number).is_global or number.is_multicast:
        raise SizewiseError(
            f"The webhook's host {host} has the private address {address}.",
            "a host with a public address, or localhost",
            "--webhook URL",
        )
