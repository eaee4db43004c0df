"""Conversations in the form of the official clients, with their images."""

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
    """Turn a conversation into the client's; a plain text is what a user says."""
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
    said: list[Any] = []
    for message in request.messages:
        if message.role == "assistant":
            said.append(ModelResponse(parts=[TextPart(message.content)]))
        else:
            shown = [BinaryContent(data=raw, media_type=kind) for raw, kind in map(read_image, message.images)]
            content: Any = [*shown, message.content] if shown else message.content
            part = SystemPromptPart(message.content) if message.role == "system" else UserPromptPart(content)
            said.append(ModelRequest(parts=[part]))
    return said


def read_image(path: str) -> tuple[bytes, str]:
    """Read an image with its kind.

    Raises:
        SizewiseError: it is not there, too large, or of a kind that providers do not take.
    """
    kind = mimetypes.guess_type(path)[0]
    try:
        size = os.path.getsize(path)
        if kind not in IMAGE_KINDS or size > MAX_IMAGE_BYTES:
            raise SizewiseError(
                f"The image {path} cannot be sent: {kind or 'of an unknown kind'}, {size / 1e6:.1f} MB.",
                f"PNG, JPEG, WebP or GIF of at most {MAX_IMAGE_BYTES // 10**6} MB",
                "",
            )
        return Path(path).read_bytes(), kind
    except OSError as error:
        raise SizewiseError(f"The image {path} cannot be read: {error.strerror}", "an image file", "") from error
