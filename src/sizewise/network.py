"""Company networks: a proxy and a certificate authority of one's own hold for every connection that Sizewise makes.

pip, the Hub's client and the API clients read different variables. `share_network_settings` makes one of them enough.
"""

from __future__ import annotations

import base64
import http.client
import os
import ssl
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlsplit

from sizewise.errors import SizewiseError
from sizewise.privacy import offline

if TYPE_CHECKING:
    import httpx2

CERTIFICATES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "CURL_CA_BUNDLE", "SSL_CERT_DIR")
"""Variables that name a certificate authority, in the order in which they count."""
PROXIES = ("http_proxy", "https_proxy", "all_proxy")
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Proxy(NamedTuple):
    """An HTTP proxy."""

    host: str
    port: int
    headers: dict[str, str]
    """What authenticates this machine with it; may be empty."""


def share_network_settings() -> None:
    """Pass the certificate authority of one variable on to all libraries, and keep loopback connections off the proxy.

    Variables that are set keep their values. With SIZEWISE_OFFLINE, proxies are removed: one on the loopback interface
    would take connections out of the machine.
    """
    given = next((os.environ[name] for name in CERTIFICATES if os.environ.get(name)), "")
    if given:
        places = ("SSL_CERT_DIR" if os.path.isdir(given) else "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT")
        for name in places:
            os.environ.setdefault(name, given)
    names = [name for proxy in PROXIES for name in (proxy, proxy.upper()) if os.environ.get(name)]
    if offline():
        for name in names:
            del os.environ[name]
    elif names:
        direct = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
        hosts = [host.strip() for host in direct.split(",") if host.strip()]
        if "*" not in hosts:
            os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(dict.fromkeys([*hosts, *LOOPBACK]))


def check_certificates() -> None:
    """Check that the files named by the variables of certificate authorities exist.

    Raises:
        SizewiseError: One doesn't.
    """
    for name in CERTIFICATES:
        value = os.environ.get(name)
        if value and not Path(value).exists():
            raise SizewiseError(
                f"{name} names {value}, which doesn't exist.",
                "a PEM file with the certificate authorities to trust",
                f"export {name}=FILE, or unset {name}",
            )


def proxy_of(scheme: str, host: str) -> Proxy | None:
    """Return the proxy for a host (HTTP_PROXY, HTTPS_PROXY, NO_PROXY); None for a direct connection.

    Raises:
        SizewiseError: The proxy's address can't be used.
    """
    from urllib.request import getproxies, proxy_bypass

    found = getproxies()
    address = found.get(scheme) or found.get("all")
    if not address or proxy_bypass(host):
        return None
    parts = urlsplit(address if "://" in address else f"http://{address}")
    if parts.scheme != "http" or not parts.hostname:
        raise SizewiseError(
            f"The proxy {parts.scheme}://{parts.hostname or ''} can't be used to read web pages.",
            "an HTTP proxy, http://[USER:PASSWORD@]HOST:PORT",
            f"export {scheme.upper()}_PROXY=http://HOST:PORT",
        )
    headers = {}
    if parts.username:
        secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        headers["Proxy-Authorization"] = f"Basic {base64.b64encode(secret).decode('ascii')}"
    return Proxy(parts.hostname, parts.port or 80, headers)


def connect_through(proxy: Proxy, host: str, port: int, secure: bool, timeout: float) -> http.client.HTTPConnection:
    """Prepare a connection through a proxy: a tunnel for TLS, which the proxy can't read; else whole addresses."""
    if not secure:
        return http.client.HTTPConnection(proxy.host, proxy.port, timeout=timeout)
    context = ssl.create_default_context()
    connection = http.client.HTTPSConnection(proxy.host, proxy.port, timeout=timeout, context=context)
    connection.set_tunnel(host, port, proxy.headers)
    return connection


def async_client(**settings: Any) -> httpx2.AsyncClient:
    """Build an HTTP client, with the settings of httpx2.AsyncClient, all of whose connection errors are httpx2's."""
    return _client_class()(**settings)


@cache
def _client_class() -> type[httpx2.AsyncClient]:
    import httpx2

    async def send(self: Any, request: Any, **options: Any) -> Any:
        """Send a request. A server that ends just when it accepts a connection leaves anyio without a socket."""
        try:
            return await httpx2.AsyncClient.send(self, request, **options)
        except AttributeError as error:
            raise httpx2.ConnectError(f"the connection broke: {error}", request=request) from error

    return type("Client", (httpx2.AsyncClient,), {"send": send})
