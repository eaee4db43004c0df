"""`sizewise route`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sizewise.cli.help import Command, Group
from sizewise.cli.options import DATA, LIMITS, OUTPUT, PRIVACY, Csv, Json, Seed
from sizewise.cli.output import (
    print_csv,
    print_line,
    print_notes,
    print_object,
    print_path,
    print_saved,
    print_table,
    print_verdict,
)
from sizewise.cli.run_ids import newest_runs
from sizewise.errors import UsageError

if TYPE_CHECKING:
    from sizewise.records import Calibration, Replay, RiskPoint, Score

MISSED = 3
HEADINGS = ["measure", "value [95 %]", "prompts"]
PolicyFile = Annotated[Path, typer.Option("--policy", metavar="FILE", rich_help_panel=DATA, help="Policy file.")]


def register(app: typer.Typer, panel: str) -> None:
    """Add the commands."""
    route = typer.Typer(
        cls=Group,
        help="Example: sizewise route calibrate answers.csv --risk 0.02\n\n"
        "Small model first, large when needed: calibrate, replay and report a routing policy.",
    )
    for command in (calibrate, replay, report):
        route.command(cls=Command)(command)
    app.add_typer(route, name="route", rich_help_panel=panel)


def calibrate(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE|EVAL EVAL",
            help="CSV: prompt, weak_ok, strong_ok (0 or 1), optionally weak_logprob; or the evaluations of the small "
            "and the large model.",
        ),
    ],
    metric: Annotated[
        str | None, typer.Option(metavar="NAME", rich_help_panel=DATA, help="With evaluations: metric of one answer.")
    ] = None,
    seed: Seed = 0,
    risk: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE", rich_help_panel=LIMITS, help="Maximum share of answers worse than the large model's."
        ),
    ] = None,
    loss: Annotated[
        float,
        typer.Option(
            metavar="SHARE",
            rich_help_panel=LIMITS,
            help="With evaluations: maximum loss of a good small answer, as a share of the metric's range.",
        ),
    ] = 0.05,
    max_characters: Annotated[
        int | None,
        typer.Option(metavar="N", rich_help_panel=LIMITS, help="Longer conversations go to the large model."),
    ] = None,
    confidential: Annotated[
        list[str] | None,
        typer.Option(metavar="REGEX", rich_help_panel=PRIVACY, help="Matching text stays with the small model."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", rich_help_panel=OUTPUT, help="Write a policy for `sizewise serve --policy`."),
    ] = None,
    small: Annotated[
        str | None,
        typer.Option(metavar="NAME", rich_help_panel=OUTPUT, help="Name of the small model in the policy."),
    ] = None,
    large: Annotated[
        str | None,
        typer.Option(metavar="NAME", rich_help_panel=OUTPUT, help="Name of the large model in the policy."),
    ] = None,
    json: Json = False,
    csv: Csv = False,
) -> None:
    """Learn which prompts the small model can answer, and choose a confidence threshold for a given risk.

    Example: sizewise route calibrate answers.csv --risk 0.02
    """
    from sizewise.records import fingerprint
    from sizewise.routing import calibrate as learn
    from sizewise.routing import calibrate_evaluations, make_policy, write_policy
    from sizewise.store import Store

    if len(sources) == 2:
        found = calibrate_evaluations(*newest_runs(sources), loss=loss, metric=metric, risk=risk, seed=seed)
    elif len(sources) == 1:
        found = learn(Path(sources[0]), risk, seed)
    else:
        raise UsageError(
            f"{len(sources)} sources given.", "one CSV file, or two evaluations", "sizewise route calibrate --help"
        )
    policy = make_policy(found, small, large, confidential or (), max_characters) if out is not None else None
    if out is not None and policy is not None and (json or csv):
        write_policy(policy, out)
    saved = Store().write(f"calibration-{fingerprint(found.model_dump(mode='json'))}", found)
    if print_saved(saved, json):
        return
    rows = _calibration_rows(found)
    if print_csv(HEADINGS, rows, csv):
        return
    _print_calibration(found, rows)
    print_path(f"calibration: {saved.id}")
    if out is not None and policy is not None:
        write_policy(policy, out)
        print_path(f"policy: {out}")
        print_path(f"next: sizewise serve SMALL LARGE --policy {out}")


def _calibration_rows(found: Calibration) -> list[list[str]]:
    return [
        _row(score)
        for score in (
            found.small_quality,
            found.large_quality,
            found.oracle_quality,
            found.apgr,
            found.cpt50,
            found.cpt80,
            found.calibration_error,
        )
    ]


def _print_calibration(found: Calibration, rows: list[list[str]]) -> None:
    """Print the chosen threshold, the measures and what the small model's answer adds."""
    if found.chosen:
        print_verdict(
            f"{_point(found.chosen, 'answered by the small model')} Risk: at most {found.risk:.1%} (95 % confidence)."
        )
    print_table(HEADINGS, rows)
    if found.after is not None and found.after.apgr.value is not None:
        print_line(f"With the small model's answer, {_percent(found.after.apgr)} of the gap is recovered on average.")
        if found.after.chosen is not None:
            print_line(_point(found.after.chosen, "kept after the small model's answer"))
    print_notes(found.notes)


def _point(point: RiskPoint, what: str) -> str:
    """Describe a confidence threshold by its share, quality and risk."""
    return (
        f"Confidence threshold {point.threshold:.3f}: {point.small_share:.0%} of prompts {what}; "
        f"{point.quality:.1%} of all answers good, {point.worse:.1%} worse than the large model's."
    )


def replay(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="CSV: prompt, weak_ok, strong_ok; not the file of the calibration.")
    ],
    policy: PolicyFile,
    json: Json = False,
    csv: Csv = False,
) -> None:
    """Apply a policy to labeled prompts and check its risk; exit 3 if it is exceeded.

    Example: sizewise route replay held-out.csv --policy policy.json
    """
    from sizewise.routing import read_policy
    from sizewise.routing import replay as replay_policy

    found = replay_policy(file, read_policy(policy))
    if not print_object("replay", file.name, None, found, json):
        _print_replay(found, csv)
    if found.kept is False:
        raise typer.Exit(MISSED)


def report(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="CSV: prompt, weak_ok, strong_ok.")],
    policy: PolicyFile,
    out: Annotated[Path, typer.Option(metavar="FILE", rich_help_panel=OUTPUT, help="HTML page to write.")] = Path(
        "route.html"
    ),
    json: Json = False,
    csv: Csv = False,
) -> None:
    """Write a page that compares the policy with each model alone, random routing and an oracle.

    Example: sizewise route report held-out.csv --policy policy.json
    """
    from sizewise.report.routing import write_route_page
    from sizewise.routing import read_policy
    from sizewise.routing import replay as replay_policy

    read = read_policy(policy)
    found = replay_policy(file, read)
    write_route_page(out, found, read)
    if print_object("route_report", file.name, str(out.resolve()), found, json):
        return
    _print_replay(found, csv)
    if not csv:
        print_path(f"page: {out}")


def _print_replay(found: Replay, csv: bool) -> None:
    """Print how a policy performed on labeled prompts."""
    from sizewise.report.routing import replay_text

    rows = [
        _row(score)
        for score in (found.small_share, found.quality, found.worse, found.best_single, found.random, found.oracle)
    ]
    if print_csv(HEADINGS, rows, csv):
        return
    print_verdict(replay_text(found))
    print_table(HEADINGS, rows)
    if found.new:
        print_line(
            f"Drift from the calibration prompts: p = {found.drift:.2g}. {found.confidential} confidential prompts."
        )
    else:
        print_path("next: sizewise route replay HELD-OUT.csv --policy POLICY")


def _percent(score: Score) -> str:
    """Format a share for a sentence."""
    value, ci_low, ci_high = (100 * (part or 0.0) for part in (score.value, score.ci_low, score.ci_high))
    return f"{value:.1f} % [{ci_low:.1f}, {ci_high:.1f}]"


def _row(score: Score) -> list[str]:
    return [TITLES[score.metric], _text(score), str(score.n)]


def _text(score: Score) -> str:
    if score.value is None:
        return f"missing: {score.missing_reason}"
    if score.ci_low is None or score.ci_high is None:
        return f"{score.value:.3f} ({score.ci_missing_reason})"
    return f"{score.value:.3f} [{score.ci_low:.3f}, {score.ci_high:.3f}]"


TITLES = {
    "small_share": "answered by the small model",
    "quality": "good answers",
    "worse": "worse than the large model's",
    "best_single": "better model alone",
    "random": "random routing, same share",
    "oracle": "oracle routing",
    "small_quality": "small model alone",
    "large_quality": "large model alone",
    "oracle_quality": "oracle routing",
    "apgr": "average gap recovered (APGR; random: 0.5)",
    "cpt50": "calls to recover 50 % of the gap (CPT 50)",
    "cpt80": "calls to recover 80 % of the gap (CPT 80)",
    "calibration_error": "calibration error",
}
