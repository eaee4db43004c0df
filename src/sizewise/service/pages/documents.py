"""Text extraction for documents dropped into the chat: the model receives the words, never the raw bytes."""

from __future__ import annotations

import asyncio
import re
import tempfile
from pathlib import Path

from fastapi import FastAPI, Query
from pydantic import BaseModel
from starlette.requests import Request as HttpRequest

from sizewise.documents import read_paths
from sizewise.documents.converting import KINDS as CONVERTED
from sizewise.documents.converting import ROW_KINDS
from sizewise.errors import SizewiseError
from sizewise.service.api_keys import key_of
from sizewise.service.schemas import APIError
from sizewise.service.state import State

KINDS = tuple(kind for kind in CONVERTED if kind not in ROW_KINDS)  # tables of rows become examples, not text
PATH = "/documents/text"
MAX_CONCURRENT = 2
"""Documents converted concurrently, each in a separate process with resource limits."""
MAX_CHARACTERS = 200_000


class DocumentText(BaseModel):
    """The text of a document."""

    name: str
    text: str
    notes: list[str]
    """Which parts of the document were skipped, and why."""


def add_documents(app: FastAPI, state: State) -> None:
    """Add the endpoint that extracts the text of an uploaded document."""
    active = 0

    @app.post(PATH)
    async def document_text(http: HttpRequest, name: str = Query(min_length=1, max_length=300)) -> DocumentText:
        nonlocal active
        await state.budgets.admit(key_of(http))
        suffix = Path(name).suffix.lower()
        if suffix not in KINDS:
            raise APIError(
                f"Files of type '{suffix or name}' are not supported. Use {', '.join(KINDS)} or plain text.",
                "name",
                "unsupported_document",
                415,
            )
        body = await http.body()
        if active >= MAX_CONCURRENT:
            raise APIError("The server is busy with other documents.", None, "busy", 429, {"Retry-After": "3"})
        active += 1
        try:
            document = await asyncio.to_thread(_extract, name, suffix, body)
        finally:
            active -= 1
        if len(document.text) > MAX_CHARACTERS:
            raise APIError(
                f"{name} has {len(document.text):,} characters; the maximum for a message is {MAX_CHARACTERS:,}.",
                "name",
                None,
                413,
            )
        return document


def _extract(name: str, suffix: str, body: bytes) -> DocumentText:
    """Extract the text of a document with the same reader as `sizewise read`.

    Raises:
        APIError: the document cannot be read or contains no text.
    """
    stem = re.sub(r"[^\w.-]+", "_", Path(name).stem)[:100] or "document"
    with tempfile.TemporaryDirectory(prefix="sizewise-") as folder:
        path = Path(folder) / f"{stem.lstrip('.') or 'document'}{suffix}"
        path.write_bytes(body)
        try:
            reading = read_paths([path])
        except SizewiseError as error:
            what = error.what.replace(f"{folder}/", "")
            raise APIError(what, "name", "unreadable_document") from error
    text = "\n\n".join(document.text for document in reading.documents)
    return DocumentText(name=name, text=text, notes=list(reading.notes))
