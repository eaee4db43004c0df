"""How a service ended an answer: completely, at the limit, withheld, or with a failure in place of an answer."""

from __future__ import annotations

import json
from typing import Any, Literal

from sizewise.models.patience import Fault

_WHOLE = frozenset(
    (
        *("stop", "tool_calls", "tool_call", "function_call", "end_turn", "stop_sequence"),
        *("tool_use", "compaction", "eos", "eos_token", "stop_str", "complete"),
        *("completed", "finished", "end"),
    )
)
_AT_LIMIT = frozenset(
    (*("length", "max_tokens", "model_length", "model_context_window_exceeded", "continuation", "max_output_tokens"),)
)
_SHOWN = 300  # characters of a service's message
_MESSAGE_KEYS = ("error", "detail", "message", "msg", "reason", "title")

Ending = Literal["stop", "length", "withheld"]


def ending_of(response: Any, *, may_omit: bool) -> Ending:
    """Read how an answer ended. A reason that isn't known is a failure, so an unfinished answer is never scored.

    Args:
        response: the client's response.
        may_omit: whether a server may leave out the reason; some do.

    Raises:
        UnexpectedModelBehavior: the answer isn't complete.
    """
    from pydantic_ai.exceptions import UnexpectedModelBehavior

    if response.finish_reason == "content_filter":
        return "withheld"
    # The client assumes `stop` where a service gave no reason, so the reason as it was sent counts.
    sent = str((response.provider_details or {}).get("finish_reason") or "").strip().casefold()
    if not sent and not may_omit:
        raise UnexpectedModelBehavior("the stream ended before the answer was complete")
    if sent in _AT_LIMIT or (sent not in _WHOLE and response.finish_reason == "length"):
        return "length"
    if sent and sent not in _WHOLE and response.finish_reason not in ("stop", "tool_call"):
        raise UnexpectedModelBehavior(f"the service ended the answer with '{sent[:_SHOWN]}'")
    return "stop"


def with_message(fault: Fault, body: bytes) -> Fault:
    """Return a fault with the service's message, if the fault doesn't hold it already."""
    said = message_in(body)
    return fault if not said or said in fault.reason else fault._replace(reason=f"{fault.reason}: {said}")


def message_in(body: bytes) -> str:
    """Return a service's message in a body that holds no answer; empty if there is none."""
    for line in [body, *body.splitlines()]:
        try:
            told = json.loads(line.strip().removeprefix(b"data:"))
        except ValueError:
            continue
        if not isinstance(told, dict) or told.get("choices"):
            continue
        if said := _message(told):
            return said[:_SHOWN]
    return ""


def _message(told: Any) -> str:
    """Find the message in an error's object, whose form depends on the service."""
    if isinstance(told, str):
        return told.strip()
    if isinstance(told, dict):
        return next((said for key in _MESSAGE_KEYS if (said := _message(told.get(key)))), "")
    if isinstance(told, list) and told:
        return _message(told[0])
    return ""
