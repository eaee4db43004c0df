"""`sizewise judge`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from sizewise.cli.options import Json, Seed
from sizewise.cli.output import print_line, print_object, print_table

Level = Literal["nominal", "ordinal", "interval"]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    judge = typer.Typer(help="What people say: how many votes it takes, who is better, how far raters agree.")
    for command in (plan, rank, agreement):
        judge.command()(command)
    app.add_typer(judge, name="judge")


def plan(
    detect: Annotated[float, typer.Option(help="How far from one half a win rate must be to be found.")] = 0.1,
    power: Annotated[float, typer.Option(help="Chance of finding it.")] = 0.8,
    raters: Annotated[int, typer.Option(help="Number of raters.", min=1)] = 3,
    votes_an_item: Annotated[int, typer.Option(help="Raters that see each item.", min=1)] = 1,
    ties: Annotated[float, typer.Option(help="Share of ties that is expected.")] = 0.3,
    seconds: Annotated[float, typer.Option(help="Seconds a vote.", min=0)] = 20.0,
    json: Json = False,
) -> None:
    """Say how many items, votes and minutes it takes, before anybody is asked.

    Example: sizewise judge plan --detect 0.1 --power 0.8
    """
    from sizewise.judging import plan as make_plan

    found = make_plan(detect, power, raters=raters, votes_an_item=votes_an_item, tie_share=ties, seconds_a_vote=seconds)
    if print_object("plan", "plan", None, found, json):
        return
    print_line(
        f"{found.items} items, {found.votes} votes and {found.repeats} repeats, by {found.raters} raters: "
        f"{found.minutes_a_rater:.0f} minutes each"
    )
    print_line(
        f"finds a win rate of {0.5 + detect:.0%} (or {0.5 - detect:.0%}) with a chance of {power:.0%}, and one "
        f"where there is none with {found.alpha:.0%}; assumes {ties:.0%} ties"
        + (f" and a correlation of {found.item_correlation:g} on one item" if votes_an_item > 1 else "")
    )


def rank(
    file: Annotated[Path, typer.Argument(help="CSV: left, right, winner; perhaps rater and item.")],
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Rank what was compared in pairs (Bradley-Terry), with ranges of ranks.

    Example: sizewise judge rank votes.csv
    """
    from sizewise.judging import rank as rank_votes

    found = rank_votes(file, seed)
    if print_object("ranking", file.name, None, found, json):
        return
    print_table(
        ["", "place", "places in 95 %", "strength [95 %]", "win rate [95 %]", "votes"],
        [
            [
                row.name,
                str(row.rank),
                f"{row.ranks[0]} to {row.ranks[1]}" if row.ranks[0] != row.ranks[1] else str(row.ranks[0]),
                f"{row.score.value:.4f} [{row.score.low:.4f}, {row.score.high:.4f}]",
                f"{row.win_rate.value:.1%} [{row.win_rate.low:.1%}, {row.win_rate.high:.1%}]",
                str(row.win_rate.n),
            ]
            for row in found.table
        ],
    )
    several = f", {found.raters} raters" if found.raters else ""
    print_line(
        f"{found.votes} votes{several}, {found.ties} ties (one half each); resampled: {', '.join(found.resampled)}"
    )
    side = found.left_share
    if side.value is not None:
        print_line(
            f"the left one won {side.value:.1%} [{side.low:.1%}, {side.high:.1%}] of the decided votes; one half where "
            "the place does not matter"
        )
    for note in found.notes:
        print_line(f"note: {note}")


def agreement(
    file: Annotated[Path, typer.Argument(help="CSV: rater, item, label.")],
    level: Annotated[Level, typer.Option(help="What a difference between labels means.")] = "nominal",
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Say how far raters agree beyond chance.

    Example: sizewise judge agreement ratings.csv --level ordinal
    """
    from sizewise.judging import agreement as agree

    found = agree(file, level, seed)
    if print_object("agreement", file.name, None, found, json):
        return
    rows = []
    for name, score in found.scores.items():
        said = f"missing: {score.missing}"
        if score.value is not None:
            said = f"{score.value:.3f}"
            if score.low is not None:
                said += f" [{score.low:.3f}, {score.high:.3f}]"
        rows.append([name.replace("_", " "), said, str(score.n)])
    print_table(["coefficient", "value [95 %]", "items"], rows)
    print_line(f"{found.ratings} ratings by {found.raters} raters; labels: {', '.join(found.labels[:12])}")
    weakest = sorted(found.against_the_rest.items(), key=lambda pair: pair[1].value or 0)[:3]
    for name, score in weakest:
        print_line(f"{name} says what others say in {score.value:.0%} [{score.low:.0%}, {score.high:.0%}]")
    for note in found.notes:
        print_line(f"note: {note}")
