"""OpenAI's format on the wire: what comes in, what goes out, and errors as clients know them.

Source: OpenAI's published API reference. What an engine cannot do is refused by name, never silently left out.
"""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from sizewise.models.base import Weighed
from sizewise.records import Completion, Message, ModelDescription, Request

DEFAULT_TOKENS = 512
MOST_CHOICES, MOST_MESSAGES, MOST_PROMPTS = 8, 1_000, 256

Stop = Annotated[str, StringConstraints(max_length=200)]


class Refused(Exception):
    """A request that is answered with an error.

    Args:
        message: what is wrong, and what to do.
        param: field of the request that it is about.
        code: short name of the error.
        status: HTTP status.
        headers: HTTP headers besides.
    """

    def __init__(
        self,
        message: str,
        param: str | None = None,
        code: str | None = None,
        status: int = 400,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message, self.param, self.code, self.status, self.headers = message, param, code, status, headers or {}


class ErrorFields(BaseModel):
    """What an error says."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """An error as clients of OpenAI know it."""

    error: ErrorFields


ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": words}
    for status, words in {
        400: "what is asked cannot be done",
        401: "a key is missing or wrong",
        403: "the key, or the guard, does not allow it",
        404: "there is no such thing",
        405: "not by this method",
        413: "the body is too long",
        429: "all places are taken, or a budget is used up",
        500: "the engine failed",
        503: "starting or stopping",
        504: "the answer took too long",
    }.items()
}
STREAMED: dict[int | str, dict[str, Any]] = {
    200: {"description": "an answer, whole or streamed", "content": {"application/json": {}, "text/event-stream": {}}}
}
ERROR_KINDS = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


def error_body(message: str, status: int, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """Write an error as OpenAI does; half characters (lone surrogates) of what was sent cannot be sent back."""
    message = message.encode("utf-8", errors="replace").decode("utf-8")
    kind = ERROR_KINDS.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


class _Body(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)


class _Whole(_Body):
    """A body as it arrives."""

    @model_validator(mode="before")
    @classmethod
    def _characters(cls, data: Any) -> Any:
        """Refuse half characters (lone surrogates): no answer could hold them."""
        try:
            json.dumps(data, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            raise ValueError("half a character (a lone surrogate) stands in it") from None
        return data


class TextPart(_Body):
    """A part of a message."""

    type: str
    text: str | None = None


class ChatMessage(_Body):
    """A message of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[TextPart] | None = None


class StreamOptions(_Body):
    """How an answer is streamed."""

    include_usage: bool | None = None


class Common(_Whole):
    """What both kinds of request may ask for."""

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    n: int | None = Field(None, ge=1, le=MOST_CHOICES)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: Stop | list[Stop] | None = None
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    logit_bias: dict[str, float] | None = None
    user: str | None = None

    def stops(self) -> tuple[str, ...]:
        """Give the texts that end an answer."""
        given = [self.stop] if isinstance(self.stop, str) else self.stop or []
        if len(given) > 4:
            raise Refused("At most four stop texts are taken.", "stop")
        return tuple(text for text in given if text)


class ChatRequest(Common):
    """A body of /v1/chat/completions."""

    messages: list[ChatMessage] = Field(min_length=1, max_length=MOST_MESSAGES)
    max_tokens: int | None = Field(None, ge=0, le=10**7)
    max_completion_tokens: int | None = Field(None, ge=0, le=10**7)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    response_format: dict[str, Any] | None = None
    tools: list[Any] | None = None
    functions: list[Any] | None = None


class TextRequest(Common):
    """A body of /v1/completions."""

    prompt: str | list[str] | list[int] | list[list[int]]
    max_tokens: int | None = Field(16, ge=0, le=10**7)
    echo: bool | None = None
    logprobs: int | None = Field(None, ge=0, le=20)
    suffix: str | None = None
    best_of: int | None = Field(None, ge=0, le=MOST_CHOICES)

    def prompts(self) -> list[str | tuple[int, ...]]:
        """Give the prompts, each a text or tokens."""
        given = self.prompt
        if isinstance(given, str):
            return [given]
        if given and all(isinstance(one, int) for one in given):
            return [tuple(given)]  # type: ignore[arg-type]
        if not 0 < len(given) <= MOST_PROMPTS:
            raise Refused(f"Between one and {MOST_PROMPTS} prompts are taken at once.", "prompt")
        return [one if isinstance(one, str) else tuple(one) for one in given]  # type: ignore[arg-type]


class EmbeddingRequest(_Whole):
    """A body of /v1/embeddings."""

    model: str
    input: str | list[str] | list[int] | list[list[int]]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = Field(None, ge=1)
    user: str | None = None

    def requests(self) -> list[Request]:
        """Give the texts, each as a request."""
        prompts = TextRequest(model=self.model, prompt=self.input).prompts()
        if any(not prompt for prompt in prompts):
            raise Refused("A text is empty.", "input")
        return [
            Request(id="", text=one, max_tokens=0) if isinstance(one, str) else Request(id="", ids=one, max_tokens=0)
            for one in prompts
        ]


def embedding_body(asked: EmbeddingRequest, vectors: list[list[float]], tokens: int) -> dict[str, Any]:
    """Write vectors as OpenAI does; base64 is of little-endian 32-bit floats."""
    told: list[Any] = list(vectors)
    if asked.encoding_format == "base64":
        told = [base64.b64encode(np.asarray(one, "<f4").tobytes()).decode("ascii") for one in vectors]
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": index, "embedding": one} for index, one in enumerate(told)],
        "model": asked.model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def refuse_unknown(asked: Common, description: ModelDescription, lenient: bool) -> None:
    """Refuse what the engine of a model cannot do.

    Args:
        asked: the request.
        description: the model that is asked.
        lenient: leave it out instead, as some clients expect.
    """
    if lenient:
        return
    for field in ("frequency_penalty", "presence_penalty", "logit_bias", "suffix", "tools", "functions"):
        if getattr(asked, field, None):
            raise Refused(f"{description.engine} does not take {field}.", field, "unsupported_parameter")
    if getattr(asked, "best_of", None) not in (None, 1, asked.n):
        raise Refused("best_of is not taken.", "best_of", "unsupported_parameter")
    if getattr(asked, "top_logprobs", None):
        raise Refused(
            f"{description.engine} gives the log-likelihood of the tokens written, not of others.",
            "top_logprobs",
            "unsupported_parameter",
        )
    wanted = {
        "sampling": bool(asked.temperature),
        "logprobs": getattr(asked, "logprobs", None) not in (None, False),
        "json_schema": isinstance(asked, ChatRequest) and schema_of(asked) is not None,
        "echo": bool(getattr(asked, "echo", False)),
    }
    for feature, is_wanted in wanted.items():
        if is_wanted and feature not in description.offers:
            field = {"sampling": "temperature", "json_schema": "response_format"}.get(feature, feature)
            raise Refused(f"{description.engine} does not offer {feature}.", field, "unsupported_parameter")


def schema_of(asked: ChatRequest) -> str | None:
    """Give the JSON schema that an answer must fit."""
    form = asked.response_format or {}
    kind = form.get("type", "text")
    if kind == "text":
        return None
    if kind == "json_object":
        return '{"type": "object"}'
    schema = (form.get("json_schema") or {}).get("schema") if kind == "json_schema" else None
    if not isinstance(schema, dict):
        raise Refused(
            "response_format needs a type of text, json_object or json_schema with a schema.", "response_format"
        )
    return json.dumps(schema)


def chat_request(asked: ChatRequest, lenient: bool) -> Request:
    """Turn a conversation from the wire into ours."""
    messages = []
    for number, message in enumerate(asked.messages):
        where = f"messages[{number}]"
        content = message.content
        if not isinstance(content, str | None):
            other = next((part.type for part in content if part.type not in ("text", "refusal")), None)
            if other and not lenient:
                raise Refused(f"The models served here take text, not {other}.", f"{where}.content")
            content = "\n".join(part.text for part in content if part.text)
        if content is None and message.role != "assistant" and not lenient:
            raise Refused("A message needs content.", f"{where}.content")
        role = {"developer": "system", "tool": "user", "function": "user"}.get(message.role, message.role)
        if role != message.role and role == "user" and not lenient:
            raise Refused("Tools are not offered, so there are no messages of them.", f"{where}.role")
        messages.append(Message(role=role, content=content or ""))
    longest = asked.max_completion_tokens or asked.max_tokens or None
    if 0 in (asked.max_completion_tokens, asked.max_tokens) and not lenient:
        raise Refused("An answer has at least one token.", "max_tokens")
    return Request(
        id="",
        messages=tuple(messages),
        stop=asked.stops(),
        max_tokens=longest or DEFAULT_TOKENS,
        fit=longest is None,
        temperature=0.0 if asked.temperature is None else asked.temperature,
        top_p=1.0 if asked.top_p is None else asked.top_p,
        seed=None if asked.seed is None else asked.seed % 2**31,
        logprobs=bool(asked.logprobs),
        json_schema=schema_of(asked) if not lenient else None,
    )


def text_request(asked: TextRequest, prompt: str | tuple[int, ...]) -> Request:
    """Turn a plain prompt from the wire into ours."""
    return Request(
        id="",
        text=prompt if isinstance(prompt, str) else None,
        ids=None if isinstance(prompt, str) else prompt,
        stop=asked.stops(),
        max_tokens=DEFAULT_TOKENS if asked.max_tokens is None else asked.max_tokens,
        temperature=0.0 if asked.temperature is None else asked.temperature,
        top_p=1.0 if asked.top_p is None else asked.top_p,
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


def echo_logprobs(weighed: Weighed, tokens: list[str], values: list[float], greedy: bool) -> dict[str, Any]:
    """Write the log-likelihoods of a prompt and of what was written after it.

    Args:
        weighed: the prompt's.
        tokens: tokens that were written.
        values: their log-likelihoods.
        greedy: whether these were the likeliest.
    """
    top: list[dict[str, float] | None] | None = None
    if weighed.likeliest is not None and (greedy or not tokens):
        own = likeliest(weighed.tokens[1:], weighed.logprobs)
        for one, better in zip(own, weighed.likeliest, strict=True):
            if one is not None and better is not None:
                one[better[0]] = better[1]
        top = [None, *own, *likeliest(tokens, values)]
    return text_logprobs(weighed.tokens + tokens, [None, *weighed.logprobs, *values], top)


class ChatForm:
    """How the answers of a conversation look.

    Args:
        model: name of the model that answers.
        body: what was asked.
    """

    whole, piece, prefix = "chat.completion", "chat.completion.chunk", "chatcmpl"

    def __init__(self, model: str, body: Common) -> None:
        self.model = model
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
        message = {"role": "assistant", "content": text, "refusal": None}
        likely = chat_logprobs(tokens, values) if tokens else None
        return {"index": index, "message": message, "logprobs": likely, "finish_reason": finish}

    def first(self, index: int) -> dict[str, Any] | None:
        """Begin a streamed answer: the role, once."""
        return {"index": index, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}

    def delta(self, index: int, text: str, tokens: Sequence[str], values: Sequence[float]) -> dict[str, Any]:
        """Write a piece of an answer."""
        likely = chat_logprobs(list(tokens), list(values)) if tokens else None
        return {"index": index, "delta": {"content": text}, "logprobs": likely, "finish_reason": None}

    def last(self, index: int, finish: str) -> dict[str, Any]:
        """End a streamed answer."""
        return {"index": index, "delta": {}, "logprobs": None, "finish_reason": finish}


class TextForm(ChatForm):
    """How continued texts look."""

    whole, piece, prefix = "text_completion", "text_completion", "cmpl"

    def choice(self, index: int, text: str, finish: str, tokens: list[str], values: list[float]) -> dict[str, Any]:
        """Write a whole continuation."""
        return {"index": index, "text": text, "logprobs": self._likely(tokens, values), "finish_reason": finish}

    def first(self, index: int) -> dict[str, Any] | None:
        """Say nothing: there is no role."""
        return None

    def delta(self, index: int, text: str, tokens: Sequence[str], values: Sequence[float]) -> dict[str, Any]:
        """Write a piece of a continuation."""
        return {"index": index, "text": text, "logprobs": self._likely(tokens, values), "finish_reason": None}

    def _likely(self, tokens: Sequence[str], values: Sequence[float]) -> dict[str, Any] | None:
        top = likeliest(tokens, values) if self.greedy else None
        return text_logprobs(list(tokens), list(values), top) if tokens else None

    def last(self, index: int, finish: str) -> dict[str, Any]:
        """End a streamed continuation."""
        return {"index": index, "text": "", "logprobs": None, "finish_reason": finish}
