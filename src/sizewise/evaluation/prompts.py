"""Forms of prompt: the model's own chat, or plain text with worked examples."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal

from sizewise.dataset import DatasetContents
from sizewise.records import Example, Request

Form = Literal["chat", "few_shot"]
SHOTS, MOST_SHOT_WORDS = 2, 800
WAY = 2
"""Counts up when prompts are chosen or answers are taken in another way: an earlier evaluation is then another one."""
LEAST_TOKENS, MOST_TOKENS, UNKNOWN_TOKENS = 16, 768, 256


def answer_limit(examples: Sequence[Example]) -> int:
    """Give the longest answer worth waiting for: the 95th percentile of the known answers.

    A word is counted as 1.5 tokens; the result lies between 16 and 768 tokens.
    """
    words = sorted(len(example.references[0].split()) for example in examples)
    if not words:
        return UNKNOWN_TOKENS
    long = words[min(len(words) - 1, int(0.95 * len(words)))]
    return max(LEAST_TOKENS, min(MOST_TOKENS, round(long * 1.5)))


def choose_shots(contents: DatasetContents, seed: int) -> tuple[Example, ...]:
    """Draw the worked examples from the training split; long ones are no examples but a burden on the context."""
    pool = [
        example
        for example in contents.examples["train"]
        if len(example.messages) == 1
        and len(example.prompt.split()) + len(example.references[0].split()) <= MOST_SHOT_WORDS // SHOTS
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
        return Request(id=example.id, messages=example.messages, max_tokens=max_tokens, copy_text=example.copy_text)
    blocks = [f"Question: {shot.prompt}\nAnswer: {shot.references[0]}" for shot in shots]
    asked = "\n".join(message.content for message in example.messages)
    return Request(
        id=example.id,
        messages=example.messages,
        text="\n\n".join([*blocks, f"Question: {asked}\nAnswer:"]),
        stop=stop,
        max_tokens=max_tokens,
        copy_text=example.copy_text,
    )
