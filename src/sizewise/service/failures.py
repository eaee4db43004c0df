"""Translation of engine and provider failures into API errors."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from sizewise.models.engine_process import NO_SCHEMA, RESTARTED
from sizewise.models.patience import requested_wait_s
from sizewise.records import Completion
from sizewise.service.model_runner import STARTING_RETRY_S
from sizewise.service.schemas import APIError

PROVIDER_RETRY_S = 10
MAX_MESSAGE_LENGTH = 500
CONTENT_FILTER = "content filter"
"""Part of the message of an engine whose provider filtered the answer."""
_NAME = re.compile(r"[\w.\[\]-]{1,80}", re.ASCII)
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


def failure_of_backend(status: int, headers: Mapping[str, str], text: bytes, outside: bool, path: str) -> APIError:
    """Translate an HTTP error of a backend.

    Args:
        status: HTTP status.
        headers: headers of the response.
        text: body of the response.
        outside: drop the message, because it may reveal details of the account.
        path: path of the request.
    """
    if status == 404 and path in ("/responses", "/embeddings"):
        return APIError(f"This model's server offers no {path.strip('/')}.", "model", "unsupported_endpoint")
    error: Any = None
    with suppress(ValueError, RecursionError):
        error = json.loads(text)
    error = error.get("error", error) if isinstance(error, dict) else error
    return _with_details(_provider_failure(status, requested_wait_s(headers)), error, outside)


def failure_in_answer(error: Any, outside: bool) -> APIError:
    """Translate an error that a backend reports in place of an answer, with status 200."""
    fields = error if isinstance(error, dict) else {}
    status = next((fields[name] for name in ("code", "status") if isinstance(fields.get(name), int)), 502)
    if fields.get("code") == "rate_limit_exceeded":
        status = 429
    return _with_details(_provider_failure(status if 400 <= status <= 599 else 502), error, outside)


def _with_details(failure: APIError, error: Any, outside: bool) -> APIError:
    """Add the parameter and code of a refused request, which are names of the API, and an own server's message."""
    if failure.code != "provider_refused":
        return failure
    fields = error if isinstance(error, dict) else {}
    code, param = fields.get("code"), fields.get("param")
    if code == "content_filter":
        return APIError("The provider's content filter blocked the answer.", "messages", "content_filter")
    failure.code = code if isinstance(code, str) and _NAME.fullmatch(code) else failure.code
    failure.param = param if isinstance(param, str) and _NAME.fullmatch(param) else None
    message = fields.get("message") or fields.get("detail")
    if isinstance(message, str) and not outside:
        failure.message = f"{failure.message} {message[:MAX_MESSAGE_LENGTH]}"
    return failure


def _provider_failure(status: int, retry_s: float | None = None) -> APIError:
    """Translate a provider's HTTP status; its message is dropped because it may reveal details of the account."""
    retry = {"Retry-After": str(PROVIDER_RETRY_S if retry_s is None else max(1, math.ceil(retry_s)))}
    if status in (402, 429):
        return APIError("The provider's rate limit was reached (429).", None, "provider_busy", 429, retry)
    if status in (503, 529):
        return APIError(f"The provider is unavailable ({status}).", None, "provider_unavailable", 503, retry)
    if status in (408, 504):
        return APIError(f"The provider timed out ({status}).", None, "provider_timeout", 504)
    if status in (500, 502):
        return APIError(f"The provider failed ({status}).", None, "provider_failed", 502)
    if status in (400, 413, 415, 422):
        message = f"The provider rejected this request as invalid ({status})."
        return APIError(message, None, "provider_refused", status)
    if status in (401, 403):
        return APIError(
            f"The provider rejected this server's API key ({status}). Please contact the operator of this server.",
            None,
            "provider_key_refused",
            502,
        )
    return APIError(f"The provider returned status {status}.", None, "provider_failed", 502)
