"""The page of a study with needs that can be moved: the report, and the decision made again at each move."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Query
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request as HttpRequest

from sizewise.choice import decide, make_needs, needs_text, sliders
from sizewise.errors import SizewiseError
from sizewise.progress import Reporter, Silent
from sizewise.records import Study
from sizewise.report import ItemOrder, StudyView, load_view, render_answer, render_items, render_live_page
from sizewise.service.api_keys import Keys
from sizewise.service.limits import Gate
from sizewise.service.monitoring import SAFE_PAGE
from sizewise.service.running import hosts_of, known_keys, run_app
from sizewise.store import Store

MOST_BODY_BYTES = 20_000


def create_study_app(view: StudyView, hosts: Sequence[str] = ("*",), keys: Keys | None = None) -> FastAPI:
    """Make the page of a study.

    Args:
        view: the study with its records; they are read once.
        hosts: names under which it may be called.
        keys: who may look; a browser asks for one as a password, for any name. None: everybody.
    """
    app = FastAPI(title="Sizewise study", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Gate, most_bytes=MOST_BODY_BYTES, keys=keys, open_paths=("/health",), by_browser=True)
    if "*" not in hosts:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)
    page = render_live_page(view)

    @app.exception_handler(SizewiseError)
    async def refused(_: HttpRequest, error: SizewiseError) -> JSONResponse:
        message = error.what.encode("utf-8", errors="replace").decode("utf-8")  # half a character cannot be sent back
        return JSONResponse({"error": {"message": message, "expected": error.expected}}, 400)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: HttpRequest, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"error": {"message": error.errors()[0]["msg"], "expected": "needs"}}, 400)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ready"}

    @app.get("/")
    async def whole() -> HTMLResponse:
        return HTMLResponse(page, headers=SAFE_PAGE)

    @app.post("/choose")
    def choose(body: dict[str, Any]) -> dict[str, Any]:
        needs = make_needs(body, "the needs")
        found = decide(view.comparison, view.study.comparison, needs)
        least = next((one for one in sliders(view.comparison, needs) if one.name == "min_quality"), None)
        return {
            "recommendation": found.model_dump(mode="json"),
            "html": render_answer(view, found),
            "needs": needs_text(needs),
            "min_quality": least._asdict() if least else None,
        }

    @app.get("/items")
    def items(
        tag: str = Query("", max_length=200),
        order: ItemOrder = "spread",
        first: int = Query(0, ge=0, le=10**6, alias="from"),
    ) -> HTMLResponse:
        return HTMLResponse(render_items(view, tag, order, first), headers=SAFE_PAGE)

    @app.get("/study.toml")
    async def config() -> PlainTextResponse:
        return PlainTextResponse(view.config)

    return app


def serve_study(
    study_id: str,
    *,
    host: str = "127.0.0.1",
    port: int = 8200,
    keys: Path | None = None,
    store: Store | None = None,
    reporter: Reporter | None = None,
) -> None:
    """Serve the page of a study until SIGINT or SIGTERM.

    Args:
        study_id: id of the study.
        host: address to listen at; any but this machine's own needs keys.
        port: port; 0 takes a free one.
        keys: file of API keys; one is asked for as a password.
        store: where records live.
        reporter: told the address.

    Raises:
        UsageError: the address is open to others and there are no keys.
        SizewiseError: there is no such study, one of its records is missing, or the port is taken.
    """
    store, reporter = store or Store(), reporter or Silent()
    known = known_keys(host, keys, "sizewise serve --study ID", "read the answers of this study")
    study = store.read(Study, study_id)
    view = load_view(store, study_id, study)
    app = create_study_app(view, hosts_of(host), known)
    run_app(app, host, port, lambda address: reporter.say(f"study: {address}/"))
