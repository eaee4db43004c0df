"""Routes of the inbox, the support view, cited passages, and corrected answers."""

from __future__ import annotations

import json
import time
from typing import Any

from fastapi import FastAPI, Query
from fastapi.responses import HTMLResponse, PlainTextResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request as HttpRequest

from sizewise.service.api_keys import key_of
from sizewise.service.handovers import DAY_S, MAX_MESSAGE_CHARACTERS
from sizewise.service.pages import SAFE_HEADERS, read_page
from sizewise.service.pages.monitor import is_staff, require_staff
from sizewise.service.schemas import APIError
from sizewise.service.state import State


class _Body(BaseModel):
    model_config = ConfigDict(strict=True)


class Reply(_Body):
    """What staff answer to a customer who was handed over."""

    text: str = Field(min_length=1, max_length=MAX_MESSAGE_CHARACTERS)
    done: bool = False
    """Close the conversation."""
    resolved: bool | None = None
    """Whether the customer's question is resolved."""
    example: bool = False
    """Keep question and answer as an example."""


class Correction(_Body):
    """A better answer than a model gave."""

    prompt: str = Field(min_length=1, max_length=20_000)
    answer: str = Field(min_length=1, max_length=20_000)
    rejected: str = Field("", max_length=20_000)
    """What the model answered."""


class Cited(_Body):
    """A sentence that the support agent cited, and the document it named."""

    document: str = Field(min_length=1, max_length=1_000)
    sentence: str = Field(min_length=1, max_length=4_000)


def add_support(app: FastAPI, state: State) -> None:
    """Add the routes."""
    _add_inbox(app, state)
    _add_view(app, state)

    @app.post("/corrections")
    def correct(body: Correction) -> dict[str, str]:
        state.cases.add_example("chat", body.prompt, body.answer, body.rejected)
        return {"status": "saved"}

    @app.get("/corrections", response_class=PlainTextResponse)
    def corrections(http: HttpRequest) -> PlainTextResponse:
        """Return all corrections as JSON lines, which `sizewise read` takes."""
        require_staff(http)
        rows = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in state.cases.examples())
        return PlainTextResponse(rows, media_type="application/jsonl")

    @app.post("/passages")
    def passage(body: Cited, http: HttpRequest) -> dict[str, str]:
        agent, key = state.agent, key_of(http)
        found = None
        if agent is not None and (key is None or key.may_use(agent.name)):
            found = agent.passage(body.document, body.sentence)
        if found is None:
            raise APIError("No passage of this document was cited.", "document", "not_found", 404)
        return found._asdict()


def _add_inbox(app: FastAPI, state: State) -> None:
    @app.post("/handovers/{number}/reply")
    def reply(number: str, body: Reply, http: HttpRequest) -> dict[str, str]:
        require_staff(http)
        handover = state.handovers.say(number, "staff", body.text)
        draft = str(handover.get("draft", ""))
        if draft or body.example:
            asked = [message["content"] for message in handover["conversation"] if message["role"] == "user"]
            state.cases.add_example("staff", asked[-1] if asked else "", body.text, "" if draft == body.text else draft)
        if body.done:
            state.handovers.finish(number, body.resolved)
        return {"status": "sent"}

    @app.get("/handovers/{number}/messages")
    def messages(number: str, http: HttpRequest) -> dict[str, Any]:
        key = key_of(http)
        thread = state.handovers.thread(number, None if is_staff(key) or key is None else key.name)
        if thread is None:
            raise APIError(f"Handover {number[:20]} does not exist.", "number", "not_found", 404)
        return thread


def _add_view(app: FastAPI, state: State) -> None:
    @app.get("/support/data")
    def support_data(http: HttpRequest, days: int = Query(7, ge=1, le=365)) -> dict[str, Any]:
        require_staff(http)
        since = time.time() - days * DAY_S
        count, waiting = state.handovers.previews(20)
        return {
            "days": days,
            "figures": state.cases.summary(since, state.handovers.history(since)),
            "waiting": count,
            "handovers": waiting,
            "unanswered": state.cases.unanswered(50),
            "corrections": len(state.cases.examples()),
        }

    @app.get("/support", response_class=HTMLResponse, include_in_schema=False)
    def page() -> HTMLResponse:
        return HTMLResponse(read_page("support.html"), headers=SAFE_HEADERS)
