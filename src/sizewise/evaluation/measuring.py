"""evaluate(): fetch what the metrics need from a model, keep every item, add up."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np

from sizewise import dataset as datasets
from sizewise.dataset import DatasetContents
from sizewise.errors import SizewiseError, UsageError
from sizewise.evaluation.prompts import Form, answer_limit, choose_shots, make_request, stop_texts
from sizewise.metrics import AnswerItem, LikelihoodItem, Metric, find_metric, stats_array, total
from sizewise.models import Engine, Model, ScoredText, open_model
from sizewise.progress import Reporter, Silent
from sizewise.records import (
    Completion,
    Dataset,
    Document,
    Evaluation,
    Example,
    ItemRow,
    ModelDescription,
    Prompting,
    Request,
    Score,
    fingerprint,
)
from sizewise.store import Ledger, Store, Stored, versions

DEFAULT_METRICS = ("bits_per_byte", "perplexity", "bleu", "chrf", "exact_match")
PROMPT_EXAMPLES = 30
# Six single answers: the smallest and the largest are a 97 % interval of the median (order statistics).
LATENCY_REQUESTS = 6
CHUNK = 128


def evaluate(
    model: str,
    data: str | Path,
    metrics: Sequence[str] = DEFAULT_METRICS,
    *,
    store: Store | None = None,
    limit: int | None = None,
    seed: int = 0,
    max_usd: float | None = None,
    engine: Engine = "transformers",
    reporter: Reporter | None = None,
) -> Stored[Evaluation]:
    """Measure a model on the test split of a dataset.

    Answers and likelihoods go to a ledger as they arrive; a run that was killed goes on from there. The
    same call again gives the record that is already there.

    Args:
        model: model URI.
        data: dataset id, or a JSONL file, all of which is then test data.
        metrics: names of metrics.
        store: where records live; by default SIZEWISE_HOME.
        limit: at most so many examples, and documents until so many passages.
        seed: seed of the sample, of the worked examples and of the resampling.
        max_usd: most that may be spent on a remote model; what was answered before it ends is kept.
        engine: what runs a model of this machine; `transformers` is the reference.
        reporter: told how far it is.

    Raises:
        UsageError: a metric is unknown, or the limit is not positive.
        SizewiseError: data or model cannot be opened.
    """
    store, reporter = store or Store(), reporter or Silent()
    chosen = tuple(find_metric(name) for name in dict.fromkeys(metrics))
    if limit is not None and limit <= 0:
        raise UsageError(f"A limit of {limit} measures nothing.", "a positive number", "")
    data_id = dataset_id(data, store, seed)
    contents = datasets.load(store, data_id)
    opened = open_model(model, store=store, engine=engine, max_usd=max_usd, say=reporter.say)
    try:
        description = opened.describe()
        names = tuple(metric.name for metric in chosen)
        identity = [description.uri, description.revision, data_id, names, limit, seed]
        evaluation_id = f"eval-{fingerprint(identity)}"
        if store.exists("evaluation", evaluation_id):
            return store.get(Evaluation, evaluation_id)
        with (
            store.lock("evaluation", evaluation_id),
            store.ledger("evaluation", evaluation_id) as ledger,
        ):
            run = _Measuring(opened, description, contents, chosen, ledger, limit, seed, reporter)
            record, rows = run.run(data_id, names)
            store.write_rows(store.folder("evaluation", evaluation_id), "items.jsonl", rows)
            return store.write(evaluation_id, record)
    finally:
        opened.close()


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
        description: ModelDescription,
        contents: DatasetContents,
        metrics: Sequence[Metric],
        ledger: Ledger,
        limit: int | None,
        seed: int,
        reporter: Reporter,
    ) -> None:
        self.model, self.description, self.contents = model, description, contents
        self.answer_metrics = [metric for metric in metrics if metric.needs == "answers"]
        self.text_metrics = [metric for metric in metrics if metric.needs == "likelihood"]
        self.ledger, self.limit, self.seed, self.reporter = ledger, limit, seed, reporter
        self.notes: list[str] = []
        known = contents.examples["train"] or contents.examples["test"]
        self.max_tokens, self.stop = answer_limit(known), stop_texts(known)
        self.shots = choose_shots(contents, seed)

    def run(self, data_id: str, names: tuple[str, ...]) -> tuple[Evaluation, list[ItemRow]]:
        begun = time.monotonic()
        if self.description.trained_on not in (None, data_id):
            self.notes.append(
                f"trained on {self.description.trained_on}: what this data shares with that text was not looked at"
            )
        scores: dict[str, Score] = {}
        rows: list[ItemRow] = []
        prompting = None
        if self.text_metrics:
            text_rows, reason = self._text_rows()
            rows += text_rows
            signature = self.model.signature() if self.description.can_score else ""
            scores |= self._totals(self.text_metrics, text_rows, signature, reason)
        if self.answer_metrics:
            examples = self._sample(self.contents.examples["test"], self.limit)
            self._refuse_images(examples)
            prompting = self._choose_prompting() if examples else None
            answer_rows = self._answer_rows(examples, prompting.form) if prompting else []
            rows += answer_rows
            signature = f"prompt:{prompting.form}|shots:{prompting.shots}" if prompting else ""
            reason = "" if examples else "the dataset has no test examples"
            scores |= self._totals(self.answer_metrics, answer_rows, signature, reason)
            scores |= self._speed(examples, prompting.form if prompting else "chat")
        scores |= self._size()
        record = Evaluation(
            model=self.description,
            data=data_id,
            seed=self.seed,
            limit=self.limit,
            metrics=names,
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

    def _sample(self, examples: Sequence[Example], size: int | None) -> list[Example]:
        if size is None or len(examples) <= size:
            return list(examples)
        return random.Random(self.seed).sample(list(examples), size)

    def _clean(self, item: str) -> bool:
        entry = self.contents.leaks.get(item)
        return entry is None or entry.clean

    def _totals(
        self, metrics: Sequence[Metric], rows: Sequence[ItemRow], signature: str, reason: str
    ) -> dict[str, Score]:
        """Add up each metric over clean items, and over all (`@all`)."""
        found: dict[str, Score] = {}
        clean = [row for row in rows if row.clean]
        for metric in metrics:
            for name, part, which in ((metric.name, clean, "clean"), (f"{metric.name}@all", rows, "all")):
                full = f"{signature}|items:{which}".lstrip("|")
                if reason:
                    found[name] = Score(metric=name, n=0, unit=metric.unit, signature=full, missing=reason)
                else:
                    found[name] = total(metric, part, name=name, signature=full, seed=self.seed)
        return found

    # -- text ---------------------------------------------------------------------------------------

    def _text_rows(self) -> tuple[list[ItemRow], str]:
        """Measure the likelihood of held-out passages; the reason if that is not possible."""
        if not self.description.can_score:
            return [], f"{self.description.uri} gives no log-likelihoods of text"
        documents = self._sampled_documents()
        if not documents:
            return [], "the dataset has no test documents"
        done = self.ledger.entries("text")
        todo = [document for document in documents if document.id not in done]
        size = sum(len(d.text) for d in documents)
        read = size - sum(len(d.text) for d in todo)
        begun, tokens = time.monotonic(), 0
        for document, scored in zip(todo, self.model.score([document.text for document in todo]), strict=True):
            self.ledger.append("text", document.id, {"passages": _by_passage(document, scored)})
            read, tokens = read + len(document.text), tokens + len(scored.nats)
            speed = tokens / (time.monotonic() - begun)
            self.reporter.advance("reading held-out text", read, size, f"{speed:,.0f} tokens/s")
        rows = []
        entries = self.ledger.entries("text")
        for document in documents:
            for item, nats, count, size_bytes in entries[document.id]["passages"]:
                measured = LikelihoodItem(nats, count, size_bytes)
                good = bool(np.isfinite(nats))
                rows.append(
                    ItemRow(
                        item=item,
                        kind="passage",
                        cluster=document.id,
                        clean=self._clean(item),
                        error=None if good else "the log-likelihood is not a number",
                        stats={m.name: m.measure_likelihood(measured) for m in self.text_metrics} if good else {},
                    )
                )
        return rows, ""

    def _sampled_documents(self) -> list[Document]:
        """Take the beginning of every document, so that a limit costs passages and not documents.

        Intervals rest on the number of documents.
        """
        documents = list(self.contents.documents["test"])
        if self.limit is None or not documents:
            return documents
        each = -(-self.limit // len(documents))
        if each == 1:
            documents = random.Random(self.seed).sample(documents, min(len(documents), self.limit))
        shortened = []
        for document in documents:
            end = datasets.passages(document)[:each][-1].end
            shortened.append(document.model_copy(update={"text": document.text[:end]}))
        self.notes.append(f"text: the first {each} passages of {len(documents)} test documents")
        return shortened

    # -- answers ------------------------------------------------------------------------------------

    def _complete(self, topic: str, what: str, requests: Sequence[Request]) -> dict[str, Completion]:
        """Answer requests, those that the ledger already holds left out."""
        done = self.ledger.entries(topic)
        todo = [request for request in requests if request.id not in done]
        count = len(requests) - len(todo)
        failed: dict[str, Completion] = {}  # may be answered when the same command is run again
        begun, tokens = time.monotonic(), 0
        size = max(1, len(todo)) if self.description.api else CHUNK
        for start in range(0, len(todo), size):
            for answer in self.model.complete(todo[start : start + size]):
                if answer.finish == "error":
                    failed[answer.id] = answer
                else:
                    self.ledger.append(topic, answer.id, answer.model_dump(mode="json"))
                count, tokens = count + 1, tokens + answer.completion_tokens
                speed = tokens / max(1e-9, time.monotonic() - begun)
                self.reporter.advance(what, count, len(requests), f"{speed:,.0f} tokens/s")
        return failed | {key: Completion.model_validate(body) for key, body in self.ledger.entries(topic).items()}

    def _requests(self, examples: Sequence[Example], form: Form) -> list[Request]:
        return [make_request(example, form, self.shots, self.max_tokens, self.stop) for example in examples]

    def _choose_prompting(self) -> Prompting:
        """Try each form on validation examples and keep the better one."""
        forms: list[Form] = ["chat"] if self.description.can_chat else []
        if self.shots and self.description.engine != "rule":
            forms.append("few_shot")
        forms = forms or ["few_shot"]
        by_name = {metric.name: metric for metric in self.answer_metrics}
        # On so few short answers BLEU mostly counts what is not there; chrF has far less noise.
        metric = by_name.get("chrf", self.answer_metrics[0])
        examples = self._sample(self.contents.examples["validation"], PROMPT_EXAMPLES)
        tried: dict[str, float] = {}
        if len(forms) > 1 and examples:
            for form in forms:
                answers = self._complete(
                    f"validation:{form}", f"trying the {form} prompt", self._requests(examples, form)
                )
                rows = [self._answer_row(example, answers[example.id]) for example in examples]
                good = [row for row in rows if metric.name in row.stats]
                if good:
                    tried[form] = float(metric.value(stats_array(metric, good).sum(axis=0)))
        sign = 1 if metric.better == "higher" else -1
        best = max(forms, key=lambda form: sign * tried.get(form, 0.0)) if tried else forms[0]
        return Prompting(
            form=best,
            shots=len(self.shots) if best == "few_shot" else 0,
            tried=tried,
            metric=metric.name,
            n=len(examples) if tried else 0,
            max_tokens=self.max_tokens,
        )

    def _answer_rows(self, examples: Sequence[Example], form: Form) -> list[ItemRow]:
        answers = self._complete("test", "answering test examples", self._requests(examples, form))
        return [self._answer_row(example, answers[example.id]) for example in examples]

    def _answer_row(self, example: Example, answer: Completion) -> ItemRow:
        item = AnswerItem(answer.text, example.references)
        stats, error = {}, answer.error
        try:
            # No answer is scored as an empty one: a model must not look better for what it cannot take.
            stats = {metric.name: metric.measure_answer(item) for metric in self.answer_metrics}
        except (ValueError, ArithmeticError) as failure:
            error = f"a metric failed: {failure}"
        return ItemRow(
            item=example.id,
            kind="example",
            cluster=example.source,
            clean=self._clean(example.id),
            prompt=example.prompt,
            references=example.references,
            completion=answer.text,
            finish=answer.finish,
            error=error,
            stats=stats,
        )

    # -- speed and size -----------------------------------------------------------------------------

    def _speed(self, examples: Sequence[Example], form: Form) -> dict[str, Score]:
        """Measure the time of single answers, and the speed in batches from the answers already given."""
        answers = [Completion.model_validate(body) for body in self.ledger.entries("test").values()]
        answers = [answer for answer in answers if answer.finish != "error"]
        seconds = sum(answer.seconds for answer in answers)
        tokens = sum(answer.completion_tokens for answer in answers)
        where = f"engine:{self.description.engine}|precision:{self.description.precision}"
        if self.description.engine == "rule" or not answers or not seconds:
            missing = "a rule has no speed" if self.description.engine == "rule" else "no answer was given"
            return {
                name: Score(metric=name, n=0, unit=unit, signature=where, missing=missing)
                for name, unit in (("latency_s", "s"), ("answers_per_s", "answers/s"))
            }
        if self.description.api:
            return self._speed_of_api(answers, where)
        times = []
        answered = {answer.id for answer in answers}
        timed = [example for example in examples if example.id in answered][:LATENCY_REQUESTS]
        for request in self._requests(timed, form):
            start = time.perf_counter()
            list(self.model.complete([request]))
            times.append(time.perf_counter() - start)
            self.reporter.advance("timing single answers", len(times), LATENCY_REQUESTS)
        enough = len(times) >= LATENCY_REQUESTS
        return {
            "latency_s": Score(
                metric="latency_s",
                value=median(times),
                low=min(times) if enough else None,
                high=max(times) if enough else None,
                n=len(times),
                unit="s",
                signature=f"median|users:1|{where}",
            ),
            "answers_per_s": Score(
                metric="answers_per_s",
                value=len(answers) / seconds,
                n=len(answers),
                unit="answers/s",
                signature=f"batched:64|tokens:{tokens}|{where}",
            ),
        }

    def _speed_of_api(self, answers: Sequence[Completion], where: str) -> dict[str, Score]:
        """Give the time of answers as they came, many at once (to ask again costs money), and note their cost."""
        times = sorted(answer.seconds for answer in answers)
        paid = [answer.usd for answer in answers if answer.usd is not None]
        if paid:
            self.notes.append(f"{len(paid)} answers cost {sum(paid):.4f} USD by list prices (genai-prices)")
        middle = slice(len(times) // 40, len(times) - len(times) // 40)
        return {
            "latency_s": Score(
                metric="latency_s",
                value=median(times),
                low=times[middle][0],
                high=times[middle][-1],
                n=len(times),
                unit="s",
                signature=f"median, 2.5 to 97.5 %|users:many|{where}",
            ),
            "answers_per_s": Score(
                metric="answers_per_s",
                n=0,
                unit="answers/s",
                signature=where,
                missing="the provider's limits decide it",
            ),
        }

    def _size(self) -> dict[str, Score]:
        facts = {
            "parameters": (self.description.parameters, "parameters", "exact count"),
            "memory_bytes": (
                self.description.memory_bytes,
                "bytes",
                "weights + one user's cache at 1024 tokens",
            ),
            "disk_bytes": (self.description.disk_bytes, "bytes", "weight files"),
        }
        found = {}
        for name, (value, unit, signature) in facts.items():
            found[name] = Score(
                metric=name,
                value=value,
                low=value,
                high=value,
                n=1,
                unit=unit,
                signature=signature,
                missing=None if value is not None else "not published",
            )
        return found


def _by_passage(document: Document, scored: ScoredText) -> list[tuple[str, float, int, int]]:
    """Give (item, nats, tokens, bytes) of each passage; a token belongs to where it begins."""
    spans = datasets.passages(document)
    edges = np.array([span.start for span in spans] + [len(document.text)])
    index = np.clip(np.searchsorted(edges, scored.starts, side="right") - 1, 0, len(spans) - 1)
    nats = np.bincount(index, weights=scored.nats, minlength=len(spans))
    tokens = np.bincount(index, minlength=len(spans))
    return [
        (span.item, float(nats[i]), int(tokens[i]), len(document.text[span.start : span.end].encode("utf-8")))
        for i, span in enumerate(spans)
    ]
