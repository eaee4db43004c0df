"""Convert conversations and images to the message format of the API clients."""

from __future__ import annotations

import mimetypes
import os
from pathlib import Path
from typing import Any

from sizewise.errors import SizewiseError
from sizewise.records import Request

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
        UserPromptPart,
    )

    if request.text is not None:
        return [ModelRequest(parts=[UserPromptPart(request.text)])]
    converted: list[Any] = []
    for message in request.messages:
        if message.role == "assistant":
            converted.append(ModelResponse(parts=[TextPart(message.content)]))
        else:
            images = [BinaryContent(data=raw, media_type=kind) for raw, kind in map(read_image, message.images)]
            content: Any = [*images, message.content] if images else message.content
            part = SystemPromptPart(message.content) if message.role == "system" else UserPromptPart(content)
            converted.append(ModelRequest(parts=[part]))
    return converted


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
                "",
            )
        return Path(path).read_bytes(), kind
    except OSError as error:
        raise SizewiseError(f"The image {path} can't be read: {error.strerror}", "an image file", "") from error
