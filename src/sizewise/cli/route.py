"""`sizewise route`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sizewise.cli.options import Json, Seed
from sizewise.cli.output import print_line, print_object, print_table

if TYPE_CHECKING:
    from sizewise.records import Replay

MISSED = 3


def register(app: typer.Typer) -> None:
    """Add the commands."""
    route = typer.Typer(help="Small first, large when needed: which prompts the small model may answer.")
    for command in (calibrate, replay, report):
        route.command()(command)
    app.add_typer(route, name="route")


def calibrate(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE|EVAL EVAL",
            help="CSV: prompt, weak_ok, strong_ok (0 or 1), weak_logprob if known; or evaluations of small and large.",
        ),
    ],
    risk: Annotated[
        float | None, typer.Option(help="Most share of answers that may be worse than the large model's.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Policy file to write, for `sizewise serve --policy`.")] = None,
    small: Annotated[str | None, typer.Option(help="Name of the small model, kept in the policy.")] = None,
    large: Annotated[str | None, typer.Option(help="Name of the large model.")] = None,
    confidential: Annotated[
        list[str] | None, typer.Option(help="Regular expression: what matches never leaves the small model.")
    ] = None,
    longest: Annotated[
        int | None, typer.Option(help="Longer conversations (characters) go to the large model.")
    ] = None,
    loss: Annotated[
        float, typer.Option(help="Of evaluations: most that a good small answer is worse, as a share of the range.")
    ] = 0.05,
    metric: Annotated[str | None, typer.Option(help="Of evaluations: measure of one answer.")] = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Learn which prompts the small model may answer, and choose a threshold for a stated risk.

    Example: sizewise route calibrate answers.csv --risk 0.02
    """
    from sizewise.errors import UsageError
    from sizewise.routing import calibrate as learn
    from sizewise.routing import calibrate_evaluations, make_policy, write_policy

    if len(sources) == 2:
        found = calibrate_evaluations(*sources, loss=loss, metric=metric, risk=risk, seed=seed)
    elif len(sources) == 1:
        found = learn(Path(sources[0]), risk, seed)
    else:
        raise UsageError(f"{len(sources)} sources are given.", "one CSV file, or two evaluations", "")
    name = Path(sources[0]).name if len(sources) == 1 else " ".join(sources)
    if json:  # a calibration without a threshold is told of by the error
        if out is not None:
            write_policy(make_policy(found, small, large, confidential or (), longest), out)
        print_object("calibration", name, None, found, json)
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
        said = f"missing: {score.missing_reason}"
        if score.value is not None:
            said = f"{score.value:.3f} [{score.ci_low:.3f}, {score.ci_high:.3f}]"
        rows.append([WORDS[score.metric], said, str(score.n)])
    print_table(["measure", "value [95 %]", "prompts"], rows)
    if found.chosen:
        point = found.chosen
        print_line(
            f"at a chance of {point.threshold:.3f} or more the small model answers: {point.small_share:.0%} of the "
            f"prompts; quality {point.quality:.3f}; {point.worse:.1%} of all answers are worse than the large model's"
        )
        print_line(f"with a confidence of 95 % at most {found.risk:.1%} of answers to such prompts are")
    if found.after is not None and found.after.apgr.value is not None:
        score = found.after.apgr
        print_line(
            f"seen from the small model's answer: APGR {score.value:.3f} [{score.ci_low:.3f}, {score.ci_high:.3f}]"
        )
        if found.after.chosen is not None:
            point = found.after.chosen
            print_line(
                f"at a chance of {point.threshold:.3f} or more its answer is kept: {point.small_share:.0%} of the "
                f"prompts; quality {point.quality:.3f}; {point.worse:.1%} of all answers are worse than the large "
                "model's"
            )
    for note in found.notes:
        print_line(f"note: {note}")
    if out is not None:
        write_policy(make_policy(found, small, large, confidential or (), longest), out)
        print_line(f"policy: {out}; next: sizewise serve SMALL LARGE --policy {out}")


def replay(
    file: Annotated[Path, typer.Argument(help="CSV: prompt, weak_ok, strong_ok; not the one it was learnt from.")],
    policy: Annotated[Path, typer.Option(help="Policy file.")],
    json: Json = False,
) -> None:
    """Let a policy decide on labelled prompts: was the stated risk kept?  Exit 3 if not.

    Example: sizewise route replay held-out.csv --policy policy.json
    """
    from sizewise.routing import read_policy
    from sizewise.routing import replay as replay_policy

    found = replay_policy(file, read_policy(policy))
    if not print_object("replay", file.name, None, found, json):
        _print_replay(found)
    if found.kept is False:
        raise typer.Exit(MISSED)


def report(
    file: Annotated[Path, typer.Argument(help="CSV: prompt, weak_ok, strong_ok.")],
    policy: Annotated[Path, typer.Option(help="Policy file.")],
    out: Annotated[Path, typer.Option(help="Page to write.")] = Path("route.html"),
    json: Json = False,
) -> None:
    """Write a page: quality against large calls, beside one model alone, chance and always right.

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
    _print_replay(found)
    print_line(f"page: {out}")


def _print_replay(found: Replay) -> None:
    from sizewise.report.routing import replay_text

    rows = []
    for score in (found.small_share, found.quality, found.worse, found.best_single, found.random, found.oracle):
        rows.append([WORDS[score.metric], f"{score.value:.3f} [{score.ci_low:.3f}, {score.ci_high:.3f}]", str(score.n)])
    print_table(["measure", "value [95 %]", "prompts"], rows)
    print_line(replay_text(found))
    if found.new:
        print_line(f"prompts like those it was made from: p = {found.drift:.2g}; {found.confidential} confidential")
    else:
        print_line("next: sizewise route replay HELD-OUT.csv --policy POLICY")


WORDS = {
    "small_share": "answered by the small model",
    "quality": "good answers",
    "worse": "worse than the large model's",
    "best_single": "the better model alone",
    "random": "as many small answers, at random",
    "oracle": "the right model each time",
    "small_quality": "small model alone",
    "large_quality": "large model alone",
    "oracle_quality": "the right one each time",
    "apgr": "gap recovered on average (APGR; random 0.5)",
    "cpt50": "large calls for half of the gap (CPT 50)",
    "cpt80": "large calls for 80 % of it (CPT 80)",
    "calibration_error": "error of the stated chances",
}
