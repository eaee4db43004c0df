"""evaluate_suite(): runs a benchmark suite on a model and scores it overall and by group."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sizewise.errors import SizewiseError, UsageError
from sizewise.evaluation import asking
from sizewise.evaluation.closed_book import ANSWER_TOKENS, knowledge_request, knowledge_rows
from sizewise.evaluation.code_problems import code_request, code_stats
from sizewise.evaluation.counterfactuals import evaluate_counterfactuals, sentiment
from sizewise.evaluation.forced_choice import (
    CHOICE_TOKENS,
    CHOICE_VERSION,
    CONTROL,
    GATED,
    LETTERS,
    Asked,
    choice_requests,
    control_questions,
    missing_bias,
    power_notes,
    question_of_item,
    score_choices,
)
from sizewise.evaluation.forced_choice import METRICS as CHOICE_METRICS
from sizewise.evaluation.harness import evaluate_harness
from sizewise.evaluation.likelihoods import NOT_A_NUMBER, continuation_nats
from sizewise.evaluation.options import FAILURES_AS_WRONG, EvaluationOptions
from sizewise.evaluation.problems import WORKING_TOKENS, problem_request, problem_stats
from sizewise.evaluation.suite_types import Stats, Suite, SuiteItem
from sizewise.evaluation.suites import COUNTERFACTUALS, SUITES, find_suite, groups_of
from sizewise.inquiry import Inquiry, Work, is_refused
from sizewise.metrics import find_metric, total
from sizewise.metrics.base import SCORING_VERSION
from sizewise.metrics.harness import PREFIX
from sizewise.models import Model
from sizewise.models.on_ray import open_spread as open_model
from sizewise.models.prompts import PROMPT_VERSION, question_of
from sizewise.progress import Reporter, Silent
from sizewise.records import Evaluation, ItemRow, Message, Request, Score
from sizewise.store import Saved, Store, versions
from sizewise.text import fold_text, read_label

MIN_ITEMS = 30
CLOSED_BOOK = "closed book"
"""Part of the signature of questions that are answered in words, without any text to read."""
ASKED_BY_LETTER = "asked for a letter"
"""Part of the signature of choices that a model named in words."""
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
    as_wrong: bool = False
    """Whether refused requests count as wrong choices."""
    letters: bool = False
    """Whether a model with log-likelihoods is asked for a letter, too."""

    def is_scored(self, model: Model) -> bool:
        """Whether the choices are scored by log-likelihood."""
        return model.describe().can_score and not (self.letters or self.suite.generates or self.suite.closed_book)

    def is_asked(self, model: Model) -> bool:
        """Whether bias is measured by asking for choices."""
        return bool(self.suite.control) and not self.is_scored(model)


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
        options: seed, engine, and whether refused requests count as wrong; the other options don't apply to suites.
        reporter: receives progress.

    A model without log-likelihoods is asked to choose between the texts of a bias suite, in both orders; so is any
    model with the option `letters`.

    Raises:
        UsageError: the suite is unknown or needs a path, or an option doesn't apply to suites.
        SizewiseError: the data can't be read, or the model can't be opened.
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
    run = _load(name, Path(path).expanduser() if path is not None else None, limit, options)
    opened = open_model(model, store=store, engine=options.engine, max_usd=options.max_usd, say=reporter.say)
    try:
        return _evaluate(opened, run, store, options, reporter)
    finally:
        opened.close()


def _evaluate(
    model: Model, run: _Run, store: Store, options: EvaluationOptions, reporter: Reporter
) -> Saved[Evaluation]:
    """Evaluate an opened model on the items of a suite, unless the store holds that already."""
    description = model.describe()
    parts = (run.data, run.limit, options.seed, *_identity(model, run))
    evaluation_id = asking.choose_run(store, model, asking.evaluation_id(description, *parts), options)
    if (existing := asking.find_existing(store, evaluation_id)) is not None:
        return existing
    with store.lock("evaluation", evaluation_id), store.ledger("evaluation", evaluation_id) as ledger:
        begun = time.monotonic()
        inquiry = asking.inquire(model, ledger, reporter)
        if run.is_asked(model):
            rows, record = _ask_choices(model, run, inquiry, begun)
        else:
            rows = _measure(model, run, inquiry)
            inquiry.require(retry=_retry(run, description.uri))
            record = _record(model, run, rows, inquiry, time.monotonic() - begun)
        return asking.save(store, evaluation_id, record, rows, inquiry.unanswered, inquiry.outcomes().values())


def suite_prompts(
    name: str, path: str | Path | None = None, *, limit: int | None = None, options: EvaluationOptions | None = None
) -> list[Request]:
    """Return the prompts of a suite, to have them answered elsewhere and evaluated as recorded answers.

    Args:
        name: name in `SUITES`.
        path: data of the suite, if it isn't packaged.
        limit: maximum number of items, sampled with the seed.
        options: the seed.

    Raises:
        UsageError: the suite is unknown, needs a path, or has no questions.
    """
    run = _load(name, Path(path).expanduser() if path is not None else None, limit, options or EvaluationOptions())
    if run.suite.control:
        questions = [*map(question_of_item, run.items), *control_questions(run.suite.control)]
        return choice_requests(questions, chat=True, max_tokens=CHOICE_TOKENS)
    if run.suite.closed_book:
        return [_words_request(run, item, chat=True) for item in run.items]
    if run.suite.by_letter:
        return [_letter_request(item, letter_order(run.seed, item.id, len(item.texts))) for item in run.items]
    asked = [one for one, suite in SUITES.items() if suite.control or suite.closed_book or suite.by_letter]
    raise UsageError(
        f"The suite {name} has no questions to be answered elsewhere.",
        ", ".join(asked),
        f"sizewise evaluate --suite {asked[0]} --write-prompts FILE",
    )


def _retry(run: _Run, uri: str) -> str:
    return f"sizewise evaluate {uri} --suite {run.name}"


def _identity(model: Model, run: _Run) -> list[object]:
    """Return what decides the numbers besides the model, the data and the sample."""
    identity: list[object] = [] if run.is_scored(model) else [PROMPT_VERSION]
    identity += ["failures as wrong"] if run.as_wrong else []
    if run.is_asked(model):
        return [*identity, "choices", CHOICE_VERSION]
    return identity + (["letters"] if run.letters and model.describe().can_score else [])


def _load(name: str, path: Path | None, limit: int | None, options: EvaluationOptions) -> _Run:
    """Load the items of a suite, sampled down to the limit."""
    suite, seed = find_suite(name, path), options.seed
    items = suite.load(path)
    if not items:
        raise SizewiseError(
            f"{path} contains no items of {name}.",
            f"the files of {name}",
            f"sizewise evaluate MODEL --suite {name} --data PATH",
        )
    if limit is not None and limit < len(items):
        chosen = np.random.default_rng(seed).choice(len(items), limit, replace=False)
        items = [items[i] for i in sorted(chosen)]
    content = [(item.id, item.group, [part.context + part.text for part in item.texts]) for item in items]
    data = f"suite:{name}:{hashlib.sha256(repr(content).encode('utf-8')).hexdigest()[:10]}"
    return _Run(name, suite, items, data, limit, seed, options.count_failures_as_wrong, options.letters)


def _measure(model: Model, run: _Run, inquiry: Inquiry) -> list[ItemRow]:
    if run.suite.generates:
        return _continued(model, run, inquiry)
    if run.suite.closed_book:
        requests = [_words_request(run, item, chat=model.describe().can_chat) for item in run.items]
        answers = inquiry.ask(requests, Work("answers", f"Suite {run.name}"))
        return knowledge_rows(run.items, answers, run.as_wrong, _stats_of(run.suite))
    if not run.is_scored(model):
        return _chosen_by_letter(run, inquiry)
    pairs = [(item.id, item.texts) for item in run.items]
    nats = continuation_nats(model, pairs, Work("suite", f"Suite {run.name}"), inquiry)
    return [_row(item, nats[item.id], inquiry.error("suite", item.id)) for item in run.items]


def _stats_of(suite: Suite) -> Callable[[ItemRow], Stats] | None:
    """Return how answers in words are scored; None for those of general knowledge."""
    if suite.runs_code:
        return code_stats
    return partial(problem_stats, suite.metrics[0]) if suite.worked else None


def _words_request(run: _Run, item: SuiteItem, *, chat: bool) -> Request:
    if run.suite.runs_code:
        return code_request(item, WORKING_TOKENS, chat=chat)
    return problem_request(run.name, item, chat=chat) if run.suite.worked else knowledge_request(item, chat=chat)


def _row(item: SuiteItem, measured: Sequence[tuple[float, int]], failed: str | None) -> ItemRow:
    nats, tokens = (np.array(part, dtype=np.float64) for part in zip(*measured, strict=True))
    finite = bool(np.isfinite(nats).all())
    return ItemRow(
        item=item.id,
        kind="choice",
        cluster=item.cluster,
        group=item.group,
        uncontaminated=True,
        prompt=item.texts[0].context,
        references=tuple(part.text.strip() for part in item.texts),
        completion=item.texts[int(np.argmin(nats))].text.strip() if finite else None,
        error=None if finite else failed or NOT_A_NUMBER,
        stats=item.measure(nats, tokens) if finite else {},
    )


def _chosen_by_letter(run: _Run, inquiry: Inquiry) -> list[ItemRow]:
    """Query a model for the letter of its choice, with the options in random order."""
    orders = {item.id: letter_order(run.seed, item.id, len(item.texts)) for item in run.items}
    requests = [_letter_request(item, orders[item.id]) for item in run.items]
    answers = inquiry.ask(requests, Work("answers", f"Suite {run.name}"))
    (metric,) = run.suite.metrics
    rows = []
    for item in run.items:
        answer = answers[item.id]
        chosen = parse_choice(answer.text, orders[item.id], [part.text.strip() for part in item.texts])
        scored = answer.error is None or (run.as_wrong and is_refused(answer))
        rows.append(
            ItemRow(
                item=item.id,
                kind="choice",
                cluster=item.cluster,
                group=item.group,
                uncontaminated=True,
                prompt=item.texts[0].context,
                references=tuple(part.text.strip() for part in item.texts),
                completion=None if answer.error else answer.text,
                finish=answer.finish,
                error=answer.error,
                stats={metric: (float(chosen == 0), 1.0)} if scored else {},
            )
        )
    return rows


def _continued(model: Model, run: _Run, inquiry: Inquiry) -> list[ItemRow]:
    """Generate continuations of the prompts, and score their sentiment."""
    api = model.describe().api
    requests = []
    for item in run.items:
        prompt = item.texts[0].context
        message = Message(role="user", content=f"Write on this sentence, and give nothing but what follows: {prompt}")
        content: dict[str, Any] = {"messages": (message,)} if api else {"text": prompt}
        requests.append(Request(id=item.id, max_tokens=CONTINUATION_TOKENS, **content))
    answers = inquiry.ask(requests, Work("answers", f"Suite {run.name}"))
    (metric,) = run.suite.metrics
    return [
        ItemRow(
            item=item.id,
            kind="example",
            cluster=item.cluster,
            group=item.group,
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


def letter_order(seed: int, item: str, choices: int) -> list[int]:
    """Return the random order in which the choices of an item get their letters."""
    number = int(hashlib.sha256(f"{seed} {item}".encode()).hexdigest(), 16)
    return [int(i) for i in np.random.default_rng(number).permutation(choices)]


def parse_choice(answer: str, order: Sequence[int], texts: Sequence[str]) -> int | None:
    """Read the index of the chosen text, by its letter or by its words; None if neither is stated clearly."""
    letter = read_label(answer, [name.lower() for name in LETTERS[: len(order)]]).label
    if letter >= 0:
        return order[letter]
    named = read_label(answer, [fold_text(text.rstrip(".")) for text in texts]).label
    return named if named >= 0 else None


def _ask_choices(model: Model, run: _Run, inquiry: Inquiry, begun: float) -> tuple[list[ItemRow], Evaluation]:
    """Ask for the choices of a bias suite and its control questions."""
    description, form = model.describe(), run.suite.control
    questions = [*map(question_of_item, run.items), *control_questions(form)]
    requests = choice_requests(questions, chat=description.can_chat, max_tokens=CHOICE_TOKENS)
    answers = inquiry.ask(requests, Work("choices", f"Suite {run.name}: choices"))
    inquiry.require(retry=_retry(run, description.uri))
    method = f"{ASKED_BY_LETTER}|choices:both orders, control:{form}, v{CHOICE_VERSION}"
    asked = score_choices(questions, form, answers, f"suite:{run.name}|{method}")
    metrics = (*run.suite.metrics, *CHOICE_METRICS)
    record = _record(model, run, asked.rows, inquiry, time.monotonic() - begun, method=method, metrics=metrics)
    scores = _gated(record.scores, asked, form)
    notes = (*record.notes, *asked.notes, *power_notes(scores.values()))
    return asked.rows, record.model_copy(update={"scores": scores, "notes": notes})


def _gated(scores: Mapping[str, Score], asked: Asked, form: str) -> dict[str, Score]:
    """Replace the scores of bias by the reason why they aren't reported, if the control failed."""
    if asked.passed:
        return dict(scores)
    unknown = {"value": None, "ci_low": None, "ci_high": None, "ci_missing_reason": "", "clusters": None}
    reason = unknown | {"missing_reason": missing_bias(asked.control, form)}
    return {
        name: score.model_copy(update=reason) if name.partition("#")[0] in GATED else score
        for name, score in scores.items()
    }


def _method(model: Model, run: _Run) -> str:
    """Describe how the items were measured, for signatures."""
    method = model.signature() if run.is_scored(model) else ASKED_BY_LETTER
    if run.suite.generates:
        method = f"written on, {CONTINUATION_TOKENS} tokens"
    if run.suite.closed_book:
        form = "chat" if model.describe().can_chat else "few_shot"
        working = "|run in a process of its own" if run.suite.runs_code else "|with working" * run.suite.worked
        method = f"{CLOSED_BOOK}|form:{form}{working}"
    return method + (f"|{FAILURES_AS_WRONG}" if run.as_wrong else "")


def _answer_limit(run: _Run) -> int:
    if run.suite.closed_book:
        return WORKING_TOKENS if run.suite.worked else ANSWER_TOKENS
    return CHOICE_TOKENS if run.suite.control else LETTER_TOKENS


def _scores(run: _Run, rows: Sequence[ItemRow], metrics: Sequence[str], signature: str) -> dict[str, Score]:
    """Total each metric over all items, and over each group that has enough of them."""
    scores: dict[str, Score] = {}
    for metric in map(find_metric, metrics):
        add = partial(total, metric, signature=signature)
        scores[metric.name] = add(rows, name=metric.name)
        for group in groups_of(run.items) if metric.name != CONTROL else ():
            part = [row for row in rows if row.group == group and metric.name in row.stats]
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
    return scores


def _record(
    model: Model,
    run: _Run,
    rows: Sequence[ItemRow],
    inquiry: Inquiry,
    seconds: float,
    *,
    method: str = "",
    metrics: tuple[str, ...] = (),
) -> Evaluation:
    metrics = metrics or run.suite.metrics
    answers = [*inquiry.outcomes("answers").values(), *inquiry.outcomes("choices").values()]
    scores = _scores(run, rows, metrics, f"suite:{run.name}|{method or _method(model, run)}")
    return Evaluation(
        model=model.describe(),
        data=run.data,
        seed=run.seed,
        limit=run.limit,
        metrics=metrics,
        scores=scores,
        items=len(rows),
        failed=sum(1 for row in rows if row.error),
        seconds=seconds,
        notes=(
            f"{run.suite.source}. Known flaws: {run.suite.flaws}.",
            *([] if run.suite.by_letter or run.suite.closed_book else [WARNING]),
            *inquiry.notes(as_wrong=run.as_wrong if run.suite.by_letter or run.suite.closed_book else None),
            # Continuations are short by design, so a cut one deserves no note.
            *([] if run.suite.generates else asking.answer_notes(answers, _answer_limit(run), model.describe())),
        ),
        method_version=SCORING_VERSION,
        versions=versions("torch", "transformers", "openvino-genai", "numpy"),
    )
