"""The text of a document that is dropped into the chat: a model is shown its words, never its bytes."""

from __future__ import annotations

import asyncio
import re
import tempfile
from pathlib import Path

from fastapi import FastAPI, Query
from pydantic import BaseModel
from starlette.requests import Request as HttpRequest

from sizewise.documents import read_paths
from sizewise.documents.converting import KINDS
from sizewise.errors import SizewiseError
from sizewise.service.api_keys import key_of
from sizewise.service.schemas import Refused
from sizewise.service.state import State

PATH = "/documents/text"
AT_ONCE = 2
"""Documents that are read at once, each in a process of its own with limits."""
MOST_LETTERS = 200_000


class DocumentText(BaseModel):
    """The text of a document."""

    name: str
    text: str
    notes: list[str]
    """What was left out of it."""


def add_uploads(app: FastAPI, state: State) -> None:
    """Add the endpoint."""
    under_way = 0

    @app.post(PATH)
    async def document_text(http: HttpRequest, name: str = Query(min_length=1, max_length=300)) -> DocumentText:
        nonlocal under_way
        state.budgets.admit(key_of(http))
        kind = Path(name).suffix.lower()
        if kind not in KINDS:
            raise Refused(
                f"Files of the kind '{kind or name}' are not read here; {', '.join(KINDS)} and plain text are.",
                "name",
                "unsupported_document",
                415,
            )
        body = await http.body()
        if under_way >= AT_ONCE:
            raise Refused("Other documents are being read.", None, "busy", 429, {"Retry-After": "3"})
        under_way += 1
        try:
            found = await asyncio.to_thread(_read, name, kind, body)
        finally:
            under_way -= 1
        if len(found.text) > MOST_LETTERS:
            raise Refused(
                f"{name} has {len(found.text):,} letters; at most {MOST_LETTERS:,} go with a message.",
                "name",
                None,
                413,
            )
        return found


def _read(name: str, kind: str, body: bytes) -> DocumentText:
    """Read a document as `sizewise read` does.

    Raises:
        Refused: it cannot be read, or there is no text in it.
    """
    plain = re.sub(r"[^\w.-]+", "_", Path(name).stem)[:100] or "document"
    with tempfile.TemporaryDirectory(prefix="sizewise-") as folder:
        path = Path(folder) / f"{plain.lstrip('.') or 'document'}{kind}"
        path.write_bytes(body)
        try:
            reading = read_paths([path])
        except SizewiseError as error:
            what = error.what.replace(f"{folder}/", "")
            raise Refused(what, "name", "unreadable_document") from error
    text = "\n\n".join(document.text for document in reading.documents)
    return DocumentText(name=name, text=text, notes=list(reading.notes))
