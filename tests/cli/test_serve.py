"""Options of `serve` and `judge open` that would have no effect are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("fastapi")

from sizewise.cli.main import app
from sizewise.errors import UsageError


def wrong(*arguments: str) -> str:
    """Return the error of a command that is used wrongly."""
    found = CliRunner().invoke(app, arguments)
    assert isinstance(found.exception, UsageError), (arguments, found.output, found.exception)
    return str(found.exception)


@pytest.mark.parametrize(
    "more",
    [
        ["--policy", "p.json"],
        ["--lenient"],
        ["--engine", "openvino"],
        ["--engine", "auto"],
        ["--share-base"],
        ["--shadow", "0.5"],
        ["--docs", "d"],
        ["--min-confidence", "0.5"],
        ["--confidential", "x"],
        ["--unguarded", "mask"],
        ["--refuse-signals"],
        ["--delay-ms", "3"],
        ["--as-measured", "eval-1"],
    ],
)
def test_a_study_accepts_no_options_of_models(more: list[str]) -> None:
    assert more[0] in wrong("serve", "--study", "study-1", *more)
    assert more[0] in wrong("serve", "--keys", "k.toml", "--new-key", "one", *more)


@pytest.mark.parametrize(
    "arguments",
    [
        ["fake:echo", "--study", "study-1"],
        [],
        ["fake:echo", "--agent", "support"],
        ["fake:echo", "--docs", "d"],
        ["fake:echo", "--min-confidence", "0.7"],
        ["fake:echo", "--shadow", "0.1"],
        ["openai:gpt-4o", "--delay-ms", "20"],
        ["fake:echo", "--engine", "openvino"],
        ["run-1", "run-2", "--share-base", "--engine", "openvino"],
        ["run-1", "--share-base"],
        ["fake:echo", "--confidential", "x", "--unguarded", "confidential"],
        ["fake:echo", "--refuse-signals", "--unguarded", "signals"],
        ["fake:echo", "--signal-classifier", "run:classifier-1", "--unguarded", "signals"],
        ["fake:echo", "--max-false-signals", "0.1"],
        ["fake:echo", "--host", "0.0.0.0"],
        ["fake:echo", "--new-key", "one"],
        ["--study", "study-1", "--host", "0.0.0.0"],
    ],
)
def test_options_without_effect_are_refused(arguments: list[str]) -> None:
    assert wrong("serve", *arguments)


def test_a_new_key_needs_no_model(tmp_path: Path) -> None:
    found = CliRunner().invoke(app, ["serve", "--keys", str(tmp_path / "k.toml"), "--new-key", "one"])
    assert found.exit_code == 0
    assert found.output.startswith("sw-")
    more = CliRunner().invoke(app, ["serve", "fake:echo", "--keys", str(tmp_path / "k.toml"), "--new-key", "two"])
    assert more.exit_code == 0


def test_an_existing_round_keeps_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    from sizewise.store import Store

    monkeypatch.setattr(Store, "exists", lambda self, kind, name: True)
    for more in (
        ["--kind", "best"],
        ["--raters", "2"],
        ["--seed", "1"],
        ["--keep-formatting"],
        ["--items", "60"],
        ["--min-agreement", "1"],
    ):
        assert more[0] in wrong("judge", "open", "round-1", *more)
    assert "--no-serve" in wrong("judge", "open", "round-1", "--no-serve", "--port", "8000")
