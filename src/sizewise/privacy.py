"""Disable the telemetry of third-party libraries, and enforce SIZEWISE_OFFLINE.

`import sizewise` calls `keep_private` before it imports any other module, and child processes inherit the environment.
Variables that the user has set keep their values. Telemetry without an environment variable is disabled here as well.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import sys
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

SWITCHES = {
    "DO_NOT_TRACK": "1",  # https://donottrack.sh: huggingface_hub, vLLM and others
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    "HF_UPDATE_DOWNLOAD_COUNTS": "0",  # datasets and evaluate
    "DISABLE_SAFETENSORS_CONVERSION": "1",  # transformers asks a service to convert weights
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "RAY_USAGE_STATS_ENABLED": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "ORT_DISABLE_TELEMETRY": "1",  # onnxruntime, in C++
    "WANDB_ERROR_REPORTING": "false",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
}
OFFLINE_SWITCHES = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_EVALUATE_OFFLINE": "1",
    "PIP_NO_INDEX": "1",
}
REFUSED_MODULES = ("openvino_telemetry", "kernels")
"""Packages that only send telemetry, or download code while another one is imported (bitsandbytes asks for it). Their
importers work without them. A module of that name that isn't the package is none of them."""
CONNECTING = ("socket.connect", "socket.sendto", "socket.sendmsg")
RESOLVING = ("socket.getaddrinfo", "socket.gethostbyname")
REVERSING = ("socket.gethostbyaddr",)  # sends a query even for a numeric address
_refusing = False


def offline() -> bool:
    """Return whether SIZEWISE_OFFLINE allows loopback connections only."""
    return os.environ.get("SIZEWISE_OFFLINE", "") not in ("", "0")


def keep_private() -> None:
    """Disable telemetry in this process and its children; with SIZEWISE_OFFLINE, refuse connections as well."""
    global _refusing
    for name, value in (SWITCHES | (OFFLINE_SWITCHES if offline() else {})).items():
        os.environ.setdefault(name, value)
    for module in filter(_is_installed, REFUSED_MODULES):
        sys.modules.setdefault(module, None)  # type: ignore[arg-type]  # None: importing it is an ImportError
    if offline() and not _refusing:
        _refusing = True
        sys.addaudithook(_refuse)


def _is_installed(package: str) -> bool:
    try:
        distribution(package)
    except PackageNotFoundError:
        return False
    return True


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuse Python code's connections to other hosts, and lookups of their addresses.

    Raises:
        ConnectionRefusedError: SIZEWISE_OFFLINE forbids the connection.
    """
    if event in CONNECTING:
        address = arguments[1]  # None if the socket is already connected
        host = address[0] if isinstance(address, tuple) and address else ""  # a Unix socket has a path, not a tuple
        allowed = is_loopback(host)
    elif event in RESOLVING:
        host = arguments[0] or ""
        allowed = is_loopback(host) or _number(host) is not None  # a numeric address needs no lookup
    elif event in REVERSING:
        host = arguments[0]
        allowed = is_loopback(host)
    else:
        return
    if not allowed and offline():
        raise ConnectionRefusedError(errno.ECONNREFUSED, f"SIZEWISE_OFFLINE forbids the connection to {_text(host)}")


def is_loopback(host: str | bytes) -> bool:
    """Return whether a host name or address refers to the loopback interface."""
    number = _number(host)
    if number is None:
        return _text(host).lower().rstrip(".") in ("localhost", "ip6-localhost", "")
    mapped = getattr(number, "ipv4_mapped", None)
    return (mapped or number).is_loopback


def _number(host: str | bytes) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(_text(host).split("%")[0])
    except ValueError:
        return None


def _text(host: str | bytes) -> str:
    return host.decode("utf-8", "replace") if isinstance(host, bytes | bytearray) else str(host)
