"""`sizewise train`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from sizewise.cli.classifiers import METHODS, train_and_print
from sizewise.cli.help import Command
from sizewise.cli.launching import Fsdp, LaunchOption, launch_training
from sizewise.cli.options import (
    CLASSIFIERS,
    COST,
    DATA,
    LIMITS,
    MEASUREMENT,
    MODEL,
    OUTPUT,
    TRAINING,
    Csv,
    Json,
    Seed,
    refuse_others,
    refused_setting,
)
from sizewise.cli.output import (
    print_csv,
    print_line,
    print_notes,
    print_object,
    print_path,
    print_saved,
    print_table,
    reporting,
)
from sizewise.errors import UsageError
from sizewise.launch import is_first_process
from sizewise.lm.placement import use_device

if TYPE_CHECKING:
    from sizewise.progress import Reporter
    from sizewise.records import Checkpoint, Recipe
    from sizewise.store import Saved, Store

CLASSIFIER_OPTIONS = {
    *("model", "data", "method", "minutes", "seed", "shots", "calibration", "max_examples", "device", "json", "csv"),
}
ADAPTING = ("lora", "dora", "qlora", "full")
UNITS = {"k": 1e3, "m": 1e6, "b": 1e9}


class _Outputs(NamedTuple):
    """Where a training run is copied and logged to."""

    folder: Path | None
    tensorboard: Path | None
    mlflow: str | None
    usd_per_hour: float | None
    fsdp: bool


def register(app: typer.Typer, panel: str) -> None:
    """Add the command."""

    @app.command(cls=Command, rich_help_panel=panel)
    def train(
        command: typer.Context,
        model: Annotated[str, typer.Argument(metavar="MODEL", help="Model URI to start from, scratch, or tfidf.")],
        data: Annotated[
            str, typer.Option(metavar="ID", rich_help_panel=DATA, help="Dataset id, from `sizewise read`.")
        ],
        tokens: Annotated[
            int | None, typer.Option(metavar="N", min=1, rich_help_panel=LIMITS, help="Token budget.")
        ] = None,
        minutes: Annotated[
            float | None,
            typer.Option(metavar="N", rich_help_panel=LIMITS, help="Time budget; converted once to a token budget."),
        ] = None,
        patience: Annotated[
            int,
            typer.Option(
                metavar="N", rich_help_panel=LIMITS, help="Stop after N validations without improvement; 0: never."
            ),
        ] = 3,
        max_epochs: Annotated[
            float | None,
            typer.Option(
                metavar="N",
                rich_help_panel=LIMITS,
                show_default="8, or 16 from scratch",
                help="Passes over the data at most; learning facts takes 20 or more.",
            ),
        ] = None,
        dry_run: Annotated[
            bool, typer.Option("--dry-run", rich_help_panel=LIMITS, help="Only estimate time, memory and cost.")
        ] = False,
        example_share: Annotated[
            float,
            typer.Option(
                metavar="SHARE",
                min=0,
                max=1,
                rich_help_panel=DATA,
                help="Share of examples: 0 text only, 1 examples only.",
            ),
        ] = 0.5,
        passage_share: Annotated[
            float,
            typer.Option(
                metavar="SHARE",
                min=0,
                max=1,
                rich_help_panel=DATA,
                help="Share of the examples that are trained with passages before the question, as in rag:.",
            ),
        ] = 0.0,
        document_share: Annotated[
            float, typer.Option(metavar="SHARE", rich_help_panel=DATA, help="Share of the documents to train on.")
        ] = 1.0,
        control: Annotated[
            str,
            typer.Option(
                metavar="PATH", rich_help_panel=DATA, help="Text to measure forgetting on and to replay, or none."
            ),
        ] = "demo:python",
        control_share: Annotated[
            float, typer.Option(metavar="SHARE", rich_help_panel=DATA, help="Share of rows with control text.")
        ] = 0.02,
        balance: Annotated[
            str,
            typer.Option(
                metavar="METHOD", rich_help_panel=DATA, help="Underrepresented groups: none, reweight or augment."
            ),
        ] = "none",
        size: Annotated[
            str,
            typer.Option(metavar="SIZE", rich_help_panel=MODEL, help="Parameters of a network trained from scratch."),
        ] = "5M",
        parameters: Annotated[
            int | None, typer.Option(metavar="N", min=1, rich_help_panel=MODEL, help="The same as a number.")
        ] = None,
        tokenizer: Annotated[
            str | None,
            typer.Option(metavar="MODEL", rich_help_panel=MODEL, help="From scratch: model whose tokenizer is used."),
        ] = None,
        attention: Annotated[
            str,
            typer.Option(
                metavar="KIND", rich_help_panel=MODEL, help="full, window:N, or pattern:SSSL[:N] (S: window, L: full)."
            ),
        ] = "full",
        context: Annotated[
            int, typer.Option(metavar="N", min=16, rich_help_panel=MODEL, help="Tokens per training row.")
        ] = 512,
        method: Annotated[
            str | None,
            typer.Option(
                metavar="METHOD",
                rich_help_panel=TRAINING,
                help="lora, dora, qlora or full; classifiers: linear, embedding, contrastive, options, head.",
            ),
        ] = None,
        rank: Annotated[int, typer.Option(metavar="N", min=1, rich_help_panel=TRAINING, help="Rank of adapters.")] = 16,
        learning_rate: Annotated[
            float | None, typer.Option(metavar="RATE", rich_help_panel=TRAINING, help="Peak learning rate.")
        ] = None,
        rows_per_step: Annotated[
            int, typer.Option(metavar="N", min=1, rich_help_panel=TRAINING, help="Rows per optimizer step.")
        ] = 2,
        calibration: Annotated[
            str,
            typer.Option(
                metavar="METHOD",
                rich_help_panel=CLASSIFIERS,
                help="Calibration of probabilities: auto, none, temperature, platt or isotonic.",
            ),
        ] = "auto",
        shots: Annotated[
            int, typer.Option(metavar="N", min=0, rich_help_panel=CLASSIFIERS, help="Examples in the prompt (options).")
        ] = 0,
        max_examples: Annotated[
            int | None,
            typer.Option(metavar="N", min=1, rich_help_panel=CLASSIFIERS, help="Training examples of each label."),
        ] = None,
        teacher: Annotated[
            str | None,
            typer.Option(metavar="MODEL", rich_help_panel=TRAINING, help="Teacher model (distillation)."),
        ] = None,
        teacher_share: Annotated[
            float,
            typer.Option(
                metavar="SHARE", rich_help_panel=TRAINING, help="Share of the loss or answers from the teacher."
            ),
        ] = 0.5,
        tune: Annotated[
            int,
            typer.Option(metavar="N", min=0, rich_help_panel=TRAINING, help="Search recipes first, with N trials."),
        ] = 0,
        checkpointing: Annotated[
            str, typer.Option(metavar="MODE", rich_help_panel=TRAINING, help="Recompute activations: auto, on or off.")
        ] = "auto",
        device: Annotated[
            str, typer.Option(metavar="DEVICE", rich_help_panel=TRAINING, help="auto, cpu, cuda or mps.")
        ] = "auto",
        optimizer: Annotated[
            str,
            typer.Option(
                metavar="NAME", rich_help_panel=TRAINING, help="adamw, or adamw8bit for less memory (bitsandbytes)."
            ),
        ] = "adamw",
        launch: LaunchOption = None,
        fsdp: Fsdp = False,
        seed: Seed = 0,
        canaries: Annotated[
            int,
            typer.Option(
                metavar="N", min=0, rich_help_panel=MEASUREMENT, help="Secrets to plant, to measure memorization."
            ),
        ] = 0,
        curve: Annotated[
            bool,
            typer.Option(
                "--curve",
                rich_help_panel=MEASUREMENT,
                help="Learning curve: train on 25, 50 and 100 % of the documents.",
            ),
        ] = False,
        usd_per_hour: Annotated[
            float | None,
            typer.Option(metavar="USD", rich_help_panel=COST, help="Price of the machine, for the estimate."),
        ] = None,
        out: Annotated[
            Path | None,
            typer.Option(metavar="DIR", rich_help_panel=OUTPUT, help="Copy the finished model to this folder."),
        ] = None,
        tensorboard: Annotated[
            Path | None, typer.Option(metavar="DIR", rich_help_panel=OUTPUT, help="Folder for TensorBoard event files.")
        ] = None,
        mlflow: Annotated[
            str | None, typer.Option(metavar="URI", rich_help_panel=OUTPUT, help="MLflow tracking URI.")
        ] = None,
        json: Json = False,
        csv: Csv = False,
    ) -> None:
        """Train a small model. An interrupted run continues when the same command is run again.

        Example: sizewise train pkg:smollm2-135m --data data-1234567890 --minutes 4

        A classifier: sizewise train tfidf --method linear --data data-1234567890
        """
        from sizewise.store import Store

        if method in METHODS:
            refuse_others(command, CLASSIFIER_OPTIONS, f"--method {method}")
            settings = {"start": model, "method": method, "minutes": minutes, "seed": seed, "shots": shots}
            settings |= {"calibration": calibration, "max_examples": max_examples}
            with use_device(device):
                train_and_print(settings, data, json, csv)
            return
        if method not in (None, *ADAPTING):
            raise UsageError(
                f"--method '{method}' isn't a training method.",
                ", ".join((*ADAPTING, *METHODS)),
                "sizewise train --help",
            )
        number = parameters or _parse_size(size)
        if tokens is None and minutes is None and model == "scratch":
            tokens = _tokens_for(number)
        if (tokens is None) == (minutes is None):
            raise UsageError("Training needs either --tokens or --minutes.", "one of them", "--minutes 4")
        if minutes is not None and minutes <= 0:
            raise UsageError(f"--minutes {minutes:g} isn't a time budget.", "more than 0", "--minutes 4")
        if (tune or curve) and tokens is None:
            raise UsageError(
                "--tune and --curve compare runs of equal size, which needs a token budget.",
                "--tokens N",
                "--tokens 100000",
            )
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
            passage_share=passage_share,
            document_share=document_share,
            teacher=teacher,
            teacher_share=teacher_share,
            tokenizer=tokenizer,
            control=control,
            control_share=control_share,
            canaries=canaries,
            balance=balance,
            patience=patience,
            max_epochs=max_epochs,
            checkpointing=checkpointing,
            device=device,
            optimizer=optimizer,
            seed=seed,
        )
        store = Store()
        launch_training(command, recipe, data, store)
        with reporting() as reporter:
            if dry_run:
                _estimate(recipe, data, store, reporter, usd_per_hour, json)
                return
            if tune:
                recipe = _tune(recipe, data, tune, store, reporter)
            if curve:
                _curve(recipe, data, store, reporter, json, csv)
                return
            saved = _train(recipe, data, store, reporter, _Outputs(out, tensorboard, mlflow, usd_per_hour, fsdp))
        if is_first_process() and not print_saved(saved, json):
            _print(saved, csv)


def _recipe(**values: Any) -> Recipe:
    """Check the settings of a run.

    Raises:
        UsageError: a value isn't allowed.
    """
    from pydantic import ValidationError

    from sizewise.records import Recipe

    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise refused_setting(error, "sizewise train") from error


def _parse_size(size: str) -> int:
    """Parse a number of parameters such as 5M."""
    unit = UNITS.get(size[-1:].lower(), 1.0)
    try:
        return int(float(size.rstrip("kKmMbB")) * unit)
    except (ValueError, OverflowError) as error:  # an infinite size overflows
        raise UsageError(f"--size '{size}' isn't a size.", "a number such as 5M or 20000000", "--size 5M") from error


def _tokens_for(parameters: int) -> int:
    """Return the token budget of a network trained from scratch."""
    from sizewise.training.planning import TOKENS_PER_PARAMETER

    return TOKENS_PER_PARAMETER * parameters


def _train(recipe: Recipe, data: str, store: Store, reporter: Reporter, outputs: _Outputs) -> Saved[Checkpoint]:
    """Train with a live page, and with loggers if requested."""
    from sizewise.cli.trackers import MlflowWatcher, TensorBoardWatcher, combine
    from sizewise.records import Dataset
    from sizewise.report import PageWatcher
    from sizewise.training import Watcher, run_id_of
    from sizewise.training import train as train_model

    store.get(Dataset, data)  # a missing dataset is reported before a page is announced
    if not is_first_process():
        return train_model(recipe, data, store=store, fsdp=outputs.fsdp)
    run_id = run_id_of(recipe, data)
    page = PageWatcher(store.folder("checkpoint", run_id) / "training.html", recipe)
    watchers: list[Watcher] = [page]
    if not store.exists("checkpoint", run_id):
        reporter.say(f"Live training page: {page.path}")
        if outputs.tensorboard:
            watchers.append(TensorBoardWatcher(outputs.tensorboard / run_id))
        if outputs.mlflow:
            watchers.append(MlflowWatcher(outputs.mlflow, run_id))
    saved = train_model(
        recipe,
        data,
        store=store,
        reporter=reporter,
        out=outputs.folder,
        watcher=combine(watchers),
        usd_per_hour=outputs.usd_per_hour,
        fsdp=outputs.fsdp,
    )
    page.finish(saved.record)
    return saved


def _estimate(
    recipe: Recipe, data: str, store: Store, reporter: Reporter, usd_per_hour: float | None, as_json: bool
) -> None:
    """Print what a run would take.

    Raises:
        UsageError: the run is too short for an estimate.
    """
    from sizewise.training import Run, run_id_of
    from sizewise.training.planning import format_estimate

    with tempfile.TemporaryDirectory() as name:
        run = Run(recipe, data, store, Path(name), reporter, usd_per_hour=usd_per_hour)
        run.prepare()
        estimate = run.planned.estimate
    if estimate is None:
        raise UsageError("This run is too short to estimate.", "a larger budget", "sizewise train without --dry-run")
    if not print_object("estimate", run_id_of(recipe, data), None, estimate, as_json):
        print_line(format_estimate(estimate))
        print_notes(run.planned.notes)


def _tune(recipe: Recipe, data: str, trials: int, store: Store, reporter: Reporter) -> Recipe:
    """Search for a recipe and report each trial."""
    from sizewise.metrics.display import value_text
    from sizewise.training import tune

    found = tune(recipe, data, trials, store=store, reporter=reporter).record
    for trial in found.trials:
        value = "stopped early" if trial.bits_per_byte is None else f"{trial.bits_per_byte:.4f} bits/byte"
        value += f", change {value_text(trial.change)}" if trial.change else ""
        reporter.say(f"trial {', '.join(f'{k} {v:.3g}' for k, v in trial.settings.items())}: {value}")
    reporter.say(
        f"All trials were measured on {found.validation}; the best one was chosen by it, so its score is optimistic"
    )
    return found.recipe


def _curve(recipe: Recipe, data: str, store: Store, reporter: Reporter, as_json: bool, as_csv: bool) -> None:
    """Train on growing shares of the documents and print the learning curve."""
    from sizewise.metrics.display import value_text
    from sizewise.training import train_learning_curve

    saved = train_learning_curve(recipe, data, store=store, reporter=reporter)
    if print_saved(saved, as_json):
        return
    headings = ["documents", "bits per byte", "change", "tokens", "run"]
    rows = [
        [f"{s.share:.0%}", f"{s.bits_per_byte:.4f}", value_text(s.change) if s.change else "", f"{s.tokens:,}", s.run]
        for s in saved.record.steps
    ]
    if print_csv(headings, rows, as_csv):
        return
    print_line(saved.record.summary)
    print_table(headings, rows)
    print_line(saved.record.uncertainty)


def _print(saved: Saved[Checkpoint], csv: bool) -> None:
    """Print validation loss, speed, forgetting and memorization."""
    from sizewise.metrics.display import value_text
    from sizewise.training.attention_tradeoff import format_tradeoff

    record = saved.record
    headings = ["run", "bits per byte before", "after", "tokens", "seconds", "tokens/s"]
    row = [
        f"run:{saved.id}",
        f"{record.start_bits_per_byte:.4f}",
        f"{record.best_bits_per_byte:.4f}",
        f"{record.tokens:,}",
        f"{record.seconds:.0f}",
        f"{record.tokens_per_s:,.0f}",
    ]
    if print_csv(headings, [row], csv):
        return
    print_line(
        f"Validation: {record.start_bits_per_byte:.4f} -> {record.best_bits_per_byte:.4f} bits per byte, after "
        f"{record.tokens:,} tokens in {record.seconds:.0f} s ({record.tokens_per_s:,.0f} tokens/s)."
    )
    if record.validation:
        change = record.validation.change
        reason = f" (no interval: {change.ci_missing_reason})" if change.ci_missing_reason else ""
        print_line(
            f"Change on the same held-out {record.validation.kind}: {value_text(change)}{reason}; n = {change.n}."
        )
    if record.attention_tradeoff:
        print_line(f"Attention {record.attention}: {format_tradeoff(record.attention_tradeoff)}")
    if record.forgetting:
        measured = {
            "control text": (record.forgetting.before, record.forgetting.after),
            f"reference answers to {record.forgetting.questions} general questions": (
                record.forgetting.answers_before,
                record.forgetting.answers_after,
            ),
        }
        changes = (record.forgetting.change, record.forgetting.answers_change)
        parts = [
            f"{what} {a:.4f} -> {b:.4f}" + (f" (change {value_text(change)})" if change else "")
            for (what, (a, b)), change in zip(measured.items(), changes, strict=True)
            if a is not None and b is not None
        ]
        print_line(f"Forgetting (bits per byte): {'; '.join(parts)}.")
    if record.specialization:
        print_line(record.specialization.summary)
    if record.memorization:
        for times, exposure in record.memorization.exposure_scores.items():
            extracted = record.memorization.extracted_scores[times]
            print_line(
                f"Memorization: secrets planted {times} time(s) have an exposure of {value_text(exposure)} bits; "
                f"{value_text(extracted)} can be extracted (n = {extracted.n})."
            )
    if record.estimate_error:
        errors = ", ".join(f"{what} {error:+z.0%}" for what, error in record.estimate_error.items())
        print_line(f"Measured against estimated: {errors}")
    print_notes(record.notes)
    print_path(f"model: run:{saved.id}")
