"""`sizewise train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sizewise.cli.options import Json, Seed
from sizewise.cli.output import print_line, print_stored, reporting
from sizewise.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def train(
        model: Annotated[str, typer.Argument(help="Model URI to start from, or scratch.")],
        data: Annotated[str, typer.Option(help="Dataset id, from `sizewise read`.")],
        method: Annotated[str | None, typer.Option(help="lora or full; from scratch always full.")] = None,
        attention: Annotated[str, typer.Option(help="full or window:N (from scratch).")] = "full",
        tokens: Annotated[int | None, typer.Option(help="Token budget.", min=1)] = None,
        minutes: Annotated[float | None, typer.Option(help="Time to spend, turned into tokens once.")] = None,
        parameters: Annotated[int, typer.Option(help="Size of a network from scratch.")] = 5_000_000,
        rank: Annotated[int, typer.Option(help="LoRA rank.", min=1)] = 16,
        learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
        context: Annotated[int, typer.Option(help="Tokens in a training row.", min=16)] = 512,
        seed: Seed = 0,
        out: Annotated[Path | None, typer.Option(help="Copy the finished model to this folder.")] = None,
        json: Json = False,
    ) -> None:
        """Train a small model; a killed run goes on when the same command is run again.

        Example: sizewise train pkg:smollm2-135m --data data-1234567890 --minutes 4
        """
        from sizewise.records import Recipe
        from sizewise.training import train as train_model

        if (tokens is None) == (minutes is None):
            raise UsageError("Training needs one of --tokens and --minutes.", "one of them", "--minutes 4")
        if minutes is not None and minutes <= 0:
            raise UsageError(f"--minutes {minutes} is no time.", "more than 0", "--minutes 4")
        chosen = method or ("full" if model == "scratch" else "lora")
        if chosen not in ("lora", "full") or (model == "scratch" and chosen != "full"):
            raise UsageError(
                f"'{chosen}' is no way to train {model}.",
                "full" if model == "scratch" else "lora or full",
                "sizewise train --help",
            )
        recipe = Recipe.model_validate(
            {
                "start": model,
                "method": chosen,
                "attention": attention,
                "tokens": tokens,
                "minutes": minutes,
                "parameters": parameters,
                "rank": rank,
                "learning_rate": learning_rate,
                "context": context,
                "seed": seed,
            }
        )
        with reporting() as reporter:
            stored = train_model(recipe, data, reporter=reporter, out=out)
        if print_stored(stored, json):
            return
        record = stored.record
        print_line(
            f"validation {record.start_bits_per_byte:.4f} -> {record.best_bits_per_byte:.4f} bits/byte; "
            f"{record.tokens:,} tokens in {record.seconds:.0f} s at {record.tokens_per_s:,.0f} tokens/s"
        )
        for note in record.notes:
            print_line(f"note: {note}")
        print_line(f"model: run:{stored.id}")
