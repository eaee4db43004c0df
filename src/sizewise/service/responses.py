"""Conversion between OpenAI's wire format and our requests and completions, streamed or not."""

from __future__ import annotations

import json
import secrets
import time
from codecs import getincrementaldecoder
from collections.abc import Sequence
from functools import cached_property
from math import isnan
from typing import Any

from fastapi.responses import JSONResponse

from sizewise.lm.template_dates import today
from sizewise.metrics.extraction import find_evidence
from sizewise.models.base import ScoredPrompt, bytes_of
from sizewise.records import Completion, Evidence, Message, Request, ToolCall, split_thoughts
from sizewise.service.reasoning import ReasoningParser
from sizewise.service.schemas import (
    DEFAULT_MAX_TOKENS,
    DEFAULT_TEXT_TOKENS,
    APIError,
    ChatMessage,
    ChatRequest,
    Common,
    TextRequest,
    schema_of,
)
from sizewise.service.sse import DONE, format_event
from sizewise.service.tools import StreamParser, Tools, format_calls

ENCODE = json.JSONEncoder(ensure_ascii=False).encode
TOOL_ROLES = ("tool", "function")
"""Roles of messages that contain the result of a tool call."""
UNKNOWN_LOGPROB = -9999.0
"""Stands in chat completions for a log-probability that the engine doesn't state, as in OpenAI's API."""
MIN_SAMPLING = 1e-5
"""Lower temperatures are treated as 0, and a lower top_p is raised to it, because engines compute in 32 bits."""
_ROLES = {"developer": "system", "function": "tool"}


def chat_request(body: ChatRequest, lenient: bool) -> Request:
    """Convert a chat completion request.

    Raises:
        APIError: the request asks for something that is not supported.
    """
    messages: list[Message] = []
    for number, message in enumerate(body.messages):
        content = _content(message, f"messages[{number}]", lenient)
        calls = [
            ToolCall(id=call.id or "", name=call.function.name, arguments=call.function.arguments)
            for call in message.tool_calls or ()
        ]
        role: Any = _ROLES.get(message.role, message.role)
        given = message.tool_call_id or "" if role == "tool" else ""
        messages.append(Message(role=role, content=content, tool_calls=tuple(calls), tool_call_id=given))
    max_tokens = body.max_completion_tokens or body.max_tokens or None
    if 0 in (body.max_completion_tokens, body.max_tokens) and not lenient:
        raise APIError("max_tokens must be at least 1.", "max_tokens")
    if body.evidence and not lenient:
        _check_evidence(body)
    return Request(
        id="",
        messages=tuple(messages),
        stop=body.stops(),
        max_tokens=max_tokens or DEFAULT_MAX_TOKENS,
        fit=max_tokens is None,
        temperature=_temperature(body),
        top_p=1.0 if body.top_p is None else max(MIN_SAMPLING, body.top_p),
        seed=None if body.seed is None else body.seed % 2**31,
        logprobs=bool(body.logprobs),
        json_schema=schema_of(body) if not lenient else None,
        date=today(),
    )


def _check_evidence(body: ChatRequest) -> None:
    """Check that evidence is asked for an answer that has values.

    Raises:
        APIError: the answer is no JSON, or it is streamed.
    """
    if schema_of(body) is None:
        raise APIError("evidence needs a response_format of type json_schema or json_object.", "evidence")
    if body.stream:
        raise APIError("evidence cannot be combined with stream.", "evidence")


def evidence_of(body: ChatRequest, answer: str) -> list[dict[str, Any]]:
    """Format where the values of an answer occur in the messages; those of the assistant are no source.

    Positions count Unicode characters of the message's text; parts of a text are joined with a line break.
    """
    sources = ["" if one.role == "assistant" else _content(one, "messages", lenient=True) for one in body.messages]
    found = find_evidence(answer, sources, schema_of(body) or "")
    return [one.model_dump(mode="json", exclude_defaults=True) | {"spans": _spans(one)} for one in found]


def _spans(evidence: Evidence) -> list[dict[str, Any]]:
    return [span.model_dump(mode="json") for span in evidence.spans]


def _temperature(body: Common) -> float:
    temperature = body.temperature or 0.0
    return temperature if temperature >= MIN_SAMPLING else 0.0


def _content(message: ChatMessage, field: str, lenient: bool) -> str:
    """Return the text of a message.

    Raises:
        APIError: the message has no text, or other content such as images.
    """
    content = message.content
    if not isinstance(content, str | None):
        other = next((part.type for part in content if part.type not in ("text", "refusal")), None)
        if other and not lenient:
            raise APIError(f"This server accepts text only, not {other}.", f"{field}.content")
        content = "\n".join(part.text for part in content if part.text)
    if content is None and message.role != "assistant" and not lenient:
        raise APIError("The message has no content.", f"{field}.content")
    return content or ""


def last_question(body: ChatRequest) -> str | None:
    """Return the last user message of a conversation."""
    message = next((message for message in reversed(body.messages) if message.role == "user"), None)
    return (_content(message, "messages", lenient=True) or None) if message else None


def text_request(body: TextRequest, prompt: str | tuple[int, ...]) -> Request:
    """Convert one prompt of a text completion request."""
    return Request(
        id="",
        text=prompt if isinstance(prompt, str) else None,
        ids=None if isinstance(prompt, str) else prompt,
        stop=body.stops(),
        max_tokens=DEFAULT_TEXT_TOKENS if body.max_tokens is None else body.max_tokens,
        fit=body.max_tokens is None,
        temperature=_temperature(body),
        top_p=1.0 if body.top_p is None else max(MIN_SAMPLING, body.top_p),
        seed=None if body.seed is None else body.seed % 2**31,
        logprobs=body.logprobs is not None,
    )


class JSONText(JSONResponse):
    """A response that is JSON already."""

    def render(self, content: bytes) -> bytes:
        """Return the JSON."""
        return content


def to_json(payload: Any) -> str:
    """Write a payload; lone surrogates, which can't be encoded, are escaped."""
    text = json.dumps(payload, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(payload)
    return text


def new_id(kind: str) -> str:
    """Generate the id of a response."""
    return f"{kind}-{secrets.token_hex(12)}"


def base(kind: str, response_id: str, model: str) -> dict[str, Any]:
    """Return the fields that every response has."""
    return {"id": response_id, "object": kind, "created": int(time.time()), "model": model}


def chat_logprobs(tokens: list[str], values: list[float]) -> dict[str, Any]:
    """Format log-probabilities for chat completions."""
    content = [
        {
            "token": token,
            "logprob": UNKNOWN_LOGPROB if isnan(value) else value,
            "bytes": list(bytes_of(token)),
            "top_logprobs": [],
        }
        for token, value in zip(tokens, values, strict=True)
    ]
    return {"content": content, "refusal": None}


class Offsets:
    """Counts the characters of a text before each of its tokens, which may be parts of a character."""

    def __init__(self) -> None:
        self._decoder, self._count = getincrementaldecoder("utf-8")("replace"), 0

    def of(self, tokens: Sequence[str]) -> list[int]:
        """Return the first character of each of the next tokens."""
        found = []
        for token in tokens:
            found.append(self._count)
            self._count += len(self._decoder.decode(bytes_of(token)))
        return found


def text_logprobs(
    tokens: list[str], values: list[float | None], top: list[dict[str, float] | None] | None, offsets: Offsets
) -> dict[str, Any]:
    """Format log-probabilities for text completions.

    Args:
        tokens: the tokens as text.
        values: log-probability of each token; None for the first token of a text, NaN where the engine states none.
        top: for each token its log-probability and that of the most likely token; None if unknown.
        offsets: has counted the text before.
    """
    known = [None if value is None or isnan(value) else value for value in values]
    return {"tokens": tokens, "token_logprobs": known, "top_logprobs": top, "text_offset": offsets.of(tokens)}


def greedy_top(tokens: Sequence[str], values: Sequence[float]) -> list[dict[str, float] | None]:
    """Format tokens of greedy decoding as their own most likely tokens."""
    return [None if isnan(value) else {token: value} for token, value in zip(tokens, values, strict=True)]


def echo_logprobs(scored: ScoredPrompt, tokens: list[str], values: list[float], greedy: bool) -> dict[str, Any]:
    """Format the log-probabilities of a prompt and its continuation.

    Args:
        scored: the scored prompt.
        tokens: generated tokens.
        values: their log-probabilities.
        greedy: whether decoding was greedy.
    """
    top: list[dict[str, float] | None] | None = None
    if scored.likeliest is not None and (greedy or not tokens):
        prompt_top = greedy_top(scored.tokens[1:], scored.logprobs)
        for entry, best in zip(prompt_top, scored.likeliest, strict=True):
            if entry is not None and best is not None:
                entry[best[0]] = best[1]
        top = [None, *prompt_top, *greedy_top(tokens, values)]
    return text_logprobs(scored.tokens + tokens, [None, *scored.logprobs, *values], top, Offsets())


class ChatForm:
    """Format of chat completions.

    Args:
        model: name of the model.
        body: the request.
        tools: tools the model may call.
    """

    object, chunk_object, prefix = "chat.completion", "chat.completion.chunk", "chatcmpl"
    end = format_event(DONE)
    """What ends a stream."""

    def __init__(self, model: str, body: Common, tools: Tools | None = None) -> None:
        self.model = model
        self._tools = tools
        self._parsers: dict[int, StreamParser] = {}
        self._reasoning: dict[int, ReasoningParser] = {}
        self._offsets: dict[int, Offsets] = {}
        self.greedy = not body.temperature
        self.wants_usage = bool(body.stream_options and body.stream_options.include_usage)
        self._n = body.n or 1
        self._with_evidence = body if isinstance(body, ChatRequest) and body.evidence else None

    @cached_property
    def _base(self) -> dict[str, Any]:
        return base(self.chunk_object, new_id(self.prefix), self.model)

    def whole(
        self, choices: list[dict[str, Any]], completions: Sequence[Completion], extension: dict[str, Any]
    ) -> dict[str, Any]:
        """Format a whole response."""
        body = base(self.object, new_id(self.prefix), self.model)
        return body | {"choices": choices, "usage": self.usage(completions)} | extension

    def sent(self, choice: dict[str, Any]) -> bytes:
        """Format a chunk of a choice as an event."""
        return format_event(ENCODE(self._base | {"choices": [choice]}))

    def summary(self, completions: Sequence[Completion], extension: dict[str, Any]) -> bytes:
        """Format the usage at the end of a stream, if it was asked for."""
        if not self.wants_usage:
            return b""
        return format_event(ENCODE(self._base | {"choices": [], "usage": self.usage(completions)} | extension))

    def broken(self, body: dict[str, Any]) -> bytes:
        """Format an error after the status was sent."""
        return format_event(ENCODE(body)) + self.end

    @property
    def takes_time(self) -> bool:
        """Whether formatting a choice should leave the event loop free."""
        return self._with_evidence is not None

    def usage(self, completions: Sequence[Completion]) -> dict[str, int]:
        """Count tokens; a prompt counts once, even with several completions."""
        prompt_tokens = sum(completion.prompt_tokens for completion in completions[:: self._n])
        completion_tokens = sum(completion.completion_tokens for completion in completions)
        return {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
        }

    def choice(self, index: int, text: str, finish: str, tokens: list[str], values: list[float]) -> dict[str, Any]:
        """Format a choice. Reasoning has a field of its own, as with vLLM and DeepSeek."""
        text, reasoning = split_thoughts(text)
        content, calls = self._tools.parse(text, cut=finish == "length") if self._tools else (text, [])
        content = content.strip() if calls else content
        message: dict[str, Any] = {
            "role": "assistant",
            "content": content if content or not calls else None,
            "refusal": None,
        }
        if reasoning:
            message["reasoning_content"] = reasoning
        if calls:
            message["tool_calls"] = format_calls(calls)
            finish = _finish_with_calls(finish)
        if self._with_evidence is not None:
            message["evidence"] = evidence_of(self._with_evidence, text)
        logprobs = chat_logprobs(tokens, values) if tokens else None
        return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": finish}

    def first(self, index: int) -> list[dict[str, Any]]:
        """Format the first chunk, which contains the role."""
        role = {"role": "assistant", "content": ""}
        return [{"index": index, "delta": role, "logprobs": None, "finish_reason": None}]

    def delta(self, index: int, text: str, tokens: Sequence[str], values: Sequence[float]) -> list[dict[str, Any]]:
        """Format a chunk; nothing while the text may be part of a tool call, or a mark of reasoning."""
        reasoning, text = self._reasoning.setdefault(index, ReasoningParser()).feed(text)
        if self._tools is not None:
            text = self._parsers.setdefault(index, self._tools.stream_parser()).feed(text)
        logprobs = chat_logprobs(list(tokens), list(values)) if tokens else None
        delta = ({"reasoning_content": reasoning} if reasoning else {}) | ({"content": text} if text else {})
        if not delta and (logprobs is None or self._tools is not None):
            return []
        return [{"index": index, "delta": delta or {"content": ""}, "logprobs": logprobs, "finish_reason": None}]

    def last(self, index: int, finish: str) -> list[dict[str, Any]]:
        """Format the last chunks: text held back, tool calls and the finish reason."""
        deltas: list[dict[str, Any]] = []
        reasoning, text = self._reasoning.setdefault(index, ReasoningParser()).end()
        if reasoning:
            deltas.append({"reasoning_content": reasoning})
        if self._tools is None and text:
            deltas.append({"content": text})
        if self._tools is not None:
            parser = self._parsers.setdefault(index, self._tools.stream_parser())
            before = parser.feed(text)
            content, calls = parser.end(cut=finish == "length")
            content = before + content
            deltas += [{"content": content}] if content.strip() or (content and not calls) else []
            if calls:
                deltas.append({"tool_calls": format_calls(calls, streamed=True)})
                finish = _finish_with_calls(finish)
        chunks = [{"index": index, "delta": delta, "logprobs": None, "finish_reason": None} for delta in deltas]
        return [*chunks, {"index": index, "delta": {}, "logprobs": None, "finish_reason": finish}]


def _finish_with_calls(finish: str) -> str:
    """Return the finish reason of an answer with calls; if it was cut, more of them may be missing."""
    return "length" if finish == "length" else "tool_calls"


class TextForm(ChatForm):
    """Format of text completions."""

    object, chunk_object, prefix = "text_completion", "text_completion", "cmpl"

    def choice(self, index: int, text: str, finish: str, tokens: list[str], values: list[float]) -> dict[str, Any]:
        """Format a choice."""
        logprobs = self._logprobs(index, tokens, values)
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish}

    def first(self, index: int) -> list[dict[str, Any]]:
        """Return nothing, because text completions have no role."""
        return []

    def delta(self, index: int, text: str, tokens: Sequence[str], values: Sequence[float]) -> list[dict[str, Any]]:
        """Format a chunk."""
        logprobs = self._logprobs(index, tokens, values)
        return [{"index": index, "text": text, "logprobs": logprobs, "finish_reason": None}]

    def _logprobs(self, index: int, tokens: Sequence[str], values: Sequence[float]) -> dict[str, Any] | None:
        if not tokens:
            return None
        top = greedy_top(tokens, values) if self.greedy else None
        return text_logprobs(list(tokens), list(values), top, self._offsets.setdefault(index, Offsets()))

    def last(self, index: int, finish: str) -> list[dict[str, Any]]:
        """Format the last chunk, which contains the finish reason."""
        return [{"index": index, "text": "", "logprobs": None, "finish_reason": finish}]
