"""Counterfactuals on the user's own test set: the same question with another group of people named in it."""

from __future__ import annotations

import hashlib
import re
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache, partial
from importlib import resources
from typing import Any, NamedTuple

import numpy as np

from sizewise import datasets
from sizewise.datasets.sampling import sample_examples
from sizewise.errors import UsageError
from sizewise.evaluation import asking
from sizewise.evaluation.asking import Work, ask
from sizewise.evaluation.likelihoods import Continuation, continuation_nats
from sizewise.evaluation.run import dataset_id
from sizewise.metrics import AnswerItem, find_metric, total
from sizewise.metrics.manner import refuses
from sizewise.metrics.match import words_of
from sizewise.models import Engine, Model, open_model
from sizewise.models.base import count_tokens
from sizewise.models.prompts import PROMPT_VERSION, answer_limit, question_prompt
from sizewise.progress import Reporter, Silent
from sizewise.records import Completion, Evaluation, Example, ItemRow, Message, Request, Score
from sizewise.store import Ledger, Saved, Store, versions

FEW = 30
MOST_ITEMS, MOST_ASKED = 200, 40  # of one kind of group: weighed, and answered
SUITE = "counterfactuals"
METRICS = ("counterfactual_likelihood", "counterfactual_quality", "counterfactual_refusal", "counterfactual_sentiment")
# After these "her" stands for "him", before anything else for "his".
_AFTER_HIM = {
    "and", "or", "but", "to", "in", "on", "at", "for", "with", "from", "by", "that",
    "when", "if", "as", "was", "is", "were", "are", "had", "has", "who", "because", "the",
    "a", "an", "some", "any", "this", "these", "it", "them", "my", "your",
}  # fmt: skip
FLAWS = (
    "word lists of our own, in English; a group's word may be rarer than another's, or not fit the question, and that "
    "costs by itself; a difference of groups is a question to a person, not a verdict"
)


class Kind(NamedTuple):
    """A kind of group, such as religion."""

    name: str
    groups: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    """The same word for each group."""
    before: tuple[str, ...]
    """Word of each group that is put before a person; none where there are no such words."""


class Swapped(NamedTuple):
    """An example with the words of one group in it."""

    prompt: str
    answer: str


@lru_cache(maxsize=1)
def _known() -> dict[str, Any]:
    return tomllib.loads(
        (resources.files("sizewise.evaluation") / "data" / "counterfactuals.toml").read_text(encoding="utf-8")
    )


def kinds() -> tuple[Kind, ...]:
    """Give all kinds of groups."""
    return tuple(
        Kind(name, tuple(one["groups"]), tuple(map(tuple, one["rows"])), tuple(one.get("before", ())))
        for name, one in _known().items()
        if isinstance(one, dict) and "groups" in one
    )


@lru_cache(maxsize=16)
def _pattern(kind: Kind) -> re.Pattern[str]:
    words = sorted({word for row in kind.rows for word in row}, key=len, reverse=True)
    return re.compile(r"(?<![\w'])(?:" + "|".join(map(re.escape, words)) + r")(?![\w'])", re.IGNORECASE)


def swap(kind: Kind, prompt: str, answer: str) -> list[Swapped]:
    """Write an example once for each group; nothing where its question names nobody.

    Args:
        kind: kind of group.
        prompt: the question.
        answer: its right answer, in which the same words are swapped.
    """
    if kind.rows and _pattern(kind).search(prompt):
        return [
            Swapped(_replaced(kind, place, prompt), _replaced(kind, place, answer)) for place in range(len(kind.groups))
        ]
    people = re.search(rf"\b(?:{'|'.join(_known()['people'])})\b", prompt, re.IGNORECASE)
    if not kind.before or people is None:
        return []
    head, tail = prompt[: people.start()], prompt[people.start() :]
    return [Swapped(_article(head, f"{word} " if word else "") + tail, answer) for word in kind.before]


def _article(head: str, word: str) -> str:
    """Put a word before a person, with the article that fits it."""
    if not word:
        return head
    fitting = "an" if word[0].lower() in "aeiou" else "a"
    return re.sub(r"\b(a)n?( )$", lambda m: f"{m.group(1)}{fitting[1:]} ", head, flags=re.IGNORECASE) + word


def _replaced(kind: Kind, place: int, text: str) -> str:
    def other(found: re.Match[str]) -> str:
        word = found.group()
        rows = [row for row in kind.rows if word.lower() in row]
        row = rows[0]
        if word.lower() == "her":
            after = re.match(r"\s+([A-Za-z]+)", text[found.end() :])
            his = after is not None and after.group(1).lower() not in _AFTER_HIM
            row = next(one for one in rows if one[0] == ("his" if his else "him"))
        new = row[place]
        if new == word.lower():
            return word
        return new.upper() if word.isupper() and len(word) > 1 else new.title() if word[0].isupper() else new

    return _pattern(kind).sub(other, text)


def tone(text: str) -> float:
    """Give (good - bad) words among both, -1 to 1; 0 where there are none. A list of our own, in English."""
    words = words_of(text)
    good, bad = (sum(word in known for word in words) for known in (_known()["tone"]["good"], _known()["tone"]["bad"]))
    return (good - bad) / (good + bad) if good + bad else 0.0


class _Case(NamedTuple):
    id: str
    kind: Kind
    example: Example
    variants: list[Swapped]


def evaluate_counterfactuals(
    model: str,
    data: str,
    *,
    store: Store | None = None,
    limit: int | None = None,
    seed: int = 0,
    engine: Engine = "transformers",
    reporter: Reporter | None = None,
) -> Saved[Evaluation]:
    """Measure what changes when another group of people is named in the questions of a test set.

    For each kind of group (gender, name, age, nationality, religion, disability, dialect) every touched question is
    asked once for each group. A score is a group's mean difference to the mean of all groups, over the same questions:
    of the right answer's bits a byte, of the answer's chrF, of refusals, of its tone.

    Args:
        model: model URI.
        data: dataset id or JSONL file.
        store: where records live; by default SIZEWISE_HOME.
        limit: most questions of each kind; by default 200 are weighed and 40 answered.
        seed: seed of the draw and of the resampling.
        engine: what runs a model of this machine.
        reporter: told how far it is.

    Raises:
        UsageError: the dataset has no test examples.
        SizewiseError: data or model cannot be opened.
    """
    store, reporter = store or Store(), reporter or Silent()
    data_id = dataset_id(data, store, seed)
    contents = datasets.load(store, data_id)
    examples = sample_examples(contents.examples["test"], None, seed)
    if not examples:
        raise UsageError(f"{data_id} has no test examples.", "questions in which people are named", "--suite bias")
    cases = list(_cases(examples, limit or MOST_ITEMS))
    content = hashlib.sha256(repr([(case.id, case.variants) for case in cases]).encode()).hexdigest()[:10]
    name = f"suite:{SUITE}:{content}"
    opened = open_model(model, store=store, engine=engine, say=reporter.say)
    try:
        description = opened.describe()
        found = asking.evaluation_id(description, name, data_id, limit, seed, PROMPT_VERSION)
        if (before := asking.existing(store, found)) is not None:
            return before
        with store.lock("evaluation", found), store.ledger("evaluation", found) as ledger:
            begun = time.monotonic()
            rows: list[ItemRow] = []
            if description.can_score:
                rows += _weighed(opened, cases, ledger, reporter)
            known = [example for split in contents.examples.values() for example in split]
            max_tokens = answer_limit(known, partial(count_tokens, opened))
            chosen = _few_of_each(cases, min(limit or MOST_ASKED, MOST_ITEMS))
            answers = _answers(opened, chosen, max_tokens, ledger, reporter)
            if not rows or asking.unanswered(answers.values()):
                again = f"sizewise evaluate {description.uri} --suite {SUITE} --data {data_id}"
                asking.refuse_no_answer(description.uri, answers, again)
            rows += _answered(chosen, answers)
            how = opened.signature() if description.can_score else ""
            record = Evaluation(
                model=description,
                data=name,
                seed=seed,
                limit=limit,
                metrics=METRICS,
                scores=_scores(cases, rows, how, seed),
                items=len(rows),
                failed=sum(1 for row in rows if row.error),
                seconds=time.monotonic() - begun,
                notes=(
                    f"test questions of {data_id} with other groups named; known flaws: {FLAWS}",
                    "under 30 touched questions there is no score: the packaged set stands in, --suite bias",
                    "no gap shown is no proof of fairness",
                    *asking.failure_notes(answers.values()),
                    *asking.answer_notes(answers.values(), max_tokens, description),
                ),
                versions=versions("torch", "transformers", "openvino-genai", "numpy"),
            )
            return asking.write(store, found, record, rows, asking.unanswered(answers.values()))
    finally:
        opened.close()


def _cases(examples: Sequence[Example], most: int) -> Iterator[_Case]:
    for kind in kinds():
        count = 0
        for example in examples:
            variants = swap(kind, example.prompt, example.references[0]) if len(example.messages) == 1 else []
            if variants and count < most:
                count += 1
                yield _Case(f"{kind.name}:{example.id}", kind, example, variants)


def _weighed(model: Model, cases: Sequence[_Case], ledger: Ledger, reporter: Reporter) -> list[ItemRow]:
    """Weigh the right answers after each question."""
    groups = [
        (case.id, [Continuation(question_prompt(one.prompt), f" {one.answer}") for one in case.variants])
        for case in cases
    ]
    nats = continuation_nats(model, groups, SUITE, "weighing swapped questions", ledger, reporter)
    rows = []
    for case in cases:
        sizes = np.array([len(f" {one.answer}".encode()) for one in case.variants])
        bits = np.array([value for value, _ in nats[case.id]]) / np.log(2) / sizes
        good = bool(np.isfinite(bits).all())
        stats = _against_the_mean("counterfactual_likelihood", case.kind, bits) if good else {}
        rows.append(_row(case, "choice", stats, None if good else "not a number"))
    return rows


def _against_the_mean(metric: str, kind: Kind, values: np.ndarray) -> dict[str, tuple[float, ...]]:
    apart = values - values.mean()
    return {f"{metric}#{kind.name}: {group}": (float(v), 1.0) for group, v in zip(kind.groups, apart, strict=True)}


def _row(case: _Case, kind: Any, stats: dict[str, tuple[float, ...]], error: str | None, said: str = "") -> ItemRow:
    return ItemRow(
        item=case.id,
        kind=kind,
        cluster=case.example.source,
        uncontaminated=True,
        prompt=case.variants[0].prompt,
        references=tuple(one.answer for one in case.variants),
        completion=said or None,
        error=error,
        stats=stats,
    )


def _few_of_each(cases: Sequence[_Case], most: int) -> list[_Case]:
    """Take at most so many cases of each kind of group."""
    taken: dict[str, int] = {}
    chosen = []
    for case in cases:
        taken[case.kind.name] = taken.get(case.kind.name, 0) + 1
        if taken[case.kind.name] <= most:
            chosen.append(case)
    return chosen


def _answers(
    model: Model, cases: Sequence[_Case], max_tokens: int, ledger: Ledger, reporter: Reporter
) -> dict[str, Completion]:
    """Let the model answer the questions of each group."""
    requests = [_request(model, case, i, max_tokens) for case in cases for i in range(len(case.variants))]
    return ask(model, requests, Work("swap answers", "answering swapped questions"), ledger, reporter)


def _answered(cases: Sequence[_Case], done: Mapping[str, Completion]) -> list[ItemRow]:
    """Measure the answers to the questions of each group."""
    chrf = find_metric("chrf")
    rows = []
    for case in cases:
        answers = [done[f"{case.id}|{i}"] for i in range(len(case.variants))]
        error = next((one.error for one in answers if one.error), None)
        stats: dict[str, tuple[float, ...]] = {}
        if error is None:
            items = [
                AnswerItem(one.text, (variant.answer,), variant.prompt)
                for one, variant in zip(answers, case.variants, strict=True)
            ]
            quality = [float(chrf.value(np.array(chrf.measure(item), dtype=np.float64))) for item in items]
            stats |= _against_the_mean("counterfactual_quality", case.kind, np.array(quality))
            refused = np.array([float(refuses(one.text)) for one in answers])
            stats |= _against_the_mean("counterfactual_refusal", case.kind, refused)
            stats |= _against_the_mean(
                "counterfactual_sentiment", case.kind, np.array([tone(one.text) for one in answers])
            )
        rows.append(_row(case, "example", stats, error, "\n---\n".join(one.text for one in answers)))
    return rows


def _request(model: Model, case: _Case, place: int, max_tokens: int) -> Request:
    prompt = case.variants[place].prompt
    name = f"{case.id}|{place}"
    if model.describe().can_chat:
        return Request(id=name, messages=(Message(role="user", content=prompt),), max_tokens=max_tokens, fit=True)
    return Request(id=name, text=question_prompt(prompt), stop=("\n",), max_tokens=max_tokens, fit=True)


def _scores(cases: Sequence[_Case], rows: Sequence[ItemRow], how: str, seed: int) -> dict[str, Score]:
    found: dict[str, Score] = {}
    for name in METRICS:
        metric = find_metric(name)
        signature = f"suite:{SUITE}" + (f"|{how}" if how and name == "counterfactual_likelihood" else "")
        for kind in kinds():
            touched = sum(case.kind.name == kind.name for case in cases)
            for group in kind.groups:
                key = f"{name}#{kind.name}: {group}"
                part = [row.model_copy(update={"stats": {name: row.stats[key]}}) for row in rows if key in row.stats]
                if len(part) < FEW:
                    missing = (
                        f"{touched} questions name such people, fewer than {FEW}"
                        if touched < FEW
                        else (f"{len(part)} questions were measured, fewer than {FEW}")
                    )
                    found[key] = Score(
                        metric=key, n=len(part), unit=metric.unit, signature=signature, missing_reason=missing
                    )
                else:
                    found[key] = total(metric, part, name=key, signature=signature, seed=seed)
    return found
