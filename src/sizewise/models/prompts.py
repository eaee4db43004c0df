"""Prompt formats: a chat conversation, or plain text with few-shot examples."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal

from sizewise.datasets import DatasetContents
from sizewise.models.token_counts import estimate_tokens
from sizewise.records import Example, Request
from sizewise.records.tool_calls import conversation_text, text_turns, uses_tools

Form = Literal["chat", "few_shot"]
SHOTS = 2
MAX_SHOT_BYTES = 2_400
"""Maximum size of one few-shot example. Counted in bytes, so that every model and engine gets the same examples."""
PROMPT_VERSION = 6
"""Part of an evaluation's id. Increase it when prompts or the handling of answers change."""
COUNTED_AT_ONCE = 1_024  # reference answers
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


def answer_limit(examples: Iterable[Example], count: Count = estimate_tokens) -> int:
    """Compute the maximum answer length in tokens: at least 64, and enough for every reference answer.

    The limit covers the longest reference and 1.5 times the 95th percentile. Because the factor
    doesn't apply to the longest reference, one outlier can't give a rambling model even more room.

    Args:
        examples: examples with reference answers.
        count: counts tokens, with the model's own tokenizer if it is on this machine.
    """
    texts = (reference for example in examples for reference in example.references)
    tokens = sorted(tokens for batch in _batches(texts) for tokens in count(batch))
    if not tokens:
        return UNKNOWN_TOKENS
    typical = tokens[math.ceil(PERCENTILE * (len(tokens) - 1))]
    return max(MIN_TOKENS, HEADROOM + max(tokens[-1], math.ceil(SLACK * typical)))


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """Group distinct texts into lists of limited size."""
    seen: set[bytes] = set()
    batch: list[str] = []
    for text in texts:
        key = hashlib.blake2b(text.encode(), digest_size=16).digest()
        if key not in seen:
            seen.add(key)
            batch.append(text)
        if len(batch) == COUNTED_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


def mean_answer_tokens(examples: Iterable[Example]) -> float:
    """Estimate the tokens of a typical answer as the mean over the examples with a reference answer."""
    tokens = count = 0
    for example in examples:
        if example.references:
            tokens += estimate_tokens(example.references[:1])[0]
            count += 1
    return tokens / count if count else UNKNOWN_TOKENS


def choose_shots(contents: DatasetContents, seed: int) -> tuple[Example, ...]:
    """Sample few-shot examples from the training split, without long ones, which would fill the context."""
    train = contents.examples["train"]
    pool = [
        number
        for number, example in enumerate(train)
        if len(example.messages) == 1
        and not example.tools
        and example.references
        and len(example.prompt.encode()) + len(example.references[0].encode()) <= MAX_SHOT_BYTES
    ]
    return tuple(train[number] for number in random.Random(seed).sample(pool, min(SHOTS, len(pool))))


def stop_texts(examples: Sequence[Example]) -> tuple[str, ...]:
    """Choose the stop texts of plain-text answers: the end of the line if every reference fits on one line."""
    answers = (example.references[0].strip() for example in examples if example.references)
    lines = {"\n" in answer for answer in answers}
    return ("\n",) if lines == {False} else ("\n\n", "\nQuestion:")


def make_request(
    example: Example,
    form: Form,
    shots: Sequence[Example],
    max_tokens: int,
    stop: tuple[str, ...],
    takes_tools: bool = False,
) -> Request:
    """Build the request for an example in a prompt format.

    Args:
        example: the example.
        form: the prompt format.
        shots: few-shot examples of the plain-text format.
        max_tokens: maximum length of the answer.
        stop: stop texts of the plain-text format.
        takes_tools: whether the model takes tools, calls and results as they are; otherwise they become text.
    """
    if form == "chat":
        messages, tools = example.messages, example.tools
        if uses_tools(messages, tools) and not takes_tools:
            messages, tools = text_turns(messages, tools), ""
        return Request(
            id=example.id,
            messages=messages,
            tools=tools,
            max_tokens=max_tokens,
            copy_text=example.copy_text,
            fit=True,
        )
    blocks = [question_prompt(shot.prompt, shot.references[0]) for shot in shots]
    question = conversation_text(example.messages, example.tools)
    return Request(
        id=example.id,
        messages=example.messages,
        text="\n\n".join([*blocks, question_prompt(question)]),
        stop=stop,
        max_tokens=max_tokens,
        copy_text=example.copy_text,
        fit=True,
    )
