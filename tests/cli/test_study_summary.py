"""What a study prints at its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from sizewise.cli.study_summary import print_study
from sizewise.records import NotMeasured
from sizewise.report import StudyView
from sizewise.store import Saved
from tests.choice.test_deciding import comparison
from tests.report.views import view_of, with_baseline

FACTS = {
    "SmolLM2-135M fine-tuned on our definitions": (30.0, 1.0, None),
    "Gemma-3-270M": (20.0, 2.0, None),
    "rule": (10.0, 0.1, None),
}
PARTS = tuple(
    NotMeasured(what=f"part {i}", command=f"sizewise study x --minutes {i}0", minutes=float(i)) for i in range(1, 6)
)


@pytest.fixture
def view(monkeypatch: pytest.MonkeyPatch) -> StudyView:
    found = view_of(with_baseline(comparison(FACTS)), unfinished=PARTS, minutes=10.0)
    monkeypatch.setattr("sizewise.report.load_view", lambda *_: found)
    monkeypatch.setattr("sizewise.cli.output.terminal_width", lambda: 80)
    return found


def printed(view: StudyView, capsys: pytest.CaptureFixture[str], *, wide: bool = False, csv: bool = False) -> str:
    print_study(Saved("study-1", Path("record.json"), view.study), csv, wide)
    return capsys.readouterr().out


def test_a_study_ends_with_verdict_table_reasons_and_next_step(
    view: StudyView, capsys: pytest.CaptureFixture[str]
) -> None:
    out = printed(view, capsys)
    lines = out.splitlines()
    assert " ".join(out.split()).startswith(view.study.summary)
    assert max(len(line) for line in lines) <= 80
    assert lines[-1] == "report: report.html"
    rule = next(line for line in lines if line.startswith("-----"))
    assert len(rule.split()) == 5
    why = out.partition("Why:")[2].partition("Not done")[0]
    assert why.count("\n  - ") == 3
    assert "Not done in 10 min:" in out
    assert "part 3, about 3 min: sizewise study x --minutes 30" in out
    assert "and 2 more: --wide lists them." in out
    assert "\n      sizewise serve 'SmolLM2-135M fine-tuned on our definitions'\n" in out
    assert "outcome:" not in out


def test_wide_prints_all_the_evidence(view: StudyView, capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(view, capsys, wide=True)
    assert all(f"part {i}" in out for i in range(1, 6))
    assert "outcome: pick" in out
    assert "Why not:" in out
    assert out.splitlines()[-1] == "report: report.html"


def test_csv_is_only_the_table(view: StudyView, capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(view, capsys, csv=True)
    assert out.startswith("candidate,BLEU,")
    assert len(out.splitlines()) == 4
