"""The pages: chat and monitor, thumbs, and the conversations that wait for a person."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from typing import Any

from fastapi import FastAPI, Query
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request as HttpRequest

from sizewise.service.api_keys import Key, key_of
from sizewise.service.model_runner import summary
from sizewise.service.schemas import Refused
from sizewise.service.state import State

MONITOR_S = 300.0
SHOWN = 5
SAFE_PAGE = {
    "Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; "
    "script-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class Thumb(BaseModel):
    """A thumb for an answer: biased by who presses it, so it is kept apart from votes."""

    model_config = ConfigDict(strict=True)

    answer: str = Field(min_length=1, max_length=100)
    model: str = Field(max_length=200)
    up: bool


def add_pages(app: FastAPI, state: State) -> None:
    """Add the pages and what they ask for."""

    @app.get("/monitor/data")
    def monitor_data(http: HttpRequest) -> dict[str, Any]:
        key = key_of(http)
        routing = state.router.summary() if state.router else None
        guard = dict(state.guard.counts)
        count, latest = state.handovers.previews(SHOWN) if _is_staff(key) else (0, [])
        models = summary(state.served, MONITOR_S)
        return {
            "seconds": MONITOR_S,
            "models": models,
            "thumbs": _thumbs(state),
            "routing": routing,
            "guard": guard,
            "handovers": latest,
            "handovers_waiting": count,
        }

    @app.get("/handovers")
    def handovers(
        http: HttpRequest, limit: int = Query(20, ge=1, le=100), before: str = Query("", max_length=64)
    ) -> dict[str, Any]:
        _only_staff(http)
        return {"waiting": state.handovers.waiting(limit, before)}

    @app.post("/handovers/{number}/done")
    def handover_done(number: str, http: HttpRequest) -> dict[str, str]:
        _only_staff(http)
        if not state.handovers.finish(number):
            raise Refused(f"There is no handover {number[:20]}.", "number", "not_found", 404)
        return {"status": "done"}

    @app.post("/feedback")
    def feedback(body: Thumb) -> dict[str, str]:
        with state.store.service_ledger() as ledger:
            ledger.append("thumbs", body.answer, body.model_dump())
        return {"status": "kept"}

    for path, name in (("/", "chat.html"), ("/monitor", "monitor.html")):
        app.add_api_route(path, _page(name), response_class=HTMLResponse, include_in_schema=False)


def _is_staff(key: Key | None) -> bool:
    """Tell whether a key may read conversations; without keys only this machine's own people reach the service."""
    return key is None or key.staff


def _only_staff(http: HttpRequest) -> None:
    """Stop whoever may not read conversations.

    Raises:
        Refused: it is such a key.
    """
    if not _is_staff(key_of(http)):
        raise Refused("This key may not read conversations.", None, "permission_denied", 403)


def _thumbs(state: State) -> dict[str, list[int]]:
    """Count thumbs up and down of each model."""
    found: dict[str, list[int]] = {}
    with state.store.service_ledger() as ledger:
        for body in ledger.entries("thumbs").values():
            found.setdefault(str(body["model"]), [0, 0])[0 if body["up"] else 1] += 1
    return found


def _page(name: str) -> Callable[[], HTMLResponse]:
    def page() -> HTMLResponse:
        text = files("sizewise.service").joinpath("pages", name).read_text(encoding="utf-8")
        return HTMLResponse(text, headers=SAFE_PAGE)

    return page
