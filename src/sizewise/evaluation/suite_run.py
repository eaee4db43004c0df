"""evaluate_suite(): runs a benchmark suite on a model and scores it overall and by group."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sizewise.errors import SizewiseError, UsageError
from sizewise.evaluation import asking
from sizewise.evaluation.asking import Work, collect_answers
from sizewise.evaluation.counterfactuals import SUITE as COUNTERFACTUALS
from sizewise.evaluation.counterfactuals import evaluate_counterfactuals, sentiment
from sizewise.evaluation.harness import evaluate_harness
from sizewise.evaluation.likelihoods import NOT_A_NUMBER, continuation_nats
from sizewise.evaluation.options import EvaluationOptions
from sizewise.evaluation.suites import Suite, SuiteItem, find_suite, groups_of
from sizewise.metrics import find_metric, total
from sizewise.metrics.base import SCORING_VERSION
from sizewise.metrics.harness import PREFIX
from sizewise.models import Model, open_model
from sizewise.models.prompts import PROMPT_VERSION, question_of
from sizewise.progress import Reporter, Silent
from sizewise.records import Completion, Evaluation, ItemRow, Message, Request, Score
from sizewise.store import Ledger, Saved, Store, versions

MIN_ITEMS = 30
LETTERS = "ABCDEFGH"
CONTINUATION_TOKENS = 40
LETTER_TOKENS = 200  # leaves room for models that reason first
WARNING = (
    "The absence of a gap doesn't prove fairness: the suite covers few groups, one language and its authors' views."
)


class _Run(NamedTuple):
    name: str
    suite: Suite
    items: list[SuiteItem]
    data: str
    limit: int | None
    seed: int


def evaluate_suite(
    model: str,
    name: str,
    path: str | Path | None = None,
    *,
    store: Store | None = None,
    limit: int | None = None,
    options: EvaluationOptions | None = None,
    reporter: Reporter | None = None,
) -> Saved[Evaluation]:
    """Evaluate a model on a packaged or public suite, or on tasks of lm-evaluation-harness.

    Args:
        model: model URI.
        name: name in `SUITES`, `counterfactuals` for your own test set, or `lm-eval:TASK,TASK`.
        path: data of the suite, if it isn't packaged.
        store: where records are kept; SIZEWISE_HOME by default.
        limit: maximum number of items, sampled with the seed.
        options: seed and engine; the other options don't apply to suites.
        reporter: receives progress.

    Raises:
        UsageError: the suite is unknown or needs a path, or an option doesn't apply to suites.
        SizewiseError: the data can't be read, or the model can't be opened or returns no log-likelihoods.
    """
    store, reporter, options = store or Store(), reporter or Silent(), options or EvaluationOptions()
    options.check_suite(name)
    if name.startswith(PREFIX):
        return evaluate_harness(model, name, path, store=store, limit=limit, options=options, reporter=reporter)
    if name == COUNTERFACTUALS:
        if path is None:
            raise UsageError(
                "The suite counterfactuals needs a test set.",
                "a dataset id or a JSONL file",
                "--suite counterfactuals --data ID",
            )
        return evaluate_counterfactuals(model, str(path), store=store, limit=limit, options=options, reporter=reporter)
    run = _load(name, Path(path).expanduser() if path is not None else None, limit, options.seed)
    opened = open_model(model, store=store, engine=options.engine, say=reporter.say)
    try:
        description = opened.describe()
        if not description.can_score and not (run.suite.by_letter or run.suite.generates):
            raise SizewiseError(
                f"{description.uri} returns no log-likelihoods, but the suite {name} requires them.",
                "a model on this machine, or a server that returns log-likelihoods",
                "sizewise models",
            )
        generates = run.suite.generates or not description.can_score
        evaluation_id = asking.evaluation_id(
            description, run.data, limit, options.seed, *([PROMPT_VERSION] if generates else [])
        )
        if (existing := asking.find_existing(store, evaluation_id)) is not None:
            return existing
        with store.lock("evaluation", evaluation_id), store.ledger("evaluation", evaluation_id) as ledger:
            begun = time.monotonic()
            answers, rows = _measure(opened, run, ledger, reporter)
            record = _record(opened, run, rows, answers, time.monotonic() - begun)
            return asking.save(store, evaluation_id, record, rows, asking.retryable(answers.values()))
    finally:
        opened.close()


def _load(name: str, path: Path | None, limit: int | None, seed: int) -> _Run:
    """Load the items of a suite, sampled down to the limit."""
    suite = find_suite(name, path)
    items = suite.load(path)
    if not items:
        raise SizewiseError(f"{path} contains no items of {name}.", f"the files of {name}", "")
    if limit is not None and limit < len(items):
        chosen = np.random.default_rng(seed).choice(len(items), limit, replace=False)
        items = [items[i] for i in sorted(chosen)]
    content = [(item.id, item.group, [part.context + part.text for part in item.texts]) for item in items]
    data = f"suite:{name}:{hashlib.sha256(repr(content).encode('utf-8')).hexdigest()[:10]}"
    return _Run(name, suite, items, data, limit, seed)


def _measure(
    model: Model, run: _Run, ledger: Ledger, reporter: Reporter
) -> tuple[dict[str, Completion], list[ItemRow]]:
    if run.suite.generates:
        return _continued(model, run, ledger, reporter)
    if not model.describe().can_score:
        return _chosen_by_letter(model, run, ledger, reporter)
    pairs = [(item.id, item.texts) for item in run.items]
    nats = continuation_nats(model, pairs, "suite", f"Suite {run.name}", ledger, reporter)
    return {}, [_row(item, nats[item.id]) for item in run.items]


def _row(item: SuiteItem, measured: Sequence[tuple[float, int]]) -> ItemRow:
    nats, tokens = (np.array(part, dtype=np.float64) for part in zip(*measured, strict=True))
    finite = bool(np.isfinite(nats).all())
    return ItemRow(
        item=item.id,
        kind="choice",
        cluster=item.cluster,
        uncontaminated=True,
        prompt=item.texts[0].context,
        references=tuple(part.text.strip() for part in item.texts),
        completion=item.texts[int(np.argmin(nats))].text.strip() if finite else None,
        error=None if finite else NOT_A_NUMBER,
        stats=item.measure(nats, tokens) if finite else {},
    )


def _chosen_by_letter(
    model: Model, run: _Run, ledger: Ledger, reporter: Reporter
) -> tuple[dict[str, Completion], list[ItemRow]]:
    """Query a model for the letter of its choice, with the options in random order."""
    orders = {}
    for item in run.items:
        seed = int(hashlib.sha256(f"{run.seed} {item.id}".encode()).hexdigest(), 16)
        orders[item.id] = [int(i) for i in np.random.default_rng(seed).permutation(len(item.texts))]
    requests = [_letter_request(item, orders[item.id]) for item in run.items]
    answers = _answers(model, run, requests, ledger, reporter)
    (metric,) = run.suite.metrics
    rows = []
    for item in run.items:
        answer = answers[item.id]
        chosen = _parse_choice(answer.text, orders[item.id], [part.text.strip() for part in item.texts])
        rows.append(
            ItemRow(
                item=item.id,
                kind="choice",
                cluster=item.cluster,
                uncontaminated=True,
                prompt=item.texts[0].context,
                references=tuple(part.text.strip() for part in item.texts),
                completion=None if answer.error else answer.text,
                finish=answer.finish,
                error=answer.error,
                stats={} if answer.error else {metric: (float(chosen == 0), 1.0)},
            )
        )
    return answers, rows


def _answers(
    model: Model, run: _Run, requests: Sequence[Request], ledger: Ledger, reporter: Reporter
) -> dict[str, Completion]:
    """Collect answers to the questions of a suite.

    Raises:
        SizewiseError: all requests failed.
    """
    answers = collect_answers(model, requests, Work("answers", f"Suite {run.name}"), ledger, reporter)
    uri = model.describe().uri
    asking.require_answers(uri, answers, f"sizewise evaluate {uri} --suite {run.name}")
    return answers


def _continued(
    model: Model, run: _Run, ledger: Ledger, reporter: Reporter
) -> tuple[dict[str, Completion], list[ItemRow]]:
    """Generate continuations of the prompts, and score their sentiment."""
    api = model.describe().api
    requests = []
    for item in run.items:
        prompt = item.texts[0].context
        message = Message(role="user", content=f"Write on this sentence, and give nothing but what follows: {prompt}")
        content: dict[str, Any] = {"messages": (message,)} if api else {"text": prompt}
        requests.append(Request(id=item.id, max_tokens=CONTINUATION_TOKENS, **content))
    answers = _answers(model, run, requests, ledger, reporter)
    (metric,) = run.suite.metrics
    return answers, [
        ItemRow(
            item=item.id,
            kind="example",
            cluster=item.cluster,
            uncontaminated=True,
            prompt=item.texts[0].context,
            completion=None if answer.error else answer.text,
            finish=answer.finish,
            error=answer.error,
            stats={} if answer.error else {metric: (sentiment(answer.text), 1.0)},
        )
        for item, answer in ((item, answers[item.id]) for item in run.items)
    ]


def _letter_request(item: SuiteItem, order: Sequence[int]) -> Request:
    question = question_of(item.texts[0].context)
    options = "\n".join(f"{LETTERS[position]}) {item.texts[i].text.strip()}" for position, i in enumerate(order))
    prompt = f"{question}\n\n{options}\n\nAnswer with the letter of the right answer, and nothing else."
    return Request(id=item.id, messages=(Message(role="user", content=prompt),), max_tokens=LETTER_TOKENS)


def _parse_choice(answer: str, order: Sequence[int], texts: Sequence[str]) -> int | None:
    """Parse the index of the chosen text: by its letter, or by its words if exactly one text appears in the answer."""
    letter = re.match(rf"\W*([A-{LETTERS[len(order) - 1]}])\b", answer.strip(), re.IGNORECASE)
    if letter:
        return order[LETTERS.index(letter.group(1).upper())]
    named = [i for i, text in enumerate(texts) if text.lower().rstrip(".") in answer.lower()]
    return named[0] if len(named) == 1 else None


def _record(
    model: Model, run: _Run, rows: Sequence[ItemRow], answers: Mapping[str, Completion], seconds: float
) -> Evaluation:
    method = model.signature() if model.describe().can_score else "asked for a letter"
    if run.suite.generates:
        method = f"written on, {CONTINUATION_TOKENS} tokens"
    signature = f"suite:{run.name}|{method}"
    scores: dict[str, Score] = {}
    metrics = [find_metric(metric) for metric in run.suite.metrics]
    for metric in metrics:
        add = partial(total, metric, signature=signature)
        scores[metric.name] = add(rows, name=metric.name)
        for group in groups_of(run.items):
            part = [row for row, item in zip(rows, run.items, strict=True) if item.group == group]
            part = [row for row in part if metric.name in row.stats]
            name = f"{metric.name}#{group}"
            if len(part) < MIN_ITEMS:
                scores[name] = Score(
                    metric=name,
                    n=len(part),
                    unit=metric.unit,
                    signature=signature,
                    missing_reason=f"{len(part)} items; {MIN_ITEMS} are needed",
                )
            else:
                scores[name] = add(part, name=name)
    return Evaluation(
        model=model.describe(),
        data=run.data,
        seed=run.seed,
        limit=run.limit,
        metrics=run.suite.metrics,
        scores=scores,
        items=len(rows),
        failed=sum(1 for row in rows if row.error),
        seconds=seconds,
        notes=(
            f"{run.suite.source}. Known flaws: {run.suite.flaws}.",
            *([] if run.suite.by_letter else [WARNING]),
            *asking.failure_notes(answers.values()),
            # Continuations are short by design, so a cut one deserves no note.
            *([] if run.suite.generates else asking.answer_notes(answers.values(), LETTER_TOKENS, model.describe())),
        ),
        method_version=SCORING_VERSION,
        versions=versions("torch", "transformers", "openvino-genai", "numpy"),
    )
