"""Check addresses of web pages before a connection is made: only listed hosts, only public addresses (OWASP SSRF).

A host is resolved once, all of its addresses must be public, and the connection goes to the address that was checked;
a second answer of the name server (DNS rebinding) has no effect. Redirects are checked like any other address. Behind
a proxy (HTTPS_PROXY), the proxy resolves the host and decides which addresses can be reached.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

PORTS = {"http": 80, "https": 443}
MAX_URL = 2_000
_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")
_NUMBER_LIKE = re.compile(r"(?:0x[0-9a-f]*|\d+)(?:\.(?:0x[0-9a-f]*|\d+))*", re.IGNORECASE)
_FORBIDDEN_NAMES = ("localhost", "internal", "local", "localdomain", "home.arpa", "intranet", "lan", "onion", "test")
# Special-purpose ranges of the IANA registries (RFC 6890), which `is_global` knows differently well in each version of
# Python, and ranges that lead elsewhere: 6to4, Teredo, NAT64, IPv4-compatible, site-local.
_SPECIAL = tuple(
    map(
        ipaddress.ip_network,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
            *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24"),
            *("203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4", "2002::/16", "2001::/23", "2001:db8::/32", "3fff::/20"),
            *("64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "100:0:0:1::/64", "::/96", "fc00::/7", "fe80::/10"),
            *("fec0::/10", "5f00::/16", "ff00::/8"),
        ),
    )
)
_METADATA = frozenset(map(ipaddress.ip_address, ("168.63.129.16", "100.100.100.200", "fd00:ec2::254")))

Resolve = Callable[[str, int], Sequence[str]]


class Refused(Exception):
    """An address that is not read from; the message is the reason."""


class Unreachable(Refused):
    """A host that no connection is made to, whichever of its pages was asked for."""


class Target(NamedTuple):
    """An address that may be connected to."""

    scheme: str
    host: str
    """Host name in ASCII, or a canonical IP address."""
    port: int
    path: str
    """Path and query."""

    @property
    def url(self) -> str:
        """The address in its normal form."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.path}"


def is_url(source: object) -> bool:
    """Return whether a source is an address rather than a path."""
    return isinstance(source, str) and re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", source) is not None


def normal_host(host: str) -> str:
    """Return a host in ASCII (IDNA) and lower case, without a final period.

    Raises:
        Refused: It is no host name, or an IP address in an unusual spelling.
    """
    host = host.strip("[]") if host.startswith("[") else host
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    if "%" in host or ":" in host:
        raise Refused(f"the host {host!r} is not valid")
    name = host.removesuffix(".").lower()
    if not name.isascii():
        try:
            name = name.encode("idna").decode("ascii").lower()
        except UnicodeError as error:
            raise Refused(f"the host {host!r} is not valid") from error
    if _NUMBER_LIKE.fullmatch(name) or name.rpartition(".")[2].isdigit():
        raise Refused(f"the host {host!r} is an IP address in an unusual spelling")
    if not name or len(name) > 253 or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise Refused(f"the host {host!r} is not valid")
    return name


def check_url(url: str, allow_hosts: Sequence[str]) -> Target:
    """Check the text of an address against the list of hosts; no connection is made.

    Args:
        url: The address.
        allow_hosts: Hosts that may be read from, as `host` (standard ports) or `host:port`; no wildcards.

    Raises:
        Refused: The address isn't on the list, or is written to mislead.
    """
    if len(url) > MAX_URL or re.search(r"[\x00-\x20\x7f\\]", url):
        raise Refused("the address has spaces, backslashes or control characters, or is too long")
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname or ""
    except ValueError as error:
        raise Refused(f"the address is not valid ({error})") from error
    if parts.scheme not in PORTS:
        raise Refused(f"the scheme {parts.scheme}: is not http or https")
    if "@" in parts.netloc:
        raise Refused("the address has a user name before the host")
    host = normal_host(host)
    port = PORTS[parts.scheme] if port is None else port
    allowed = _allowed(allow_hosts)
    if (host, None) not in allowed and (host, port) not in allowed:
        raise Refused(f"the host {host} is not listed; add --allow-host {host}")
    if (host, port) not in allowed and port != PORTS[parts.scheme]:
        raise Refused(f"the port {port} is not listed; add --allow-host {host}:{port}")
    nearby = any(host == name or host.endswith(f".{name}") for name in _FORBIDDEN_NAMES)
    if nearby or (_address(host) is None and "." not in host):
        raise Refused(f"the host {host} is in a private network")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not path.isascii():
        from urllib.parse import quote

        path = quote(path, safe="/?&=%:@!$'()*+,;~-._")
    return Target(parts.scheme, host, port, path)


def _allowed(hosts: Sequence[str]) -> set[tuple[str, int | None]]:
    found: set[tuple[str, int | None]] = set()
    for entry in hosts:
        host, colon, port = entry.rpartition(":")
        if colon and port.isdigit() and (":" not in host or host.startswith("[")):
            found.add((normal_host(host), int(port)))
        else:
            found.add((normal_host(entry), None))
    return found


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def is_public(address: str) -> bool:
    """Return whether an IP address is reached over the public internet, and not a machine or cloud nearby."""
    try:
        number = ipaddress.ip_address(address.split("%")[0])
    except ValueError:
        return False
    if "%" in address or number in _METADATA:
        return False
    if isinstance(number, ipaddress.IPv6Address) and number.ipv4_mapped is not None:
        return False
    if any(number in network for network in _SPECIAL):
        return False
    return number.is_global and not (number.is_multicast or number.is_reserved or number.is_unspecified)


def resolve_host(host: str, port: int) -> Sequence[str]:
    """Look up the addresses of a host."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(one[4][0]) for one in found))


def pinned_address(target: Target, resolve: Resolve = resolve_host) -> str:
    """Return the IP address to connect to.

    Raises:
        Unreachable: The host has no address, or one that isn't public.
    """
    try:
        addresses = resolve(target.host, target.port)
    except (OSError, UnicodeError) as error:
        raise Unreachable(f"the host {target.host} has no address ({error})") from error
    private = [address for address in addresses if not is_public(address)]
    if private:
        raise Unreachable(f"the host {target.host} has the private or reserved address {private[0]}")
    if not addresses:
        raise Unreachable(f"the host {target.host} has no address")
    return min(addresses, key=lambda address: ":" in address)  # IPv4 first: IPv6 is often unreachable


def check_behind_proxy(target: Target, resolve: Resolve = resolve_host) -> None:
    """Check the addresses of a host that a proxy connects to, as far as this machine can look them up.

    Raises:
        Unreachable: One isn't public.
    """
    try:
        addresses = resolve(target.host, target.port)
    except (OSError, UnicodeError):
        return  # many networks leave the lookup to the proxy
    private = [address for address in addresses if not is_public(address)]
    if private:
        raise Unreachable(f"the host {target.host} has the private or reserved address {private[0]}")
