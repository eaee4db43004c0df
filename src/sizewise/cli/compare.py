"""`sizewise compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sizewise.cli.options import Json, Seed
from sizewise.cli.output import print_line, print_object, print_stored, print_table
from sizewise.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sizewise.records import Comparison, Difference, Score
    from sizewise.store import Saved


MISSED = 3
DIFFERENCE_HEADINGS = [
    "left",
    "right",
    "measure",
    "left - right [95 %]",
    "could show",
    "documents for it",
    "p (Holm)",
    "other p",
    "n",
    "shown to be better",
]


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def compare(
        ids: Annotated[list[str] | None, typer.Argument(help="Evaluation ids, two or more.")] = None,
        history: Annotated[
            str | None, typer.Option(help="Model URI, dataset id or name: all its evaluations over time.")
        ] = None,
        require: Annotated[
            list[str] | None,
            typer.Option(
                help='Condition on the first against the second, such as "bleu >= old - 0.5"; exit 3 if missed.'
            ),
        ] = None,
        junit: Annotated[Path | None, typer.Option(help="Write the conditions as JUnit to this file.")] = None,
        markdown: Annotated[Path | None, typer.Option(help="Write the conditions as Markdown to this file.")] = None,
        load: Annotated[
            list[str] | None,
            typer.Option(help="How a model does under many users: ID of a load, or MODEL=ID where its name differs."),
        ] = None,
        seed: Seed = 0,
        json: Json = False,
    ) -> None:
        """Compare evaluations of the same data, pair by pair, with intervals.

        Example: sizewise compare eval-1111111111 eval-2222222222 --require "bleu >= old - 0.5"
        """
        from sizewise.comparison import compare as compare_evaluations

        if history is not None:
            _history(history, seed, json)
            return
        if not ids:
            raise UsageError("No evaluations were named.", "two ids, or --history NAME", "sizewise runs")
        if require and len(ids) != 2:
            raise UsageError(f"Conditions compare two evaluations, not {len(ids)}.", "NEW OLD", "sizewise runs")
        if (junit or markdown) and not require:
            raise UsageError("There is no condition to write down.", "--require EXPRESSION", "")
        stored = compare_evaluations(ids, load_tests=_loads(ids, load or []), seed=seed)
        if not print_stored(stored, json):
            _print(stored)
        if require:
            _gate(stored.record, ids, require, junit, markdown, quiet=json)


def _loads(ids: list[str], given: list[str]) -> dict[str, str]:
    """Find out which of the compared models each load is of: by its URI, or the name it is served under."""
    from sizewise.records import Evaluation, LoadTest
    from sizewise.store import Store

    store = Store()
    uris = list(dict.fromkeys(store.read(Evaluation, one).model.uri for one in ids))
    found = {}
    for one in given:
        name, told, load_id = one.rpartition("=")
        asked = store.read(LoadTest, load_id)
        same = [uri for uri in uris if uri == asked.uri or uri.rpartition(":")[2].rpartition("/")[2] == asked.model]
        names = [name] if told else same
        if len(names) != 1:
            raise UsageError(
                f"{load_id} asked '{asked.model}', and it is not plain which of these that is.",
                ", ".join(uris), f"--load 'MODEL={load_id}'",
            )  # fmt: skip
        found[names[0]] = load_id
    return found


def _history(name: str, seed: int, as_json: bool) -> None:
    """Print a history and its changes."""
    from sizewise.comparison import history as gather

    found = gather(name, seed=seed)
    if print_object("history", name, None, found, as_json):
        return
    from sizewise.report.words import measure_of, value_text

    metrics = list(dict.fromkeys(metric for entry in found.entries for metric in entry.scores))
    print_table(
        ["measured (UTC)", "evaluation", "model", "data", *(measure_of(metric).title for metric in metrics)],
        [
            [
                entry.created.removesuffix("+00:00"),
                entry.evaluation,
                entry.model,
                entry.data,
                *(_said(entry.scores.get(metric), value_text) for metric in metrics),
            ]
            for entry in found.entries
        ],
    )
    if found.changes:
        print_table(DIFFERENCE_HEADINGS, [_difference(one) for one in found.changes])
    for note in found.notes:
        print_line(f"note: {note}")


def _said(score: Score | None, said: Callable[[Score], str]) -> str:
    return "-" if score is None or score.value is None else said(score)


def _gate(
    comparison: Comparison,
    ids: list[str],
    expressions: list[str],
    junit: Path | None,
    markdown: Path | None,
    quiet: bool,
) -> None:
    """Check conditions, write them down, and end with 3 if one is missed."""
    from sizewise.comparison import as_junit, as_markdown, check_requirements
    from sizewise.store import write_atomically

    names = {record_id: name for name, record_id in comparison.evaluations.items()}
    new, old = (names[record_id] for record_id in ids)
    found = check_requirements(comparison, new, old, expressions)
    for path, text in ((junit, as_junit(found, new, old)), (markdown, as_markdown(found, new, old))):
        if path is not None:
            write_atomically(path, text)
    for one in found if not quiet else ():
        print_line(f"{'kept' if one.kept else 'MISSED'}: {one.expression} ({one.details})")
    if not all(one.kept for one in found):
        raise typer.Exit(MISSED)


def _print(stored: Saved[Comparison]) -> None:
    """Print the table of scores and the differences."""
    from sizewise.report import table_rows
    from sizewise.report.words import measure_of, shown_metrics

    comparison = stored.record
    metrics = shown_metrics(comparison)
    rows = [[row.name, *(row.cells[metric].text for metric in metrics)] for row in table_rows(comparison)]
    print_table(["candidate", *(measure_of(metric).title for metric in metrics)], rows)
    print_table(DIFFERENCE_HEADINGS, [_difference(one) for one in comparison.differences])
    for note in comparison.notes:
        print_line(f"note: {note}")
    for caution in comparison.cautions:
        print_line(f"caution: {caution}")
    print_line(f"comparison: {stored.id}")


def _undecided(d: Difference) -> str:
    """Say why neither is called better."""
    from sizewise.report.words import BIAS
    from sizewise.stats import MIN_CLUSTERS

    if d.metric in BIAS:
        return "no verdict on bias"
    return "not decisive" if d.clusters >= MIN_CLUSTERS else f"too few documents ({d.clusters} of {MIN_CLUSTERS})"


def _difference(d: Difference) -> list[str]:
    """Give the cells of one difference."""
    from sizewise.report.words import measure_of, number

    between = f" [{number(d.ci_low)}, {number(d.ci_high)}]" if d.ci_low is not None and d.ci_high is not None else ""
    return [
        d.left,
        d.right,
        measure_of(d.metric).title,
        number(d.value) + between,
        number(d.detectable, 2) if d.detectable is not None else "-",
        f"{d.clusters} of {d.needed:,}" if d.needed is not None else str(d.clusters),
        number(d.p_holm, 2) if d.p_holm is not None else "-",
        ", ".join(f"{test} {number(p, 2)}" for test, p in d.other_p.items()) or "-",
        str(d.n),
        d.better or _undecided(d),
    ]
