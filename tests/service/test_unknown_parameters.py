"""Parameters that have no meaning here are refused by name, never swallowed."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from sizewise.models.fake import FakeModel
from sizewise.service import Settings, create_app
from sizewise.store import Store
from tests.service.test_health import until

ASKED = {"model": "echo", "messages": [{"role": "user", "content": "hello"}]}


@pytest.mark.parametrize(
    "more",
    [
        {"top_k": 40},
        {"min_p": 0.1},
        {"repetition_penalty": 1.1},
        {"reasoning_effort": "low"},
        {"guided_json": {"a": 1}},
    ],
)
def test_unknown_parameters_are_refused_by_name(more: dict[str, Any], store: Store) -> None:
    (name,) = more
    with TestClient(create_app({"echo": FakeModel("echo")}, Settings(), store)) as client:
        assert until(lambda: client.get("/health").is_success)
        for path, body in (("chat/completions", ASKED), ("completions", {"model": "echo", "prompt": "a"})):
            refused = client.post(f"/v1/{path}", json=body | more)
            assert (refused.status_code, refused.json()["error"]["param"]) == (400, name)
        assert client.post("/v1/chat/completions", json=ASKED | {"metadata": {"a": "b"}, "store": False}).is_success
    with TestClient(create_app({"echo": FakeModel("echo")}, Settings(lenient=True), store)) as client:
        assert until(lambda: client.get("/health").is_success)
        assert client.post("/v1/chat/completions", json=ASKED | more).is_success
