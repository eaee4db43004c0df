"""Request, response and error schemas of the OpenAI-compatible API.

Source: OpenAI's published API reference. Unsupported parameters are rejected by name, never ignored silently.
"""

from __future__ import annotations

import base64
import json
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, FailFast, Field, StringConstraints, model_validator

from sizewise.records import ModelDescription, Request

DEFAULT_MAX_TOKENS, DEFAULT_TEXT_TOKENS = 512, 16
MAX_CHOICES, MAX_MESSAGES, MAX_PROMPTS, MAX_TOOLS = 8, 1_000, 256, 128
MAX_LOGIT_BIASES = 300
CONSTRAINTS_OF_OTHER_SERVERS = (
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
    "structured_outputs",
    "grammar",
)
"""Parameters with which other servers constrain the output; rejected, because ignoring them would break clients."""


WITHOUT_EFFECT = frozenset(
    {"metadata", "store", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "service_tier"}
)
"""Parameters that change nothing about an answer, so that models of our own accept them; others are refused."""


class _FirstError(FailFast):
    """Stop validation at the first invalid item of a list; hashable, so that it works inside a union."""

    __hash__ = object.__hash__


FIRST_ERROR = _FirstError()
Texts = Annotated[list[str], FIRST_ERROR]
Ids = Annotated[list[int], FIRST_ERROR]
Stop = Annotated[str, StringConstraints(max_length=200)]


class APIError(Exception):
    """An error returned to the client.

    Args:
        message: what is wrong, and how to fix it.
        param: the request field at fault.
        code: machine-readable error code.
        status: HTTP status.
        headers: additional HTTP headers.
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
    """Fields of an error."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """An error in OpenAI's format."""

    error: ErrorFields


ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": description}
    for status, description in {
        400: "The request is invalid or not supported.",
        401: "The API key is missing or invalid.",
        403: "The API key or the guard does not allow this request.",
        404: "The resource does not exist.",
        405: "The method is not allowed.",
        408: "The request body was not received in time.",
        413: "The request body is too large.",
        415: "The document type is not supported.",
        429: "All slots are in use, or a rate limit or budget is exhausted.",
        500: "The engine failed.",
        502: "The provider of the model failed.",
        503: "The model is not ready, or its provider is unavailable.",
        504: "The response timed out.",
    }.items()
}
STREAMED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The completion, or a stream of chunks.",
        "content": {"application/json": {}, "text/event-stream": {}},
    }
}
ERROR_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


def error_body(message: str, status: int, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """Format an error like OpenAI; lone surrogates in the message are replaced, because they cannot be encoded."""
    message = message.encode("utf-8", errors="replace").decode("utf-8")
    error_type = ERROR_TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": error_type, "param": param, "code": code}}


class _Body(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)


class RequestBody(_Body):
    """A request body."""

    @model_validator(mode="before")
    @classmethod
    def _check_encodable(cls, data: Any) -> Any:
        """Reject lone surrogates and infinite numbers, which a response cannot encode, and long logit_bias maps."""
        if not isinstance(data, dict):
            return data
        if isinstance(data.get("logit_bias"), dict) and len(data["logit_bias"]) > MAX_LOGIT_BIASES:
            raise ValueError(f"logit_bias has more than {MAX_LOGIT_BIASES} tokens")
        try:
            json.dumps(data, ensure_ascii=False, allow_nan=False).encode("utf-8")
        except UnicodeEncodeError:
            raise ValueError("the text contains a lone surrogate, which is not valid Unicode") from None
        except ValueError:
            raise ValueError("a number is NaN or infinite, which is not valid JSON") from None
        return data


class TextPart(_Body):
    """A content part of a message."""

    type: str
    text: str | None = None


class CalledFunction(_Body):
    """The function of a tool call."""

    name: str
    arguments: str = ""
    """Arguments as JSON."""


class ToolCall(_Body):
    """A tool call in an assistant message."""

    id: str | None = None
    function: CalledFunction


class ChatMessage(_Body):
    """A message of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | Annotated[list[TextPart], FIRST_ERROR] | None = None
    tool_calls: Annotated[list[ToolCall], FIRST_ERROR] | None = Field(None, max_length=MAX_TOOLS)
    tool_call_id: str | None = None


class FunctionSpec(_Body):
    """Definition of a function."""

    name: str = Field(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")
    description: str | None = None
    parameters: dict[str, Any] | None = None
    """JSON schema of the arguments."""


class Tool(_Body):
    """A tool the model may call."""

    type: Literal["function"]
    function: FunctionSpec


class NamedFunction(_Body):
    """The name of a function."""

    name: str


class NamedTool(_Body):
    """The tool the model must call."""

    type: Literal["function"]
    function: NamedFunction


class StreamOptions(_Body):
    """Options of a stream."""

    include_usage: bool | None = None


class Common(RequestBody):
    """Parameters of chat and text completions."""

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    n: int | None = Field(None, ge=1, le=MAX_CHOICES)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: Stop | Annotated[list[Stop], FIRST_ERROR] | None = None
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    logit_bias: dict[str, float] | None = None
    user: str | None = None

    def stops(self) -> tuple[str, ...]:
        """Return the stop sequences."""
        sequences = [self.stop] if isinstance(self.stop, str) else self.stop or []
        if len(sequences) > 4:
            raise APIError("At most 4 stop sequences are allowed.", "stop")
        return tuple(text for text in sequences if text)


class ChatRequest(Common):
    """A body of /v1/chat/completions."""

    messages: Annotated[list[ChatMessage], FIRST_ERROR] = Field(min_length=1, max_length=MAX_MESSAGES)
    max_tokens: int | None = Field(None, ge=0, le=10**7)
    max_completion_tokens: int | None = Field(None, ge=0, le=10**7)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    response_format: dict[str, Any] | None = None
    evidence: bool | None = None
    """Extension: list where the values of a JSON answer occur in the messages."""
    tools: Annotated[list[Tool], FIRST_ERROR] | None = Field(None, max_length=MAX_TOOLS)
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    functions: list[Any] | None = None


class TextRequest(Common):
    """A body of /v1/completions."""

    prompt: str | Texts | Ids | Annotated[list[Ids], FIRST_ERROR]
    max_tokens: int | None = Field(None, ge=0, le=10**7)
    echo: bool | None = None
    logprobs: int | None = Field(None, ge=0, le=20)
    suffix: str | None = None
    best_of: int | None = Field(None, ge=0, le=MAX_CHOICES)

    def prompts(self) -> list[str | tuple[int, ...]]:
        """Return the prompts, each as text or token ids."""
        prompt = self.prompt
        if isinstance(prompt, str):
            return [prompt]
        if prompt and all(isinstance(item, int) for item in prompt):
            return [tuple(prompt)]  # type: ignore[arg-type]
        if not 0 < len(prompt) <= MAX_PROMPTS:
            raise APIError(f"A request must have between 1 and {MAX_PROMPTS} prompts.", "prompt")
        return [item if isinstance(item, str) else tuple(item) for item in prompt]  # type: ignore[arg-type]


class EmbeddingRequest(RequestBody):
    """A body of /v1/embeddings."""

    model: str
    input: str | Texts | Ids | Annotated[list[Ids], FIRST_ERROR]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = Field(None, ge=1)
    user: str | None = None

    def requests(self) -> list[Request]:
        """Return one request per input."""
        prompts = TextRequest(model=self.model, prompt=self.input).prompts()
        if any(not prompt for prompt in prompts):
            raise APIError("The input contains an empty text.", "input")
        return [
            Request(id="", text=prompt, max_tokens=0)
            if isinstance(prompt, str)
            else Request(id="", ids=prompt, max_tokens=0)
            for prompt in prompts
        ]


def embedding_body(body: EmbeddingRequest, vectors: list[list[float]], tokens: int) -> dict[str, Any]:
    """Format embeddings like OpenAI; base64 encodes little-endian 32-bit floats."""
    encoded: list[Any] = list(vectors)
    if body.encoding_format == "base64":
        encoded = [base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode("ascii") for vector in vectors]
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(encoded)],
        "model": body.model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def reject_unsupported(body: Common, description: ModelDescription, lenient: bool) -> None:
    """Reject parameters that the engine of a model does not support.

    Args:
        body: the request.
        description: the model.
        lenient: ignore them instead, as some clients expect.

    Raises:
        APIError: a parameter is not supported.
    """
    if lenient:
        return
    unknown = next((name for name in body.model_extra or () if name not in WITHOUT_EFFECT), None)
    if unknown is not None and unknown not in CONSTRAINTS_OF_OTHER_SERVERS:
        raise APIError(f"Unknown parameter: {unknown[:100]!r}.", unknown[:100], "unknown_parameter")
    for field in (
        "frequency_penalty",
        "presence_penalty",
        "logit_bias",
        "suffix",
        "functions",
        *CONSTRAINTS_OF_OTHER_SERVERS,
    ):
        if getattr(body, field, None):
            raise APIError(f"{description.engine} does not support {field}.", field, "unsupported_parameter")
    if getattr(body, "best_of", None) not in (None, 1, body.n):
        raise APIError("best_of is not supported.", "best_of", "unsupported_parameter")
    if getattr(body, "top_logprobs", None):
        raise APIError(
            f"{description.engine} returns log-probabilities of generated tokens only; top_logprobs is not supported.",
            "top_logprobs",
            "unsupported_parameter",
        )
    requested = {
        "sampling": bool(body.temperature),
        "logprobs": getattr(body, "logprobs", None) not in (None, False),
        "json_schema": isinstance(body, ChatRequest) and schema_of(body) is not None,
        "echo": bool(getattr(body, "echo", False)),
    }
    for feature, is_requested in requested.items():
        if is_requested and feature not in description.offers:
            field = {"sampling": "temperature", "json_schema": "response_format"}.get(feature, feature)
            hint = (
                " Serve the model with --engine openvino, or leave the form to the prompt."
                if feature == "json_schema"
                else ""
            )
            raise APIError(f"{description.engine} does not support {field}.{hint}", field, "unsupported_parameter")


def schema_of(body: ChatRequest) -> str | None:
    """Return the JSON schema that the answer must match; None if there is none."""
    response_format = body.response_format or {}
    kind = response_format.get("type", "text")
    if kind == "text":
        return None
    if kind == "json_object":
        return '{"type": "object"}'
    json_schema = response_format.get("json_schema") if kind == "json_schema" else None
    schema = json_schema.get("schema") if isinstance(json_schema, dict) else None
    if not isinstance(schema, dict):
        raise APIError(
            "response_format.type must be text, json_object, or json_schema with a schema.", "response_format"
        )
    return json.dumps(schema)
