"""Forms of prompt: the model's own chat, or plain text with worked examples."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Literal

from sizewise.datasets import DatasetContents
from sizewise.models.base import estimate_tokens
from sizewise.records import Example, Request

Form = Literal["chat", "few_shot"]
SHOTS = 2
MOST_SHOT_BYTES = 2_400
"""Of one worked example; in bytes, so that every model and engine is shown the same ones, in any language."""
WAY = 3
"""Counts up when prompts are chosen or answers are taken in another way: an earlier evaluation is then another one."""
LEAST_TOKENS, UNKNOWN_TOKENS = 64, 256
LONGER, USUAL, HEADROOM = 1.5, 0.95, 16
"""A right answer in other words may be longer than the known one."""

Count = Callable[[Sequence[str]], Sequence[int]]
"""Counts the tokens of texts."""


def answer_limit(examples: Sequence[Example], count: Count = estimate_tokens) -> int:
    """Return the most tokens an answer may have: never fewer than 64, and none that would cut a reference answer.

    The longest reference fits, and 1.5 times the 95th percentile, so that a single long one does not let a model that
    rambles go on half as long again.

    Args:
        examples: whose reference answers are known.
        count: counts the tokens of texts, by the model's own tokenizer where there is one.
    """
    texts = list(dict.fromkeys(reference for example in examples for reference in example.references))
    if not texts:
        return UNKNOWN_TOKENS
    tokens = sorted(count(texts))
    usual = tokens[math.ceil(USUAL * (len(tokens) - 1))]
    return max(LEAST_TOKENS, HEADROOM + max(tokens[-1], math.ceil(LONGER * usual)))


def usual_tokens(examples: Sequence[Example]) -> float:
    """Estimate the tokens of a usual answer: the mean of the reference answers."""
    texts = [example.references[0] for example in examples]
    return sum(estimate_tokens(texts)) / len(texts) if texts else UNKNOWN_TOKENS


def choose_shots(contents: DatasetContents, seed: int) -> tuple[Example, ...]:
    """Draw the worked examples from the training split; long ones are no examples but a burden on the context."""
    pool = [
        example
        for example in contents.examples["train"]
        if len(example.messages) == 1
        and len(example.prompt.encode()) + len(example.references[0].encode()) <= MOST_SHOT_BYTES
    ]
    return tuple(random.Random(seed).sample(pool, min(SHOTS, len(pool))))


def stop_texts(examples: Sequence[Example]) -> tuple[str, ...]:
    """Say where a plain answer ends: at the line's end, if all known answers are one line."""
    if examples and not any("\n" in example.references[0].strip() for example in examples):
        return ("\n",)
    return ("\n\n", "\nQuestion:")


def make_request(
    example: Example, form: Form, shots: Sequence[Example], max_tokens: int, stop: tuple[str, ...]
) -> Request:
    """Turn an example into a request of a form."""
    if form == "chat":
        return Request(
            id=example.id, messages=example.messages, max_tokens=max_tokens, copy_text=example.copy_text, fit=True
        )
    blocks = [f"Question: {shot.prompt}\nAnswer: {shot.references[0]}" for shot in shots]
    asked = "\n".join(message.content for message in example.messages)
    return Request(
        id=example.id,
        messages=example.messages,
        text="\n\n".join([*blocks, f"Question: {asked}\nAnswer:"]),
        stop=stop,
        max_tokens=max_tokens,
        copy_text=example.copy_text,
        fit=True,
    )
