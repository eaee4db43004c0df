"""Prompt formats: a chat conversation, or plain text with few-shot examples."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Literal

from sizewise.datasets import DatasetContents
from sizewise.models.token_counts import estimate_tokens
from sizewise.records import Example, Request

Form = Literal["chat", "few_shot"]
SHOTS = 2
MAX_SHOT_BYTES = 2_400
"""Maximum size of one few-shot example. Counted in bytes, so that every model and engine gets the same examples."""
PROMPT_VERSION = 3
"""Part of an evaluation's id. Increase it when prompts or the handling of answers change."""
MIN_TOKENS, UNKNOWN_TOKENS = 64, 256
SLACK, PERCENTILE, HEADROOM = 1.5, 0.95, 16
"""Room for correct answers that are worded differently and are longer than the reference."""

Count = Callable[[Sequence[str]], Sequence[int]]
"""Counts the tokens of each text."""


def question_prompt(question: str, answer: str | None = None) -> str:
    """Format a question as plain text, for a model to continue with its answer.

    Args:
        question: the question.
        answer: reference answer, for a few-shot example; None ends the text where the model's answer begins.
    """
    prompt = f"Question: {question}\nAnswer:"
    return prompt if answer is None else f"{prompt} {answer}"


def question_of(prompt: str) -> str:
    """Extract the question from a `question_prompt`. Text in front of the question is kept."""
    return prompt.removesuffix("\nAnswer:").removeprefix("Question: ")


def answer_limit(examples: Sequence[Example], count: Count = estimate_tokens) -> int:
    """Compute the maximum answer length in tokens: at least 64, and enough for every reference answer.

    The limit covers the longest reference and 1.5 times the 95th percentile. Because the factor
    doesn't apply to the longest reference, one outlier can't give a rambling model even more room.

    Args:
        examples: examples with reference answers.
        count: counts tokens, with the model's own tokenizer if it is on this machine.
    """
    texts = list(dict.fromkeys(reference for example in examples for reference in example.references))
    if not texts:
        return UNKNOWN_TOKENS
    tokens = sorted(count(texts))
    typical = tokens[math.ceil(PERCENTILE * (len(tokens) - 1))]
    return max(MIN_TOKENS, HEADROOM + max(tokens[-1], math.ceil(SLACK * typical)))


def mean_answer_tokens(examples: Sequence[Example]) -> float:
    """Estimate the tokens of a typical answer as the mean over the reference answers."""
    texts = [example.references[0] for example in examples]
    return sum(estimate_tokens(texts)) / len(texts) if texts else UNKNOWN_TOKENS


def choose_shots(contents: DatasetContents, seed: int) -> tuple[Example, ...]:
    """Sample few-shot examples from the training split, without long ones, which would fill the context."""
    pool = [
        example
        for example in contents.examples["train"]
        if len(example.messages) == 1
        and len(example.prompt.encode()) + len(example.references[0].encode()) <= MAX_SHOT_BYTES
    ]
    return tuple(random.Random(seed).sample(pool, min(SHOTS, len(pool))))


def stop_texts(examples: Sequence[Example]) -> tuple[str, ...]:
    """Choose the stop texts of plain-text answers: the end of the line if every reference fits on one line."""
    if examples and not any("\n" in example.references[0].strip() for example in examples):
        return ("\n",)
    return ("\n\n", "\nQuestion:")


def make_request(
    example: Example, form: Form, shots: Sequence[Example], max_tokens: int, stop: tuple[str, ...]
) -> Request:
    """Build the request for an example in a prompt format."""
    if form == "chat":
        return Request(
            id=example.id, messages=example.messages, max_tokens=max_tokens, copy_text=example.copy_text, fit=True
        )
    blocks = [question_prompt(shot.prompt, shot.references[0]) for shot in shots]
    question = "\n".join(message.content for message in example.messages)
    return Request(
        id=example.id,
        messages=example.messages,
        text="\n\n".join([*blocks, question_prompt(question)]),
        stop=stop,
        max_tokens=max_tokens,
        copy_text=example.copy_text,
        fit=True,
    )
