"""The web pages and the routes that feed them: chat, monitor, document upload, judging and the live study report."""

from __future__ import annotations

from importlib.resources import files

SAFE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; "
    "script-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
"""HTTP headers sent with every page."""


def read_page(name: str) -> str:
    """Read the HTML of a page that ships in this package."""
    return files("sizewise.service.pages").joinpath(name).read_text(encoding="utf-8")
