"""`sizewise choose`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sizewise.cli.options import Json
from sizewise.cli.output import print_line, print_stored, print_table
from sizewise.errors import UsageError

if TYPE_CHECKING:
    from sizewise.records import Comparison, Needs, Range, Recommendation

PRICE_ONLY = ("openai:gpt-4o", "openai:gpt-4o-mini", "anthropic:claude-sonnet-4-5", "google:gemini-2.5-flash",
              "deepseek:deepseek-reasoner", "mistral:mistral-small-latest")  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def choose(
        comparison: Annotated[str, typer.Argument(help="Comparison id.")],
        needs: Annotated[Path | None, typer.Option(help="TOML file with the needs.")] = None,
        ask: Annotated[bool, typer.Option("--ask", help="Ask for the needs, one question after the other.")] = False,
        save: Annotated[Path | None, typer.Option(help="Write the needs that were asked for to this file.")] = None,
        json: Json = False,
    ) -> None:
        """Recommend a model for given needs, say why, and what each costs.

        Example: sizewise choose comparison-1234567890 --ask
        """
        from sizewise.choice import choose as choose_model
        from sizewise.choice import read_needs
        from sizewise.records import Comparison
        from sizewise.store import Store

        if save is not None and not ask:
            raise UsageError("There is nothing to save.", "--ask with --save FILE", "")
        record = Store().read(Comparison, comparison)
        wanted = read_needs(needs) if needs else None
        if ask:
            wanted = _asked(record, wanted, save)
        stored = choose_model(comparison, wanted)
        if print_stored(stored, json):
            return
        _print(stored.record, record)
        print_line(f"outcome: {stored.record.outcome}")
        print_line(f"recommendation: {stored.id}")


def _asked(comparison: Comparison, start: Needs | None, save: Path | None) -> Needs:
    """Ask for each need on stderr and read the answers from stdin; an empty line leaves it as it is."""
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


def _print(record: Recommendation, comparison: Comparison) -> None:
    print_line(record.summary)
    for heading, lines in (
        ("why", record.reasons),
        ("why not", [f"{name}: {reason}" for name, reason in record.rejected.items()]),
        ("what would change it", record.sensitivity),
    ):
        if lines:
            print_line(f"{heading}:")
            for line in lines:
                print_line(f"  - {line}")
    if record.probability_best:
        shares = sorted(record.probability_best.items(), key=lambda pair: -pair[1])
        print_line("best in resamples: " + ", ".join(f"{name} {share:.0%}" for name, share in shares))
    rows = [
        [
            line.name,
            _range(line.usd_per_1000),
            _range(line.usd_per_month),
            _range(line.kwh_per_1000),
            str(line.machines or "-"),
            "; ".join(line.notes),
        ]
        for line in record.costs
    ]
    rows += _price_only(comparison, record.needs.requests_per_month)
    print_table(["candidate", "USD for 1,000 answers", "USD a month", "kWh for 1,000", "machines", "how"], rows)


def _range(cost: Range | None) -> str:
    if cost is None:
        return "-"
    between = f" ({cost.lower:.3g} to {cost.upper:.3g})" if cost.lower != cost.upper else ""
    return f"{cost.expected:.3g}{between}"


def _price_only(comparison: Comparison, requests: int | None) -> list[list[str]]:
    """Give what large models would charge for the measured tokens; their quality was not measured."""
    from sizewise.models import price_of

    tokens = []
    for metric in ("prompt_tokens", "completion_tokens"):
        values = [score.value for score in comparison.scores.get(metric, {}).values() if score.value]
        tokens.append(sorted(values)[len(values) // 2] if values else None)
    asked, answered = tokens
    if asked is None or answered is None:
        return []
    known = {model.uri for model in comparison.models.values()}
    rows = []
    for uri in PRICE_ONLY:
        price = price_of(uri)
        if price is None or uri in known:
            continue
        usd = (asked * price.read + answered * price.written) / 1e3
        month = f"{usd * requests / 1000:.3g}" if requests else "-"
        rows.append([uri, f"{usd:.3g}", month, "-", "-", "price only, quality not measured"])
    return rows
