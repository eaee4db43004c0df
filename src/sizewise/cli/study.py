"""`sizewise study`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from sizewise.cli.help import Command
from sizewise.cli.launching import LaunchMeasuring
from sizewise.cli.options import COST, LIMITS, MODEL, OUTPUT, Csv, Device, Json, Page, Wide
from sizewise.cli.output import (
    print_csv,
    print_line,
    print_object,
    print_path,
    print_points,
    print_saved,
    print_table,
    print_verdict,
    reporting,
)
from sizewise.errors import UsageError

if TYPE_CHECKING:
    from sizewise.records import DryRun, Range
    from sizewise.studies.config import StudyConfig
    from sizewise.studies.savings import SavingsOptions

SAVINGS = "Savings from a request log"
LOG_MINUTES = 3.2
"""Minutes of training for `--log` unless --minutes is given."""


class _Log(NamedTuple):
    """Settings of a savings estimate."""

    file: Path
    pays: str
    documents: list[str]
    loss: float
    risk: float
    minutes: float
    limit: int
    usd_per_hour: float | None
    needs: Path | None


def register(app: typer.Typer, panel: str) -> None:
    """Add the command."""

    @app.command(cls=Command, rich_help_panel=panel)
    def study(
        source: Annotated[
            str | None,
            typer.Argument(
                metavar="SOURCE", help="Study file (TOML), folder of text, or demo:NAME; default: demo:fhir."
            ),
        ] = None,
        dry_run: Annotated[
            bool,
            typer.Option(
                "--dry-run",
                rich_help_panel=LIMITS,
                help="Only read the data; estimate time, memory, cost and detectable differences.",
            ),
        ] = False,
        minutes: Annotated[
            float | None,
            typer.Option(
                metavar="MINUTES",
                rich_help_panel=LIMITS,
                help="Time for the whole study; default: 10 for the demo, 30 for a folder, else no limit.",
            ),
        ] = None,
        large: Annotated[
            bool,
            typer.Option(
                "--with-large",
                rich_help_panel=MODEL,
                help="Also ask the largest packaged model (1.5B, 1.1 GB), instead of its recorded answers in the demo.",
            ),
        ] = False,
        log: Annotated[
            Path | None,
            typer.Option(
                metavar="FILE",
                rich_help_panel=SAVINGS,
                help="Requests to a large model with its answers: estimate what a small model would save.",
            ),
        ] = None,
        pays: Annotated[
            str | None,
            typer.Option(
                metavar="SUM/month",
                rich_help_panel=SAVINGS,
                help="Cost of these requests today in US dollars: 4200/month.",
            ),
        ] = None,
        loss: Annotated[
            float,
            typer.Option(
                metavar="SHARE",
                rich_help_panel=SAVINGS,
                help="Maximum loss of one answer, as a share of the metric's range.",
            ),
        ] = 0.05,
        risk: Annotated[
            float,
            typer.Option(
                metavar="SHARE", rich_help_panel=SAVINGS, help="Maximum share of answers that lose more than that."
            ),
        ] = 0.05,
        limit: Annotated[
            int,
            typer.Option(
                metavar="N", min=1, rich_help_panel=SAVINGS, help="Maximum number of requests in the test set."
            ),
        ] = 240,
        usd_per_hour: Annotated[
            float | None,
            typer.Option(
                metavar="USD", min=0, rich_help_panel=COST, help="With --log: price of a self-hosted machine."
            ),
        ] = None,
        needs: Annotated[
            Path | None,
            typer.Option(
                metavar="FILE",
                rich_help_panel=SAVINGS,
                help="TOML file with the cost of review, hand-overs, labeling, training and wrong answers.",
            ),
        ] = None,
        example: Annotated[
            bool, typer.Option("--example", rich_help_panel=OUTPUT, help="Print a study file to start from.")
        ] = False,
        page: Page = "auto",
        device: Device = "auto",
        launch: LaunchMeasuring = None,
        json: Json = False,
        csv: Csv = False,
        wide: Wide = False,
    ) -> None:
        """Read documents, train small models, evaluate and compare all candidates, and choose one.

        An interrupted study continues when the same command is run again.

        Example: sizewise study my-documents/
        """
        from sizewise.studies.config import config_text

        if minutes is not None and not 0 < minutes < math.inf:
            raise UsageError(f"--minutes is {minutes:g}.", "a time above 0", "sizewise study SOURCE --minutes 10")
        if (log is None) != (pays is None):
            raise UsageError(
                "A savings estimate needs a request log and its cost.",
                "both --log FILE and --pays SUM/month",
                "sizewise study --log requests.csv --pays 4200/month",
            )
        if log is not None and large:
            raise UsageError(
                "--with-large doesn't apply to --log.",
                "the answers in the log, which are those of the large model",
                "sizewise study --log requests.csv --pays 4200/month",
            )
        if log is not None:
            documents = [source] if source else []
            budget = LOG_MINUTES if minutes is None else minutes
            asked = _Log(log, str(pays), documents, loss, risk, budget, limit, usd_per_hour, needs)
            (_dry_run_savings if dry_run else _print_savings)(asked, json, csv)
            return
        from sizewise.studies import demo_configs, find_config
        from sizewise.studies.config import with_large, without_recordings

        configs = (find_config(source),) if source or example or dry_run else demo_configs()
        configs = tuple(with_large(one) for one in configs) if large else configs
        config = configs[0]
        if example:
            text = config_text(config if source else without_recordings(config))
            if not print_object("study_file", config.name, None, {"text": text}, json):
                print_path(text.rstrip())
            return
        if dry_run:
            _dry_run(config if minutes is None else config.model_copy(update={"minutes": minutes}), json, csv)
            return
        from sizewise.cli.study_display import PAGES, watching

        with watching(PAGES[page]) as progress:
            from sizewise.studies.studying import study_all  # takes seconds, which the display shows

            done = study_all(configs, minutes=minutes, reporter=progress)
        if print_saved(done[-1], json):
            return
        from sizewise.cli.study_summary import print_study

        for number, saved in enumerate(done):
            if number:
                print_line("")
            print_study(saved, csv, wide)


def _dry_run(config: StudyConfig, as_json: bool, as_csv: bool) -> None:
    """Print the estimated cost of a study and the differences it can detect."""
    from sizewise.studies.dry_run import estimate_study

    with reporting() as reporter:
        found = estimate_study(config, reporter=reporter)
    if print_object("outlook", found.dataset, None, found, as_json):
        return
    table = (
        ["candidate", "parameters", "memory", "fits", "training", "evaluation", "cost", "notes"],
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
    if print_csv(*table, as_csv):
        return
    print_verdict("Ready to run." if not found.blockers else "Not ready to run.")
    _print_data(found)
    print_line("")
    print_table(*table)
    print_line(
        f"Total: {_between(found.minutes, ' minutes')}, {_between(found.usd, ' USD', 2)}, about "
        f"{found.disk_bytes / 1e9:.1f} GB of disk space."
    )
    if config.minutes is not None:
        print_line(
            f"The budget of {config.minutes:g} minutes ends the study earlier if necessary, with the verdict so far; "
            "--minutes sets another."
        )
    print_points("Blocking", found.blockers)
    print_points("Weaknesses", found.warnings)


def _print_data(found: DryRun) -> None:
    from sizewise.metrics.display import plain_value, title_in_text

    parts = [f"{found.train_documents} documents, {found.train_bytes / 1e3:,.0f} kB"] * bool(found.train_documents)
    parts += [f"{found.train_examples:,} examples"] * bool(found.train_examples)
    print_line(f"Training set: {' and '.join(parts) or 'empty'}.")
    print_line(
        f"Test set: {found.test_passages} passages and {found.test_examples} examples. "
        f"{found.uncontaminated_examples} examples share nothing with training and count; what counts comes from "
        f"{found.test_documents} documents."
    )
    if found.measured_difference is not None:
        size = plain_value(found.measured_metric, found.measured_unit, found.measured_difference)
        print_line(
            f"Detectable difference (80 % power): {size} in {title_in_text(found.measured_metric)}, from the variance "
            f"measured in {found.measured_in}."
        )
    elif found.can_show:
        print_line(
            f"Detectable difference (80 % power): {found.can_show.lower:.0%} to {found.can_show.upper:.0%} in a share "
            "of correct answers. Assumed: shares near one half; no evaluation of this data has measured the variance."
        )


def _between(found: Range, unit: str, digits: int = 1) -> str:
    """Format an estimate with its bounds."""
    if not found.upper:
        return f"0{unit}"
    return f"{found.expected:.{digits}f}{unit} ({found.lower:.{digits}f} to {found.upper:.{digits}f})"


def _savings_options(log: _Log) -> SavingsOptions:
    from sizewise.choice import read_needs
    from sizewise.records import Needs
    from sizewise.studies.savings import SavingsOptions

    return SavingsOptions(
        documents=log.documents,
        loss=log.loss,
        risk=log.risk,
        minutes=log.minutes,
        limit=log.limit,
        usd_per_hour=log.usd_per_hour,
        needs=read_needs(log.needs) if log.needs else Needs(),
    )


def _dry_run_savings(log: _Log, as_json: bool, as_csv: bool) -> None:
    """Print the estimated cost of a savings estimate, without training anything."""
    from sizewise.studies.savings import read_pays, savings_study

    read_pays(log.pays)
    with reporting() as reporter:
        config, requests = savings_study(log.file, _savings_options(log), reporter=reporter)
        reporter.say(f"{log.file} holds {requests} requests")
    _dry_run(config, as_json, as_csv)


def _print_savings(log: _Log, as_json: bool, as_csv: bool) -> None:
    """Estimate and print what a small model would save."""
    from sizewise.records import Study
    from sizewise.report.words import value_text
    from sizewise.store import Store
    from sizewise.studies.savings import estimate_savings, read_pays

    pays_usd = read_pays(log.pays)
    with reporting() as reporter:
        found = estimate_savings(log.file, pays_usd, _savings_options(log), reporter=reporter)
    report = Store().read(Study, found.study).report
    if print_object("saving", found.study, report, found, as_json):
        return
    ways = [[name, value_text(score), str(score.n)] for name, score in found.ways.items()]
    if print_csv(["answered by", "good enough [95 %]", "n"], ways, as_csv):
        return
    print_verdict(found.summary)
    print_table(["answered by", "good enough [95 %]", "n"], ways)
    print_line("")
    print_table(
        ["kind of request", f"good enough from {found.small} [95 %]", "n"],
        [[kind, value_text(score), str(score.n)] for kind, score in found.kinds.items()],
    )
    print_line(
        f"Mean loss over all answers: {value_text(found.mean_loss)} of the range of {found.metric}, n = {found.tested}."
    )
    print_line(
        f"Machine: {_between(found.machine_usd, ' USD per month', 0)}. Today: {found.pays_usd:,.0f} USD per month."
    )
    if len(found.terms) > 2:
        ends = {title: (term.lower, term.expected, term.upper) for title, term in found.terms.items()}
        print_line("")
        print_table(
            ["USD per month saved or spent", "lowest", "likely", "highest"],
            [[title, *(f"{end:,.0f}" for end in three)] for title, three in ends.items()],
        )
    for note in found.notes:
        print_line(f"{note}.")
    if found.policy:
        print_path(f"next: sizewise serve SMALL LARGE --policy {found.policy}")
    print_path(f"study: {found.study}")
    print_path(f"report: {report}")
