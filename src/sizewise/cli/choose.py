"""`sizewise choose`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sizewise.cli.candidates import candidates_table, range_text
from sizewise.cli.help import Command
from sizewise.cli.options import DATA, OUTPUT, Csv, Json, Wide
from sizewise.cli.output import (
    print_csv,
    print_line,
    print_path,
    print_points,
    print_saved,
    print_table,
    print_verdict,
)
from sizewise.cli.run_ids import newest_runs
from sizewise.errors import UsageError

if TYPE_CHECKING:
    from sizewise.records import Comparison, Needs, Recommendation
    from sizewise.store import Saved, Store


def register(app: typer.Typer, panel: str) -> None:
    """Add the command."""

    @app.command(cls=Command, rich_help_panel=panel)
    def choose(
        ids: Annotated[
            list[str],
            typer.Argument(
                metavar="ID...", help="Id of a study or a comparison, or the ids of two or more evaluations."
            ),
        ],
        needs: Annotated[
            Path | None,
            typer.Option(
                metavar="FILE", rich_help_panel=DATA, help="TOML file with the needs; default: those of the study."
            ),
        ] = None,
        ask: Annotated[
            bool, typer.Option("--ask", rich_help_panel=DATA, help="Answer one question per need in the terminal.")
        ] = False,
        save: Annotated[
            Path | None,
            typer.Option(metavar="FILE", rich_help_panel=OUTPUT, help="With --ask: write the needs to this file."),
        ] = None,
        json: Json = False,
        csv: Csv = False,
        wide: Wide = False,
    ) -> None:
        """Recommend a model for your needs, with reasons and costs.

        Example: sizewise choose study-1234567890 --ask
        """
        from sizewise.choice import choose as choose_model
        from sizewise.choice import read_needs
        from sizewise.records import Comparison
        from sizewise.store import Store

        if save is not None and not ask:
            raise UsageError(
                "--save writes the answers of --ask, which wasn't given.",
                "--ask with --save FILE",
                f"sizewise choose {' '.join(ids)} --ask --save {save}",
            )
        store = Store()
        comparison_id, wanted = _resolve(ids, store)
        record = store.read(Comparison, comparison_id)
        if needs is not None:
            wanted = read_needs(needs)
        if ask:
            wanted = _ask(record, wanted, save)
        saved = choose_model(comparison_id, wanted)
        if not print_saved(saved, json):
            _print(saved, record, csv, wide)


def _resolve(ids: list[str], store: Store) -> tuple[str, Needs | None]:
    """Resolve ids to a comparison, and to the requirements of the study if one was given.

    Raises:
        UsageError: the ids are neither one study, recommendation or comparison, nor evaluations.
        SizewiseError: a record doesn't exist.
    """
    from sizewise.comparison import compare
    from sizewise.records import Recommendation, Study

    ids = newest_runs(ids)
    kinds = [store.kind_of(record_id) for record_id in ids]
    if len(ids) == 1 and kinds[0] in ("comparison", "recommendation", "study"):
        if kinds[0] == "comparison":
            return ids[0], None
        chosen = store.read(Study, ids[0]).recommendation if kinds[0] == "study" else ids[0]
        recommendation = store.read(Recommendation, chosen)
        return recommendation.comparison, recommendation.needs
    if len(ids) > 1 and set(kinds) == {"evaluation"}:
        return compare(ids).id, None
    named = ", ".join(f"{record_id} ({kind})" for record_id, kind in zip(ids, kinds, strict=True))
    raise UsageError(
        f"Can't choose a model from {named}.",
        "one study or comparison, or two or more evaluations",
        "sizewise runs",
    )


def _ask(comparison: Comparison, start: Needs | None, save: Path | None) -> Needs:
    """Prompt for each need on stderr and read the answers from stdin; an empty line keeps the value in brackets."""
    from sizewise.choice.asking import QUESTIONS, answered, needs_text
    from sizewise.records import Needs
    from sizewise.store import write_atomically

    found = start or Needs()
    for question in QUESTIONS:
        while True:
            now = getattr(found, question.name)
            shown = f" [{now}]" if now not in (None, (), False, 0.0) else ""
            sys.stderr.write(f"{question.words(comparison)}{shown}: ")
            sys.stderr.flush()
            line = sys.stdin.readline()
            if not line.strip():
                break
            try:
                found = answered(found, question, line.strip(), comparison)
            except UsageError as error:
                sys.stderr.write(f"{error.what} {error.expected}\n")
                continue
            break
    sys.stderr.write("\n")
    if save is not None:
        write_atomically(save, needs_text(found))
    return found


def _print(saved: Saved[Recommendation], comparison: Comparison, csv: bool, wide: bool) -> None:
    """Print the verdict, the table of candidates, the reasons and, with --wide, all costs."""
    record = saved.record
    table = candidates_table(comparison, record.quality, record.costs, wide=wide)
    if print_csv(*table, csv):
        return
    print_verdict(record.summary)
    print_table(*table)
    print_points("Why", record.reasons)
    print_points("Why not", [f"{name}: {reason}" for name, reason in record.rejected.items()])
    print_points("What would change this", record.sensitivity)
    if record.probability_best:
        shares = sorted(record.probability_best.items(), key=lambda pair: -pair[1])
        print_line(f"\nProbability of being best: {', '.join(f'{name} {share:.0%}' for name, share in shares)}")
    _print_costs(record, comparison, wide)
    provisional = f" (provisional pick: {record.provisional})" if record.provisional else ""
    print_line(f"\noutcome: {record.outcome}{provisional}")
    print_path(f"recommendation: {saved.id}")


def _print_costs(record: Recommendation, comparison: Comparison, wide: bool) -> None:
    """Print list prices of large models; with --wide also the cost of each candidate in full."""
    prices = _list_prices(comparison, record.needs.requests_per_month)
    if not wide:
        if prices:
            print_line("")
            print_table(
                ["large model (list price)", "USD/1,000", "USD/month"],
                [row[:3] for row in prices],
            )
            print_line("Prices only, for the tokens measured here: quality isn't measured, and reasoning costs extra.")
        return
    rows = [
        [
            line.name,
            range_text(line.usd_per_1000),
            range_text(line.usd_per_month),
            range_text(line.kwh_per_1000),
            str(line.machines or "-"),
            "; ".join(line.notes),
        ]
        for line in record.costs
    ]
    print_line("")
    print_table(["candidate", "USD/1,000", "USD/month", "kWh/1,000", "machines", "notes"], rows + prices)


def _list_prices(comparison: Comparison, requests: int | None) -> list[list[str]]:
    """List what large models would charge for the measured tokens; their quality wasn't measured."""
    from sizewise.models.list_costs import list_costs

    rows = []
    for cost in list_costs(comparison):
        month = f"{cost.usd_per_1000 * requests / 1000:.3g}" if requests else "-"
        note = f"price only, quality not measured, without reasoning; price list of {cost.as_of or 'an unknown day'}"
        if cost.retires_on:
            note += f"; shut down on {cost.retires_on}"
        rows.append([f"{cost.model} ({cost.provider})", f"{cost.usd_per_1000:.3g}", month, "-", "-", note])
    return rows
