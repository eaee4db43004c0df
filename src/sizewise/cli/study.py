"""`sizewise study`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sizewise.cli.options import Json
from sizewise.cli.output import print_line, print_object, print_stored, print_table, reporting
from sizewise.errors import UsageError

if TYPE_CHECKING:
    from sizewise.records import Range
    from sizewise.studies.config import StudyConfig


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def study(
        source: Annotated[
            Path | None, typer.Argument(help="A study file (TOML) or a folder of text; nothing: the demo.")
        ] = None,
        example: Annotated[bool, typer.Option("--example", help="Print a study file to start from.")] = False,
        dry_run: Annotated[
            bool, typer.Option("--dry-run", help="Only read the data, and say what the rest would take and show.")
        ] = False,
        log: Annotated[
            Path | None,
            typer.Option(help="Log of requests to a large model with its answers: what would a small one save?"),
        ] = None,
        pays: Annotated[str | None, typer.Option(help="What they cost, such as 4200/month (US dollars).")] = None,
        loss: Annotated[
            float, typer.Option(help="With --log: most that an answer may be worse, share of the range.")
        ] = 0.05,
        risk: Annotated[float, typer.Option(help="With --log: most share of answers worse by more.")] = 0.05,
        minutes: Annotated[float, typer.Option(help="With --log: minutes of training.", min=0)] = 3.2,
        limit: Annotated[int, typer.Option(help="With --log: most requests to measure on.", min=1)] = 240,
        usd_per_hour: Annotated[
            float | None, typer.Option(help="With --log: price of an hour of the own machine.", min=0)
        ] = None,
        json: Json = False,
    ) -> None:
        """Take documents to a decision: read, train, evaluate, compare, choose, report.

        Example: sizewise study my-documents/
        """
        from sizewise.records import Comparison
        from sizewise.report import table_rows
        from sizewise.report.words import measure_of, shown_metrics
        from sizewise.store import Store
        from sizewise.studies import study as run_study
        from sizewise.studies.config import config_text

        if (log is None) != (pays is None):
            raise UsageError(
                "A saving needs a log and what it costs.",
                "--log FILE and --pays SUM/month, both",
                "sizewise study --log requests.csv --pays 4200/month",
            )
        if log is not None:
            documents = [str(source)] if source else []
            _saving(log, str(pays), documents, loss, risk, minutes, limit, usd_per_hour, json)
            return
        config = _config(source)
        if example:
            print_line(config_text(config).rstrip())
            return
        if dry_run:
            _outlook(config, json)
            return
        with reporting() as reporter:
            stored = run_study(config, reporter=reporter)
        if print_stored(stored, json):
            return
        record = stored.record
        comparison = Store().read(Comparison, record.comparison)
        metrics = [metric for metric in shown_metrics(comparison) if metric not in ("perplexity", "parameters")]
        print_table(
            [
                "candidate",
                *(measure_of(m).title + (f" ({measure_of(m).unit})" * bool(measure_of(m).unit)) for m in metrics),
            ],
            [[row.name, *(row.cells[m].text for m in metrics)] for row in table_rows(comparison)],
            "value [95 % interval], on test items that are no copies of training text",
        )
        print_line(record.summary)
        for line in record.reasons:
            print_line(f"  why: {line}")
        for name, reason in record.rejected.items():
            print_line(f"  why not {name}: {reason}")
        for missing in record.not_measured:
            print_line(f"  not measured: {missing.what}: {missing.command}")
        print_line(f"outcome: {record.outcome}")
        print_line(f"report: {record.report}")


def _config(source: Path | None) -> StudyConfig:
    """Give the study that a path means."""
    from sizewise.studies import demo_config, folder_config, read_config

    if source is None:
        return demo_config()
    if source.is_dir():
        return folder_config(source)
    if source.exists():
        return read_config(source)
    raise UsageError(f"There is no {source}.", "a study file or a folder of text", "sizewise study --example")


def _outlook(config: StudyConfig, as_json: bool) -> None:
    """Print what a study will take and can show."""
    from sizewise.studies.dry_run import estimate_study

    with reporting() as reporter:
        found = estimate_study(config, reporter=reporter)
    if print_object("outlook", found.dataset, None, found, as_json):
        return
    print_line(
        f"to train on: {found.train_documents} documents, {found.train_bytes / 1e3:,.0f} kB; to test with: "
        f"{found.test_passages} passages and {found.test_examples} examples ({found.uncontaminated_examples} share nothing with "
        f"training) from {found.test_documents} documents"
    )
    if found.can_show:
        print_line(
            f"can show a difference of {found.can_show.lower:.0%} to {found.can_show.upper:.0%} in a share of right "
            "answers, in four of five studies"
        )
    print_table(
        ["candidate", "parameters", "memory", "fits", "training", "measuring", "money", "notes"],
        [
            [
                row.name,
                f"{row.parameters / 1e6:,.0f}M" if row.parameters else "-",
                f"{row.memory_bytes / 1e9:.1f} GB" if row.memory_bytes else "-",
                {None: "-", True: "yes", False: "NO"}[row.fits],
                f"{row.train_minutes:.1f} min" if row.train_minutes else "-",
                _between(row.measure_minutes, " min") if row.measure_minutes else "-",
                _between(row.usd, " USD", 2) if row.usd else "-",
                "; ".join(row.notes),
            ]
            for row in found.candidates
        ],
    )
    print_line(
        f"in all: {_between(found.minutes, ' minutes')}, {_between(found.usd, ' USD', 2)}, about "
        f"{found.disk_bytes / 1e9:.1f} GB on the disk"
    )
    for line in found.warnings:
        print_line(f"weak: {line}")
    for line in found.blockers:
        print_line(f"in the way: {line}")
    print_line("ready" if not found.blockers else "not ready")


def _between(found: Range, unit: str, digits: int = 1) -> str:
    """Say an estimate with its bounds."""
    if not found.upper:
        return f"0{unit}"
    return f"{found.expected:.{digits}f}{unit} ({found.lower:.{digits}f} to {found.upper:.{digits}f})"


def _saving(
    log: Path,
    pays: str,
    documents: list[str],
    loss: float,
    risk: float,
    minutes: float,
    limit: int,
    usd_per_hour: float | None,
    as_json: bool,
) -> None:
    """Print what a small model would save."""
    from sizewise.records import Study
    from sizewise.report.words import value_text
    from sizewise.store import Store
    from sizewise.studies.savings import SavingsOptions, estimate_savings, read_pays

    sum_ = read_pays(pays)
    with reporting() as reporter:
        found = estimate_savings(
            log,
            sum_,
            SavingsOptions(
                documents=documents, loss=loss, risk=risk, minutes=minutes, limit=limit, usd_per_hour=usd_per_hour
            ),
            reporter=reporter,
        )
    report = Store().read(Study, found.study).report
    if print_object("saving", found.study, report, found, as_json):
        return
    print_line(found.summary)
    print_table(
        ["way to answer", "well enough [95 %]", "n"],
        [[name, value_text(score), str(score.n)] for name, score in found.ways.items()],
    )
    print_table(
        ["kind of request", f"answered well enough by {found.small} [95 %]", "n"],
        [[kind, value_text(score), str(score.n)] for kind, score in found.kinds.items()],
    )
    print_line(
        f"mean loss of all answers: {value_text(found.mean_loss)} of the range of {found.metric}, n = {found.tested}"
    )
    print_line(
        f"the machine: {_between(found.machine_usd, ' USD a month', 0)}; today: {found.pays_usd:,.0f} USD a month"
    )
    if found.policy:
        print_line(f"serve it: sizewise serve SMALL LARGE --policy {found.policy}")
    print_line(f"study: {found.study}")
    print_line(f"report: {report}")
