"""`sizewise study`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from sizewise.cli.candidates import candidates_table
from sizewise.cli.help import Command
from sizewise.cli.options import COST, LIMITS, OUTPUT, TRAINING, Csv, Json, Wide
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
    from sizewise.records import DryRun, Range, Study
    from sizewise.store import Saved
    from sizewise.studies.config import StudyConfig

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
                min=0,
                rich_help_panel=TRAINING,
                help="Training time, divided among the candidates with a time budget.",
            ),
        ] = None,
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
        example: Annotated[
            bool, typer.Option("--example", rich_help_panel=OUTPUT, help="Print a study file to start from.")
        ] = False,
        json: Json = False,
        csv: Csv = False,
        wide: Wide = False,
    ) -> None:
        """Read documents, train small models, evaluate and compare all candidates, and choose one.

        An interrupted study continues when the same command is run again.

        Example: sizewise study my-documents/
        """
        from sizewise.studies import study as run_study
        from sizewise.studies.config import config_text

        if (log is None) != (pays is None):
            raise UsageError(
                "A savings estimate needs a request log and its cost.",
                "both --log FILE and --pays SUM/month",
                "sizewise study --log requests.csv --pays 4200/month",
            )
        if log is not None:
            documents = [source] if source else []
            budget = LOG_MINUTES if minutes is None else minutes
            _print_savings(_Log(log, str(pays), documents, loss, risk, budget, limit, usd_per_hour), json, csv)
            return
        from sizewise.studies import find_config

        config = _with_minutes(find_config(source), minutes)
        if example:
            text = config_text(config)
            if not print_object("study_file", config.name, None, {"text": text}, json):
                print_path(text.rstrip())
            return
        if dry_run:
            _dry_run(config, json, csv)
            return
        with reporting() as reporter:
            saved = run_study(config, reporter=reporter)
        if not print_saved(saved, json):
            _print(saved, csv, wide)


def _print(saved: Saved[Study], csv: bool, wide: bool) -> None:
    """Print the verdict, the table of candidates and the reasons."""
    from sizewise.records import Comparison, Recommendation
    from sizewise.store import Store

    record = saved.record
    store = Store()
    recommendation = store.read(Recommendation, record.recommendation)
    table = candidates_table(
        store.read(Comparison, record.comparison), recommendation.quality, recommendation.costs, wide=wide
    )
    if print_csv(*table, csv):
        return
    print_verdict(record.summary)
    print_table(*table)
    print_line("Values with 95 % intervals, on test items that share nothing with training.")
    print_points("Why", record.reasons)
    print_points("Why not", [f"{name}: {reason}" for name, reason in record.rejected.items()])
    print_points("Not measured", [f"{absent.what}: {absent.command}" for absent in record.not_measured])
    print_line(f"\noutcome: {record.outcome}")
    print_path(f"study: {saved.id}")
    print_path(f"report: {record.report}")


def _with_minutes(config: StudyConfig, minutes: float | None) -> StudyConfig:
    """Divide a training time among the candidates with a time budget, in the file's proportions.

    Raises:
        UsageError: no candidate has a time budget.
    """
    if minutes is None:
        return config
    total = sum(candidate.train.minutes or 0 for candidate in config.candidates if candidate.train)
    if not total or minutes <= 0:
        raise UsageError(
            f"--minutes {minutes:g} doesn't apply to this study.",
            "a time above 0, and a candidate with train = { minutes = ... }",
            "sizewise study --example",
        )
    candidates = tuple(
        candidate.model_copy(
            update={"train": candidate.train.model_copy(update={"minutes": candidate.train.minutes * minutes / total})}
        )
        if candidate.train and candidate.train.minutes
        else candidate
        for candidate in config.candidates
    )
    return config.model_copy(update={"candidates": candidates})


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
    print_points("Blocking", found.blockers)
    print_points("Weaknesses", found.warnings)


def _print_data(found: DryRun) -> None:
    from sizewise.metrics.display import plain_value, title_in_text

    print_line(f"Training set: {found.train_documents} documents, {found.train_bytes / 1e3:,.0f} kB.")
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


def _print_savings(log: _Log, as_json: bool, as_csv: bool) -> None:
    """Estimate and print what a small model would save."""
    from sizewise.records import Study
    from sizewise.report.words import value_text
    from sizewise.store import Store
    from sizewise.studies.savings import SavingsOptions, estimate_savings, read_pays

    pays_usd = read_pays(log.pays)
    with reporting() as reporter:
        found = estimate_savings(
            log.file,
            pays_usd,
            SavingsOptions(
                documents=log.documents,
                loss=log.loss,
                risk=log.risk,
                minutes=log.minutes,
                limit=log.limit,
                usd_per_hour=log.usd_per_hour,
            ),
            reporter=reporter,
        )
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
    if found.policy:
        print_path(f"next: sizewise serve SMALL LARGE --policy {found.policy}")
    print_path(f"study: {found.study}")
    print_path(f"report: {report}")
