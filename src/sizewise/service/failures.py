"""Translation of engine and provider failures into API errors."""

from __future__ import annotations

import re

from sizewise.models.engine_process import NO_SCHEMA, RESTARTED
from sizewise.records import Completion
from sizewise.service.model_runner import STARTING_RETRY_S
from sizewise.service.schemas import APIError

PROVIDER_RETRY_S = 10
CONTENT_FILTER = "content filter"
"""Part of the message of an engine whose provider filtered the answer."""
_UPSTREAM = re.compile(r"\bstatus_code: (\d{3})\b")


def failure_of(completion: Completion) -> APIError:
    """Translate a failed completion: a prompt that is too long is the client's error, the rest are the engine's."""
    message = completion.error or "The engine failed."
    if "context" in message and "token" in message:
        return APIError(message, "messages", "context_length_exceeded")
    if NO_SCHEMA in message:
        return APIError(message, "response_format", "invalid_schema")
    if CONTENT_FILTER in message:
        return APIError("The provider's content filter blocked the answer.", "messages", "content_filter")
    upstream = _UPSTREAM.search(message)
    if upstream is not None:
        return _provider_failure(int(upstream[1]))
    if RESTARTED in message:
        return APIError(message, None, "engine_restarted", 503, {"Retry-After": str(STARTING_RETRY_S)})
    return APIError(message, None, "engine_failed", 500)


def _provider_failure(status: int) -> APIError:
    """Translate a provider's HTTP status; its message is dropped because it may reveal details of the account."""
    retry = {"Retry-After": str(PROVIDER_RETRY_S)}
    if status in (402, 429):
        return APIError("The provider's rate limit was reached (429).", None, "provider_busy", 429, retry)
    if status in (408, 500, 502, 503, 504, 529):
        return APIError(f"The provider is unavailable ({status}).", None, "provider_unavailable", 503, retry)
    if status in (400, 413, 415, 422):
        return APIError(f"The provider rejected this request as invalid ({status}).", None, "provider_refused")
    if status in (401, 403):
        return APIError(
            f"The provider rejected this server's API key ({status}). Please contact the operator of this server.",
            None,
            "provider_key_refused",
            502,
        )
    return APIError(f"The provider returned status {status}.", None, "provider_failed", 502)
