"""What a backend sends: checked, under our name, with its usage counted."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from sizewise.service.backends import CHAT, EMBEDDINGS, RESPONSES, TEXT, Tokens
from sizewise.service.budgets import estimate_tokens
from sizewise.service.failures import failure_in_answer
from sizewise.service.payloads import Restorer
from sizewise.service.schemas import MAX_CHOICES, MAX_PROMPTS, APIError
from sizewise.service.sse import Event

DEFAULT_LIMIT = 4_096
"""Tokens that are reserved for an answer whose request sets no limit."""
_LIMITS = {
    CHAT: ("max_completion_tokens", "max_tokens"),
    TEXT: ("max_tokens",),
    RESPONSES: ("max_output_tokens",),
    EMBEDDINGS: (),
}
_PARTS = {CHAT: "choices", TEXT: "choices", RESPONSES: "output", EMBEDDINGS: "data"}
_TEXTS = ("content", "reasoning_content", "reasoning", "refusal")


class Requested(NamedTuple):
    """What a request asks for."""

    answers: int
    limit: int
    """Maximum tokens of each answer."""


def _reject_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_STRICT = json.JSONDecoder(parse_constant=_reject_constant)  # one for all: making it takes longer than an event


def requested_tokens(path: str, body: dict[str, Any]) -> Requested:
    """Read how many answers a request wants, and how long they may be.

    Raises:
        APIError: a number is not valid.
    """
    given = [_number(body, name, 0, 10**7) for name in _LIMITS[path]]
    limit = next((found for found in given if found), 0 if path == EMBEDDINGS else DEFAULT_LIMIT)
    field = {TEXT: "prompt", EMBEDDINGS: "input"}.get(path, "")
    texts = body.get(field) if field else None
    prompts = len(texts) if isinstance(texts, list) and texts and not isinstance(texts[0], int) else 1
    if path == TEXT and prompts > MAX_PROMPTS:
        raise APIError(f"A request must have between 1 and {MAX_PROMPTS} prompts.", "prompt")
    several = [_number(body, name, 1, MAX_CHOICES) or 1 for name in ("n", "best_of")]
    return Requested(prompts * (max(several) if path in (CHAT, TEXT) else 1), limit)


def _number(body: dict[str, Any], field: str, least: int, most: int) -> int | None:
    value = body.get(field)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise APIError(f"{field} must be an integer from {least:,} to {most:,}.", field, "invalid_value")
    return value


def with_max_tokens(path: str, body: dict[str, Any], limit: int, kind: str) -> dict[str, Any]:
    """Lower the limit of an answer to what is left of a budget."""
    names = _LIMITS[path]
    given = [name for name in names if body.get(name)]
    if not given and names:
        given = [names[0] if path != CHAT or kind == "openai" else "max_tokens"]
    return body | {name: min(body.get(name) or limit, limit) for name in given}


def with_usage(body: dict[str, Any]) -> bool:
    """Whether the client wants the usage of a stream."""
    options = body.get("stream_options")
    return isinstance(options, dict) and bool(options.get("include_usage"))


def parse_answer(text: str | bytes) -> Any:
    """Parse JSON, without the values that Python adds to it.

    Raises:
        ValueError: it isn't JSON, or contains NaN or an infinity.
    """
    return _STRICT.decode(text if isinstance(text, str) else text.decode(json.detect_encoding(text), "surrogatepass"))


class Answer:
    """The answer of a backend, whole or in events.

    Args:
        path: path of the request.
        name: our name of the model.
        wants_usage: the client wants the usage of a stream.
        outside: messages of the provider's errors are dropped, because they may reveal details of the account.
    """

    def __init__(self, path: str, name: str, wants_usage: bool = False, outside: bool = True) -> None:
        self._path, self._name, self._wants_usage, self._outside = path, name, wants_usage, outside
        self._usage: Tokens | None = None
        self.completion_tokens = 0
        """Estimated tokens so far."""
        self.finished = False
        """Whether the model ended the answer itself."""

    def tokens(self, prompt_tokens: int) -> Tokens:
        """Return the usage that the backend counted, or an estimate."""
        return self._usage or Tokens(prompt_tokens, self.completion_tokens)

    def stream_options(self, body: dict[str, Any], kind: str) -> dict[str, Any]:
        """Return the options that make a backend count the usage of a stream."""
        if self._path not in (CHAT, TEXT) or kind == "mistral":  # Mistral always does
            return {}
        options = body.get("stream_options")
        return {"stream_options": (options if isinstance(options, dict) else {}) | {"include_usage": True}}

    def whole(self, payload: Any) -> dict[str, Any]:
        """Check a whole answer, and put our name in it.

        Raises:
            APIError: it is no answer.
        """
        if isinstance(payload, dict) and payload.get("error"):
            raise failure_in_answer(payload["error"], self._outside)
        if not isinstance(payload, dict) or not isinstance(payload.get(_PARTS[self._path]), list):
            raise APIError("The provider's answer can't be read.", None, "provider_failed", 502)
        self._usage = _tokens_of(payload.get("usage"))
        if self._usage is None:
            self.completion_tokens = 0 if self._path == EMBEDDINGS else estimate_tokens(json.dumps(payload), 1)
        return payload | {"model": self._name}

    def event(self, event: Event, restorer: Restorer) -> list[tuple[dict[str, Any], str | None]]:
        """Check an event, and return what the client receives instead.

        Raises:
            APIError: it is no event of an answer, or reports a failure.
        """
        try:
            payload = parse_answer(event.data)
        except (ValueError, RecursionError):
            payload = None
        if not isinstance(payload, dict):
            raise APIError("The provider's answer can't be read.", None, "provider_failed", 502)
        if self._path == RESPONSES:
            return [(found, str(found.get("type"))) for found in self._response_event(payload, restorer)]
        if payload.get("error"):
            raise failure_in_answer(payload["error"], self._outside)
        self._usage = _tokens_of(payload.get("usage")) or self._usage
        choices = payload.get("choices")
        if not isinstance(choices, list):
            raise APIError("The provider's answer can't be read.", None, "provider_failed", 502)
        if not self._wants_usage:
            payload.pop("usage", None)
            if not choices:
                return []
        for choice in choices:
            if isinstance(choice, dict):
                self._count(choice)
        return [(restorer.chunk(payload | {"model": self._name}), event.name)]

    def _count(self, choice: dict[str, Any]) -> None:
        """Count the tokens of a choice of a chunk."""
        delta = choice.get("delta")
        fields = delta if isinstance(delta, dict) else choice
        texts = [fields.get(name) for name in (*_TEXTS, "text")]
        calls = fields.get("tool_calls")
        texts += [json.dumps(calls)] if calls else []
        self.completion_tokens += sum(estimate_tokens(text, 1) for text in texts if isinstance(text, str) and text)
        self.finished = self.finished or choice.get("finish_reason") is not None

    def _response_event(self, payload: dict[str, Any], restorer: Restorer) -> list[dict[str, Any]]:
        kind, response = payload.get("type"), payload.get("response")
        if kind == "error":
            raise failure_in_answer(payload.get("error") or payload, self._outside)
        if isinstance(response, dict):
            if kind == "response.failed":
                raise failure_in_answer(response.get("error"), self._outside)
            self._usage = _tokens_of(response.get("usage")) or self._usage
            payload = payload | {"response": response | {"model": self._name}}
        if isinstance(payload.get("delta"), str):
            self.completion_tokens += estimate_tokens(payload["delta"], 1)
        self.finished = self.finished or kind in ("response.completed", "response.incomplete")
        return restorer.event(payload)


def _tokens_of(usage: Any) -> Tokens | None:
    """Read the usage of an answer; None if it isn't given."""
    if not isinstance(usage, dict):
        return None

    def count(*names: str) -> int:
        values = (usage.get(name) for name in names)
        return next((value for value in values if isinstance(value, int) and value > 0), 0)

    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else usage.get("prompt_cache_hit_tokens")
    prompt, answer = count("prompt_tokens", "input_tokens"), count("completion_tokens", "output_tokens")
    if not prompt and not answer:
        return None
    return Tokens(prompt, answer, min(prompt, cached) if isinstance(cached, int) and cached > 0 else 0)
