"""The live report of a study: sliders change the requirements, and the choice is recomputed after each change."""

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
from sizewise.service.hosting import allowed_hosts, load_keys, run_app
from sizewise.service.limits import Gate
from sizewise.service.pages import SAFE_HEADERS
from sizewise.store import Store

MAX_BODY_BYTES = 20_000


def create_study_app(view: StudyView, hosts: Sequence[str] = ("*",), keys: Keys | None = None) -> FastAPI:
    """Build the web application for a study.

    Args:
        view: the study and its records, read once.
        hosts: accepted Host headers; `*` accepts any.
        keys: keys that grant access; a browser prompts for one as a password with any user name. None: open to all.
    """
    app = FastAPI(title="Sizewise study", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Gate, max_bytes=MAX_BODY_BYTES, keys=keys, open_paths=("/health",), browser_login=True)
    if "*" not in hosts:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)
    _add_errors(app)
    _add_routes(app, view)
    return app


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(SizewiseError)
    async def refused(_: HttpRequest, error: SizewiseError) -> JSONResponse:
        message = error.what.encode("utf-8", errors="replace").decode("utf-8")  # lone surrogates cannot be encoded
        return JSONResponse({"error": {"message": message, "expected": error.expected}}, 400)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: HttpRequest, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"error": {"message": error.errors()[0]["msg"], "expected": "needs"}}, 400)


def _add_routes(app: FastAPI, view: StudyView) -> None:
    page = render_live_page(view)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ready"}

    @app.get("/")
    async def report() -> HTMLResponse:
        return HTMLResponse(page, headers=SAFE_HEADERS)

    @app.post("/choose")
    def choose(body: dict[str, Any]) -> dict[str, Any]:
        needs = make_needs(body, "the needs")
        recommendation = decide(view.comparison, view.study.comparison, needs)
        quality = next((slider for slider in sliders(view.comparison, needs) if slider.name == "min_quality"), None)
        return {
            "recommendation": recommendation.model_dump(mode="json"),
            "html": render_answer(view, recommendation),
            "needs": needs_text(needs),
            "min_quality": quality._asdict() if quality else None,
        }

    @app.get("/items")
    def items(
        tag: str = Query("", max_length=200),
        order: ItemOrder = "spread",
        first: int = Query(0, ge=0, le=10**6, alias="from"),
    ) -> HTMLResponse:
        return HTMLResponse(render_items(view, tag, order, first), headers=SAFE_HEADERS)

    @app.get("/study.toml")
    async def config() -> PlainTextResponse:
        return PlainTextResponse(view.config)


def serve_study(
    study_id: str,
    *,
    host: str = "127.0.0.1",
    port: int = 8200,
    keys: Path | None = None,
    store: Store | None = None,
    reporter: Reporter | None = None,
) -> None:
    """Serve the live report of a study until SIGINT or SIGTERM.

    Args:
        study_id: id of the study.
        host: address to bind; anything but loopback requires API keys.
        port: port to bind; 0 picks a free port.
        keys: file of API keys; browsers prompt for one as a password.
        store: where records are stored.
        reporter: receives the address.

    Raises:
        UsageError: the address is reachable from other machines and no keys are given.
        SizewiseError: the study or one of its records does not exist, or the port is in use.
    """
    store, reporter = store or Store(), reporter or Silent()
    api_keys = load_keys(host, keys, "sizewise serve --study ID", "read the answers in this study")
    study = store.read(Study, study_id)
    view = load_view(store, study_id, study)
    app = create_study_app(view, allowed_hosts(host), api_keys)
    run_app(app, host, port, lambda address: reporter.say(f"study: {address}/"))
