"""Newer price lists and model lists: fetched on request from a service on this machine, kept, and checked when read."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from copy import deepcopy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import sizewise.models.price_updates as updates
from sizewise.errors import SizewiseError
from sizewise.models.identity import identify
from sizewise.models.price_lists import checked_on, today
from sizewise.models.resolving import known_models, resolve
from sizewise.store import Store

MODEL = {"id": "claude-opus-9", "match": {"equals": "claude-opus-9"}, "context_window": 2_000_000,
         "prices": {"input_mtok": 7, "output_mtok": 35}}  # fmt: skip
LIST = [{"id": "anthropic", "name": "Anthropic", "api_pattern": "https://api\\.anthropic\\.com", "models": [MODEL]}]
LISTED = {"data": [{"id": "claude-opus-9", "created_at": "2026-11-20T00:00:00Z"}, {"id": "claude-odd"}]}


class Answers(BaseHTTPRequestHandler):
    said: dict[str, Any] = {}  # noqa: RUF012

    def do_GET(self) -> None:
        body = self.said.get(self.path.partition("?")[0])
        self.send_response(200 if body is not None else 404)
        self.end_headers()
        self.wfile.write(body if isinstance(body, bytes) else json.dumps(body).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """A service on this machine that lists prices and models; the state of genai-prices is restored."""
    monkeypatch.setenv("SIZEWISE_HOME", str(tmp_path))
    Answers.said = {"/prices": deepcopy(LIST), "/v1/models": LISTED}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv(updates.ADDRESS, f"{address}/prices")
    for provider in updates.LISTS:
        monkeypatch.delenv(updates.PROVIDERS[provider].key, raising=False)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", address)
    try:
        yield Answers.said
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        monkeypatch.setenv("SIZEWISE_HOME", str(tmp_path / "none"))
        updates.current_update()  # back to the packaged list


def test_an_update_brings_new_models_prices_and_days(service: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve("claude opus 9").model is None
    assert checked_on() == "2026-10-26"
    monkeypatch.setenv("ANTHROPIC_API_KEY", "secret")
    said: list[str] = []
    update = updates.refresh(said.append)
    assert update.fetched == checked_on() == today()
    assert update.listed["anthropic"] == {"claude-opus-9": "2026-11-20", "claude-odd": ""}
    assert update.first_seen == {"anthropic:claude-opus-9": today(), "anthropic:claude-odd": today()}
    assert any("Anthropic lists 2 models" in line for line in said)
    found = resolve("Claude Opus 9").model
    assert found is not None
    assert found.context == 2_000_000
    assert identify("claude-opus-9").prices[0].output_usd == 35
    assert "secret" not in Store().price_update_path().read_text(encoding="utf-8")
    service["/prices"] = [*LIST, {**LIST[0], "id": "later", "models": [{**MODEL, "id": "later-1"}]}]
    monkeypatch.setattr(updates, "_loaded", None)  # another process
    again = updates.refresh()
    assert again.first_seen["anthropic:claude-opus-9"] == today()
    assert set(again.first_seen) - set(update.first_seen) == {"later:later-1"}


@pytest.mark.parametrize(
    "answer", [b"<html>sign in</html>", {"providers": []}, [], [{"id": "x"}], b"[" * 100_000], ids=str
)
def test_what_isnt_a_price_list_is_refused_and_changes_nothing(service: dict[str, Any], answer: Any) -> None:
    service["/prices"] = answer
    with pytest.raises(SizewiseError, match=r"can't be read|isn't a price list") as refused:
        updates.refresh()
    assert refused.value.next_step
    assert not Store().price_update_path().exists()
    assert checked_on() == "2026-10-26"


def test_without_a_network_the_error_is_clear(service: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    service.clear()
    with pytest.raises(SizewiseError, match="404"):
        updates.refresh()
    monkeypatch.setenv(updates.ADDRESS, "http://127.0.0.1:1/prices")
    with pytest.raises(SizewiseError, match=r"127\.0\.0\.1:1/prices can't be read"):
        updates.refresh()
    monkeypatch.setenv("SIZEWISE_OFFLINE", "1")
    monkeypatch.setenv(updates.ADDRESS, "https://example.org/prices")
    with pytest.raises(SizewiseError, match="SIZEWISE_OFFLINE forbids"):
        updates.refresh()


def test_a_provider_that_refuses_the_key_is_told_and_the_rest_is_kept(
    service: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "wrong")
    del service["/v1/models"]
    said: list[str] = []
    assert updates.refresh(said.append).listed == {}
    assert any(line.startswith("Anthropic: its list of models can't be read") for line in said)


@pytest.mark.parametrize("damage", ["7 USD", "cut", "empty", "format"])
def test_a_damaged_or_edited_file_isnt_used(service: dict[str, Any], damage: str) -> None:
    updates.refresh()
    path = Store().price_update_path()
    text = path.read_text(encoding="utf-8")
    edited = {
        "7 USD": text.replace('"input_mtok":7', '"input_mtok":1'),
        "cut": text[: len(text) // 2],
        "empty": "",
        "format": text.replace('"format": 1', '"format": 2'),
    }[damage]
    assert edited != text
    path.write_text(edited, encoding="utf-8")
    updates._loaded = None
    update = updates.current_update()
    assert update.providers is None
    assert str(path) in update.problem
    assert "the packaged price list is used" in update.problem
    assert checked_on() == "2026-10-26"
    assert "claude-opus-9" not in known_models()
    assert identify("gpt-4o").prices
