"""evaluate(): fetch what the metrics need from a model, keep every item, add up."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

from sizewise import datasets
from sizewise.datasets import DatasetContents
from sizewise.datasets.sampling import sample_documents, sample_examples
from sizewise.errors import SizewiseError, UsageError
from sizewise.evaluation import asking
from sizewise.evaluation.asking import Work, ask
from sizewise.evaluation.likelihoods import choice_rows, text_rows
from sizewise.evaluation.speed import size_scores, speed_scores
from sizewise.metrics import AnswerItem, CannotMeasure, Metric, find_metric, stats_array, total
from sizewise.models import Engine, Model, open_model
from sizewise.models.base import bypass_kept_answers, count_tokens
from sizewise.models.prompts import PROMPT_VERSION, Form, answer_limit, choose_shots, make_request, stop_texts
from sizewise.progress import Reporter, Silent
from sizewise.records import (
    Completion,
    Dataset,
    Evaluation,
    Example,
    ItemRow,
    Prompting,
    Request,
    Score,
)
from sizewise.store import Ledger, Saved, Store, versions

ALWAYS = ("bits_per_byte", "perplexity", "bleu", "chrf", "token_f1", "exact_match", "refusals", "answer_words")
# Metrics that are added where they make sense, with the first word of each group tried on the data.
WHERE_FITTING = (("accuracy", "macro_f1"), ("json_valid", "json_f1"))
OF_CHOICES = ("choice_accuracy", "choice_accuracy_by_byte", "choice_calibration")
PROMPT_EXAMPLES = 30
PROMPTED_BY = ("accuracy", "json_f1", "token_f1", "rouge_l", "chrf")
"""The first of these that is measured chooses the form of prompt."""


class AnswerOptions(NamedTuple):
    """How answers are asked for and scored, where that isn't left to the data."""

    max_tokens: int | None = None
    """Most tokens of an answer; by default so many that no reference answer is cut, in the model's own tokens."""
    count_failures_as_wrong: bool = False
    """Score requests that were refused for good as empty answers; else they are not scored."""
    new_run: bool = False
    """Measure once more and keep it beside the earlier ones; no answer that was kept is used."""

    def identity(self) -> list[object]:
        """Return what makes an evaluation another one; nothing where all is left to the data."""
        named = (self.max_tokens, self.count_failures_as_wrong)
        return [named] if named != (None, False) else []


def evaluate(
    model: str,
    data: str | Path,
    metrics: Sequence[str] = (),
    *,
    store: Store | None = None,
    limit: int | None = None,
    seed: int = 0,
    max_usd: float | None = None,
    engine: Engine = "transformers",
    options: AnswerOptions | None = None,
    reporter: Reporter | None = None,
) -> Saved[Evaluation]:
    """Measure a model on the test split of a dataset.

    Answers and likelihoods go to a ledger as they arrive; a run that was killed goes on from there. The same call again
    gives the record that is already there; where answers are missing because requests failed, it asks for these.

    Args:
        model: model URI.
        data: dataset id, or a JSONL file, all of which is then test data.
        metrics: names of metrics; if none, those that fit the data.
        store: where records live; by default SIZEWISE_HOME.
        limit: at most so many examples, and documents until so many passages.
        seed: seed of the sample, of the worked examples and of the resampling.
        max_usd: most that may be spent on a remote model; what was answered before it ends is kept.
        engine: what runs a model of this machine; `transformers` is the reference.
        options: limit of an answer, how failures count, and whether it is measured once more.
        reporter: told how far it is.

    Raises:
        UsageError: a metric is unknown, or a limit is not positive.
        SizewiseError: data or model cannot be opened, or the model answers nothing.
    """
    store, reporter = store or Store(), reporter or Silent()
    for name in metrics:
        if find_metric(name).needs == "suite":
            raise UsageError(f"{name} is measured by a suite.", "--suite NAME", "sizewise evaluate MODEL --suite bias")
    if limit is not None and limit <= 0:
        raise UsageError(f"A limit of {limit} measures nothing.", "a positive number", "")
    options = options or AnswerOptions()
    if options.max_tokens is not None and options.max_tokens <= 0:
        raise UsageError(f"An answer of {options.max_tokens} tokens is none.", "a positive number", "--max-tokens 512")
    data_id = dataset_id(data, store, seed)
    contents = datasets.load(store, data_id)
    names = tuple(dict.fromkeys(metrics)) or default_metrics(contents)
    opened = open_model(model, store=store, engine=engine, max_usd=max_usd, say=reporter.say)
    try:
        description = opened.describe()
        evaluation_id = asking.evaluation_id(
            description, data_id, names, limit, seed, PROMPT_VERSION, *options.identity()
        )
        if options.new_run:
            evaluation_id = asking.next_run(store, evaluation_id)
            bypass_kept_answers(opened)
        if (found := asking.existing(store, evaluation_id)) is not None:
            if description.api:
                reporter.say(asking.age_of(found))
            return found
        with (
            store.lock("evaluation", evaluation_id),
            store.ledger("evaluation", evaluation_id) as ledger,
        ):
            run = _Measuring(opened, contents, names, ledger, limit, seed, options, reporter)
            record, rows = run.run(data_id)
            return asking.write(store, evaluation_id, record, rows, run.unanswered)
    finally:
        opened.close()


def default_metrics(contents: DatasetContents) -> tuple[str, ...]:
    """Give the metrics that fit a dataset: labels, JSON and choices have their own beside the common ones."""
    examples = contents.examples["test"]
    references = [example.references for example in examples]
    found = list(ALWAYS)
    for group in WHERE_FITTING if examples else ():
        try:
            find_metric(group[0]).prepared(references)
        except CannotMeasure:
            continue
        found += group
    if any(example.choices for example in examples):
        found += OF_CHOICES
    return tuple(found)


def dataset_id(data: str | Path, store: Store, seed: int) -> str:
    """Give the id of a dataset, reading a file first if one is named."""
    if Path(data).expanduser().exists():
        return datasets.read([data], store=store, seed=seed, all_test=True).id
    store.read(Dataset, str(data))
    return str(data)


class _Measuring:
    """One measurement under way."""

    def __init__(
        self,
        model: Model,
        contents: DatasetContents,
        names: Sequence[str],
        ledger: Ledger,
        limit: int | None,
        seed: int,
        options: AnswerOptions,
        reporter: Reporter,
    ) -> None:
        self.model, self.description, self.contents = model, model.describe(), contents
        self.names = tuple(names)
        self.cannot: dict[str, str] = {}
        metrics = [self._prepared(name) for name in names]
        self.answer_metrics, self.text_metrics, self.choice_metrics = (
            [metric for metric in metrics if metric.needs == needs] for needs in ("answers", "likelihood", "choices")
        )
        self.ledger, self.limit, self.seed, self.reporter = ledger, limit, seed, reporter
        self.options = options
        self.notes: list[str] = []
        self.unanswered: list[str] = []
        self.answers: list[Completion] = []
        self.stop = stop_texts(contents.examples["train"] or contents.examples["test"])
        self.shots = choose_shots(contents, seed)

    @cached_property
    def max_tokens(self) -> int:
        """Most tokens of an answer."""
        known = [example for split in self.contents.examples.values() for example in split]
        return self.options.max_tokens or answer_limit(known, partial(count_tokens, self.model))

    def _prepared(self, name: str) -> Metric:
        """Give a metric that knows the right answers of the whole test split; note the reason if it cannot be."""
        metric = find_metric(name)
        examples = self.contents.examples["test"]
        if metric.needs == "answers" and examples:
            try:
                return metric.prepared([example.references for example in examples])
            except CannotMeasure as reason:
                self.cannot[name] = str(reason)
        return metric

    def run(self, data_id: str) -> tuple[Evaluation, list[ItemRow]]:
        begun = time.monotonic()
        if not self.contents.documents["train"] and not self.contents.examples["train"]:
            self.notes += [f"data: {note}" for note in self.contents.record.notes]  # a test file: its only report
        if self.description.trained_on not in (None, data_id):
            self.notes.append(
                f"trained on {self.description.trained_on}: what this data shares with that text was not looked at"
            )
        scores: dict[str, Score] = {}
        rows: list[ItemRow] = []
        prompting = None
        if self.text_metrics:
            found, reason = self._text_rows()
            rows += found
            scores |= self._totals(self.text_metrics, found, self._likelihood_signature(), reason)
        if self.answer_metrics:
            examples = sample_examples(self.contents.examples["test"], self.limit, self.seed)
            self._refuse_images(examples)
            prompting = self._choose_prompting() if examples else None
            found = self._answer_rows(examples, prompting.form, data_id, alone=not rows) if prompting else []
            rows += found
            signature = f"prompt:{prompting.form}|shots:{prompting.shots}" if prompting else ""
            reason = "" if examples else "the dataset has no test examples"
            scores |= self._totals(self.answer_metrics, found, signature, reason)
            scores |= self._speed(examples, prompting.form if prompting else "chat")
        if self.choice_metrics:
            found, reason = self._choice_rows()
            rows += found
            signature = f"plain question|shots:0|{self._likelihood_signature()}".rstrip("|")
            scores |= self._totals(self.choice_metrics, found, signature, reason)
        scores |= size_scores(self.description)
        record = Evaluation(
            model=self.description,
            data=data_id,
            seed=self.seed,
            limit=self.limit,
            metrics=self.names,
            scores=scores,
            prompting=prompting,
            items=len(rows),
            failed=sum(1 for row in rows if row.error),
            seconds=time.monotonic() - begun,
            notes=tuple(self.notes),
            versions=versions("torch", "transformers", "openvino-genai", "sacrebleu", "numpy"),
        )
        return record, rows

    def _refuse_images(self, examples: Sequence[Example]) -> None:
        seen = [example for example in examples if any(message.images for message in example.messages)]
        if seen and not self.description.can_see:
            raise SizewiseError(
                f"{self.description.uri} takes text only, and {len(seen)} of {len(examples)} examples show images.",
                "a model that sees (openai:gpt-4o, anthropic:..., google:...), or examples without images",
                "sizewise models",
            )

    def _clean(self, item: str) -> bool:
        entry = self.contents.contamination_entries.get(item)
        return entry is None or entry.uncontaminated

    def _totals(
        self, metrics: Sequence[Metric], rows: Sequence[ItemRow], signature: str, reason: str
    ) -> dict[str, Score]:
        """Add up each metric over clean items, and over all (`@all`)."""
        found: dict[str, Score] = {}
        uncontaminated = [row for row in rows if row.uncontaminated]
        for metric in metrics:
            for name, part, which in (
                (metric.name, uncontaminated, "uncontaminated"),
                (f"{metric.name}@all", rows, "all"),
            ):
                full = f"{signature}|items:{which}".lstrip("|")
                why = reason or self.cannot.get(metric.name)
                if why:
                    found[name] = Score(metric=name, n=0, unit=metric.unit, signature=full, missing_reason=why)
                else:
                    found[name] = total(metric, part, name=name, signature=full, seed=self.seed)
        return found

    # -- likelihood -------------------------------------------------------------------------------------

    def _likelihood_signature(self) -> str:
        return self.model.signature() if self.description.can_score else ""

    def _marked(self, rows: Sequence[ItemRow]) -> list[ItemRow]:
        return [row.model_copy(update={"uncontaminated": self._clean(row.item)}) for row in rows]

    def _text_rows(self) -> tuple[list[ItemRow], str]:
        """Measure the likelihood of held-out passages; the reason if that is not possible."""
        if not self.description.can_score:
            return [], f"{self.description.uri} gives no log-likelihoods of text"
        documents, each = sample_documents(self.contents.documents["test"], self.limit, self.seed)
        if not documents:
            return [], "the dataset has no test documents"
        if each is not None:
            self.notes.append(f"text: the first {each} passages of {len(documents)} test documents")
        return self._marked(text_rows(self.model, documents, self.text_metrics, self.ledger, self.reporter)), ""

    def _choice_rows(self) -> tuple[list[ItemRow], str]:
        """Measure which choices are found most likely; the reason if that is not possible."""
        examples = [example for example in self.contents.examples["test"] if example.choices]
        if not examples:
            return [], "no test example has choices"
        if not self.description.can_score:
            return [], f"{self.description.uri} gives no log-likelihoods of text"
        examples = sample_examples(examples, self.limit, self.seed)
        return self._marked(choice_rows(self.model, examples, self.choice_metrics, self.ledger, self.reporter)), ""

    # -- answers ------------------------------------------------------------------------------------

    def _ask(self, topic: str, what: str, requests: Sequence[Request]) -> dict[str, Completion]:
        """Answer requests; those that failed in passing make the evaluation incomplete."""
        answers = ask(self.model, requests, Work(topic, what), self.ledger, self.reporter)
        missing = asking.unanswered(answers.values())
        self.unanswered += [f"{topic} {name}" for name in missing]
        if missing and not topic.startswith("test"):
            self.notes.append(f"Incomplete: {len(missing)} requests failed while {what}. Run the same command again.")
        return answers

    def _requests(self, examples: Sequence[Example], form: Form) -> list[Request]:
        return [make_request(example, form, self.shots, self.max_tokens, self.stop) for example in examples]

    def _choose_prompting(self) -> Prompting:
        """Try each form on validation examples and keep the better one."""
        forms: list[Form] = ["chat"] if self.description.can_chat else []
        if self.shots and self.description.engine != "rule":
            forms.append("few_shot")
        forms = forms or ["few_shot"]
        by_name = {metric.name: metric for metric in self.answer_metrics}
        # On so few short answers BLEU mostly counts what is not there, and chrF is kind to long ones: of a right answer
        # in many words it sees the right answer. The F1 of words weighs what is missing and what is too much alike.
        metric = next((by_name[name] for name in PROMPTED_BY if name in by_name), self.answer_metrics[0])
        examples = sample_examples(self.contents.examples["validation"], PROMPT_EXAMPLES, self.seed)
        tried: dict[str, float] = {}
        if len(forms) > 1 and examples:
            for form in forms:
                answers = self._ask(f"validation:{form}", f"trying the {form} prompt", self._requests(examples, form))
                rows = [self._answer_row(example, answers[example.id]) for example in examples]
                good = [row for row in rows if metric.name in row.stats]
                if good:
                    tried[form] = float(metric.value(stats_array(metric, good).sum(axis=0)))
        sign = 1 if metric.better == "higher" else -1
        known = [form for form in forms if form in tried]  # a form to which nothing was answered is no 0
        best = max(known, key=lambda form: sign * tried[form]) if known else forms[0]
        return Prompting(
            form=best,
            shots=len(self.shots) if best == "few_shot" else 0,
            tried=tried,
            metric=metric.name,
            n=len(examples) if tried else 0,
            max_tokens=self.max_tokens,
        )

    def _answer_rows(self, examples: Sequence[Example], form: Form, data_id: str, *, alone: bool) -> list[ItemRow]:
        """Answer test examples; where nothing else was measured (`alone`) at least one must be answered."""
        answers = self._ask(f"test:{form}", "answering test examples", self._requests(examples, form))
        if alone or asking.unanswered(answers.values()):
            uri = self.description.uri
            asking.refuse_no_answer(uri, answers, f"sizewise evaluate {uri} --data {data_id}")
        as_wrong = self.options.count_failures_as_wrong
        self.notes += asking.failure_notes(answers.values(), as_wrong=as_wrong)
        hint = "Raise --max-tokens or unset it."
        self.notes += asking.answer_notes(answers.values(), self.max_tokens, self.description, hint)
        self.answers = [answer for answer in answers.values() if answer.finish != "error"]
        return [self._answer_row(example, answers[example.id]) for example in examples]

    def _answer_row(self, example: Example, answer: Completion) -> ItemRow:
        asked = "\n".join(message.content for message in example.messages)
        item = AnswerItem(answer.text, example.references, asked, example.answer_schema)
        stats, error = {}, answer.error
        # A request that failed says nothing of the answer that the model would have given.
        wrong = self.options.count_failures_as_wrong and not answer.transient
        scored = self.answer_metrics if answer.finish != "error" or wrong else []
        for metric in scored:
            if metric.name in self.cannot:
                continue
            try:
                stats[metric.name] = metric.measure(item)
            except Exception as failure:  # metrics may be a plug-in's: one item must not cost all others
                error = f"metric {metric.name} failed: {type(failure).__name__}: {failure}"
        return ItemRow(
            item=example.id,
            kind="example",
            cluster=example.source,
            uncontaminated=self._clean(example.id),
            prompt=example.prompt,
            references=example.references,
            completion=answer.text if answer.finish != "error" else None,
            finish=answer.finish,
            error=error,
            stats=stats,
        )

    def _speed(self, examples: Sequence[Example], form: Form) -> dict[str, Score]:
        """Give the speed of answering, and note what the answers cost."""
        answers = self.answers
        paid = [answer.usd for answer in answers if answer.usd is not None]
        if paid:
            self.notes.append(f"{len(paid)} answers cost {sum(paid):.4f} USD by list prices (genai-prices)")
        answered = {answer.id for answer in answers}
        requests = self._requests([example for example in examples if example.id in answered], form)
        return speed_scores(self.model, answers, requests, self.reporter)
