"""The terminal's display of a study fits any terminal, and shows what runs, what leads and what comes next."""

from __future__ import annotations

import pytest

from sizewise.cli.study_layout import PLAIN_SIGNS, STOP_HINT, STOPPING_HINT, Signs, clock_text, study_layout
from sizewise.records import Score
from sizewise.studies.progress import BoardRow, StudyProgress

LINK = "http://127.0.0.1:41505/b4rCIGMB88es2Q8yk-Q6I6Kn/"


def score(value: float) -> Score:
    ends = {"ci_low": value - 0.05, "ci_high": value + 0.05}
    return Score(metric="accuracy", value=value, n=80, unit="share", signature="s", **ends)


def running(stages: int = 14, done: int = 5) -> StudyProgress:
    progress = StudyProgress(budget_s=600)
    progress.plan([(f"Stage {number} with a name of some length", 20) for number in range(stages)])
    for number in range(done):
        progress.start(f"Stage {number} with a name of some length")
        progress.finish(f"Stage {number} with a name of some length", "80 items")
    if done < stages:
        progress.start(f"Stage {done} with a name of some length")
        progress.advance("Asking", 3, 10, "12 items/s")
    rows = [BoardRow(f"candidate {number}", "accuracy", score(0.9 - number / 10)) for number in range(6)]
    progress.show_board([*rows, BoardRow("copying", "accuracy", score(0.1), baseline=True)])
    progress.show_verdict("Use candidate 0 for now. " * 20, "pick", provisional=True)
    return progress


def shown(progress: StudyProgress, width: int = 80, height: int = 24, signs: Signs | None = None) -> list[str]:
    lines = study_layout(
        progress, width, height, title="demo", link=LINK, said="Evaluating something", signs=signs or Signs()
    )
    return [line.plain for line in lines]


@pytest.mark.parametrize("width", [40, 60, 80, 200])
@pytest.mark.parametrize("height", [12, 24, 60])
@pytest.mark.parametrize("done", [0, 1, 5, 13, 14])
def test_fits(width: int, height: int, done: int) -> None:
    lines = shown(running(done=done), width, height)
    assert len(lines) < height
    assert all(len(line) <= max(width, len(LINK) + 11) for line in lines)


def test_what_80_by_24_shows() -> None:
    text = "\n".join(shown(running()))
    assert "about 9:" not in text  # the plan of 20 s a stage, not the budget
    assert "(budget 10:00)" in text
    assert "▸ Stage 5" in text
    assert "30%  Asking 12 items/s" in text
    assert "Stage 6" in text  # what comes next
    assert "earlier stages" in text
    assert "more, about" in text
    assert "1 candidate 0" in text
    assert "90% [85, 95]  n = 80" in text
    assert "copying (baseline)" in text
    assert "Verdict so far: Use candidate 0" in text
    assert LINK in text
    assert STOP_HINT in text


def test_a_study_without_stages_shows_what_was_reported() -> None:
    progress = StudyProgress()
    progress.say("Evaluating something")
    text = "\n".join(shown(progress))
    assert "Evaluating something" in text
    assert "0:00 spent" in text


def test_stopping_is_shown() -> None:
    progress = running()
    progress.request_stop()
    assert STOPPING_HINT in shown(progress)[-1]


def test_control_characters_and_a_terminal_without_unicode() -> None:
    progress = StudyProgress()
    progress.plan([("\x1b[2Jclear", 5)])
    progress.start("\x1b[2Jclear")
    progress.advance("job \x1b]0;title\x07", 1, 2)
    progress.show_board([BoardRow("\x1b[31mred", "accuracy", score(0.5), "\x9b1m")])
    progress.show_verdict("\x1b[2J", "pick", provisional=False)
    lines = shown(progress, signs=PLAIN_SIGNS)
    assert all(line.isascii() and (line.isprintable() or not line) for line in lines)
    assert "\\x1b[31mred" in "\n".join(lines)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (7.4, "0:07"), (59.6, "1:00"), (750, "12:30"), (3723, "1:02:03"), (-1, "0:00")]
)
def test_clock(seconds: float, text: str) -> None:
    assert clock_text(seconds) == text
