"""`sizewise train`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sizewise.cli.options import Json, Seed
from sizewise.cli.output import print_line, print_object, print_stored, print_table, reporting
from sizewise.errors import UsageError

if TYPE_CHECKING:
    from sizewise.progress import Reporter
    from sizewise.records import Checkpoint, Recipe
    from sizewise.store import Saved, Store

UNITS = {"k": 1e3, "m": 1e6, "b": 1e9}


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def train(
        model: Annotated[str, typer.Argument(help="Model URI to start from, or scratch.")],
        data: Annotated[str, typer.Option(help="Dataset id, from `sizewise read`.")],
        method: Annotated[str | None, typer.Option(help="lora, dora, qlora or full; from scratch always full.")] = None,
        attention: Annotated[
            str, typer.Option(help="full, window:N, or pattern:SSSL[:N] (S: window, L: all).")
        ] = "full",
        tokens: Annotated[int | None, typer.Option(help="Token budget.", min=1)] = None,
        minutes: Annotated[float | None, typer.Option(help="Time to spend, turned into tokens once.")] = None,
        size: Annotated[str, typer.Option(help="Parameters of a network from scratch, for example 5M.")] = "5M",
        parameters: Annotated[int | None, typer.Option(help="The same as a number.")] = None,
        rank: Annotated[int, typer.Option(help="Rank of adapters.", min=1)] = 16,
        learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
        context: Annotated[int, typer.Option(help="Tokens in a training row.", min=16)] = 512,
        rows_per_step: Annotated[int, typer.Option(help="Rows in an optimiser step.", min=1)] = 2,
        example_share: Annotated[
            float, typer.Option(help="Share of examples: 0 is text only, 1 is answers only.", min=0, max=1)
        ] = 0.5,
        document_share: Annotated[float, typer.Option(help="Share of the documents to train on.")] = 1.0,
        teacher: Annotated[str | None, typer.Option(help="Model URI to learn from (distillation).")] = None,
        teacher_share: Annotated[float, typer.Option(help="How much of the loss or answers it gives.")] = 0.5,
        tokenizer: Annotated[str | None, typer.Option(help="Model URI whose tokenizer to take, from scratch.")] = None,
        control: Annotated[
            str, typer.Option(help="Text to measure forgetting with and replay, or none.")
        ] = "demo:python",
        control_share: Annotated[float, typer.Option(help="Share of rows that replay it.")] = 0.02,
        canaries: Annotated[int, typer.Option(help="Secrets to plant, to measure memorization.", min=0)] = 0,
        balance: Annotated[str, typer.Option(help="Rare groups in the text: none, reweight or augment.")] = "none",
        patience: Annotated[int, typer.Option(help="Stop after so many validations without gain; 0: never.")] = 3,
        checkpointing: Annotated[str, typer.Option(help="Recompute activations: auto, on or off.")] = "auto",
        device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
        usd_per_hour: Annotated[float | None, typer.Option(help="Price of the machine, for the estimate.")] = None,
        tune: Annotated[int, typer.Option(help="Search recipes first: so many trials.", min=0)] = 0,
        curve: Annotated[bool, typer.Option("--curve", help="Also with 25 and 50 % of the documents.")] = False,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would take.")] = False,
        tensorboard: Annotated[Path | None, typer.Option(help="Folder for TensorBoard event files.")] = None,
        mlflow: Annotated[str | None, typer.Option(help="MLflow tracking URI.")] = None,
        seed: Seed = 0,
        out: Annotated[Path | None, typer.Option(help="Copy the finished model to this folder.")] = None,
        json: Json = False,
    ) -> None:
        """Train a small model; a killed run goes on when the same command is run again.

        Example: sizewise train pkg:smollm2-135m --data data-1234567890 --minutes 4
        """
        from sizewise.store import Store

        number = parameters or _number(size)
        if tokens is None and minutes is None and model == "scratch":
            tokens = _tokens_for(number)
        if (tokens is None) == (minutes is None):
            raise UsageError("Training needs one of --tokens and --minutes.", "one of them", "--minutes 4")
        if minutes is not None and minutes <= 0:
            raise UsageError(f"--minutes {minutes} is no time.", "more than 0", "--minutes 4")
        recipe = _recipe(
            start=model,
            method=method or ("full" if model == "scratch" else "lora"),
            attention=attention,
            tokens=tokens,
            minutes=minutes,
            parameters=number,
            rank=rank,
            learning_rate=learning_rate,
            context=context,
            rows_per_step=rows_per_step,
            example_share=example_share,
            document_share=document_share,
            teacher=teacher,
            teacher_share=teacher_share,
            tokenizer=tokenizer,
            control=control,
            control_share=control_share,
            canaries=canaries,
            balance=balance,
            patience=patience,
            checkpointing=checkpointing,
            device=device,
            seed=seed,
        )
        if (tune or curve) and tokens is None:
            raise UsageError("--tune and --curve compare runs of equal size.", "--tokens", "--tokens 100000")
        store = Store()
        with reporting() as reporter:
            if dry_run:
                _estimate(recipe, data, store, reporter, usd_per_hour, json)
                return
            if tune:
                recipe = _tune(recipe, data, tune, store, reporter)
            if curve:
                _curve(recipe, data, store, reporter, json)
                return
            stored = _train(recipe, data, store, reporter, out, usd_per_hour, tensorboard, mlflow)
        if print_stored(stored, json):
            return
        _print(stored)


def _recipe(**values: Any) -> Recipe:
    from pydantic import ValidationError

    from sizewise.records import Recipe

    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"])) or "the recipe"
        given = f" (given: {first['input']})" if first["loc"] else ""
        raise UsageError(
            f"{name}: {first['msg'].removeprefix('Value error, ')}{given}.", "a fitting value", "sizewise train --help"
        ) from error


def _number(size: str) -> int:
    unit = UNITS.get(size[-1:].lower(), 1.0)
    try:
        return int(float(size.rstrip("kKmMbB")) * unit)
    except ValueError as error:
        raise UsageError(f"'{size}' is no size.", "a number such as 5M or 20000000", "--size 5M") from error


def _tokens_for(parameters: int) -> int:
    from sizewise.training.planning import TOKENS_PER_PARAMETER

    return TOKENS_PER_PARAMETER * parameters


def _train(
    recipe: Recipe,
    data: str,
    store: Store,
    reporter: Reporter,
    out: Path | None,
    usd_per_hour: float | None,
    tensorboard: Path | None,
    mlflow: str | None,
) -> Saved[Checkpoint]:
    from sizewise.cli.watching import MlflowWatcher, TensorBoardWatcher, together
    from sizewise.records import Dataset
    from sizewise.report import PageWatcher
    from sizewise.training import Watcher, run_id_of
    from sizewise.training import train as train_model

    store.get(Dataset, data)  # or its absence would be told after a page was promised
    run_id = run_id_of(recipe, data)
    page = PageWatcher(store.folder("checkpoint", run_id) / "training.html", recipe)
    watchers: list[Watcher] = [page]
    if tensorboard:
        watchers.append(TensorBoardWatcher(tensorboard / run_id))
    if mlflow:
        watchers.append(MlflowWatcher(mlflow, run_id))
    if not store.exists("checkpoint", run_id):
        reporter.say(f"watch it in a browser: {page.path}")
    stored = train_model(
        recipe, data, store=store, reporter=reporter, out=out, watcher=together(watchers), usd_per_hour=usd_per_hour
    )
    page.finish(stored.record)
    return stored


def _estimate(
    recipe: Recipe, data: str, store: Store, reporter: Reporter, usd_per_hour: float | None, as_json: bool
) -> None:
    from sizewise.training import Run, run_id_of
    from sizewise.training.planning import format_estimate

    with tempfile.TemporaryDirectory() as name:
        run = Run(recipe, data, store, Path(name), reporter, usd_per_hour=usd_per_hour)
        run.prepare()
        estimate = run.planned.estimate
    if estimate is None:
        raise UsageError(
            "This run is too short to be worth a probe.", "a larger budget", "sizewise train without --dry-run"
        )
    if not print_object("estimate", run_id_of(recipe, data), "", estimate, as_json):
        print_line(format_estimate(estimate))
        for note in run.planned.notes:
            print_line(f"note: {note}")


def _tune(recipe: Recipe, data: str, trials: int, store: Store, reporter: Reporter) -> Recipe:
    from sizewise.training import tune

    found = tune(recipe, data, trials, store=store, reporter=reporter).record
    for trial in found.trials:
        value = "stopped early" if trial.bits_per_byte is None else f"{trial.bits_per_byte:.4f} bits/byte"
        reporter.say(f"tried {', '.join(f'{k} {v:.3g}' for k, v in trial.settings.items())}: {value}")
    return found.recipe


def _curve(recipe: Recipe, data: str, store: Store, reporter: Reporter, as_json: bool) -> None:
    from sizewise.training import train_learning_curve

    stored = train_learning_curve(recipe, data, store=store, reporter=reporter)
    if print_stored(stored, as_json):
        return
    print_table(
        ["documents", "bits per byte", "tokens", "run"],
        [[f"{s.share:.0%}", f"{s.bits_per_byte:.4f}", f"{s.tokens:,}", s.run] for s in stored.record.steps],
    )
    print_line(stored.record.summary)


def _print(stored: Saved[Checkpoint]) -> None:
    from sizewise.training.attention_tradeoff import format_tradeoff

    record = stored.record
    print_line(
        f"validation {record.start_bits_per_byte:.4f} -> {record.best_bits_per_byte:.4f} bits/byte; "
        f"{record.tokens:,} tokens in {record.seconds:.0f} s at {record.tokens_per_s:,.0f} tokens/s"
    )
    if record.attention_tradeoff:
        print_line(f"attention {record.attention}: {format_tradeoff(record.attention_tradeoff)}")
    if record.forgetting:
        card = record.forgetting
        print_line(
            f"forgetting (bits/byte): control text {card.before:.4f} -> {card.after:.4f}; right answers to "
            f"{card.questions} general questions {card.answers_before or 0:.3f} -> {card.answers_after or 0:.3f}"
        )
    if record.memorization:
        for times, bits in record.memorization.exposure.items():
            print_line(
                f"memorization: secrets that stood {times} time(s) in the text have an exposure of {bits:.1f} bits, "
                f"{record.memorization.extracted[times]:.0%} are given away"
            )
    if record.estimate_error:
        errors = ", ".join(f"{what} {error:+.0%}" for what, error in record.estimate_error.items())
        print_line(f"measured against expected: {errors}")
    for note in record.notes:
        print_line(f"note: {note}")
    print_line(f"model: run:{stored.id}")
