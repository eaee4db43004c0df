"""Values of `sizewise train` that no run can have, and what its progress shows."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from sizewise.cli.terminal import TerminalReporter
from sizewise.records import Recipe
from sizewise.seeds import MAX_SEED
from tests.cli.test_cli import call


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--size", "inf"), "--size 'inf' isn't a size"),
        (("--size", "1e999M"), "--size '1e999M' isn't a size"),
        (("--size", "nan"), "--size 'nan' isn't a size"),
        (("--parameters", "0"), "--parameters"),
        (("--seed", "99999999999999999999"), "--seed"),
    ],
)
def test_what_no_run_can_have_is_wrong_usage(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, options: tuple[str, str], message: str
) -> None:
    code, _, err = call(capsys, monkeypatch, "train", "scratch", "--data", "data-1", *options)
    assert code == 2
    assert message in err


def test_a_recipe_has_a_seed_that_every_library_takes() -> None:
    Recipe(start="pkg:x", tokens=1, seed=MAX_SEED)
    with pytest.raises(ValidationError, match="less than or equal to 4294967295"):
        Recipe(start="pkg:x", tokens=1, seed=MAX_SEED + 1)


def test_progress_ends_at_a_hundred_percent(capsys: pytest.CaptureFixture[str]) -> None:
    with TerminalReporter() as reporter:
        reporter.advance("Training", 110, 100, "loss 1.0")
    assert "Training: 100% loss 1.0" in capsys.readouterr().err
