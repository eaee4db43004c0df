"""`sizewise keys` creates, lists, revokes and rotates API keys."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

from sizewise.service.api_keys import Keys
from sizewise.service.usage import UsageStore, Use
from sizewise.store.database import sqlite_url
from tests.cli.test_cli import call


@pytest.fixture
def keys(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run `sizewise keys` on one file."""

    def run(*arguments: str) -> tuple[int, str, str]:
        return call(capsys, monkeypatch, "keys", *arguments, "--keys", str(tmp_path / "keys.toml"))

    return run


def test_a_key_is_created_listed_rotated_and_revoked(keys: Any, tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    code, first, _ = keys("new", "ann")
    assert code == 0
    file.write_text(file.read_text() + "models = ['small']\nusd_per_day = 1.5\n\n", encoding="utf-8")
    code, out, _ = keys("new", "ben", "--json")
    made = json.loads(out)["record"]
    assert made["name"] == "ben"

    code, out, _ = keys("list", "--json")
    listed = json.loads(out)["record"]["keys"]
    assert [key["name"] for key in listed] == ["ann", "ben"]
    assert all("sha256" not in key for key in listed)
    assert "ann,small,no limit,no limit,1.5,no" in keys("list", "--csv")[1]

    code, second, _ = keys("rotate", "ann")
    assert code == 0
    assert second != first
    known = Keys.load(file)
    found = known.find(f"Bearer {second.strip()}")
    assert found is not None
    assert (found.name, found.models, found.usd_per_day) == ("ann", ("small",), 1.5)
    with pytest.raises(Exception, match="key"):
        known.find(f"Bearer {first.strip()}")

    assert keys("revoke", "ann")[0] == 0
    assert Keys.load(file).names == {"ben"}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_limits_are_set_when_a_key_is_made_and_usage_is_listed(
    keys: Any, tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = ("--models", "small", "--models", "auto", "--tokens-per-day", "1000", "--usd-per-day", "1.5", "--staff")
    assert keys("new", "ann", *limits)[0] == 0
    assert 'ann,"small, auto",no limit,"1,000",1.5,yes' in keys("list", "--csv")[1]

    def usage() -> str:
        return call(capsys, monkeypatch, "keys", "usage", "--csv")[1]

    assert usage().splitlines() == ["key,model,requests,tokens,USD"]
    store = UsageStore(sqlite_url(home / "service" / "usage.sqlite"), 900)
    store.charge("ann", "small", Use(2, 1_500, 0.25), None, ended=True)
    assert usage().splitlines()[1:] == ['ann,small,2,"1,500",0.2500']


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("revoke", "nobody"), "has no key named 'nobody'"),
        (("rotate", "nobody"), "has no key named 'nobody'"),
        (("revoke", "ann"), "the only key"),
        (("new", "ann"), "'ann'"),
    ],
)
def test_what_cannot_be_done_is_an_error(keys: Any, arguments: tuple[str, ...], text: str) -> None:
    keys("new", "ann")
    code, out, err = keys(*arguments)
    assert (code, out) == (1, "")
    assert text in err


def test_a_missing_file_names_the_command_that_makes_it(keys: Any) -> None:
    code, out, _ = keys("list", "--json")
    assert code == 1
    assert json.loads(out)["error"]["next"].startswith("sizewise keys new NAME --keys ")
