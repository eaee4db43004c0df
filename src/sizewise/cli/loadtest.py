"""`sizewise loadtest`."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from sizewise.cli.options import Json, Seed
from sizewise.cli.output import print_line, print_stored, print_table, reporting
from sizewise.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def loadtest(
        url: Annotated[
            str,
            typer.Argument(
                help="Base URL of any endpoint of OpenAI's format; or an evaluation: its model is asked without one."
            ),
        ],
        concurrency: Annotated[str, typer.Option(help="Numbers of users at once, with commas.")] = "1,8,32",
        rate: Annotated[str | None, typer.Option(help="poisson:N: so many requests a second instead.")] = None,
        model: Annotated[str | None, typer.Option(help="Model to ask; by default the first.")] = None,
        requests: Annotated[int | None, typer.Option(help="Requests at each level.", min=1)] = None,
        max_tokens: Annotated[int, typer.Option(help="Longest answer.", min=1)] = 64,
        first_token: Annotated[float, typer.Option(help="Limit: seconds to the first token.", min=0)] = 1.0,
        token: Annotated[float, typer.Option(help="Limit: seconds a further token.", min=0)] = 0.1,
        seed: Seed = 0,
        json: Json = False,
    ) -> None:
        """Let many users ask an endpoint, and say how long they wait. A key is taken from SIZEWISE_API_KEY.

        Example: sizewise loadtest http://127.0.0.1:8000 --concurrency 1,8,32
        """
        from sizewise.loadtest import LoadOptions, load_test_model
        from sizewise.loadtest import load_test as load_endpoint
        from sizewise.loadtest.levels import Limits

        within = url.startswith("eval-")
        if within and (rate or model or requests):
            raise UsageError("An evaluation says what is asked of which model.", "--concurrency alone", "")
        try:
            counts = [int(part) for part in concurrency.split(",") if part.strip()]
            kind, _, number = (rate or "").partition(":")
            speed = float(number) if rate else None
            if rate and kind != "poisson":
                raise ValueError(rate)
        except ValueError as error:
            raise UsageError(f"'{error}' cannot be read.", "--concurrency 1,8,32 or --rate poisson:5", "") from error
        with reporting() as reporter:
            stored = (
                load_test_model(url, counts, limits=Limits(first_token, token), seed=seed, reporter=reporter)
                if within
                else load_endpoint(
                    url,
                    counts,
                    options=LoadOptions(
                        model=model,
                        rate=speed,
                        requests=requests,
                        max_tokens=max_tokens,
                        key=os.environ.get("SIZEWISE_API_KEY", ""),
                        seed=seed,
                    ),
                    limits=Limits(first_token, token),
                    reporter=reporter,
                )
            )
        if print_stored(stored, json):
            return
        found = stored.record

        def ms(level: object, name: str) -> str:
            score = level.scores[name]  # type: ignore[attr-defined]
            if score.value is None:
                return "-"
            return f"{1e3 * score.value:,.0f} [{1e3 * score.ci_low:,.0f}, {1e3 * score.ci_high:,.0f}]"

        print_table(
            [
                "concurrent_users",
                "first token, p50 (ms)",
                "p95",
                "token, p50 (ms)",
                "tokens/s",
                "answers/s",
                "in limits",
                "errors",
            ],
            [
                [
                    str(level.concurrent_users or f"{level.rate:g}/s"),
                    ms(level, "p50_ttft_s"),
                    ms(level, "p95_ttft_s"),
                    ms(level, "p50_tpot_s"),
                    f"{level.scores['tokens_per_s'].value:,.0f}",
                    f"{level.scores['requests_per_s'].value:,.2f}",
                    f"{level.scores['within_limits'].value:.0%} of {level.requests}",
                    ", ".join(f"{count} x {kind}" for kind, count in level.errors.items()) or "none",
                ]
                for level in found.levels
            ],
            f"{found.model} at {found.url} ({found.engine})",
        )
        if found.max_concurrent_users:
            print_line(
                f"{found.max_concurrent_users} users at once have 95 % of their answers within {found.ttft_slo_s:g} s "
                f"to the first token and {1e3 * found.tpot_slo_s:g} ms a token"
            )
        for note in found.notes:
            print_line(f"note: {note}")
        print_line(f"load: {stored.id}")
