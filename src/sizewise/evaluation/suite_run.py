"""evaluate_suite(): weigh a suite's texts with a model, add up over all and by group."""

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
from sizewise.evaluation.asking import Work, ask
from sizewise.evaluation.counterfactuals import SUITE as COUNTERFACTUALS
from sizewise.evaluation.counterfactuals import evaluate_counterfactuals, tone
from sizewise.evaluation.harness import evaluate_harness
from sizewise.evaluation.likelihoods import NOT_A_NUMBER, continuation_nats
from sizewise.evaluation.suites import Suite, SuiteItem, find_suite, groups_of
from sizewise.metrics import find_metric, total
from sizewise.metrics.harness import PREFIX
from sizewise.models import Engine, Model, open_model
from sizewise.models.prompts import PROMPT_VERSION, question_of
from sizewise.progress import Reporter, Silent
from sizewise.records import Completion, Evaluation, ItemRow, Message, Request, Score
from sizewise.store import Ledger, Saved, Store, versions

FEW = 30
LETTERS = "ABCDEFGH"
WRITTEN_TOKENS = 40
ASKED_TOKENS = 200  # for models that reason first
WARNING = "no gap shown is no proof of fairness: these sets hold few groups, one language and the writers' own views"


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
    seed: int = 0,
    engine: Engine = "transformers",
    reporter: Reporter | None = None,
) -> Saved[Evaluation]:
    """Measure a model on a suite of bias, by log-likelihood, or on tasks of lm-evaluation-harness.

    Args:
        model: model URI.
        name: of the suite, see `SUITES`; `counterfactuals` on a test set of your own; or `lm-eval:TASK,TASK`.
        path: of its data, where the package does not hold it.
        store: where records live; by default SIZEWISE_HOME.
        limit: at most so many items, drawn with the seed.
        seed: of the draw and of the resampling.
        engine: what runs a model of this machine.
        reporter: told how far it is.

    Raises:
        UsageError: there is no such suite, or it needs a path.
        SizewiseError: its data is damaged, or the model cannot be opened or gives no log-likelihoods.
    """
    store, reporter = store or Store(), reporter or Silent()
    if name.startswith(PREFIX):
        return evaluate_harness(
            model, name, path, store=store, limit=limit, seed=seed, engine=engine, reporter=reporter
        )
    if name == COUNTERFACTUALS:
        if path is None:
            raise UsageError(
                "The counterfactual test needs a test set.",
                "a dataset id, or a JSONL file",
                "--suite counterfactuals --data ID",
            )
        return evaluate_counterfactuals(
            model, str(path), store=store, limit=limit, seed=seed, engine=engine, reporter=reporter
        )
    place = Path(path).expanduser() if path is not None else None
    suite = find_suite(name, place)
    items = suite.load(place)
    if not items:
        raise SizewiseError(f"No item of {name} was found in {path}.", f"the files of {name}", "")
    if limit is not None and limit < len(items):
        chosen = np.random.default_rng(seed).choice(len(items), limit, replace=False)
        items = [items[i] for i in sorted(chosen)]
    content = [(item.id, item.group, [one.context + one.text for one in item.texts]) for item in items]
    data = f"suite:{name}:{hashlib.sha256(repr(content).encode('utf-8')).hexdigest()[:10]}"
    opened = open_model(model, store=store, engine=engine, say=reporter.say)
    try:
        description = opened.describe()
        if not description.can_score and not (suite.asked or suite.written):
            raise SizewiseError(
                f"{description.uri} gives no log-likelihoods, which the suite {name} weighs.",
                "a model of this machine, or a server that gives them",
                "sizewise models",
            )
        asked = suite.written or not description.can_score
        found = asking.evaluation_id(description, data, limit, seed, *([PROMPT_VERSION] if asked else []))
        if (before := asking.existing(store, found)) is not None:
            return before
        run = _Run(name, suite, items, data, limit, seed)
        with store.lock("evaluation", found), store.ledger("evaluation", found) as ledger:
            begun = time.monotonic()
            answers: dict[str, Completion] = {}
            if suite.written:
                answers, rows = _written(opened, run, ledger, reporter)
            elif description.can_score:
                pairs = [(item.id, item.texts) for item in items]
                nats = continuation_nats(opened, pairs, "suite", f"weighing {name}", ledger, reporter)
                rows = [_row(item, nats[item.id]) for item in items]
            else:
                answers, rows = _asked(opened, run, ledger, reporter)
            record = _record(opened, run, rows, answers, time.monotonic() - begun)
            return asking.write(store, found, record, rows, asking.unanswered(answers.values()))
    finally:
        opened.close()


def _row(item: SuiteItem, measured: Sequence[tuple[float, int]]) -> ItemRow:
    nats, tokens = (np.array(part, dtype=np.float64) for part in zip(*measured, strict=True))
    good = bool(np.isfinite(nats).all())
    return ItemRow(
        item=item.id,
        kind="choice",
        cluster=item.cluster,
        uncontaminated=True,
        prompt=item.texts[0].context,
        references=tuple(one.text.strip() for one in item.texts),
        completion=item.texts[int(np.argmin(nats))].text.strip() if good else None,
        error=None if good else NOT_A_NUMBER,
        stats=item.measure(nats, tokens) if good else {},
    )


def _asked(model: Model, run: _Run, ledger: Ledger, reporter: Reporter) -> tuple[dict[str, Completion], list[ItemRow]]:
    """Let a model choose by letter."""
    orders = {}
    for item in run.items:
        seed = int(hashlib.sha256(f"{run.seed} {item.id}".encode()).hexdigest(), 16)
        orders[item.id] = [int(i) for i in np.random.default_rng(seed).permutation(len(item.texts))]
    requests = [_question(item, orders[item.id]) for item in run.items]
    answers = _said(model, run, requests, ledger, reporter)
    (metric,) = run.suite.metrics
    rows = []
    for item in run.items:
        answer = answers[item.id]
        chosen = _letter(answer.text, orders[item.id], [one.text.strip() for one in item.texts])
        rows.append(
            ItemRow(
                item=item.id,
                kind="choice",
                cluster=item.cluster,
                uncontaminated=True,
                prompt=item.texts[0].context,
                references=tuple(one.text.strip() for one in item.texts),
                completion=None if answer.error else answer.text,
                finish=answer.finish,
                error=answer.error,
                stats={} if answer.error else {metric: (float(chosen == 0), 1.0)},
            )
        )
    return answers, rows


def _said(
    model: Model, run: _Run, requests: Sequence[Request], ledger: Ledger, reporter: Reporter
) -> dict[str, Completion]:
    """Answer the questions of a suite, at least one of which must come back."""
    answers = ask(model, requests, Work("answers", f"asking {run.name}"), ledger, reporter)
    uri = model.describe().uri
    asking.refuse_no_answer(uri, answers, f"sizewise evaluate {uri} --suite {run.name}")
    return answers


def _written(
    model: Model, run: _Run, ledger: Ledger, reporter: Reporter
) -> tuple[dict[str, Completion], list[ItemRow]]:
    """Let a model write on, and measure the tone of what it writes."""
    api = model.describe().api
    requests = []
    for item in run.items:
        begun = item.texts[0].context
        ask = Message(role="user", content=f"Write on this sentence, and give nothing but what follows: {begun}")
        what: dict[str, Any] = {"messages": (ask,)} if api else {"text": begun}
        requests.append(Request(id=item.id, max_tokens=WRITTEN_TOKENS, **what))
    answers = _said(model, run, requests, ledger, reporter)
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
            stats={} if answer.error else {metric: (tone(answer.text), 1.0)},
        )
        for item, answer in ((item, answers[item.id]) for item in run.items)
    ]


def _question(item: SuiteItem, order: Sequence[int]) -> Request:
    question = question_of(item.texts[0].context)
    options = "\n".join(f"{LETTERS[place]}) {item.texts[i].text.strip()}" for place, i in enumerate(order))
    asked = f"{question}\n\n{options}\n\nAnswer with the letter of the right answer, and nothing else."
    return Request(id=item.id, messages=(Message(role="user", content=asked),), max_tokens=ASKED_TOKENS)


def _letter(said: str, order: Sequence[int], texts: Sequence[str]) -> int | None:
    """Give which text an answer chooses: by its letter, or by its words where only one of them stands there."""
    found = re.match(rf"\W*([A-{LETTERS[len(order) - 1]}])\b", said.strip(), re.IGNORECASE)
    if found:
        return order[LETTERS.index(found.group(1).upper())]
    named = [i for i, text in enumerate(texts) if text.lower().rstrip(".") in said.lower()]
    return named[0] if len(named) == 1 else None


def _record(
    model: Model, run: _Run, rows: Sequence[ItemRow], answers: Mapping[str, Completion], seconds: float
) -> Evaluation:
    how = model.signature() if model.describe().can_score else "asked for a letter"
    if run.suite.written:
        how = f"written on, {WRITTEN_TOKENS} tokens"
    signature = f"suite:{run.name}|{how}"
    scores: dict[str, Score] = {}
    metrics = [find_metric(metric) for metric in run.suite.metrics]
    for metric in metrics:
        add = partial(total, metric, signature=signature, seed=run.seed)
        scores[metric.name] = add(rows, name=metric.name)
        for group in groups_of(run.items):
            part = [row for row, item in zip(rows, run.items, strict=True) if item.group == group]
            part = [row for row in part if metric.name in row.stats]
            name = f"{metric.name}#{group}"
            if len(part) < FEW:
                scores[name] = Score(
                    metric=name,
                    n=len(part),
                    unit=metric.unit,
                    signature=signature,
                    missing_reason=f"{len(part)} items, fewer than {FEW}",
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
            f"{run.suite.source}; known flaws: {run.suite.flaws}",
            *([] if run.suite.asked else [WARNING]),
            *asking.failure_notes(answers.values()),
            # What a suite lets a model write on is cut by intention.
            *([] if run.suite.written else asking.answer_notes(answers.values(), ASKED_TOKENS, model.describe())),
        ),
        versions=versions("torch", "transformers", "openvino-genai", "numpy"),
    )
