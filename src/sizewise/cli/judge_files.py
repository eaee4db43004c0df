"""Commands of `sizewise judge` that read and write files: export, import, rank and agreement."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sizewise.cli.options import DATA, MEASUREMENT, OUTPUT, Csv, Json, Seed, Wide
from sizewise.cli.output import (
    print_csv,
    print_line,
    print_notes,
    print_object,
    print_path,
    print_points,
    print_saved,
    print_table,
)

if TYPE_CHECKING:
    from sizewise.records import Score
    from sizewise.store import Store

Level = Literal["nominal", "ordinal", "interval"]
Form = Literal["csv", "jsonl", "label-studio", "argilla"]
ROUND = "Round"
RoundId = Annotated[
    str, typer.Argument(metavar="ID", help="A round, or the study or comparison that it was created from.")
]
Format = Annotated[
    Form, typer.Option("--format", metavar="FORMAT", rich_help_panel=DATA, help="csv, jsonl, label-studio or argilla.")
]


def find_round(name: str, store: Store) -> str:
    """Return the id of a round, or of the newest one created from a study or comparison.

    Raises:
        SizewiseError: no round was created from it.
    """
    from sizewise.comparison import rounds_of
    from sizewise.errors import SizewiseError
    from sizewise.records import Study

    kind = store.kind_of(name)
    if kind == "round":
        return name
    comparison = store.read(Study, name).comparison if kind == "study" else name
    found = rounds_of(comparison, store)
    if not found:
        raise SizewiseError(f"{name} has no judging round.", "a round", f"sizewise judge open {name}")
    return found[-1]


def read_text(path: Path | None, option: str, content: str) -> str:
    """Read a text that the owner of a round wrote; empty without a path.

    Args:
        path: the file.
        option: option that named it, for messages.
        content: what the file should contain, for messages.

    Raises:
        UsageError: the file can't be read as text, or is empty.
    """
    from sizewise.errors import UsageError

    if path is None:
        return ""
    try:
        text = path.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it isn't UTF-8 text"
        raise UsageError(
            f"{path} can't be read: {reason}.",
            "a text or Markdown file in UTF-8",
            f"correct {option}, or save the file as UTF-8",
        ) from error
    if not text:
        raise UsageError(f"{path} is empty.", content, f"remove {option}, or write the file")
    return text


def export(
    round_id: RoundId,
    out: Annotated[Path, typer.Option(metavar="FILE", rich_help_panel=OUTPUT, help="File to write.")],
    form: Format = "csv",
    json: Json = False,
) -> None:
    """Write the blind tasks of a round for another tool.

    Example: sizewise judge export round-1234567890 --out tasks.csv
    """
    from sizewise.judging import Ballot, write_tasks
    from sizewise.store import Store

    store = Store()
    ballot = Ballot(store, find_round(round_id, store))
    try:
        written = write_tasks(ballot, out, form)
    finally:
        ballot.close()
    record = {"round": ballot.id, "format": form, "files": [str(path) for path in written]}
    if not print_object("tasks", ballot.id, str(out.resolve()), record, json):
        for path in written:
            print_path(f"wrote {path}")


def import_(
    round_id: RoundId,
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="Votes: CSV or JSONL (task, rater, choice), or an export of the tool."),
    ],
    form: Format = "csv",
    json: Json = False,
) -> None:
    """Add votes of human raters from another tool to a round.

    Example: sizewise judge import round-1234567890 votes.csv
    """
    from sizewise.judging import Ballot, read_votes
    from sizewise.store import Store

    store = Store()
    ballot = Ballot(store, find_round(round_id, store))
    try:
        read = read_votes(ballot, file, form)
    finally:
        ballot.close()
    record = {"round": ballot.id} | read._asdict()
    if print_object("votes", ballot.id, None, record, json):
        return
    for name, count in read.votes.items():
        print_line(f"{name}: {count} votes")
    if read.empty:
        print_line(f"{read.empty} empty annotations were left out")
    if read.replaced:
        print_line(f"{read.replaced} rows were replaced by a later row of the same rater on the same task")
    if read.corrected or read.unchanged:
        print_line(f"{read.corrected} votes corrected earlier ones; {read.unchanged} were known already")
    if read.without_place:
        print_line(
            f"{read.without_place} votes flag harm without naming the answer, so harm counts for both answers of a "
            "pair. Name the answer in the column 'harmful': 1, 2 or both"
        )
    print_path(f"next: sizewise judge report {ballot.id}")


def rank(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="CSV: left, right, winner (or a share from 0 to 1); optionally rater and item."
        ),
    ],
    seed: Seed = 0,
    json: Json = False,
    csv: Csv = False,
    wide: Wide = False,
) -> None:
    """Rank candidates from pairwise votes (Bradley-Terry), with intervals.

    Example: sizewise judge rank votes.csv
    """
    from sizewise.judging import rank as rank_votes
    from sizewise.store import Store

    saved = Store().write_new(rank_votes(file, seed))
    found = saved.record
    if print_saved(saved, json):
        return
    headings = ["candidate", "rank", "win rate [95 %]", "votes", "rank range (95 %)", "strength [95 %]"]
    rows = [
        [
            row.name,
            str(row.rank),
            _text(row.win_rate, ".1%"),
            str(row.win_rate.n),
            f"{row.ranks[0]} to {row.ranks[1]}" if row.ranks[0] != row.ranks[1] else str(row.ranks[0]),
            _text(row.score, ".4f"),
        ]
        for row in found.table
    ]
    if print_csv(headings, rows, csv):
        return
    columns = len(headings) if wide else len(headings) - 1
    print_table(headings[:columns], [row[:columns] for row in rows])
    raters = f", {found.raters} raters" if found.raters else ""
    print_line(
        f"{found.votes} votes{raters}, {found.ties} ties (one half each). Intervals treat "
        f"{' and '.join(found.resampled)} as samples."
    )
    if found.left_share.value is not None:
        print_line(
            f"The left side won {_text(found.left_share, '.1%')} of the decided votes; 50 % means no position bias."
        )
    print_notes(found.notes)


def agreement(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="CSV: rater, item, label.")],
    level: Annotated[
        Level,
        typer.Option(
            metavar="LEVEL", rich_help_panel=MEASUREMENT, help="Scale of the labels: nominal, ordinal or interval."
        ),
    ] = "nominal",
    seed: Seed = 0,
    json: Json = False,
    csv: Csv = False,
) -> None:
    """Measure how well raters agree beyond chance.

    Example: sizewise judge agreement ratings.csv --level ordinal
    """
    from sizewise.judging import agreement as agree

    found = agree(file, level, seed)
    if print_object("agreement", file.name, None, found, json):
        return
    headings = ["coefficient", "value [95 %]", "items"]
    rows = [[name.replace("_", " "), _text(score, ".3f"), str(score.n)] for name, score in found.scores.items()]
    if print_csv(headings, rows, csv):
        return
    print_table(headings, rows)
    print_line(f"{found.ratings} ratings by {found.raters} raters. Labels: {', '.join(found.labels[:12])}.")
    lowest = sorted(found.against_the_rest.items(), key=lambda pair: pair[1].value or 0)[:3]
    print_points("Lowest agreement with the other raters", [f"{name}: {_text(score, '.0%')}" for name, score in lowest])
    print_notes(found.notes)


def _text(score: Score, form: str) -> str:
    """Format a score with its interval."""
    if score.value is None:
        return f"missing: {score.missing_reason}"
    if score.ci_low is None or score.ci_high is None:
        return format(score.value, form)
    return f"{score.value:{form}} [{score.ci_low:{form}}, {score.ci_high:{form}}]"


COMMANDS = (export, import_, rank, agreement)
