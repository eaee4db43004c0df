"""What the terminal shows of a running study: pure text, as tall and as wide as the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

from rich.text import Text

from sizewise.cli.controls import escape_controls
from sizewise.metrics.display import measure_of, value_text
from sizewise.studies.progress import BoardRow, StudyProgress
from sizewise.studies.stages import StageView

LEADERS = 3
"""Candidates of the leader board that are shown."""
RECENT = 2
"""Stages that are done and still shown, where there is room."""
NAME_WIDTH = 34
TIME_WIDTH = 14
BAR_WIDTH = 20
STOP_HINT = "Ctrl-C: stop after this step, keep the verdict so far"
STOPPING_HINT = "Stopping after this step. Ctrl-C again: abort now"


class Signs(NamedTuple):
    """Characters for states and bars."""

    done: str = "✓"
    """Stage that is done."""
    running: str = "▸"
    """Stage that runs."""
    skipped: str = "-"
    """Stage that was skipped."""
    full: str = "━"
    """Part of a bar that is done."""
    empty: str = "─"
    """Rest of a bar."""
    more: str = "…"
    """Text that was cut."""


PLAIN_SIGNS = Signs("+", ">", "-", "#", ".", "...")
"""The same for a terminal without Unicode."""


def clock_text(seconds: float) -> str:
    """Format a time as on a clock: `0:07`, `12:30`, `1:02:03`."""
    whole = round(max(0.0, seconds))
    hours, rest = divmod(whole, 3600)
    minutes, rest = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def leader_text(row: BoardRow) -> str:
    """Return a candidate with its score: `linear classifier 82% [78, 86], n = 959`."""
    if row.score is None:
        return f"{row.name}, not measured yet"
    return f"{row.name} {value_text(row.score)}, n = {row.score.n:,}"


def stage_line(view: StageView) -> str:
    """Return a running stage as one line of text, with the time spent and left."""
    left = "" if view.left_s is None else f", about {clock_text(view.left_s)} left"
    job = f"; {view.job}" if view.job and view.job != view.name else ""
    share = f", {view.share:.0%}" if view.share is not None else ""
    return f"{view.name}: {clock_text(view.spent_s)} spent{left}{job}{share}"


def study_layout(
    progress: StudyProgress, width: int, height: int, *, title: str, link: str, said: str, signs: Signs
) -> list[Text]:
    """Lay out the state of a study.

    Args:
        progress: the study.
        width: columns.
        height: lines; the result has fewer.
        title: name of the study.
        link: address of the live page, if there is one.
        said: last event.
        signs: characters for states and bars.
    """
    head = _head(progress, title, width, signs)
    tail = [
        *_board(progress.board, width, signs),
        *_verdict(progress, width),
        *([_cut(said, width, signs, "dim")] if said else []),
        *([Text.assemble("Live page: ", (link, "cyan"))] if link else []),
        # Two columns stay free, because the terminal itself writes ^C there.
        _cut(STOPPING_HINT if progress.stop_requested else STOP_HINT, width - 3, signs, "dim"),
    ]
    room = max(3, height - 1 - len(head) - len(tail))
    return (head + _stages(progress.stages, room, width, signs) + tail)[: height - 1]


def _head(progress: StudyProgress, title: str, width: int, signs: Signs) -> list[Text]:
    spent, left = progress.spent_s, progress.seconds_left
    times = f"{clock_text(spent)} spent"
    if left is not None:
        times += f", about {clock_text(left)} left"
    if progress.budget_s is not None:
        times += f" (budget {clock_text(progress.budget_s)})"
    name = _shortened(escape_controls(f"Sizewise study {title}".rstrip()), width - len(times) - 2, signs)
    first = Text.assemble((name, "bold"), " " * max(1, width - len(name) - len(times)), times)
    if left is None:
        return [first, Text()]
    return [first, _bar(spent / max(spent + left, 1e-9), width, signs)]


def _bar(share: float, width: int, signs: Signs) -> Text:
    full = round(width * min(1.0, max(0.0, share)))
    return Text.assemble((signs.full * full, "green"), (signs.empty * (width - full), "dim"))


def _stages(views: Sequence[StageView], room: int, width: int, signs: Signs) -> list[Text]:
    """Show the running stages, what comes next and what was last, in the given number of lines."""
    over = [view for view in views if view.state in ("done", "skipped")]
    running = [view for view in views if view.state == "running"]
    ahead = [view for view in views if view.state == "waiting"]
    middle = [line for view in running for line in _running(view, width, signs)]
    left = max(0, room - len(middle))
    shown_ahead = ahead if len(ahead) <= left - min(RECENT + 1, len(over)) else ahead[: max(0, left - RECENT - 2)]
    left -= len(shown_ahead) + (len(shown_ahead) < len(ahead))
    shown_over = over if len(over) <= left else over[len(over) - max(0, left - 1) :]
    lines = []
    if len(shown_over) < len(over) and left > 0:
        hidden = over[: len(over) - len(shown_over)]
        spent = clock_text(sum(view.spent_s for view in hidden))
        lines.append(_cut(f" {signs.done} {len(hidden)} earlier stages in {spent}", width, signs, "dim"))
    lines += [_stage(view, width, signs) for view in shown_over]
    lines += middle
    lines += [_stage(view, width, signs) for view in shown_ahead]
    if len(shown_ahead) < len(ahead):
        hidden = ahead[len(shown_ahead) :]
        expected = clock_text(sum(view.left_s or 0.0 for view in hidden))
        names = ", ".join(view.name for view in hidden)
        text = f"   then {len(hidden)} more, about {expected}: {names}"
        lines.append(_cut(text, width, signs, "dim"))
    return lines[:room]


def _stage(view: StageView, width: int, signs: Signs) -> Text:
    if view.state == "waiting":
        sign, time = " ", "" if view.left_s is None else f"about {clock_text(view.left_s)}"
    else:
        sign, time = (signs.done if view.state == "done" else signs.skipped), clock_text(view.spent_s)
    name = _shortened(escape_controls(view.name), NAME_WIDTH, signs)
    line = f" {sign} {name:<{NAME_WIDTH}} {time:>{TIME_WIDTH}}  {escape_controls(view.note)}"
    return _cut(line, width, signs, "" if view.state == "done" else "dim")


def _running(view: StageView, width: int, signs: Signs) -> list[Text]:
    left = "" if view.left_s is None else f", about {clock_text(view.left_s)} left"
    name = _shortened(escape_controls(view.name), width - 30, signs)
    time = f"{clock_text(view.spent_s)}{left}"
    line = Text.assemble(
        (f" {signs.running} {name:<{NAME_WIDTH}}", "bold"), " ", time.rjust(TIME_WIDTH if not left else 0)
    )
    line.truncate(width)
    if view.share is None:
        return [line]
    job = "" if view.job.rstrip() == view.name else view.job.removeprefix(f"{view.name} ")
    bar = _bar(view.share, BAR_WIDTH, signs)
    return [line, _joined([Text("   "), bar, Text(f" {view.share:4.0%}  "), Text(escape_controls(job), "dim")], width)]


def _board(rows: Sequence[BoardRow], width: int, signs: Signs) -> list[Text]:
    """Show the first candidates, and the best baseline if it isn't among them."""
    if not rows:
        return []
    shown = list(enumerate(rows, 1))[:LEADERS]
    if not any(row.baseline for _, row in shown):
        shown += [(place, row) for place, row in enumerate(rows, 1) if row.baseline][:1]
    names = [
        _shortened(escape_controls(row.name) + (" (baseline)" * _unsaid(row)), NAME_WIDTH + 4, signs)
        for _, row in shown
    ]
    broad = max(len(name) for name in names)
    lines = [Text(), _cut(f"Leader board: {_metric(rows[0].metric)}, 95% interval", width, signs, "bold")]
    for (place, row), name in zip(shown, names, strict=True):
        value = "not measured yet" if row.score is None else value_text(row.score)
        n = f"  n = {row.score.n}" if row.score is not None and row.score.value is not None else ""
        lines.append(_cut(f" {place:2} {name:<{broad}}  {value}{n}  {escape_controls(row.note)}".rstrip(), width, signs,
                          "green" if place == 1 else ""))  # fmt: skip
    if len(rows) > len(shown):
        lines.append(_cut(f"    and {len(rows) - len(shown)} more", width, signs, "dim"))
    return lines


def _unsaid(row: BoardRow) -> bool:
    return row.baseline and "baseline" not in row.name


def _metric(name: str) -> str:
    return escape_controls(measure_of(name).title)


def _verdict(progress: StudyProgress, width: int) -> list[Text]:
    verdict = progress.verdict
    if verdict is None:
        return [Text()]
    summary, _, provisional = verdict
    heading = "Verdict so far: " if provisional else "Verdict: "
    lines = textwrap.wrap(heading + escape_controls(summary), width, max_lines=3, placeholder=" ...")
    return [Text(), *(Text(line, "bold") for line in lines)]


def _joined(parts: Sequence[Text], width: int) -> Text:
    line = Text.assemble(*parts)
    line.truncate(width)
    return line


def _cut(text: str, width: int, signs: Signs, style: str = "") -> Text:
    return Text(_shortened(escape_controls(text), width, signs), style)


def _shortened(text: str, width: int, signs: Signs) -> str:
    width = max(width, 8)
    return text if len(text) <= width else text[: width - len(signs.more)] + signs.more
