"""`sizewise route`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sizewise.cli.options import Json, Seed
from sizewise.cli.output import print_line, print_object, print_table


def register(app: typer.Typer) -> None:
    """Add the commands."""
    route = typer.Typer(help="Small first, large when needed: which prompts the small model may answer.")
    route.command()(calibrate)
    route.callback()(lambda: None)
    app.add_typer(route, name="route")


def calibrate(
    file: Annotated[Path, typer.Argument(help="CSV: prompt, weak_ok, strong_ok (0 or 1).")],
    risk: Annotated[
        float | None, typer.Option(help="Most share of answers that may be worse than the large model's.")
    ] = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Learn which prompts the small model may answer, and choose a threshold for a stated risk.

    Example: sizewise route calibrate answers.csv --risk 0.02
    """
    from sizewise.routing import calibrate as learn

    found = learn(file, risk, seed)
    if print_object("calibration", file.name, None, found, json):
        return
    rows = []
    for score in (
        found.small_quality,
        found.large_quality,
        found.oracle_quality,
        found.apgr,
        found.cpt50,
        found.cpt80,
        found.calibration_error,
    ):
        said = f"missing: {score.missing}"
        if score.value is not None:
            said = f"{score.value:.3f} [{score.low:.3f}, {score.high:.3f}]"
        rows.append([WORDS[score.metric], said, str(score.n)])
    print_table(["measure", "value [95 %]", "prompts"], rows)
    if found.chosen:
        point = found.chosen
        print_line(
            f"at a chance of {point.threshold:.3f} or more the small model answers: {point.small_share:.0%} of the "
            f"prompts; quality {point.quality:.3f}; {point.worse:.1%} of all answers are worse than the large model's"
        )
        print_line(f"on average over such files at most {found.risk:.1%} are")
    for note in found.notes:
        print_line(f"note: {note}")


WORDS = {
    "small_quality": "small model alone",
    "large_quality": "large model alone",
    "oracle_quality": "the right one each time",
    "apgr": "gap recovered on average (APGR; random 0.5)",
    "cpt50": "large calls for half of the gap (CPT 50)",
    "cpt80": "large calls for 80 % of it (CPT 80)",
    "calibration_error": "error of the stated chances",
}
