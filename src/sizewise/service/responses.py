"""Requests from the wire turned into ours, and answers into OpenAI's form, whole or streamed."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Any

from sizewise.models.base import ScoredPrompt
from sizewise.records import Completion, Message, Request
from sizewise.service.schemas import DEFAULT_TOKENS, ChatMessage, ChatRequest, Common, Refused, TextRequest, schema_of
from sizewise.service.tools import Tools, Watch, answer_text, calling_text, written

OF_TOOLS = ("tool", "function")
"""Roles of messages that say what a call gave."""
LEAST = 1e-5
"""Temperatures below it are 0, and no share of the likeliest tokens is smaller: engines count in 32 bits."""
_ROLES = {"developer": "system", "tool": "user", "function": "user"}


def chat_request(asked: ChatRequest, lenient: bool) -> Request:
    """Turn a conversation from the wire into ours.

    What several calls gave stands in one message, in the order of the calls: many chat templates know but two that
    take turns.
    """
    messages: list[Message] = []
    given: dict[str, str] = {}
    for number, message in enumerate(asked.messages):
        content = _content(message, f"messages[{number}]", lenient)
        if message.role in OF_TOOLS:
            given[message.tool_call_id or str(number)] = answer_text(content)
            if number + 1 < len(asked.messages) and asked.messages[number + 1].role in OF_TOOLS:
                continue
            order = [call.id for before in asked.messages[:number] for call in before.tool_calls or ()]
            place = {name: index for index, name in enumerate(order) if name}
            content = "\n".join(given[name] for name in sorted(given, key=lambda name: place.get(name, len(place))))
            given = {}
        elif message.tool_calls:
            content = calling_text(message, content)
        messages.append(Message(role=_ROLES.get(message.role, message.role), content=content))
    longest = asked.max_completion_tokens or asked.max_tokens or None
    if 0 in (asked.max_completion_tokens, asked.max_tokens) and not lenient:
        raise Refused("An answer has at least one token.", "max_tokens")
    return Request(
        id="",
        messages=tuple(messages),
        stop=asked.stops(),
        max_tokens=longest or DEFAULT_TOKENS,
        fit=longest is None,
        temperature=_temperature(asked),
        top_p=1.0 if asked.top_p is None else max(LEAST, asked.top_p),
        seed=None if asked.seed is None else asked.seed % 2**31,
        logprobs=bool(asked.logprobs),
        json_schema=schema_of(asked) if not lenient else None,
    )


def _temperature(asked: Common) -> float:
    given = asked.temperature or 0.0
    return given if given >= LEAST else 0.0


def _content(message: ChatMessage, where: str, lenient: bool) -> str:
    """Give a message's text.

    Raises:
        Refused: there is none, or something besides.
    """
    content = message.content
    if not isinstance(content, str | None):
        other = next((part.type for part in content if part.type not in ("text", "refusal")), None)
        if other and not lenient:
            raise Refused(f"The models served here take text, not {other}.", f"{where}.content")
        content = "\n".join(part.text for part in content if part.text)
    if content is None and message.role != "assistant" and not lenient:
        raise Refused("A message needs content.", f"{where}.content")
    return content or ""


def last_question(asked: ChatRequest) -> str | None:
    """Give the last thing that a person said in a conversation."""
    said = next((one for one in reversed(asked.messages) if one.role == "user"), None)
    return (_content(said, "messages", lenient=True) or None) if said else None


def text_request(asked: TextRequest, prompt: str | tuple[int, ...]) -> Request:
    """Turn a plain prompt from the wire into ours."""
    return Request(
        id="",
        text=prompt if isinstance(prompt, str) else None,
        ids=None if isinstance(prompt, str) else prompt,
        stop=asked.stops(),
        max_tokens=DEFAULT_TOKENS if asked.max_tokens is None else asked.max_tokens,
        temperature=_temperature(asked),
        top_p=1.0 if asked.top_p is None else max(LEAST, asked.top_p),
        seed=None if asked.seed is None else asked.seed % 2**31,
        logprobs=asked.logprobs is not None,
    )


def new_id(kind: str) -> str:
    """Give the id of an answer."""
    return f"{kind}-{secrets.token_hex(12)}"


def base(kind: str, answer_id: str, model: str) -> dict[str, Any]:
    """Give the fields that every answer has."""
    return {"id": answer_id, "object": kind, "created": int(time.time()), "model": model}


def chat_logprobs(tokens: list[str], values: list[float]) -> dict[str, Any]:
    """Write log-likelihoods as chat answers carry them."""
    content = [
        {"token": token, "logprob": value, "bytes": list(token.encode("utf-8")), "top_logprobs": []}
        for token, value in zip(tokens, values, strict=True)
    ]
    return {"content": content, "refusal": None}


def text_logprobs(
    tokens: list[str], values: list[float | None], top: list[dict[str, float] | None] | None
) -> dict[str, Any]:
    """Write log-likelihoods as plain answers carry them.

    Args:
        tokens: the tokens as text.
        values: the log-likelihood of each; None for the first of a text.
        top: the token's own with that of the likeliest, where it is another; None where it is not known.
    """
    offsets, offset = [], 0
    for token in tokens:
        offsets.append(offset)
        offset += len(token)
    return {"tokens": tokens, "token_logprobs": values, "top_logprobs": top, "text_offset": offsets}


def likeliest(tokens: Sequence[str], values: Sequence[float]) -> list[dict[str, float] | None]:
    """Say of tokens that each was the likeliest, as a greedy answer's are."""
    return [{token: value} for token, value in zip(tokens, values, strict=True)]


def echo_logprobs(scored: ScoredPrompt, tokens: list[str], values: list[float], greedy: bool) -> dict[str, Any]:
    """Write the log-likelihoods of a prompt and of what was written after it.

    Args:
        scored: the prompt's.
        tokens: tokens that were written.
        values: their log-likelihoods.
        greedy: whether these were the likeliest.
    """
    top: list[dict[str, float] | None] | None = None
    if scored.likeliest is not None and (greedy or not tokens):
        own = likeliest(scored.tokens[1:], scored.logprobs)
        for one, better in zip(own, scored.likeliest, strict=True):
            if one is not None and better is not None:
                one[better[0]] = better[1]
        top = [None, *own, *likeliest(tokens, values)]
    return text_logprobs(scored.tokens + tokens, [None, *scored.logprobs, *values], top)


class ChatForm:
    """How the answers of a conversation look.

    Args:
        model: name of the model that answers.
        body: what was asked.
    """

    whole, piece, prefix = "chat.completion", "chat.completion.chunk", "chatcmpl"

    def __init__(self, model: str, body: Common, tools: Tools | None = None) -> None:
        self.model = model
        self._tools = tools
        self._watches: dict[int, Watch] = {}
        self.greedy = not body.temperature
        self.wants_usage = bool(body.stream_options and body.stream_options.include_usage)
        self._of_one_prompt = body.n or 1

    def usage(self, ends: Sequence[Completion]) -> dict[str, int]:
        """Count tokens; a prompt once, however many answers it has."""
        read = sum(end.prompt_tokens for end in ends[:: self._of_one_prompt])
        written = sum(end.completion_tokens for end in ends)
        return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}

    def choice(self, index: int, text: str, finish: str, tokens: list[str], values: list[float]) -> dict[str, Any]:
        """Write a whole answer."""
        words, calls = self._tools.read(text) if self._tools else (text, [])
        words = words.strip() if calls else words
        message: dict[str, Any] = {
            "role": "assistant",
            "content": words if words or not calls else None,
            "refusal": None,
        }
        if calls:
            message["tool_calls"] = written(calls)
            finish = "tool_calls"
        likely = chat_logprobs(tokens, values) if tokens else None
        return {"index": index, "message": message, "logprobs": likely, "finish_reason": finish}

    def first(self, index: int) -> list[dict[str, Any]]:
        """Begin a streamed answer: the role, once."""
        role = {"role": "assistant", "content": ""}
        return [{"index": index, "delta": role, "logprobs": None, "finish_reason": None}]

    def delta(self, index: int, text: str, tokens: Sequence[str], values: Sequence[float]) -> list[dict[str, Any]]:
        """Write a piece of an answer; nothing while it may be part of a call."""
        if self._tools is not None:
            text = self._watches.setdefault(index, self._tools.watch()).feed(text)
            if not text:
                return []
        likely = chat_logprobs(list(tokens), list(values)) if tokens else None
        return [{"index": index, "delta": {"content": text}, "logprobs": likely, "finish_reason": None}]

    def last(self, index: int, finish: str) -> list[dict[str, Any]]:
        """End a streamed answer: what was kept of it, and why it ended."""
        deltas: list[dict[str, Any]] = []
        if self._tools is not None:
            words, calls = self._watches.setdefault(index, self._tools.watch()).end()
            deltas += [{"content": words}] if words.strip() or (words and not calls) else []
            if calls:
                deltas.append({"tool_calls": written(calls, streamed=True)})
                finish = "tool_calls"
        pieces = [{"index": index, "delta": one, "logprobs": None, "finish_reason": None} for one in deltas]
        return [*pieces, {"index": index, "delta": {}, "logprobs": None, "finish_reason": finish}]


class TextForm(ChatForm):
    """How continued texts look."""

    whole, piece, prefix = "text_completion", "text_completion", "cmpl"

    def choice(self, index: int, text: str, finish: str, tokens: list[str], values: list[float]) -> dict[str, Any]:
        """Write a whole continuation."""
        return {"index": index, "text": text, "logprobs": self._likely(tokens, values), "finish_reason": finish}

    def first(self, index: int) -> list[dict[str, Any]]:
        """Say nothing: there is no role."""
        return []

    def delta(self, index: int, text: str, tokens: Sequence[str], values: Sequence[float]) -> list[dict[str, Any]]:
        """Write a piece of a continuation."""
        return [{"index": index, "text": text, "logprobs": self._likely(tokens, values), "finish_reason": None}]

    def _likely(self, tokens: Sequence[str], values: Sequence[float]) -> dict[str, Any] | None:
        top = likeliest(tokens, values) if self.greedy else None
        return text_logprobs(list(tokens), list(values), top) if tokens else None

    def last(self, index: int, finish: str) -> list[dict[str, Any]]:
        """End a streamed continuation."""
        return [{"index": index, "text": "", "logprobs": None, "finish_reason": finish}]
