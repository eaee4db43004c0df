"""Provider failures are translated without the provider's message."""

from __future__ import annotations

import pytest

pytest.importorskip("uvicorn")

import httpx

from sizewise.models.base import Cancel, Deliver, Piece, failed
from sizewise.models.fake import FakeModel
from sizewise.records import Request
from sizewise.service.failures import CONTENT_FILTER
from tests.service.test_service import running

SECRET = "org-secret"


class Remote(FakeModel):
    """Fails as a provider does, once it has begun."""

    def __init__(self) -> None:
        super().__init__("echo")
        self.error = ""

    def start(self, request: Request, deliver: Deliver) -> Cancel:
        if not self.error:
            return super().start(request, deliver)
        deliver(Piece(end=failed(request, self.error)))
        return lambda: None


@pytest.mark.parametrize(
    ("said", "status", "retry"),
    [
        ("status_code: 400, model_name: m, body: {}", 400, False),
        ("The key in OPENAI_API_KEY was rejected: status_code: 401, model_name: m, body: {}", 502, False),
        ("status_code: 403, model_name: m, body: {}", 502, False),
        ("The provider doesn't know m: status_code: 404, model_name: m, body: {}", 502, False),
        ("gave up after 6 attempts: status_code: 429, model_name: m, body: {}", 429, True),
        ("gave up after 6 attempts: status_code: 503, model_name: m, body: {}", 503, True),
        ("status_code: 529, model_name: m, body: {}", 503, True),
        (f"the provider's {CONTENT_FILTER}", 400, False),
    ],
)
def test_provider_failures_are_translated(said: str, status: int, retry: bool) -> None:
    model = Remote()
    with running({"echo": model}) as address:
        model.error = said.replace("{}", f"{{'message': '{SECRET}'}}")
        for streamed in (False, True):
            body = {"model": "echo", "messages": [{"role": "user", "content": "hello"}], "stream": streamed}
            answer = httpx.post(f"{address}/v1/chat/completions", json=body)
            assert answer.status_code == status
            assert SECRET not in answer.text
            assert "OPENAI_API_KEY" not in answer.text
            assert ("retry-after" in answer.headers) is retry


def test_failure_markers_match_the_remote_model() -> None:
    from pathlib import Path

    from sizewise.models import remote

    assert CONTENT_FILTER in Path(remote.__file__).read_text(encoding="utf-8")
    error = pytest.importorskip("pydantic_ai.exceptions").ModelHTTPError(429, "m", {"message": SECRET})
    assert "status_code: 429" in str(error)
