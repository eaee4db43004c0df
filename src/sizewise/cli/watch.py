"""`sizewise watch`."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sizewise.cli.help import Command
from sizewise.cli.options import DATA, LIMITS, MEASUREMENT, MODEL, OUTPUT, Csv, Device, Json, MaxUsd, Seed
from sizewise.cli.output import print_csv, print_line, print_path, print_saved, print_table, print_verdict, reporting
from sizewise.cli.run_ids import newest_of
from sizewise.errors import SizewiseError, UsageError

if TYPE_CHECKING:
    from sizewise.records import WatchPass
    from sizewise.store import Saved

MISSED = 3
SECONDS = {"m": 60, "h": 3_600, "d": 86_400}
VERDICTS = {
    "first": "Measured for the first time: this is the baseline.",
    "unchanged": "Unchanged",
    "changed": "Changed",
    "unfinished": "Unfinished",
}


def register(app: typer.Typer, panel: str) -> None:
    """Add the command."""

    @app.command(cls=Command, rich_help_panel=panel)
    def watch(
        model: Annotated[str, typer.Argument(metavar="MODEL", help="Model URI.")],
        data: Annotated[
            str, typer.Option(metavar="ID|FILE", rich_help_panel=DATA, help="Dataset id or JSONL file with test data.")
        ],
        limit: Annotated[
            int | None,
            typer.Option(metavar="N", rich_help_panel=DATA, help="Maximum number of examples, and of passages."),
        ] = None,
        metrics: Annotated[
            str | None,
            typer.Option(metavar="NAMES", rich_help_panel=MEASUREMENT, help="Comma-separated metrics."),
        ] = None,
        canaries: Annotated[
            int,
            typer.Option(
                metavar="N",
                min=0,
                rich_help_panel=MEASUREMENT,
                help="Items asked first; if none has changed, the pass ends. 0 measures all items each time.",
            ),
        ] = 20,
        against: Annotated[
            str | None,
            typer.Option(
                metavar="ID", rich_help_panel=MEASUREMENT, help="Baseline (old in conditions). Default: the first run."
            ),
        ] = None,
        require: Annotated[
            list[str] | None,
            typer.Option(
                metavar="EXPR", rich_help_panel=LIMITS, help='Condition: "bleu >= old - 0.5"; exit 3 if missed.'
            ),
        ] = None,
        strict: Annotated[
            bool, typer.Option("--strict", rich_help_panel=LIMITS, help="Count undecided conditions as missed.")
        ] = False,
        minutes: Annotated[
            float | None,
            typer.Option(metavar="M", rich_help_panel=LIMITS, help="Maximum duration; the next pass resumes it."),
        ] = None,
        max_usd: MaxUsd = None,
        every: Annotated[
            str | None,
            typer.Option(
                metavar="TIME",
                rich_help_panel=MEASUREMENT,
                help="Go on with a pass every 30m, 6h or 1d. Default: one pass, for cron.",
            ),
        ] = None,
        engine: Annotated[
            Literal["transformers", "openvino", "llamacpp", "auto"],
            typer.Option(metavar="ENGINE", rich_help_panel=MODEL, help="Engine of local models."),
        ] = "transformers",
        seed: Seed = 0,
        junit: Annotated[
            Path | None,
            typer.Option(metavar="FILE", rich_help_panel=OUTPUT, help="Write the conditions as JUnit XML."),
        ] = None,
        webhook: Annotated[
            str | None,
            typer.Option(
                metavar="URL",
                rich_help_panel=OUTPUT,
                help="Post the outcome as JSON, without prompts or answers; https, or http on this machine.",
            ),
        ] = None,
        device: Device = "auto",
        json: Json = False,
        csv: Csv = False,
    ) -> None:
        """Measure a model again, a few items first, and check that it still meets the conditions.

        Example: sizewise watch fake:echo --data t.jsonl --require "bleu >= old - 1"
        """
        from sizewise.evaluation import EvaluationOptions
        from sizewise.studies.watching import WatchOptions
        from sizewise.studies.webhooks import read_target

        pause = _seconds(every)
        if webhook is not None:
            read_target(webhook)
        names = tuple(name.strip() for name in (metrics or "").split(",") if name.strip())
        known = newest_of(against) if against is not None else None
        measured = EvaluationOptions(seed=seed, engine=engine, max_usd=max_usd)
        options = WatchOptions(names, limit, tuple(require or ()), known, canaries, minutes, measured)
        while True:
            begun = time.monotonic()
            code = _pass(model, data, options, (junit, webhook), (strict, json, csv))
            if pause is None:
                raise typer.Exit(code)
            time.sleep(max(0.0, pause - (time.monotonic() - begun)))


def _pass(
    model: str,
    data: str,
    options: object,
    files: tuple[Path | None, str | None],
    shown: tuple[bool, bool, bool],
) -> int:
    """Make one pass, write and send its outcome, and return the exit code."""
    from sizewise.comparison import Requirement, as_junit
    from sizewise.store import write_atomically
    from sizewise.studies.watching import WatchOptions, payload, watch
    from sizewise.studies.webhooks import send_webhook

    assert isinstance(options, WatchOptions)
    (junit, webhook), (strict, as_json, as_csv) = files, shown
    with reporting() as reporter:
        saved = watch(model, data, options, reporter=reporter)
    if junit is not None:
        found = [Requirement(gate.expression, gate.outcome, gate.details) for gate in saved.record.gates]
        newest = saved.record.evaluation or saved.record.reference
        write_atomically(junit, as_junit(found, newest, saved.record.baseline))
    if not print_saved(saved, as_json):
        _print(saved, as_csv)
    if webhook is not None:
        try:
            send_webhook(webhook, payload(saved))
        except SizewiseError as error:  # the outcome of the pass counts, whoever hears of it
            typer.echo(f"warning: {error.what}", err=True)
    failing = ("missed", "undecided") if strict else ("missed",)
    if any(gate.outcome in failing for gate in saved.record.gates):
        return MISSED
    return 1 if saved.record.outcome == "unfinished" else 0


def _print(saved: Saved[WatchPass], as_csv: bool) -> None:
    """Print the outcome, what changed, the conditions and the scores."""
    from sizewise.report.words import measure_of, value_text

    record = saved.record
    rows = [
        [measure_of(name).title, value_text(one) if one.value is not None else f"missing: {one.missing_reason}"]
        for name, one in record.scores.items()
    ]
    if print_csv(["score", "value [95 %]"], rows, as_csv):
        return
    verdict = VERDICTS[record.outcome]
    print_verdict(verdict if record.outcome == "first" else f"{verdict}: {record.reason}.")
    if record.model_changed:
        print_line(f"The model behind {record.model} changed.")
    if record.p_changed is not None:
        print_line(
            f"{record.moved} of {record.canaries} canary answers moved, {record.unstable} vary within today "
            f"(p = {record.p_changed:.2g} if the model is the same)."
        )
    for difference in record.different:
        print_line(f"  {difference}")
    for gate in record.gates:
        outcome = "MISSED" if gate.outcome == "missed" else gate.outcome
        print_line(f"{outcome}: {gate.expression} ({gate.details})")
    print_table(["score", "value [95 %]"], rows)
    if record.usd is not None:
        print_line(f"This pass cost {record.usd:.4f} USD.")
    print_path(f"watch: {saved.id}")


def _seconds(every: str | None) -> float | None:
    """Parse a time such as 30m, 6h or 1d.

    Raises:
        UsageError: it has another form.
    """
    if every is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([mhd])", every.strip())
    if found is None or not float(found[1]):
        raise UsageError(f"--every is '{every}'.", "a time such as 30m, 6h or 1d", "--every 1d")
    return float(found[1]) * SECONDS[found[2]]
