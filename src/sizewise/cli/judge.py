"""`sizewise judge`."""

from __future__ import annotations

import csv
import io
import json as json_format
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sizewise.cli.options import Json, Seed, given, refuse_others
from sizewise.cli.output import print_line, print_object, print_table, reporting
from sizewise.errors import UsageError

if TYPE_CHECKING:
    from sizewise.store import Store

Level = Literal["nominal", "ordinal", "interval"]
Kind = Literal["pair", "best", "rating", "origin"]
Form = Literal["csv", "jsonl", "label-studio", "argilla"]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    judge = typer.Typer(help="What people say: how many votes it takes, who is better, how far raters agree.")
    for command in (plan, open_, ask, export, import_, report, rank, agreement):
        judge.command(command.__name__.rstrip("_"))(command)
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
    from sizewise.judging import PlanAssumptions
    from sizewise.judging import plan as make_plan

    assumptions = PlanAssumptions(tie_share=ties, seconds_per_vote=seconds)
    found = make_plan(detect, power, raters=raters, votes_per_item=votes_an_item, assumptions=assumptions)
    if print_object("plan", "plan", None, found, json):
        return
    print_line(
        f"{found.items} items, {found.votes} votes and {found.repeats} repeats, by {found.raters} raters: "
        f"{found.minutes_per_rater:.0f} minutes each"
    )
    print_line(
        f"finds a win rate of {0.5 + detect:.0%} (or {0.5 - detect:.0%}) with a chance of {power:.0%}, and one "
        f"where there is none with {found.alpha:.0%}; assumes {ties:.0%} ties"
        + (f" and a correlation of {found.item_correlation:g} on one item" if votes_an_item > 1 else "")
    )


def open_(
    context: typer.Context,
    ids: Annotated[
        list[str], typer.Argument(metavar="ID...", help="A study, a comparison, evaluations; or a round made before.")
    ],
    kind: Annotated[
        Kind, typer.Option(help="Pairs, the best of several, ratings of one answer, or who wrote it.")
    ] = "pair",
    items: Annotated[int, typer.Option(help="Most examples.", min=1)] = 60,
    raters: Annotated[str, typer.Option(help="How many, or their names with commas.")] = "3",
    votes_an_item: Annotated[int, typer.Option(help="Raters that see each example.", min=1)] = 1,
    simulated: Annotated[
        bool, typer.Option("--simulated", help="Raters are programs: their votes are marked and enter no verdict.")
    ] = False,
    as_is: Annotated[bool, typer.Option("--as-is", help="Show answers with their own typography.")] = False,
    hide_reference: Annotated[bool, typer.Option("--hide-reference", help="Do not show the right answer.")] = False,
    bar: Annotated[
        float, typer.Option(help="Share of people's choices that a judge model must meet before it counts.")
    ] = 0.7,
    host: Annotated[str, typer.Option(help="Address to listen at; links hold secret tokens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.", min=0, max=65535)] = 8100,
    no_serve: Annotated[bool, typer.Option("--no-serve", help="Only make the round and print its links.")] = False,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Make a round of blind judging and serve its page; raters need nothing but their link.

    Example: sizewise judge open study-1234567890 --raters Ada,Ben --items 40
    """
    from sizewise.judging import Invitation, RoundDesign, open_round
    from sizewise.records import JudgeRound
    from sizewise.service.pages.judge import serve_round
    from sizewise.store import Store

    store = Store()
    invitations: tuple[Invitation, ...] = ()
    if no_serve and {"host", "port"} & set(given(context)):
        raise UsageError("--no-serve listens nowhere.", "no --host and no --port beside it", "leave one of them out")
    if len(ids) == 1 and store.exists("round", ids[0]):
        refuse_others(context, ("ids", "host", "port", "no_serve", "json"), "A round that was made before")
        stored = store.get(JudgeRound, ids[0])
    else:
        names = [f"rater {i + 1}" for i in range(int(raters))] if raters.isdigit() else raters.split(",")
        opened = open_round(
            ids,
            RoundDesign(
                kind=kind,
                items=items,
                raters=[name.strip() for name in names if name.strip()],
                votes_per_item=votes_an_item,
                origin="simulated" if simulated else "person",
                plain=not as_is,
                show_reference=not hide_reference,
                min_agreement=bar,
            ),
            store=store,
            seed=seed,
        )
        stored, invitations = opened.stored, opened.invitations
    record = stored.record
    if json:
        body = record.model_dump(mode="json") | {"links": {one.rater: f"/r/{one.token}" for one in invitations}}
        whole = {"schema": 1, "kind": "round", "id": stored.id, "path": str(stored.path), "record": body}
        print_line(json_format.dumps(whole, ensure_ascii=False))
    else:
        print_line(
            f"{record.items} examples, {record.tasks} tasks, {len(record.raters)} raters; until {record.expires}"
        )
        for name, why in record.left_out.items():
            print_line(f"Left out of the round: {name}, {why}.")
        for left, right, count in record.same:
            print_line(f"Not asked: {count:,} examples that {left} and {right} answered with the same text, ties.")
        print_line(f"round: {stored.id}")
        if no_serve:
            for one in invitations:
                print_line(f"{one.rater}: /r/{one.token}")
    sys.stdout.flush()
    if not no_serve:
        with reporting() as reporter:
            serve_round(stored.id, invitations, host=host, port=port, store=store, reporter=reporter)


def ask(
    round_id: Annotated[str, typer.Argument(metavar="ID", help="A round, or what it was made from.")],
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The judge: any model.")],
    more: Annotated[int, typer.Option(help="Examples to judge besides those of the round.", min=0)] = 0,
    max_usd: Annotated[float | None, typer.Option(help="Most to spend on a remote model.", min=0)] = None,
    json: Json = False,
) -> None:
    """Let a model judge the same pairs, sides swapped; it counts only once it was shown to say what people say.

    Example: sizewise judge ask round-1234567890 openai:gpt-4o --more 200 --max-usd 5
    """
    from sizewise.judging import ask_judge, report
    from sizewise.models import open_model
    from sizewise.report.words import value_text
    from sizewise.store import Store

    store = Store()
    round_id = _round(round_id, store)
    with reporting() as reporter:
        opened = open_model(model, store=store, max_usd=max_usd, say=reporter.say)
        try:
            votes = ask_judge(round_id, model, opened.complete, more=more, store=store, reporter=reporter)
        finally:
            opened.close()
    found = report(round_id, store=store)
    if print_object("judge_report", round_id, None, found, json):
        return
    print_line(f"{votes} votes of {model} in {round_id}")
    for one in found.judges:
        print_line(
            f"{one.judge}: agrees with people in {value_text(one.agreement)}; people among themselves in "
            f"{value_text(one.among_people)}; stands by its choice in {value_text(one.consistent)}"
        )
        print_line(f"{'counts' if one.validated else 'unverified, enters no verdict'}: {one.reason}")


def export(
    round_id: Annotated[str, typer.Argument(metavar="ID", help="A round, or what it was made from.")],
    out: Annotated[Path, typer.Option(help="File to write.")],
    form: Annotated[Form, typer.Option("--format", help="Of which tool.")] = "csv",
) -> None:
    """Write the tasks of a round, blind, for another tool: CSV, JSONL, Label Studio or Argilla.

    Example: sizewise judge export round-1234567890 --format label-studio --out tasks.json
    """
    from sizewise.judging import Ballot, write_tasks
    from sizewise.store import Store

    store = Store()
    ballot = Ballot(store, _round(round_id, store))
    try:
        written = write_tasks(ballot, out, form)
    finally:
        ballot.close()
    for path in written:
        print_line(f"wrote {path}")


def import_(
    round_id: Annotated[str, typer.Argument(metavar="ID", help="A round, or what it was made from.")],
    file: Annotated[Path, typer.Argument(help="Votes: CSV or JSONL (task, rater, choice), or an export of the tool.")],
    form: Annotated[Form, typer.Option("--format", help="Of which tool.")] = "csv",
) -> None:
    """Take people's votes from another tool into a round.

    Example: sizewise judge import round-1234567890 export.json --format label-studio
    """
    from sizewise.judging import Ballot, read_votes
    from sizewise.store import Store

    store = Store()
    ballot = Ballot(store, _round(round_id, store))
    try:
        taken = read_votes(ballot, file, form)
    finally:
        ballot.close()
    for name, count in taken.votes.items():
        print_line(f"{name}: {count} votes")
    if taken.empty:
        print_line(f"{taken.empty} empty annotations were left out")
    print_line(f"next: sizewise judge report {ballot.id}")


def report(
    round_id: Annotated[
        str, typer.Argument(metavar="ID", help="A round, or the comparison or study it was made from.")
    ],
    out: Annotated[Path | None, typer.Option(help="Page to write; by default beside the round.")] = None,
    votes: Annotated[Path | None, typer.Option(help="Write the votes as CSV (left, right, winner, ...).")] = None,
    dpo: Annotated[
        Path | None, typer.Option(help="Write preference pairs as JSONL (prompt, chosen, rejected).")
    ] = None,
    close: Annotated[bool, typer.Option("--close", help="Take no more votes from now on.")] = False,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Say what a round says so far, and what it would take to decide.

    Example: sizewise judge report round-1234567890 --votes votes.csv
    """
    from sizewise.judging import Ballot, preferences, vote_rows
    from sizewise.judging import report as make_report
    from sizewise.report.judging import write_judge_page
    from sizewise.report.words import value_text
    from sizewise.store import Store, write_atomically

    store = Store()
    round_id = _round(round_id, store)
    ballot = Ballot(store, round_id)
    try:
        if close:
            ballot.close_votes()
        record, tasks, rows, pairs = ballot.round, ballot.tasks, vote_rows(ballot), preferences(ballot)
    finally:
        ballot.close()
    found = make_report(round_id, store=store, seed=seed)
    page = write_judge_page(out or store.folder("round", round_id) / "report.html", found, record, tasks)
    if votes is not None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, ["left", "right", "winner", "rater", "item", "origin"])
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(votes, text.getvalue())
    if dpo is not None:
        write_atomically(dpo, "".join(json_format.dumps(row, ensure_ascii=False) + "\n" for row in pairs))
    if print_object("judge_report", round_id, str(page), found, json):
        return
    said = ", ".join(f"{count} {origin}" for origin, count in found.origins.items())
    print_line(f"{found.votes} votes ({said}); {found.open_tasks} tasks open" + ("; closed" if found.closed else ""))
    if found.pairs:
        print_table(
            [
                "left",
                "right",
                "win rate of left [95 %]",
                "at even length",
                "votes",
                "p",
                "p at any time",
                "preferred",
                "votes more",
            ],
            [
                [
                    one.left,
                    one.right,
                    value_text(one.win_rate),
                    value_text(one.length_controlled),
                    str(one.votes),
                    "-" if one.p is None else f"{one.p:.3g}",
                    f"{one.p_anytime:.3g}",
                    one.better or "not decisive",
                    "enough" if one.decided else "-" if one.more_votes is None else f"about {one.more_votes:,}",
                ]
                for one in found.pairs
            ],
        )
    if found.scores:
        print_table(
            ["measure", "candidate", "value [95 %]", "n"],
            [
                [name.replace("_", " "), candidate, value_text(score), str(score.n)]
                for name, row in found.scores.items()
                for candidate, score in row.items()
            ],
        )
    for name, score in (found.agreement.scores if found.agreement else {}).items():
        print_line(f"{name.replace('_', ' ')}: {value_text(score)} on {score.n} tasks")
    for judge in found.judges:
        print_line(
            f"judge {judge.judge}: agrees with people in {value_text(judge.agreement)} (people: "
            f"{value_text(judge.among_people)}); {'counts' if judge.validated else 'unverified'}: {judge.reason}"
        )
    for note in found.notes:
        print_line(f"note: {note}")
    print_line(f"page: {page}")


def _round(name: str, store: Store) -> str:
    """Find a round by its id, or the newest one made from a comparison or study."""
    from sizewise.comparison import rounds_of
    from sizewise.errors import SizewiseError
    from sizewise.records import Study

    kind = store.kind_of(name)
    if kind == "round":
        return name
    comparison = store.read(Study, name).comparison if kind == "study" else name
    found = rounds_of(comparison, store)
    if not found:
        raise SizewiseError(f"No round was made from {name}.", "a round", f"sizewise judge open {name}")
    return found[-1]


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
                f"{row.score.value:.4f} [{row.score.ci_low:.4f}, {row.score.ci_high:.4f}]",
                f"{row.win_rate.value:.1%} [{row.win_rate.ci_low:.1%}, {row.win_rate.ci_high:.1%}]",
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
            f"the left one won {side.value:.1%} [{side.ci_low:.1%}, {side.ci_high:.1%}] of the decided votes; one half where "
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
        said = f"missing: {score.missing_reason}"
        if score.value is not None:
            said = f"{score.value:.3f}"
            if score.ci_low is not None:
                said += f" [{score.ci_low:.3f}, {score.ci_high:.3f}]"
        rows.append([name.replace("_", " "), said, str(score.n)])
    print_table(["coefficient", "value [95 %]", "items"], rows)
    print_line(f"{found.ratings} ratings by {found.raters} raters; labels: {', '.join(found.labels[:12])}")
    weakest = sorted(found.against_the_rest.items(), key=lambda pair: pair[1].value or 0)[:3]
    for name, score in weakest:
        print_line(f"{name} says what others say in {score.value:.0%} [{score.ci_low:.0%}, {score.ci_high:.0%}]")
    for note in found.notes:
        print_line(f"note: {note}")
