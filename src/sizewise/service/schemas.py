"""OpenAI's format on the wire: what comes in, what goes out, and errors as clients know them.

Source: OpenAI's published API reference. What an engine cannot do is refused by name, never silently left out.
"""

from __future__ import annotations

import base64
import json
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, FailFast, Field, StringConstraints, model_validator

from sizewise.records import ModelDescription, Request

DEFAULT_TOKENS = 512
MOST_CHOICES, MOST_MESSAGES, MOST_PROMPTS, MOST_TOOLS = 8, 1_000, 256, 128
MOST_BIASES = 300
OTHER_FORMS = ("guided_json", "guided_regex", "guided_choice", "guided_grammar", "structured_outputs", "grammar")
"""How clients of other servers demand a form; whoever demands one may not get an answer without it."""


class _FirstError(FailFast):
    """One error for a list with a million wrong values, not a million; it can stand in a union."""

    __hash__ = object.__hash__


FIRST_ERROR = _FirstError()
Texts = Annotated[list[str], FIRST_ERROR]
Ids = Annotated[list[int], FIRST_ERROR]
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
        408: "the body did not arrive in time",
        413: "the body is too long",
        415: "this kind of document is not read",
        429: "all places are taken, or a budget is used up",
        500: "the engine failed",
        502: "the provider behind the model failed",
        503: "no model is ready, or its provider does not answer",
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
    def _can_be_told(cls, data: Any) -> Any:
        """Refuse half characters (lone surrogates), which no answer could hold."""
        if not isinstance(data, dict):
            return data
        if isinstance(data.get("logit_bias"), dict) and len(data["logit_bias"]) > MOST_BIASES:
            raise ValueError(f"logit_bias has more than {MOST_BIASES} tokens")
        try:
            json.dumps(data, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            raise ValueError("half a character (a lone surrogate) stands in it") from None
        return data


class TextPart(_Body):
    """A part of a message."""

    type: str
    text: str | None = None


class CalledFunction(_Body):
    """A function as it was called."""

    name: str
    arguments: str = ""
    """JSON."""


class ToolCall(_Body):
    """A call that an answer made."""

    id: str | None = None
    function: CalledFunction


class ChatMessage(_Body):
    """A message of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | Annotated[list[TextPart], FIRST_ERROR] | None = None
    tool_calls: Annotated[list[ToolCall], FIRST_ERROR] | None = Field(None, max_length=MOST_TOOLS)
    tool_call_id: str | None = None


class FunctionSpec(_Body):
    """A function that may be called."""

    name: str = Field(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")
    description: str | None = None
    parameters: dict[str, Any] | None = None
    """JSON schema of its arguments."""


class Tool(_Body):
    """A tool that may be used."""

    type: Literal["function"]
    function: FunctionSpec


class NamedFunction(_Body):
    """The name of a function."""

    name: str


class NamedTool(_Body):
    """The tool that must be used."""

    type: Literal["function"]
    function: NamedFunction


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
    stop: Stop | Annotated[list[Stop], FIRST_ERROR] | None = None
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

    messages: Annotated[list[ChatMessage], FIRST_ERROR] = Field(min_length=1, max_length=MOST_MESSAGES)
    max_tokens: int | None = Field(None, ge=0, le=10**7)
    max_completion_tokens: int | None = Field(None, ge=0, le=10**7)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    response_format: dict[str, Any] | None = None
    tools: Annotated[list[Tool], FIRST_ERROR] | None = Field(None, max_length=MOST_TOOLS)
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    functions: list[Any] | None = None


class TextRequest(Common):
    """A body of /v1/completions."""

    prompt: str | Texts | Ids | Annotated[list[Ids], FIRST_ERROR]
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
    input: str | Texts | Ids | Annotated[list[Ids], FIRST_ERROR]
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
    for field in ("frequency_penalty", "presence_penalty", "logit_bias", "suffix", "functions", *OTHER_FORMS):
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
    given = form.get("json_schema") if kind == "json_schema" else None
    schema = given.get("schema") if isinstance(given, dict) else None
    if not isinstance(schema, dict):
        raise Refused(
            "response_format needs a type of text, json_object or json_schema with a schema.", "response_format"
        )
    return json.dumps(schema)
