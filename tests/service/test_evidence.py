"""Evidence of extracted values in answers of the service."""

from __future__ import annotations

import json
from typing import Any

import pytest

openai = pytest.importorskip("openai")


import httpx  # noqa: E402

from tests.service.test_service import client, running  # noqa: E402
from tests.service.test_tools import Heard  # noqa: E402

SCHEMA = {"type": "object", "properties": {"total": {"type": "number"}, "kind": {"enum": ["invoice", "offer"]}}}
FORM = {"type": "json_schema", "json_schema": {"name": "fields", "schema": SCHEMA}}
SAID = json.dumps({"total": 1496.5, "kind": "invoice", "firm": "Acme", "by": None})
MESSAGES = [
    {"role": "user", "content": "Total of 7?"},
    {"role": "assistant", "content": "Acme, 1496.5"},
    {"role": "user", "content": [{"type": "text", "text": "Page 1"}, {"type": "text", "text": "Müller: $1,496.50"}]},
]


def ask(address: str, **more: Any) -> Any:
    options: dict[str, Any] = {"response_format": FORM, "extra_body": {"evidence": True}} | more
    return client(address).chat.completions.create(model="m", messages=MESSAGES, **options)  # type: ignore[arg-type]


def test_each_value_comes_with_its_place_or_the_reason_why_it_has_none() -> None:
    with running({"m": Heard(("json_schema",), SAID)}) as address:
        found = ask(address).choices[0].message.evidence
        plain = ask(address, extra_body={}).choices[0].message
    text = "Page 1\nMüller: $1,496.50"
    start = text.index("$")
    assert found == [
        {"path": "total", "value": "1496.5", "spans": [{"message": 2, "start": start, "end": len(text)}]},
        {"path": "firm", "value": "Acme", "spans": [], "missing_reason": "the source doesn't contain this text"},
    ]
    assert not hasattr(plain, "evidence")


@pytest.mark.parametrize(
    ("more", "reason"),
    [({"response_format": {"type": "text"}}, "needs a response_format"), ({"stream": True}, "combined with stream")],
)
def test_evidence_needs_a_whole_json_answer(more: dict[str, Any], reason: str) -> None:
    body = {"model": "m", "messages": MESSAGES, "response_format": FORM, "evidence": True} | more
    with running({"m": Heard(("json_schema",), SAID)}) as address:
        refused = httpx.post(f"{address}/v1/chat/completions", json=body)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "evidence"
    assert reason in refused.json()["error"]["message"]


def test_an_engine_without_constrained_decoding_names_the_one_that_has_it() -> None:
    with running({"m": Heard()}) as address, pytest.raises(openai.BadRequestError, match="--engine openvino"):
        ask(address, extra_body={})
