"""One training run, from the starting model to its record."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sizewise import datasets
from sizewise.datasets import DatasetContents
from sizewise.errors import SizewiseError
from sizewise.lm import adapt, loop
from sizewise.lm import hf_format as folders
from sizewise.lm.checkpointing import remove_states
from sizewise.lm.device import (
    device_peak_bytes,
    free_device_bytes,
    is_out_of_memory,
    machine_precision,
    release_memory,
    reset_device_peak,
    to_precision,
)
from sizewise.lm.distributed import ALONE, Workers
from sizewise.lm.execution import execution_of
from sizewise.lm.other_vocabulary import OtherVocabulary
from sizewise.lm.template_dates import template_date
from sizewise.lm.validation import Held, bits_per_byte, validation_bits, validation_nats
from sizewise.models.opening import resolve_folder, revision_of
from sizewise.models.run_starts import full_uri
from sizewise.progress import Reporter, Silent
from sizewise.records import (
    Change,
    Checkpoint,
    CurvePoint,
    Forgetting,
    Memorization,
    Recipe,
    Representation,
)
from sizewise.store import Store, seal, versions, write_atomically
from sizewise.training import memorization, representation
from sizewise.training.adjusting import describe_change
from sizewise.training.attention_tradeoff import measure_attention_tradeoff
from sizewise.training.batches import Additions, Material, make_mix, training_part
from sizewise.training.card import model_card
from sizewise.training.distillation import prepare_teacher
from sizewise.training.forgetting import (
    VALIDATION_PIECES,
    choose_control,
    control_bits,
    general_answer_bits,
    report_forgetting,
)
from sizewise.training.held_out import (
    MIN_TOKENS,
    HeldOut,
    Measured,
    describe,
    hold_out,
    measured_of,
    save_items,
    score_validation,
    tokens_for,
    tokens_in,
)
from sizewise.training.planning import Planned, PlanSetting, check_size, make_plan, read_saved, validations_for
from sizewise.training.preflight import memory_peak_bytes, reset_memory_peak
from sizewise.training.processes import collect_weights
from sizewise.training.specialization import measure_specialization
from sizewise.training.starts import Start, open_start

ROOM_TO_MEASURE = 1.25  # memory for measuring a network, relative to its weights
BEFORE_VERSION = 5
"""Version of the measurements before training, which a resumed run reads back; 3 keeps the size of the validation."""
MAX_POINTS = 1_000  # of the curve in the record, validations not counted
Watcher = Callable[[loop.Progress], None]


class Run:
    """One training run, from the starting model to its record.

    Args:
        recipe: settings of the run.
        data: dataset id.
        store: where records live.
        folder: folder of the run.
        reporter: receives progress.
        watcher: called after each step.
        usd_per_hour: price of the machine.
        workers: processes that train together.
    """

    start: Start
    material: Material
    planned: Planned
    out: HeldOut
    result: loop.Result

    def __init__(
        self,
        recipe: Recipe,
        data: str,
        store: Store,
        folder: Path,
        reporter: Reporter,
        watcher: Watcher | None = None,
        usd_per_hour: float | None = None,
        workers: Workers = ALONE,
    ) -> None:
        self.workers = workers
        self.recipe, self.data, self.store, self.folder = recipe, data, store, folder
        self._reporter, self._watcher, self._usd_per_hour = reporter, watcher, usd_per_hour
        self.contents: DatasetContents = datasets.load(store, data)
        self._control, self._control_notes = choose_control(recipe, self.contents, store)
        self._canaries = memorization.plant(recipe.canaries, recipe.seed)
        self._in_4_bits: dict[str, Any] = {}  # measured after training in 4 bits
        self._sentences = representation.gendered_sentences(
            document.text for split in ("validation", "test") for document in self.contents.documents[split]
        )

    def prepare(self) -> None:
        """Open the starting model, encode the text, take the measurements before training, and plan the run.

        Raises:
            SizewiseError: one of these steps fails.
        """
        recipe, folder = self.recipe, self.folder
        if not any(len(part["validation"]) for part in (self.contents.documents, self.contents.examples)):
            raise SizewiseError(
                f"The validation split of {self.data} is empty, so training can't be monitored.",
                "at least one document or example in the validation split",
                'with split = "questions", some questions with "split": "validation"; otherwise more documents. Then '
                "sizewise read PATH...",
            )
        self.start = open_start(recipe, self.contents, self.store, self._reporter)
        reset_memory_peak()  # downloading and converting weights is not part of training
        documents, examples = training_part(self.contents, recipe)
        answered = examples if recipe.example_share or not len(documents) else ()
        tokenizer, size = self.start.tokenizer, execution_of(self.start.network).head.size
        self._teaching = prepare_teacher(
            recipe, tokenizer, self.start.device, size, answered, folder, self.store, self._reporter
        )
        additions = Additions(
            control=self._control.replayed if self._control else (),
            units=tuple(memorization.canary_units(self.start.tokenizer, self._canaries)),
            answers=self._teaching.answers,
        )
        self.material = make_mix(
            self.contents, self.start.tokenizer, recipe, self.store.encoded_folder(), additions, self._reporter
        )
        check_size(recipe, self.material, self.data)
        tokenizer, context = self.start.tokenizer, recipe.context
        control = self._control.measured[:VALIDATION_PIECES] if self._control else ()
        self._held_control = Held.of_texts(tokenizer, control, context) if control else None
        before = self._measure_before()
        self._before, validation_s = before["measured"], before["validation_s"]
        setting = PlanSetting(
            folder / "plan.json", validation_s, self._usd_per_hour, self._teaching.teacher, self.workers
        )
        self.planned = make_plan(recipe, self.start, self.material, setting, self._reporter)

    def fit(self) -> None:
        """Train the network.

        Raises:
            SizewiseError: training keeps diverging.
        """
        plan, network, device = self.planned.plan, self.start.network, self.start.device
        trained = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
        loop.prepare(network, plan.compiled, plan.checkpointing)
        reset_device_peak(device)
        try:
            self.result = loop.train_network(
                network,
                self.material.mix,
                plan,
                lambda: self._validate(self.workers),
                self.folder / "state",
                self._report,
                self._teaching.teacher,
                self.workers,
            )
        except FloatingPointError as error:
            raise SizewiseError(
                f"Training diverged: {error}.",
                "a finite loss",
                "train again with a lower --learning-rate",
            ) from error
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise SizewiseError(
                f"The {device} device ran out of memory at {self.recipe.rows_per_step} rows of {self.recipe.context} "
                "tokens per step.",
                "as much free memory as when the run was planned",
                "end other programs on the device and run the same command again; training resumes where it was",
            ) from error
        if self.workers.sharded:
            weights = collect_weights(self.start.network, trained, self.workers)
            self.start = self.start._replace(network=None)
            if self.workers.is_first:
                self.start = open_start(self.recipe, self.contents, self.store, Silent())
                adapt.set_weights(self.start.network, weights)
                self.start.network.eval()
        else:
            loop.finish(network)

    def finish(self, run_id: str) -> Checkpoint:
        """Take the measurements after training, write the model and its card, and return the record."""
        peak = device_peak_bytes(self.start.device) or memory_peak_bytes()
        trained = sum(p.numel() for p in self.start.network.parameters() if p.requires_grad)
        ways = execution_of(self.start.network).notes()
        network, model = self._merged_network(), self.folder / "model"
        result, recipe, tokenizer = self.result, self.recipe, self.start.tokenizer
        folders.save_model(network, tokenizer, model)
        to_precision(network, machine_precision(self.start.device))  # measured are the weights as they were saved
        forgetting, memorized, groups = self._measure_after(network)
        validation = score_validation(self.out, result.start, result.best)
        record = Checkpoint(
            start=recipe.start,
            recipe=recipe,
            data=self.data,
            parameters=folders.parameters_of(network),
            trained_parameters=trained,
            attention=folders.attention_words(network.config),
            tokens=result.tokens,
            steps=result.steps,
            epochs=result.tokens / self.material.mix.tokens_per_epoch(),
            best_step=result.best_step,
            best_bits_per_byte=result.best.domain,
            start_bits_per_byte=result.start.domain,
            curve=tuple(CurvePoint(**asdict(point)) for point in loop.thinned(result.points, MAX_POINTS)),
            seconds=result.seconds,
            warmup_s=result.warmup_s,
            tokens_per_s=result.tokens_per_s,
            compiled=self.planned.plan.compiled,
            sessions=result.sessions,
            peak_memory_bytes=peak,
            origin=self.start.origin,
            license=self.start.license,
            estimate=self.planned.estimate,
            estimate_error=self._estimate_error(peak),
            forgetting=forgetting,
            memorization=memorized,
            representation=groups,
            attention_tradeoff=measure_attention_tradeoff(network, tokenizer, self._held_out_texts(), recipe.context),
            notes=self._notes(ways),
            versions=versions("torch", "transformers", "peft", "tokenizers"),
            template_date=template_date(tokenizer),
            start_revision=revision_of(recipe.start),
            start_uri=full_uri(recipe.start),
            validation=validation,
            specialization=measure_specialization(validation, forgetting),
            changes=tuple(Change(**change._asdict()) for change in result.changes),
        )
        made = {"run": run_id, "data": self.data, "recipe": recipe.model_dump(mode="json")}
        extra = {
            "sizewise.json": json.dumps(made, indent=1, ensure_ascii=False) + "\n",
            "README.md": model_card(record, run_id, self.contents.record),
        }
        for name, text in extra.items():
            write_atomically(model / name, text)
            (model / name).chmod(0o644)
        seal(model)
        save_items(self.folder, self.measured)
        return record

    @property
    def measured(self) -> Measured:
        """What the kept weights scored on each held-out item."""
        return measured_of(self.out, self.result.best.items)

    def clean_up(self) -> None:
        """Remove the files that only a running job needs."""
        remove_states(self.folder / "state")

    def _validate(self, workers: Workers = ALONE) -> loop.Bits:
        network, control, held = self.start.network, self._held_control, self.out.held
        nats = validation_nats(network, held, workers)
        of_control = None if control is None else validation_bits(network, control, workers)
        return loop.Bits(bits_per_byte(nats, held), of_control, tuple(nats.tolist()))

    def _report(self, progress: loop.Progress) -> None:
        title, parts = f"Training {self.recipe.start}", [f"loss {progress.loss:.3f}"]
        if progress.bits_per_byte is not None:
            control = progress.points[-1].control_bits_per_byte
            forgetting = f", control text {control:.4f}" if control is not None else ""
            self._reporter.say(
                f"{title}: validation {progress.bits_per_byte:.4f} bits/byte after {progress.tokens:,} tokens"
                f"{forgetting}"
            )
        if progress.tokens_per_s:
            parts.append(f"{progress.tokens_per_s:,.0f} tokens/s")
        self._reporter.advance(title, progress.tokens, progress.budget, ", ".join(parts))
        if self._watcher:
            self._watcher(progress)

    def _measure_before(self) -> dict[str, Any]:
        """Sample held-out data, and measure the starting model and the time of a validation; a resumed run reads it."""
        path, network = self.folder / "before.json", self.start.network
        if path.is_file():
            saved: dict[str, Any] = read_saved(path)
            if saved.get("version") == BEFORE_VERSION:  # else the network, not yet trained, is measured again
                self.out = self._hold_out(saved["validation_tokens"])
                return saved
        network.eval()
        measured = self._measure(network)
        budget = self.recipe.tokens
        tokens = MIN_TOKENS if budget is None else tokens_for(budget, validations_for(budget))
        self.out = self._hold_out(tokens)
        loop.prepare(network, compiled=False)
        network.eval()
        begun = time.monotonic()
        self._validate()
        validation_s = time.monotonic() - begun
        loop.finish(network)
        if budget is None and (more := tokens_in(60 * (self.recipe.minutes or 0), validation_s, MIN_TOKENS)) > tokens:
            before = len(self.out.held.rows)
            self.out, tokens = self._hold_out(more), more
            validation_s *= len(self.out.held.rows) / before
        found = {"version": BEFORE_VERSION, "measured": measured, "validation_s": validation_s}
        found["validation_tokens"] = tokens
        write_atomically(path, json.dumps(found))
        return found

    def _hold_out(self, tokens: int) -> HeldOut:
        return hold_out(self.contents, self.start.tokenizer, self.recipe, tokens)

    def _measure(self, network: Any) -> dict[str, Any]:
        """Measure a network outside the domain, and its response to swapped groups of people."""
        tokenizer, context = self.start.tokenizer, self.recipe.context
        found: dict[str, Any] = {}
        if self._control is not None and self._control.measured:
            found["control"] = control_bits(network, tokenizer, self._control, context)
        if self._control is not None and self._control.questions:
            found["answers"] = general_answer_bits(network, tokenizer, self._control.questions, context)
        if self._sentences and self.recipe.balance != "none":
            found["swap_gap"] = representation.counterfactual_gap(network, tokenizer, self._sentences, context)
        return found

    def _measure_after(self, network: Any) -> tuple[Forgetting | None, Memorization | None, Representation | None]:
        recipe, tokenizer = self.recipe, self.start.tokenizer
        measured = [name for name, on in (("forgetting", self._control), ("memorization", self._canaries)) if on]
        if measured:
            self._reporter.say(f"Training {recipe.start}: measuring {' and '.join(measured)}")
        after = self._in_4_bits or self._measure(network)
        forgetting = memorized = None
        if self._control is not None:
            replay_share = recipe.control_share if self._control.replayed else 0.0
            forgetting = report_forgetting(self._control, self._before, after, replay_share)
        if self._canaries:
            memorized = memorization.measure_memorization(
                network,
                tokenizer,
                self._canaries,
                self.contents,
                recipe.seed,
                folders.weights_hash(self.folder / "model"),
            )
        documents, _ = training_part(self.contents, recipe)
        groups = representation.count_representation(documents, recipe.balance)
        if groups is not None and "swap_gap" in after:
            groups = groups.model_copy(
                update={
                    "counterfactual_gap_before": self._before["swap_gap"],
                    "counterfactual_gap_after": after["swap_gap"],
                    "sentences": len(self._sentences),
                }
            )
        return forgetting, memorized, groups

    def _held_out_texts(self) -> Iterator[str]:
        return (document.text for document in self.contents.documents["validation"])

    def _merged_network(self) -> Any:
        """Save the adapter if there is one, and return the network with it merged."""
        network = self.start.network
        if self.start.mode != "lora":
            return network
        adapt.save_adapters(network, self.folder / "adapter")
        if self.recipe.method != "qlora":
            return adapt.merge_lora(network)
        self._in_4_bits = self._measure(network)  # the merged weights would differ from the start by the rounding, too
        self.start = self.start._replace(network=None)  # the 4-bit weights make room for those in bf16
        del network
        release_memory(self.start.device)
        base, _, _ = resolve_folder(self.recipe.start, self.store)
        merged = adapt.merge_saved(base, self.folder / "adapter", self.recipe.attention, self.recipe.context)
        room = free_device_bytes(self.start.device)
        fits = room is not None and ROOM_TO_MEASURE * folders.held_bytes(merged) < room
        return merged.to(self.start.device) if fits else merged

    def _estimate_error(self, peak: int) -> dict[str, float]:
        expected = self.planned.estimate
        if expected is None or self.result.sessions > 1 or self.result.stopped_early or self.result.changes:
            return {}
        found = {"seconds": self.result.seconds / expected.seconds.expected - 1}
        if self.start.device == "cpu" or device_peak_bytes(self.start.device) is not None:
            found["memory"] = peak / expected.memory_bytes.expected - 1
        return found

    @property
    def _budget(self) -> int:
        """Token budget, as it was last changed."""
        changed = [int(change.value) for change in self.result.changes if change.setting in ("tokens", "time")]
        return changed[-1] if changed else self.planned.plan.tokens

    def _notes(self, ways: Sequence[str]) -> tuple[str, ...]:
        result, notes = (
            self.result,
            [
                *self._control_notes,
                *self.material.notes,
                *self._teaching.notes,
                f"validation used {describe(self.out)}",
                *self.out.notes,
                *self.planned.notes,
                *ways,
                *self.workers.notes(),
            ],
        )
        if isinstance(teacher := self._teaching.teacher, OtherVocabulary):
            others = "; of the others, only the text was learned" if teacher.taught < 1 else ""
            notes.append(f"the teacher taught {teacher.taught:.1%} of the tokens{others}")
        if self._in_4_bits:
            notes.append("what training changed outside the domain was measured in 4 bits, before and after")
        if result.rollbacks:
            steps = ", ".join(map(str, result.rollbacks))
            restored = "the best weights were restored and the learning rate was halved each time"
            notes.append(f"training diverged at step {steps}: {restored}")
        notes += [describe_change(change) for change in result.changes if change.setting != "stop"]
        if result.cooling:
            notes.append(result.cooling)
        if result.stopped:
            notes.append(
                f"stopped after {result.tokens:,} of {self._budget:,} tokens, because it was told to or its time "
                "was up; the learning rate hadn't come down to its end"
            )
        elif result.stopped_early and not result.cooling:
            notes.append(
                f"stopped early after {result.tokens:,} of {self._budget:,} tokens: validation did not "
                f"improve {self.recipe.patience} times in a row"
            )
        if result.best_step < result.steps:
            notes.append(
                f"the weights of step {result.best_step} of {result.steps} were kept, because they scored best in "
                "validation"
            )
        return tuple(notes)
