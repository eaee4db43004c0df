"""What `sizewise study` prints at its end: the verdict, one table, three reasons and the next step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sizewise.cli.candidates import candidates_table
from sizewise.cli.output import print_csv, print_line, print_path, print_points, print_table, print_verdict

if TYPE_CHECKING:
    from sizewise.records import NotMeasured, Study
    from sizewise.report.standing import Standing
    from sizewise.store import Saved

MAX_UNFINISHED = 3
"""Parts without time that are listed; the report has all of them."""


def print_study(saved: Saved[Study], csv: bool, wide: bool) -> None:
    """Print the result of a study.

    Args:
        saved: the study.
        csv: print only the table, as CSV.
        wide: print every metric, all the evidence and what wasn't measured.
    """
    from sizewise.report import load_view
    from sizewise.report.standing import Standing
    from sizewise.store import Store

    record = saved.record
    standing = Standing(load_view(Store(), saved.id, record))
    recommendation = standing.recommendation
    if csv or wide:
        table = candidates_table(standing.comparison, recommendation.quality, recommendation.costs, wide=wide)
        if print_csv(*table, csv):
            return
    print_verdict(record.summary)
    if record.question:
        print_line(record.question)
    if wide:
        print_table(*table)
        print_line("Values with 95 % intervals, on test items that share nothing with training.")
        _print_evidence(record)
    else:
        _print_short(standing)
    print_path(f"study: {saved.id}")
    print_path(f"report: {record.report}")


def _print_short(standing: Standing) -> None:
    """Print the short table, three reasons with cautions, what had no time, and the next step."""
    from sizewise.report.advice import next_step
    from sizewise.report.overview import break_even_of, cautions_of, reasons_of
    from sizewise.report.rounding import minutes_text
    from sizewise.report.tiles import short_headings, short_table

    study = standing.view.study
    print_table(short_headings(standing), short_table(standing))
    cautions = [f"caution: {line}" for line in cautions_of(standing.view)]
    print_points("Why", [line for line in (*reasons_of(standing), break_even_of(standing), *cautions) if line])
    within = f" in {minutes_text(study.minutes)}" if study.minutes else ""
    print_points(f"Not done{within}", [_priced(part) for part in study.unfinished[:MAX_UNFINISHED]])
    more = len(study.unfinished) - MAX_UNFINISHED
    if more > 0:
        print_line(f"  and {more} more: --wide lists them.")
    step = next_step(standing)
    print_line(f"\nNext: {step.text}", "      ")
    if step.command:
        print_path(f"      {step.command}")
    print_line("")


def _print_evidence(study: Study) -> None:
    """Print everything that the record has on the verdict."""
    print_points("Why", study.reasons)
    print_points("Why not", [f"{name}: {reason}" for name, reason in study.rejected.items()])
    print_points("Stopped early", [f"{name}: {reason}" for name, reason in study.stopped.items()])
    print_points("Not done", [_priced(part) for part in study.unfinished])
    print_points("Not measured", [f"{absent.what}: {absent.command}" for absent in study.not_measured])
    print_line(f"\noutcome: {study.outcome}")


def _priced(part: NotMeasured) -> str:
    from sizewise.report.rounding import minutes_text

    price = f", about {minutes_text(part.minutes)}" if part.minutes else ""
    return f"{part.what}{price}: {part.command}"
