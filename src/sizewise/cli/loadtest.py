"""`sizewise loadtest`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from sizewise.cli.help import Command
from sizewise.cli.options import LIMITS, MEASUREMENT, MODEL, Csv, Device, Json, Precision, Seed, Wide
from sizewise.cli.output import (
    print_csv,
    print_notes,
    print_path,
    print_points,
    print_saved,
    print_table,
    print_verdict,
    reporting,
)
from sizewise.errors import UsageError

if TYPE_CHECKING:
    from sizewise.records import LoadLevel, LoadTest
    from sizewise.store import Saved

HEADINGS = ["users", "p50 TTFT (ms)", "p95 TTFT (ms)", "p95 latency (ms)", "requests/s"]
WIDE_HEADINGS = [*HEADINGS, "p50 TPOT (ms)", "output tokens/s", "within limits", "errors"]


def register(app: typer.Typer, panel: str) -> None:
    """Add the command."""

    @app.command(cls=Command, rich_help_panel=panel)
    def loadtest(
        url: Annotated[
            str,
            typer.Argument(
                metavar="URL",
                help="Base URL of an OpenAI-compatible endpoint, or an evaluation id (its model runs in this process).",
            ),
        ],
        concurrency: Annotated[
            str,
            typer.Option(metavar="N,N", rich_help_panel=MEASUREMENT, help="Numbers of concurrent users."),
        ] = "1,8,32",
        rate: Annotated[
            str | None,
            typer.Option(
                metavar="poisson:N", rich_help_panel=MEASUREMENT, help="Requests per second, instead of --concurrency."
            ),
        ] = None,
        requests: Annotated[
            int | None,
            typer.Option(metavar="N", min=1, rich_help_panel=MEASUREMENT, help="Requests per level; 72 verify a p95."),
        ] = None,
        seed: Seed = 0,
        model: Annotated[
            str | None,
            typer.Option(metavar="NAME", rich_help_panel=MODEL, help="Model to test; default: the first one served."),
        ] = None,
        max_tokens: Annotated[
            int, typer.Option(metavar="N", min=1, rich_help_panel=LIMITS, help="Maximum tokens per answer.")
        ] = 64,
        ttft_slo: Annotated[
            float,
            typer.Option(
                metavar="SECONDS", min=0, rich_help_panel=LIMITS, help="Limit on the time to first token (TTFT)."
            ),
        ] = 1.0,
        tpot_slo: Annotated[
            float,
            typer.Option(
                metavar="SECONDS", min=0, rich_help_panel=LIMITS, help="Limit on the time per output token (TPOT)."
            ),
        ] = 0.1,
        device: Device = "auto",
        precision: Precision = "auto",
        json: Json = False,
        csv: Csv = False,
        wide: Wide = False,
    ) -> None:
        """Measure latency and throughput of an endpoint under concurrent users.

        The environment variable SIZEWISE_API_KEY holds the key, if one is needed.

        Example: sizewise loadtest http://127.0.0.1:8000 --concurrency 1,8,32
        """
        from sizewise.loadtest import load_test as load_endpoint
        from sizewise.loadtest import load_test_model
        from sizewise.loadtest.endpoint import LoadOptions
        from sizewise.loadtest.levels import Limits

        in_process = url.startswith("eval-")
        if in_process and (rate or model):
            raise UsageError(
                "--rate and --model don't apply to an evaluation.",
                "--concurrency alone",
                f"sizewise loadtest {url} --concurrency 1,8",
            )
        counts, requests_per_s = _counts(concurrency), _rate(rate)
        with reporting() as reporter:
            saved = (
                load_test_model(
                    url, counts, limits=Limits(ttft_slo, tpot_slo), requests=requests, seed=seed, reporter=reporter
                )
                if in_process
                else load_endpoint(
                    url,
                    counts,
                    options=LoadOptions(
                        model=model,
                        rate=requests_per_s,
                        requests=requests,
                        max_tokens=max_tokens,
                        key=os.environ.get("SIZEWISE_API_KEY", ""),
                        seed=seed,
                    ),
                    limits=Limits(ttft_slo, tpot_slo),
                    reporter=reporter,
                )
            )
        if not print_saved(saved, json):
            _print(saved, csv, wide)


def _counts(text: str) -> list[int]:
    """Parse numbers of concurrent users."""
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise UsageError(
            f"--concurrency '{text}' isn't a list of numbers.", "whole numbers with commas", "--concurrency 1,8,32"
        ) from error


def _rate(text: str | None) -> float | None:
    """Parse a rate of requests per second."""
    if not text:
        return None
    kind, _, number = text.partition(":")
    try:
        if kind != "poisson":
            raise ValueError(text)
        return float(number)
    except ValueError as error:
        raise UsageError(f"--rate '{text}' isn't a rate.", "poisson:REQUESTS_PER_SECOND", "--rate poisson:5") from error


def _print(saved: Saved[LoadTest], csv: bool, wide: bool) -> None:
    """Print how many users the endpoint serves within the limits, and each level."""
    found = saved.record
    headings = WIDE_HEADINGS if wide or csv else HEADINGS
    rows = [_row(level)[: len(headings)] for level in found.levels]
    if print_csv(headings, rows, csv):
        return
    limits = f"TTFT {found.ttft_slo_s:g} s, TPOT {1e3 * found.tpot_slo_s:g} ms"
    if found.max_concurrent_users:
        print_verdict(
            f"Up to {found.max_concurrent_users} concurrent users get 95 % of answers within limits ({limits})."
        )
    elif any(level.concurrent_users for level in found.levels):
        print_verdict(f"No tested number of users gets 95 % of answers within limits ({limits}).")
    print_table(headings, rows, f"{found.model} at {found.url} ({found.engine})")
    errors = [
        f"{_load(level)}: {', '.join(f'{count} x {kind}' for kind, count in level.errors.items())}"
        for level in found.levels
        if level.errors
    ]
    print_points("Errors", errors)
    print_notes(found.notes)
    print_path(f"loadtest: {saved.id}")


def _row(level: LoadLevel) -> list[str]:
    return [
        _load(level),
        _milliseconds(level, "p50_ttft_s"),
        _milliseconds(level, "p95_ttft_s"),
        _milliseconds(level, "p95_latency_s"),
        _number(level, "requests_per_s", ",.2f"),
        _milliseconds(level, "p50_tpot_s"),
        _number(level, "tokens_per_s", ",.0f"),
        f"{_number(level, 'within_limits', '.0%')} of {level.requests}",
        ", ".join(f"{count} x {kind}" for kind, count in level.errors.items()) or "0",
    ]


def _load(level: LoadLevel) -> str:
    return str(level.concurrent_users or f"{level.rate:g}/s")


def _number(level: LoadLevel, name: str, form: str) -> str:
    score = level.scores.get(name)
    return "-" if score is None or score.value is None else format(score.value, form)


def _milliseconds(level: LoadLevel, name: str) -> str:
    score = level.scores.get(name)
    if score is None or score.value is None:
        return "-"
    if score.ci_low is None and score.ci_high is None:
        return f"{1e3 * score.value:,.0f}"
    ends = ("unbounded" if end is None else f"{1e3 * end:,.0f}" for end in (score.ci_low, score.ci_high))
    return f"{1e3 * score.value:,.0f} [{', '.join(ends)}]"
