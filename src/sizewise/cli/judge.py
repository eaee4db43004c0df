"""`sizewise judge`: plan, open, ask and report; the commands on files are in `judge_files`."""

from __future__ import annotations

import json as json_format
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from sizewise.cli import judge_converse, judge_files
from sizewise.cli.help import Command, Group
from sizewise.cli.judge_files import ROUND, RoundId, find_round, read_text
from sizewise.cli.options import (
    LIMITS,
    MEASUREMENT,
    OUTPUT,
    SERVER,
    Csv,
    Device,
    Host,
    Json,
    MaxUsd,
    Seed,
    Wide,
    given,
    refuse_others,
)
from sizewise.cli.output import (
    print_csv,
    print_line,
    print_notes,
    print_object,
    print_path,
    print_table,
    print_verdict,
    reporting,
)
from sizewise.cli.run_ids import newest_runs
from sizewise.errors import UsageError

if TYPE_CHECKING:
    from sizewise.judging import Invitation
    from sizewise.records import JudgeReport, JudgeRound, PairVerdict
    from sizewise.store import Saved

Kind = Literal["pair", "best", "rating", "origin", "ours"]
PAIR_HEADINGS = ["left", "right", "win rate of left [95 %]", "votes", "verdict"]
WIDE_PAIR_HEADINGS = [*PAIR_HEADINGS, "length-controlled", "p", "p (anytime-valid)", "votes missing"]


def register(app: typer.Typer, panel: str) -> None:
    """Add the commands."""
    judge = typer.Typer(
        cls=Group,
        help="Example: sizewise judge open study-1234567890 --raters Ada,Ben\n\n"
        "Blind judging by people: plan a round, collect votes, rank candidates, measure agreement.",
    )
    for command in (plan, open_, *judge_converse.COMMANDS, ask, report, *judge_files.COMMANDS):
        judge.command(command.__name__.rstrip("_"), cls=Command)(command)
    app.add_typer(judge, name="judge", rich_help_panel=panel)


def plan(
    detect: Annotated[
        float,
        typer.Option(
            metavar="SHARE", rich_help_panel=MEASUREMENT, help="Win rate to detect, as a distance from one half."
        ),
    ] = 0.1,
    power: Annotated[
        float, typer.Option(metavar="P", rich_help_panel=MEASUREMENT, help="Power: probability of detecting it.")
    ] = 0.8,
    ties: Annotated[
        float, typer.Option(metavar="SHARE", rich_help_panel=MEASUREMENT, help="Expected share of ties.")
    ] = 0.3,
    raters: Annotated[int, typer.Option(metavar="N", min=1, rich_help_panel=ROUND, help="Number of raters.")] = 3,
    votes_per_item: Annotated[
        int, typer.Option(metavar="N", min=1, rich_help_panel=ROUND, help="Raters that see each item.")
    ] = 1,
    seconds_per_vote: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, rich_help_panel=ROUND, help="Time that a rater takes per vote.")
    ] = 20.0,
    json: Json = False,
) -> None:
    """Compute how many items, votes and minutes a round needs.

    Example: sizewise judge plan --detect 0.1 --power 0.8
    """
    from sizewise.judging import plan as make_plan
    from sizewise.judging.votes import PlanAssumptions
    from sizewise.stats import MIN_CLUSTERS

    assumptions = PlanAssumptions(tie_share=ties, seconds_per_vote=seconds_per_vote)
    found = make_plan(detect, power, raters=raters, votes_per_item=votes_per_item, assumptions=assumptions)
    if print_object("plan", "plan", None, found, json):
        return
    print_verdict(
        f"{found.items} items, {found.votes} votes and {found.repeats} repeats. With {found.raters} raters: "
        f"{found.minutes_per_rater:.0f} minutes each."
    )
    least = found.items <= MIN_CLUSTERS
    if least:
        print_line(f"No candidate is preferred on fewer than {MIN_CLUSTERS} items, so a smaller round decides nothing.")
    correlation = f" and a correlation of {found.item_correlation:g} on one item" if votes_per_item > 1 else ""
    print_line(
        f"Detects a win rate of {100 * (0.5 + detect):.4g}% (or {100 * (0.5 - detect):.4g}%) with a power of "
        f"{100 * power:.4g}%{' or more' if least else ''} at a significance level of {found.alpha:.0%}. "
        f"Assumes {100 * ties:.4g}% ties{correlation}."
    )


def open_(
    context: typer.Context,
    ids: Annotated[
        list[str],
        typer.Argument(metavar="ID...", help="A study, a comparison or evaluations; or a round to serve again."),
    ],
    kind: Annotated[
        Kind,
        typer.Option(
            metavar="KIND",
            rich_help_panel=ROUND,
            help="pair, best (of several), rating (of one answer), origin (person or model) or ours (which is ours).",
        ),
    ] = "pair",
    items: Annotated[
        int, typer.Option(metavar="N", min=1, rich_help_panel=ROUND, help="Maximum number of examples.")
    ] = 60,
    raters: Annotated[
        str, typer.Option(metavar="N|NAMES", rich_help_panel=ROUND, help="Number of raters, or comma-separated names.")
    ] = "3",
    votes_per_item: Annotated[
        int, typer.Option(metavar="N", min=1, rich_help_panel=ROUND, help="Raters that see each example.")
    ] = 1,
    simulated: Annotated[
        bool,
        typer.Option(
            "--simulated", rich_help_panel=ROUND, help="Raters are programs: their votes are marked and not counted."
        ),
    ] = False,
    keep_formatting: Annotated[
        bool,
        typer.Option("--keep-formatting", rich_help_panel=ROUND, help="Show answers with their original formatting."),
    ] = False,
    guidelines: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", rich_help_panel=ROUND, help="Your instructions to the raters: plain text or Markdown."
        ),
    ] = None,
    adaptive: Annotated[
        bool,
        typer.Option(
            "--adaptive",
            rich_help_panel=ROUND,
            help="Ask the pair next that tells most about the best of three candidates or more.",
        ),
    ] = False,
    hide_reference: Annotated[
        bool, typer.Option("--hide-reference", rich_help_panel=ROUND, help="Don't show the reference answer.")
    ] = False,
    seed: Seed = 0,
    min_agreement: Annotated[
        float,
        typer.Option(
            metavar="SHARE",
            rich_help_panel=LIMITS,
            help="Minimum agreement with human raters before a judge model counts.",
        ),
    ] = 0.7,
    host: Host = "127.0.0.1",
    port: Annotated[
        int, typer.Option(metavar="N", min=0, max=65535, rich_help_panel=SERVER, help="Port; 0 picks a free one.")
    ] = 8100,
    no_serve: Annotated[
        bool, typer.Option("--no-serve", rich_help_panel=SERVER, help="Only create the round and print its links.")
    ] = False,
    json: Json = False,
) -> None:
    """Create a round of blind judging and serve its page. Each rater gets a secret link.

    Example: sizewise judge open study-1234567890 --raters Ada,Ben --items 40
    """
    from sizewise.judging import RoundDesign, open_round
    from sizewise.records import JudgeRound
    from sizewise.service.pages.judge_page import serve_round
    from sizewise.store import Store

    store = Store()
    invitations: tuple[Invitation, ...] = ()
    if no_serve and {"host", "port"} & set(given(context)):
        raise UsageError(
            "--no-serve starts no server, so --host and --port don't apply.",
            "--no-serve alone",
            f"sizewise judge open {' '.join(ids)} --no-serve",
        )
    if len(ids) == 1 and store.exists("round", ids[0]):
        refuse_others(context, ("ids", "host", "port", "no_serve", "json"), "An existing round")
        saved = store.get(JudgeRound, ids[0])
    else:
        names = [f"rater {i + 1}" for i in range(int(raters))] if raters.isdigit() else raters.split(",")
        opened = open_round(
            newest_runs(ids),
            RoundDesign(
                kind=kind,
                items=items,
                raters=[name.strip() for name in names if name.strip()],
                votes_per_item=votes_per_item,
                origin="simulated" if simulated else "person",
                plain=not keep_formatting,
                show_reference=not hide_reference,
                min_agreement=min_agreement,
                guidelines=read_text(guidelines, "--guidelines", "instructions to the raters"),
                adaptive=adaptive,
            ),
            store=store,
            seed=seed,
        )
        saved, invitations = opened.stored, opened.invitations
    body = saved.record.model_dump(mode="json") | {
        "links": {invitation.rater: f"/r/{invitation.token}" for invitation in invitations}
    }
    if not print_object("round", saved.id, str(saved.path), body, json):
        _print_round(saved, invitations if no_serve else ())
    sys.stdout.flush()
    if not no_serve:
        with reporting() as reporter:
            serve_round(saved.id, invitations, host=host, port=port, store=store, reporter=reporter)


def _print_round(saved: Saved[JudgeRound], invitations: tuple[Invitation, ...]) -> None:
    """Print the size of a round, what was left out, and its links."""
    record = saved.record
    print_line(
        f"{record.items} examples, {record.tasks} tasks, {len(record.raters)} raters. Open until {record.expires}."
    )
    for name, why in record.left_out.items():
        print_line(f"Left out of the round: {name}, {why}.")
    for left, right, count in record.same:
        print_line(f"Counted as ties: {count:,} examples with the same answer from {left} and {right}.")
    print_notes(record.notes)
    print_path(f"round: {saved.id}")
    for invitation in invitations:
        print_path(f"{invitation.rater}: /r/{invitation.token}")


def ask(
    round_id: RoundId,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Judge model: any model URI.")],
    more: Annotated[
        int,
        typer.Option(
            metavar="N", min=0, rich_help_panel=ROUND, help="Examples to judge in addition to those of the round."
        ),
    ] = 0,
    max_usd: MaxUsd = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Collect votes from a judge model, which sees each pair twice, with sides swapped.

    They count only if it agrees with human raters.

    Example: sizewise judge ask round-1234567890 openai:gpt-4o --max-usd 5
    """
    from sizewise.judging import ask_judge
    from sizewise.judging import report as make_report
    from sizewise.models import open_model
    from sizewise.report.words import value_text
    from sizewise.store import Store

    store = Store()
    round_id = find_round(round_id, store)
    with reporting() as reporter:
        opened = open_model(model, store=store, max_usd=max_usd, say=reporter.say)
        try:
            votes = ask_judge(round_id, model, opened.complete, more=more, store=store, reporter=reporter)
        finally:
            opened.close()
    found = make_report(round_id, store=store)
    if print_object("judge_report", round_id, None, found, json):
        return
    print_line(f"{votes} votes of {model} in {round_id}")
    for rater, absent in found.unjudged.items():
        print_line(f"{rater} is incomplete: {absent} tasks have no verdict. Run the same command again.", "  ")
    for judge in found.judges:
        print_line(
            f"{judge.judge}: {'validated' if judge.validated else 'unvalidated, not counted'}. {judge.reason}", "  "
        )
        print_line(
            f"  agreement with human raters {value_text(judge.agreement)}; among human raters "
            f"{value_text(judge.among_people)}; same choice with swapped sides {value_text(judge.consistent)}",
            "  ",
        )


def report(
    context: typer.Context,
    round_id: RoundId,
    close: Annotated[
        bool, typer.Option("--close", rich_help_panel=ROUND, help="Accept no more votes from now on.")
    ] = False,
    seed: Seed = 0,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", rich_help_panel=OUTPUT, help="HTML page to write; default: next to the round."),
    ] = None,
    votes: Annotated[
        Path | None,
        typer.Option(metavar="FILE", rich_help_panel=OUTPUT, help="Write the votes as CSV (left, right, winner, ...)."),
    ] = None,
    dpo: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", rich_help_panel=OUTPUT, help="Write preference pairs as JSONL (prompt, chosen, rejected)."
        ),
    ] = None,
    json: Json = False,
    csv: Csv = False,
    wide: Wide = False,
) -> None:
    """Report win rates, agreement and how many more votes a decision needs.

    Example: sizewise judge report round-1234567890 --votes votes.csv
    """
    from sizewise.judging import Ballot, preferences, vote_rows
    from sizewise.judging import report as make_report
    from sizewise.report.judging import write_judge_page
    from sizewise.store import Store

    store = Store()
    if store.kind_of(round_id) == "conversations":
        refuse_others(context, ("round_id", "close", "json"), "The report of conversations")
        judge_converse.report_round(round_id, close, store, json)
        return
    round_id = find_round(round_id, store)
    ballot = Ballot(store, round_id)
    try:
        if close:
            ballot.close_votes()
        record, tasks, rows, pairs = ballot.round, ballot.tasks, vote_rows(ballot), preferences(ballot)
    finally:
        ballot.close()
    found = make_report(round_id, store=store, seed=seed)
    page = write_judge_page(out or store.folder("round", round_id) / "report.html", found, record, tasks)
    _write_files(rows, votes, pairs, dpo)
    if not print_object("judge_report", round_id, str(page), found, json):
        _print_report(found, csv, wide)
        if not csv:
            print_path(f"page: {page}")


def _write_files(rows: Any, votes: Path | None, pairs: Any, dpo: Path | None) -> None:
    """Write votes as CSV and preference pairs as JSONL."""
    from sizewise.cli.table import as_csv
    from sizewise.store import write_atomically

    if votes is not None:
        fields = ["left", "right", "winner", "rater", "item", "document", "origin"]
        write_atomically(votes, as_csv(fields, [[str(row[field]) for field in fields] for row in rows]))
    if dpo is not None:
        write_atomically(dpo, "".join(json_format.dumps(row, ensure_ascii=False) + "\n" for row in pairs))


def _print_report(found: JudgeReport, csv: bool, wide: bool) -> None:
    """Print votes, pairs, measures, agreement and judge models."""
    from sizewise.report.words import value_text

    headings = WIDE_PAIR_HEADINGS if wide or csv else PAIR_HEADINGS
    if print_csv(headings, [_pair(pair) for pair in found.pairs], csv):
        return
    origins = ", ".join(f"{count} {origin}" for origin, count in found.origins.items())
    print_line(f"{found.votes} votes ({origins}); {found.open_tasks} open tasks" + ("; closed" if found.closed else ""))
    print_table(headings, [_pair(pair)[: len(headings)] for pair in found.pairs])
    scores = [
        [name.replace("_", " "), candidate, value_text(score), str(score.n)]
        for name, row in found.scores.items()
        for candidate, score in row.items()
    ]
    if scores:
        print_line("")
    print_table(["measure", "candidate", "value [95 %]", "n"], scores)
    for name, score in (found.agreement.scores if found.agreement else {}).items():
        print_line(f"{name.replace('_', ' ')}: {value_text(score)} on {score.n} tasks")
    for judge in found.judges:
        print_line(
            f"judge model {judge.judge}: {'validated' if judge.validated else 'unvalidated'}, agreement with human "
            f"raters {value_text(judge.agreement)} (among human raters {value_text(judge.among_people)}), kappa "
            f"{value_text(judge.kappa) if judge.kappa else 'n/a'}. {judge.reason}",
            "  ",
        )
    print_notes(found.notes)


def _pair(pair: PairVerdict) -> list[str]:
    from sizewise.report.words import value_text

    return [
        pair.left,
        pair.right,
        value_text(pair.win_rate),
        str(pair.votes),
        f"{pair.better} preferred" if pair.better else "inconclusive",
        value_text(pair.length_controlled),
        "-" if pair.p is None else f"{pair.p:.3g}",
        f"{pair.p_anytime:.3g}",
        "0" if pair.decided else "-" if pair.more_votes is None else f"about {pair.more_votes:,}",
    ]
