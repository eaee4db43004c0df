"""evaluate(): collects what the metrics need from a model, keeps every item, and computes the scores."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path

from sizewise import datasets
from sizewise.datasets import DatasetContents
from sizewise.datasets.sampling import in_order_of_samples, sample_documents, sample_examples
from sizewise.evaluation import asking
from sizewise.evaluation.abstention import abstention_notes, with_logprobs
from sizewise.evaluation.answer_rows import AnswerRows
from sizewise.evaluation.extraction import constrain, field_scores
from sizewise.evaluation.identity import check_request, evaluation_ids
from sizewise.evaluation.inputs import absent_references, check_images, dataset_id, default_metrics
from sizewise.evaluation.likelihoods import choice_rows, text_rows
from sizewise.evaluation.looks import Look, check_first_look
from sizewise.evaluation.options import FAILURES_AS_WRONG, EvaluationOptions
from sizewise.evaluation.references import reference_set
from sizewise.evaluation.rubric import open_judge
from sizewise.evaluation.sampled import (
    check_sampling,
    noise_note,
    noise_of,
    sample_requests,
    with_pass_at,
)
from sizewise.evaluation.speed import size_scores, speed_scores
from sizewise.evaluation.until import Decider, describe
from sizewise.inquiry import Work, failure_notes, is_transient, require_answers
from sizewise.metrics import (
    CannotMeasure,
    Metric,
    check_language,
    find_metric,
    stats_array,
    total,
)
from sizewise.metrics.base import SCORING_VERSION
from sizewise.metrics.labels import reading_notes
from sizewise.metrics.registry import compares_references
from sizewise.models import Model
from sizewise.models.base import count_tokens
from sizewise.models.machine import describe_machine
from sizewise.models.on_ray import open_spread as open_model
from sizewise.models.prompts import Form, answer_limit, choose_shots, make_request, stop_texts
from sizewise.progress import Reporter, Silent
from sizewise.records import (
    Checkpoint,
    Completion,
    Dataset,
    Evaluation,
    Example,
    FieldScore,
    ItemRow,
    ModelDescription,
    Noise,
    Prompting,
    Question,
    Request,
    Score,
)
from sizewise.store import Ledger, Saved, Store, uri_of, versions

PROMPT_METRICS = ("accuracy", "json_f1", "field_f1", "token_f1", "rouge_l", "chrf")
"""Metrics that may select the prompt form, in order of preference; the first one requested is used."""


def evaluate(
    model: str | Path | Saved[Checkpoint],
    data: str | Path | Saved[Dataset],
    metrics: str | Sequence[str] = (),
    *,
    store: Store | None = None,
    limit: int | None = None,
    options: EvaluationOptions | None = None,
    reporter: Reporter | None = None,
) -> Saved[Evaluation]:
    """Evaluate a model on the test split of a dataset.

    Answers and log-likelihoods are stored as they arrive, so an interrupted run resumes where it stopped. Repeating a
    call returns the saved record. If requests failed the first time, only those are sent again.

    Args:
        model: model URI, or a checkpoint.
        data: dataset, its id, or a JSONL file whose rows are all test data.
        metrics: names of metrics, or one with commas; by default those that fit the data.
        store: where records are kept; SIZEWISE_HOME by default.
        limit: maximum number of examples, and of passages of documents.
        options: seed, engine, budget, token limit, scoring of failures, and whether to start a new run.
        reporter: receives progress.

    Raises:
        UsageError: a metric is unknown, or a limit isn't positive.
        SizewiseError: data or model can't be opened, or all requests failed.
    """
    store, reporter, options = store or Store(), reporter or Silent(), options or EvaluationOptions()
    metrics = [name.strip() for name in metrics.split(",")] if isinstance(metrics, str) else metrics
    check_request(metrics, limit, options)
    data_id = dataset_id(data, store, options.seed)
    contents = datasets.load(store, data_id)
    names = tuple(dict.fromkeys(metrics)) or default_metrics(contents)
    judge, options = open_judge(options, store, reporter)
    opened = open_model(uri_of(model), store=store, engine=options.engine, max_usd=options.max_usd, say=reporter.say)
    try:
        description = opened.describe()
        check_sampling(options, description, names)
        decider = Decider(options.until, names, data_id, store) if options.until is not None else None
        options, evaluation_id, answers_id = _choose_run(store, opened, data_id, names, limit, options, reporter)
        if (found := asking.find_existing(store, evaluation_id)) is not None:
            if description.api:
                reporter.say(asking.age_note(found))
            return found
        if decider is not None:
            check_first_look(Look(evaluation_id, description, decider.metric.name, data_id, limit, options), store)
        with store.lock("evaluation", answers_id), store.ledger("evaluation", answers_id) as ledger:
            if options.answers_from is not None:
                asking.take_over(store, options.answers_from, ledger)
            run = _EvaluationRun(opened, contents, names, ledger, limit, options, reporter)
            run.decider = decider
            record, rows, ungraded = judge.grade(*run.run(data_id), ledger, reporter)
            return asking.save(store, evaluation_id, record, rows, run.inquiry.unanswered + ungraded, run.answers)
    finally:
        opened.close()
        judge.close()


def _choose_run(
    store: Store,
    model: Model,
    data_id: str,
    names: Sequence[str],
    limit: int | None,
    options: EvaluationOptions,
    reporter: Reporter,
) -> tuple[EvaluationOptions, str, str]:
    """Return the options of the run to make, its id and that of its ledger; a repetition keeps the prompt form."""

    def ids(description: ModelDescription) -> tuple[str, str]:
        return evaluation_ids(description, data_id, names, limit, options)

    description = model.describe()
    asking.note_former(store, reporter, description, lambda one: ids(one)[0])
    first_id, answers_id = ids(description)
    evaluation_id = asking.choose_run(store, model, first_id, options)
    if not options.new_run:
        return options, first_id, answers_id
    first = asking.find_existing(store, first_id)
    if first is not None and first.record.prompting is not None and options.form is None:
        options = replace(options, form=first.record.prompting.form)
    return options, evaluation_id, evaluation_id


class _EvaluationRun:
    """State of an evaluation while it runs."""

    def __init__(
        self,
        model: Model,
        contents: DatasetContents,
        names: Sequence[str],
        ledger: Ledger,
        limit: int | None,
        options: EvaluationOptions,
        reporter: Reporter,
    ) -> None:
        self.model, self.description, self.contents = model, model.describe(), contents
        self.names = tuple(names)
        self.cannot: dict[str, str] = {}
        self._references = reference_set(contents)
        metrics = [self._prepared(name) for name in names]
        self.answer_metrics, self.text_metrics, self.choice_metrics = (
            [metric for metric in metrics if metric.needs == needs] for needs in ("answers", "likelihood", "choices")
        )
        self.rows = AnswerRows(
            self.answer_metrics,
            self.cannot,
            as_wrong=options.count_failures_as_wrong,
            is_uncontaminated=self._is_uncontaminated,
        )
        self.ledger, self.limit, self.seed, self.reporter = ledger, limit, options.seed, reporter
        self.inquiry = asking.inquire(model, ledger, reporter)
        self.options = options
        self.notes: list[str] = []
        self.answers: list[Completion] = []
        self.noise: list[Noise] = []
        self.decider: Decider | None = None
        self.stop = stop_texts(contents.examples["train"] or contents.examples["test"])
        self.shots = choose_shots(contents, options.seed)

    @cached_property
    def max_tokens(self) -> int:
        """Token limit per answer."""
        examples = (example for split in self.contents.examples.values() for example in split)
        return self.options.max_tokens or answer_limit(examples, partial(count_tokens, self.model))

    def _prepared(self, name: str) -> Metric:
        """Prepare a metric with the references of the test split; record the reason if it doesn't fit them."""
        metric = find_metric(name)
        if metric.needs != "answers" or not self.contents.examples["test"]:
            return metric
        try:
            if compares_references(metric) and not self._references:
                raise CannotMeasure("no test example has a reference answer")
            check_language(metric, self._references.language)
            return metric.prepared(self._references)
        except CannotMeasure as reason:
            self.cannot[name] = str(reason)
        return metric

    def run(self, data_id: str) -> tuple[Evaluation, list[ItemRow]]:
        """Measure all metrics and return the evaluation with its items."""
        begun = time.monotonic()
        if not self.contents.documents["train"] and not self.contents.examples["train"]:
            self.notes += [
                f"data: {note}" for note in self.contents.record.notes
            ]  # a plain test file has no separate dataset report
        if self.description.trained_on not in (None, data_id):
            self.notes.append(
                f"The model was trained on {self.description.trained_on}, whose overlap with this data wasn't checked."
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
            check_images(self.description, examples)
            prompting = self._choose_prompting() if examples else None
            found = self._answer_rows(examples, prompting.form, data_id, only=not rows) if prompting else []
            metrics, found = self._with_noise(found)
            rows += found
            reason = "" if examples else "the dataset has no test examples"
            scores |= self._totals(metrics, found, self._answer_signature(prompting), reason)
            self.notes += absent_references(examples, self.answer_metrics)
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
            method_version=SCORING_VERSION,
            versions=versions("torch", "transformers", "openvino-genai", "sacrebleu", "numpy"),
            machine="" if self.description.api else describe_machine(),
            sampling=self.options.sampling,
            noise=tuple(self.noise),
            stopped=self.decider.stopped() if self.decider and self.decider.available else None,
            constrained=self.options.constrained,
            name=self.options.name,
            labels=next(filter(None, (getattr(one, "labels", ()) for one in self.answer_metrics)), ()),
            metric_versions={name: find_metric(name).version for name in self.names},
            fields=self._field_scores(rows, prompting),
        )
        return record, rows

    def _field_scores(self, rows: Sequence[ItemRow], prompting: Prompting | None) -> tuple[FieldScore, ...]:
        signature = self._answer_signature(prompting)
        return field_scores(rows, self.contents.examples["test"], self.answer_metrics, signature)

    def _is_uncontaminated(self, item: str) -> bool:
        entry = self.contents.contamination_entries.get(item)
        return entry is None or entry.uncontaminated

    def _totals(
        self, metrics: Sequence[Metric], rows: Sequence[ItemRow], signature: str, reason: str
    ) -> dict[str, Score]:
        """Compute each metric over uncontaminated items, and over all items (`@all`)."""
        scores: dict[str, Score] = {}
        uncontaminated = [row for row in rows if row.uncontaminated]
        for metric in metrics:
            for name, part, which in (
                (metric.name, uncontaminated, "uncontaminated"),
                (f"{metric.name}@all", rows, "all"),
            ):
                full = f"{signature}|items:{which}".lstrip("|")
                absent = reason or self.cannot.get(metric.name)
                if absent:
                    scores[name] = Score(metric=name, n=0, unit=metric.unit, signature=full, missing_reason=absent)
                else:
                    scores[name] = total(metric, part, name=name, signature=full)
        return scores

    # -- likelihood -------------------------------------------------------------------------------------

    def _likelihood_signature(self) -> str:
        return self.model.signature() if self.description.can_score else ""

    def _with_contamination(self, rows: Sequence[ItemRow]) -> list[ItemRow]:
        return [row.model_copy(update={"uncontaminated": self._is_uncontaminated(row.item)}) for row in rows]

    def _text_rows(self) -> tuple[list[ItemRow], str]:
        """Score held-out passages by log-likelihood; return the rows, or the reason why there are none."""
        if not self.description.can_score:
            return [], f"{self.description.uri} returns no log-likelihoods"
        documents, passages = sample_documents(self.contents.documents["test"], self.limit, self.seed)
        if not documents:
            return [], "the dataset has no test documents"
        if passages is not None:
            self.notes.append(f"Text: the first {passages} passages of each of {len(documents)} test documents.")
        rows = text_rows(self.model, documents, self.text_metrics, self.inquiry)
        self._note_unscored("text")
        return self._with_contamination(rows), ""

    def _choice_rows(self) -> tuple[list[ItemRow], str]:
        """Score multiple-choice options by log-likelihood; return the rows, or the reason why there are none."""
        examples = [e for e in self.contents.examples["test"] if e.choices and e.references]
        if not examples:
            return [], "no test example has choices"
        if not self.description.can_score:
            return [], f"{self.description.uri} returns no log-likelihoods"
        examples = sample_examples(examples, self.limit, self.seed)
        rows = choice_rows(self.model, examples, self.choice_metrics, self.inquiry)
        self._note_unscored("choices")
        return self._with_contamination(rows), ""

    def _note_unscored(self, topic: str) -> None:
        """Note the texts that couldn't be scored.

        Raises:
            SizewiseError: no text was scored, and a retry may help.
        """
        if any(map(is_transient, self.inquiry.outcomes(topic).values())):
            self.inquiry.require(topic)
        self.notes += self.inquiry.notes(topic)

    # -- answers ------------------------------------------------------------------------------------

    def _collect(self, topic: str, title: str, requests: Sequence[Request]) -> dict[str, Completion]:
        """Collect answers, and record transient failures, which make the evaluation incomplete."""
        answers = self.inquiry.ask(requests, Work(topic, title))
        absent = list(filter(is_transient, answers.values()))
        if absent and not topic.startswith("test"):
            self.notes.append(
                f"Incomplete: {len(absent)} requests failed while choosing the prompt. Run the same command again."
            )
        return answers

    def _requests(self, examples: Sequence[Example], form: Form, max_tokens: int | None = None) -> list[Request]:
        takes_tools, limit = "tools" in self.description.offers, max_tokens or self.max_tokens
        requests = [make_request(example, form, self.shots, limit, self.stop, takes_tools) for example in examples]
        requests = with_logprobs(requests, self.answer_metrics, self.description)
        if self.options.constrained:
            requests = constrain(requests, examples, self.description)
        if (question := self._question()) is None:
            return requests
        return [request.model_copy(update={"question": question}) for request in requests]

    def _question(self) -> Question | None:
        """Return the question that this model decides with probabilities; None if it answers in words."""
        return self.contents.record.question if "decisions" in self.description.offers else None

    def _choose_prompting(self) -> Prompting:
        """Choose the prompt form that scores best on validation examples."""
        forms: list[Form] = ["chat"] if self.description.can_chat else []
        if self.shots and self.description.engine != "rule" and self.description.question is None:
            forms.append("few_shot")
        forms = forms or ["few_shot"]
        by_name = {metric.name: metric for metric in self.answer_metrics}
        # On a few short answers BLEU is near zero for every form, and chrF favors long answers, which contain the
        # reference by chance. Token F1 penalizes missing and superfluous words equally.
        metric = next((by_name[name] for name in PROMPT_METRICS if name in by_name), self.answer_metrics[0])
        answered = [example for example in self.contents.examples["validation"] if example.references]
        examples = sample_examples(answered, self.options.prompt_examples, self.seed)
        tried: dict[str, float] = {}
        if self.options.form in forms:
            forms = [self.options.form]
        if len(forms) > 1 and examples:
            # One very long reference elsewhere gives a rambling model no room here, where it would cost most time.
            limit = min(self.max_tokens, answer_limit(examples, partial(count_tokens, self.model)))
            for form in forms:
                requests = self._requests(examples, form, limit)
                answers = self._collect(f"validation:{form}", f"Trying the {form} prompt", requests)
                rows = [self.rows.row(example, answers[example.id]) for example in examples]
                scored = [row for row in rows if metric.name in row.stats]
                if scored:
                    tried[form] = float(metric.value(stats_array(metric, scored).sum(axis=0)))
        sign = 1 if metric.better == "higher" else -1
        measured = [form for form in forms if form in tried]  # a form whose requests all failed doesn't count as 0
        best = max(measured, key=lambda form: sign * tried[form]) if measured else forms[0]
        return Prompting(
            form=best,
            shots=len(self.shots) if best == "few_shot" else 0,
            tried=tried,
            metric=metric.name,
            n=len(examples) if tried else 0,
            max_tokens=self.max_tokens,
        )

    def _answer_signature(self, prompting: Prompting | None) -> str:
        if prompting is None:
            return ""
        parts = [f"prompt:{prompting.form}|shots:{prompting.shots}"]
        if sampling := self.options.sampling:
            parts.append(f"samples:{sampling.samples}|temperature:{sampling.temperature:g}")
        if self.decider:
            parts.append("until:decided")
        if self.options.constrained:
            parts.append("constrained:schema of the example")
        if self.options.count_failures_as_wrong:
            parts.append(FAILURES_AS_WRONG)
        return "|".join(parts)

    def _with_noise(self, rows: Sequence[ItemRow]) -> tuple[list[Metric], list[ItemRow]]:
        """Add pass@k to the rows, and split the variance of each metric, if several answers per item were sampled."""
        samples = self.options.samples
        found, passing = with_pass_at(rows, self.answer_metrics, samples)
        uncontaminated = [row for row in found if row.uncontaminated]
        split = (noise_of(metric, uncontaminated) for metric in self.answer_metrics if samples > 1)
        self.noise = [one for one in split if one is not None]
        self.notes += noise_note(self.noise, samples)
        return [*self.answer_metrics, *passing], found

    def _answers(self, examples: Sequence[Example], form: Form) -> list[dict[str, Completion]]:
        """Collect the answers to examples by id, for each sample."""
        if len(examples) == len(self.contents.examples["test"]):  # those asked first are a sample, if time is up early
            examples = in_order_of_samples(examples, self.seed)
        requests, sampling = self._requests(examples, form), self.options.sampling
        if sampling is None:
            return [self._collect(f"test:{form}", "Answering test examples", requests)]
        return [
            self._collect(
                f"test:{form}:sample{number}",
                f"Answering test examples, sample {number} of {sampling.samples}",
                sample_requests(requests, sampling, number, self.seed),
            )
            for number in range(1, sampling.samples + 1)
        ]

    def _answers_until_decided(
        self, examples: Sequence[Example], form: Form, decider: Decider
    ) -> tuple[list[Example], list[dict[str, Completion]]]:
        """Collect answers in random order until the question is decided; return the examples asked and the answers."""
        asked: list[Example] = []
        samples: list[dict[str, Completion]] = [{} for _ in range(self.options.samples)]
        uncontaminated = [example for example in examples if self._is_uncontaminated(example.id)]
        for batch in decider.batches(uncontaminated, self.seed):
            found = self._answers(batch, form)
            for whole, part in zip(samples, found, strict=True):
                whole |= part
            answers = {f"{number} {key}": one for number, part in enumerate(found) for key, one in part.items()}
            if any(map(is_transient, answers.values())):  # don't ask hundreds of items of a service that is down
                require_answers(self.description.uri, answers)
            asked += batch
            decider.add([self.rows.sampled(example, found) for example in batch])
        outcome = decider.stopped()
        self.notes.append(describe(outcome))
        if outcome.asked < outcome.available:
            self.notes.append(
                "The evaluation stopped early because of its results, so the intervals of these scores are too narrow; "
                "only the decision holds at 5%."
            )
        return asked, samples

    def _answer_rows(self, examples: Sequence[Example], form: Form, data_id: str, *, only: bool) -> list[ItemRow]:
        """Answer and score the test examples.

        Raises:
            SizewiseError: all requests failed, and there is no other measurement (`only`) or a retry may help.
        """
        if self.decider:
            examples, samples = self._answers_until_decided(examples, form, self.decider)
        else:
            samples = self._answers(examples, form)
        answers = [answer for sample in samples for answer in sample.values()]
        if only or any(map(is_transient, answers)):
            uri = self.description.uri
            require_answers(
                uri, {str(i): answer for i, answer in enumerate(answers)}, f"sizewise evaluate {uri} --data {data_id}"
            )
        as_wrong = self.options.count_failures_as_wrong
        self.notes += failure_notes(answers, as_wrong=as_wrong)
        hint = "Raise --max-tokens or unset it."
        self.notes += asking.answer_notes(answers, self.max_tokens, self.description, hint)
        self.answers = [answer for answer in answers if answer.finish != "error"]
        if graded := sum(answer.grade is not None for answer in self.answers):
            self.notes.append(
                f"{graded} of {len(answers)} answers have a grade of people, which decides in comparisons."
            )
        self.rows.restart()
        rows = [self.rows.sampled(example, samples) for example in examples]
        self.notes += reading_notes(self.answer_metrics, [answer.text for answer in self.answers])
        self.notes += self.rows.notes(len(answers), "examples" if len(samples) == 1 else "answers")
        self.notes += abstention_notes(rows)
        return rows

    def _speed(self, examples: Sequence[Example], form: Form) -> dict[str, Score]:
        """Score latency and throughput, and note the cost of the answers."""
        answers = self.answers
        paid = [answer.usd for answer in answers if answer.usd is not None]
        if paid:
            basis = self.model.describe().price_basis or "list prices (genai-prices)"
            self.notes.append(f"The {len(paid)} answers cost {sum(paid):.4f} USD; {basis}.")
        answered = {answer.id for answer in answers}
        requests = self._requests([example for example in examples if example.id in answered], form)
        sampled = self.options.sampling is not None
        return speed_scores(self.model, answers, requests, self.ledger, self.reporter, sampled=sampled)
