"""The service: OpenAI's endpoints, health, metrics and the pages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request as HttpRequest

from sizewise.errors import EngineError, SizewiseError
from sizewise.models import Model
from sizewise.service import responses, schemas, uploads
from sizewise.service.api_keys import key_of
from sizewise.service.handovers import ASKED_BY
from sizewise.service.jobs import Job, echo, embed, numbered
from sizewise.service.limits import Gate
from sizewise.service.model_runner import ModelRunner
from sizewise.service.monitoring import add_pages
from sizewise.service.responses import ChatForm, TextForm
from sizewise.service.router import AUTO
from sizewise.service.schemas import ChatRequest, EmbeddingRequest, Refused, TextRequest
from sizewise.service.state import Settings, State
from sizewise.service.tools import Tools
from sizewise.store import Store

OPEN_PATHS = ("/", "/monitor", "/health", "/metrics", "/openapi.json")
"""What may be looked at without a key."""


def create_app(models: dict[str, Model], settings: Settings | None = None, store: Store | None = None) -> FastAPI:
    """Make the service.

    Args:
        models: name that clients use -> model; the first is the one the pages begin with.
        settings: how it behaves.
        store: where thumbs are kept.
    """
    state = State(models, settings or Settings(), store or Store())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        warming = asyncio.create_task(_warm_up(state))
        yield
        state.draining = True
        if state.router is not None and state.router.shadow is not None:
            state.router.shadow.close()
        warming.cancel()

    app = FastAPI(title="Sizewise", lifespan=lifespan, docs_url=None, redoc_url=None, responses=schemas.ERRORS)
    app.state.sizewise = state
    app.openapi = partial(_described, app, app.openapi)  # type: ignore[method-assign]
    app.add_middleware(
        Gate,
        most_bytes=state.settings.most_body_bytes,
        keys=state.settings.keys,
        open_paths=OPEN_PATHS,
        raw_paths=(uploads.PATH,),
        body_s=state.settings.body_s,
    )
    if "*" not in state.settings.hosts:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(state.settings.hosts), www_redirect=False)
    _add_errors(app)
    _add_answers(app, state)
    _add_facts(app, state)
    add_pages(app, state)
    uploads.add_uploads(app, state)
    return app


def _described(app: FastAPI, made: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Describe the service; wrong bodies are a 400 here, never FastAPI's 422."""
    found: dict[str, Any] = made()
    for path in found["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
    app.openapi_schema = found
    return found


async def _warm_up(state: State) -> None:
    await asyncio.gather(*(one.begin() for one in state.served))


def _add_errors(app: FastAPI) -> None:
    def told(message: str, status: int, param: str | None = None, code: str | None = None) -> JSONResponse:
        return JSONResponse(schemas.error_body(message, status, param, code), status)

    @app.exception_handler(Refused)
    async def refused(_: HttpRequest, error: Refused) -> JSONResponse:
        answer = told(error.message, error.status, error.param, error.code)
        answer.headers.update(error.headers)
        return answer

    @app.exception_handler(RequestValidationError)
    async def invalid(_: HttpRequest, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            return told("The body is no JSON.", 400, None, "invalid_json")
        place = ".".join(str(part) for part in first["loc"] if part != "body")
        return told(f"{place or 'body'}: {first['msg']}", 400, place or None, "invalid_value")

    @app.exception_handler(HTTPException)
    async def http(_: HttpRequest, error: HTTPException) -> JSONResponse:
        answer = told(str(error.detail), error.status_code)
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(EngineError)
    async def broken(_: HttpRequest, error: EngineError) -> JSONResponse:
        return told(error.what, 500, None, "engine_failed")

    @app.exception_handler(SizewiseError)
    async def expected(_: HttpRequest, error: SizewiseError) -> JSONResponse:
        return told(error.what, 400)

    @app.exception_handler(Exception)
    async def unexpected(_: HttpRequest, error: Exception) -> JSONResponse:
        return told(f"{type(error).__name__} in the service.", 500)


def _add_answers(app: FastAPI, state: State) -> None:
    @app.post("/v1/chat/completions", responses=schemas.STREAMED)
    async def chat(body: ChatRequest, http: HttpRequest) -> Response:
        key = key_of(http)
        state.budgets.admit(key)
        ASKED_BY.set(key.name if key else "")
        lenient = state.settings.lenient

        async def by(one: ModelRunner) -> Response:
            schemas.refuse_unknown(body, one.description, lenient)
            if not one.description.can_chat:
                raise Refused(f"{one.name} has no chat template; ask /v1/completions.", "model")
            if body.messages[-1].role not in responses.OF_TOOLS:
                one.watch(asked)
            usable = usable_tools(one, tools, lenient)
            told = usable.told_in(asked) if usable else asked
            requests = [numbered(told, i) for i in range(body.n or 1)]
            job = Job(state, one, key, requests, http)
            form = ChatForm(one.name, body, usable)
            return marked(await job.stream(form) if body.stream else await job.whole(form), signs)

        routed = state.router if body.model == AUTO else None
        one = state.find(routed.small.name if routed else body.model, key)
        tools = Tools.of(body, lenient)
        asked = responses.chat_request(body, lenient)
        signs = await state.admit([asked])
        if routed is None:
            return await by(one)
        decision = routed.decide(asked, responses.last_question(body), tools is not None, key.name if key else "")
        if decision.may_leave:
            state.find(routed.large.name, key)
        return await routed.answer(decision, by, bool(body.stream))

    @app.post("/v1/completions", responses=schemas.STREAMED)
    async def text(body: TextRequest, http: HttpRequest) -> Response:
        key = key_of(http)
        state.budgets.admit(key)
        ASKED_BY.set(key.name if key else "")
        one = state.find(body.model, key)
        schemas.refuse_unknown(body, one.description, state.settings.lenient)
        asked = [responses.text_request(body, prompt) for prompt in body.prompts()]
        if any(one_.ids is not None for one_ in asked) and "ids" not in one.description.offers:
            raise Refused(f"{one.description.engine} takes text, not tokens.", "prompt")
        signs = await state.admit(asked)
        echoed = body.echo or body.max_tokens == 0
        if echoed and not (body.stream and state.settings.lenient):
            if body.stream:
                raise Refused("An echo is not streamed.", "stream")
            return await echo(state, one, key, body, asked)
        requests = [numbered(request, i) for request in asked for i in range(body.n or 1)]
        one.watch(requests[0])
        job, form = Job(state, one, key, requests, http), TextForm(one.name, body)
        return marked(await job.stream(form) if body.stream else await job.whole(form), signs)

    @app.post("/v1/embeddings")
    async def embeddings(body: EmbeddingRequest, http: HttpRequest) -> Response:
        key = key_of(http)
        state.budgets.admit(key)
        return await embed(state, state.find(body.model, key), key, body)


def _add_facts(app: FastAPI, state: State) -> None:
    @app.get("/health")
    async def health() -> JSONResponse:
        troubles = state.troubles()
        waiting = [one.name for one in state.served if not one.ready and one.name not in troubles]
        good = not waiting and len(troubles) < len(state.served) and not state.draining
        word = "stopping" if state.draining else "starting" if waiting else "failing" if not good else "ready"
        told = {
            "status": "degraded" if troubles and word == "ready" else word,
            "models": list(state.by_name),
            "waiting_for": waiting,
            "failed": troubles,
        }
        return JSONResponse(told, 200 if good else 503)

    @app.get("/v1/models")
    async def models(http: HttpRequest) -> dict[str, Any]:
        key = key_of(http)
        state.budgets.admit(key)
        shown = [one for one in state.served if not key or not key.models or one.name in key.models]
        rows = [_about(one) for one in shown]
        if state.router is not None and len(shown) == len(state.served):
            rows.insert(0, _about(state.router.small) | {"id": AUTO, "routes": [one.name for one in state.served[:2]]})
        return {"object": "list", "data": rows}

    @app.get("/v1/models/{name:path}")
    async def model(name: str, http: HttpRequest) -> dict[str, Any]:
        key = key_of(http)
        state.budgets.admit(key)
        return _about(state.find(name, key))

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> PlainTextResponse:
        return PlainTextResponse(
            state.counts.written(state.served, state.guard.counts), media_type="text/plain; version=0.0.4"
        )


def usable_tools(one: ModelRunner, tools: Tools | None, lenient: bool) -> Tools | None:
    """Give the tools as a model can use them; what it cannot do is left out where that is asked for.

    Raises:
        Refused: it takes none, or cannot be made to call one.
    """
    if tools is None:
        return None
    if not one.takes_tools:
        if lenient:
            return None
        raise Refused(
            f"{one.name} is asked in a form of its own (from documents, or as it was measured) and takes no tools.",
            "tools",
            "unsupported_parameter",
        )
    if tools.schema is not None and "json_schema" not in one.description.offers:
        if lenient:
            return tools.free()
        raise Refused(
            f"{one.description.engine} has no grammar, so it cannot be made to call a function; leave tool_choice out.",
            "tool_choice",
            "unsupported_parameter",
        )
    return tools


def marked(response: Response, signs: Sequence[str]) -> Response:
    """Say in a header which signs of injection were seen."""
    if signs:
        response.headers["X-Sizewise-Signals"] = ", ".join(signs)
    return response


def _about(one: ModelRunner) -> dict[str, Any]:
    told = one.description
    return {
        "id": one.name,
        "object": "model",
        "created": 0,
        "owned_by": "sizewise",
        "context": told.context,
        "engine": told.engine,
        "precision": told.precision,
        "origin": told.origin,
        "license": told.license,
        "local": told.local,
        "can_chat": told.can_chat,
    }
