"""Convert conversations and images to the message format of the API clients."""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sizewise.errors import SizewiseError
from sizewise.records import Request, ToolCall
from sizewise.records.tool_calls import calls_text, definitions_of

IMAGE_KINDS = ("image/png", "image/jpeg", "image/webp", "image/gif")
MAX_IMAGE_BYTES = 20_000_000


def client_messages(request: Request) -> list[Any]:
    """Convert a request to client messages; a plain text becomes a user message."""
    from pydantic_ai.messages import (
        BinaryContent,
        ModelRequest,
        ModelResponse,
        SystemPromptPart,
        TextPart,
        ToolCallPart,
        ToolReturnPart,
        UserPromptPart,
    )

    if request.text is not None:
        return [ModelRequest(parts=[UserPromptPart(request.text)])]
    converted: list[Any] = []
    names: dict[str, str] = {}  # id of a call -> name of its function
    for message in request.messages:
        if message.role == "assistant":
            parts: list[Any] = [TextPart(message.content)] if message.content or not message.tool_calls else []
            for call in message.tool_calls:
                call_id = call.id or f"call_{len(names)}"
                names[call_id] = call.name
                parts.append(ToolCallPart(call.name, call.arguments or "{}", tool_call_id=call_id))
            converted.append(ModelResponse(parts=parts))
        elif message.role == "tool":
            call_id = message.tool_call_id or next(reversed(names), "call_0")
            result = ToolReturnPart(names.get(call_id) or message.name or "tool", message.content, tool_call_id=call_id)
            if (
                converted
                and isinstance(converted[-1], ModelRequest)
                and isinstance(converted[-1].parts[-1], ToolReturnPart)
            ):  # results of parallel calls form one message
                converted[-1] = ModelRequest(parts=[*converted[-1].parts, result])
            else:
                converted.append(ModelRequest(parts=[result]))
        else:
            images = [BinaryContent(data=raw, media_type=kind) for raw, kind in map(read_image, message.images)]
            content: Any = [*images, message.content] if images else message.content
            part = SystemPromptPart(message.content) if message.role == "system" else UserPromptPart(content)
            converted.append(ModelRequest(parts=[part]))
    return converted


def client_tools(tools: str) -> Any:
    """Convert definitions of tools to the parameters of the API clients; the model decides whether it calls one."""
    from pydantic_ai.models import ModelRequestParameters
    from pydantic_ai.tools import ToolDefinition

    functions = [tool["function"] for tool in definitions_of(tools)]
    return ModelRequestParameters(
        function_tools=[
            ToolDefinition(
                name=str(function.get("name", "")),
                description=function.get("description"),
                parameters_json_schema=function.get("parameters") or {"type": "object", "properties": {}},
            )
            for function in functions
        ]
    )


def client_text(parts: Sequence[Any]) -> str:
    """Return the text of a client's response; tool calls in it are written as text (see `records.tool_calls`)."""
    from pydantic_ai.messages import TextPart, ToolCallPart

    text = "".join(part.content for part in parts if isinstance(part, TextPart))
    calls = [
        ToolCall(id=part.tool_call_id, name=part.tool_name, arguments=part.args_as_json_str())
        for part in parts
        if isinstance(part, ToolCallPart)
    ]
    return calls_text(text, calls)


def read_image(path: str) -> tuple[bytes, str]:
    """Read an image file and its media type.

    Raises:
        SizewiseError: the file is missing, too large, or of a type that providers don't accept.
    """
    kind = mimetypes.guess_type(path)[0]
    try:
        size = os.path.getsize(path)
        if kind not in IMAGE_KINDS or size > MAX_IMAGE_BYTES:
            raise SizewiseError(
                f"The image {path} can't be sent: its type is {kind or 'unknown'} and its size is {size / 1e6:.1f} MB.",
                f"PNG, JPEG, WebP or GIF of at most {MAX_IMAGE_BYTES // 10**6} MB",
                "convert or shrink the image",
            )
        return Path(path).read_bytes(), kind
    except OSError as error:
        raise SizewiseError(
            f"The image {path} can't be read: {error.strerror}.",
            "an image file, at a path relative to the file that names it",
            "correct the path",
        ) from error
