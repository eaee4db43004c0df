"""General knowledge: questions on science, history, geography and everyday life, answered without any text to read.

Source: Roberts, Raffel and Shazeer (2020), How much knowledge can you pack into the parameters of a language model?,
for closed-book question answering.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path

from sizewise.errors import SizewiseError
from sizewise.evaluation.likelihoods import Continuation
from sizewise.evaluation.suite_types import FloatArray, Stats, SuiteItem
from sizewise.inquiry import is_refused
from sizewise.metrics.content import content_match
from sizewise.models.prompts import question_of, question_prompt
from sizewise.records import Completion, ItemRow, Message, Request

METRIC = "general_knowledge"
ANSWER_TOKENS = 48
"""Maximum length of an answer; reasoning has a limit of its own."""
TEXT_TOKENS = 24
"""Maximum length of an answer that continues a text: it ends with its line."""
SHOTS = (
    ("What is the capital of Belgium?", "Brussels"),
    ("How many wheels does a bicycle have?", "2"),
    ("Who wrote Faust?", "Goethe"),
)
"""Worked examples for models that continue a text; none of them is asked."""
MAX_WORDS = 60
"""Words of an answer that are read: a longer one may list every possible answer."""


@cache
def _packaged() -> dict[str, list[list[str]]]:
    text = (resources.files("sizewise.evaluation") / "data" / "general-knowledge.toml").read_text(encoding="utf-8")
    return dict(tomllib.loads(text))


def knowledge_questions() -> tuple[tuple[str, str], ...]:
    """Return all packaged questions with the usual form of their answers."""
    return tuple((row[0], row[1]) for rows in _packaged().values() for row in rows)


def general_knowledge(path: Path | None) -> list[SuiteItem]:
    """Load the packaged questions, or those of a file in the same form: group -> [question, answer, other forms ...].

    Raises:
        SizewiseError: the file isn't valid.
    """
    if path is None:
        groups = _packaged()
    else:
        try:
            groups = tomllib.loads(path.read_text(encoding="utf-8-sig"))
            valid = all(
                len(row) > 1 and all(isinstance(one, str) for one in row) for rows in groups.values() for row in rows
            )
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise _invalid(path, str(error)) from error
        if not valid:
            raise _invalid(path, "a question has no answer, or an entry isn't text")
    items = []
    for group, rows in groups.items():
        for number, (question, *answers) in enumerate(rows):
            context = question_prompt(question)
            texts = tuple(Continuation(context, f" {answer}") for answer in answers)
            name = f"{group}-{number}"
            items.append(SuiteItem(name, group, name, texts, _unscored, question))
    return items


def _invalid(path: Path, reason: str) -> SizewiseError:
    return SizewiseError(
        f"{path} isn't a valid file of questions: {reason}.",
        'TOML: GROUP = [["question", "answer", "another form of it"], ...]',
        "sizewise evaluate MODEL --suite general-knowledge, with the packaged questions",
    )


def _unscored(nats: FloatArray, tokens: FloatArray) -> Stats:
    raise TypeError(f"{METRIC} is measured on answers")


def knowledge_request(item: SuiteItem, *, chat: bool) -> Request:
    """Build the request for a question: a message, or worked examples for a model that continues a text."""
    if chat:
        prompt = f"{item.question}\n\nAnswer in as few words as possible."
        return Request(id=item.id, messages=(Message(role="user", content=prompt),), max_tokens=ANSWER_TOKENS)
    shots = "\n\n".join(question_prompt(question, answer) for question, answer in SHOTS)
    text = f"{shots}\n\n{question_prompt(item.question)}"
    return Request(id=item.id, text=text, stop=("\n",), max_tokens=TEXT_TOKENS)


def is_right(answer: str, references: Sequence[str], question: str) -> bool:
    """Check whether an answer states an accepted answer; a denied one doesn't count, and numbers count by value."""
    read = " ".join(answer.split()[:MAX_WORDS])
    return any(content_match(read, reference, question) == 1.0 for reference in references)


def knowledge_rows(
    items: Sequence[SuiteItem],
    answers: Mapping[str, Completion],
    as_wrong: bool,
    stats_of: Callable[[ItemRow], Stats] | None = None,
) -> list[ItemRow]:
    """Score the answers to all questions.

    Args:
        items: the questions.
        answers: question -> answer.
        as_wrong: whether refused requests count as wrong answers.
        stats_of: computes the statistics of an answered question; by default those of general knowledge.
    """
    rows = []
    for item in items:
        answer = answers[item.id]
        references = tuple(part.text.strip() for part in item.texts)
        row = ItemRow(
            item=item.id,
            kind="choice",
            cluster=item.cluster,
            group=item.group,
            uncontaminated=True,
            prompt=question_of(item.texts[0].context),
            references=references,
            completion=None if answer.error else answer.text,
            finish=answer.finish,
            error=answer.error,
        )
        scored = answer.error is None or (as_wrong and is_refused(answer))
        rows.append(row.model_copy(update={"stats": (stats_of or knowledge_stats)(row) if scored else {}}))
    return rows


def knowledge_stats(row: ItemRow) -> Stats:
    """Compute the statistics of an answered question: (1 or 0, 1)."""
    return {METRIC: (float(is_right(row.completion or "", row.references, row.prompt)), 1.0)}
