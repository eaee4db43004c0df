"""Keys by which documents, prompts and answers are compared."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Hashable
from hashlib import blake2b

from sizewise.records import Example
from sizewise.text import normalize_text
from sizewise.text.ngrams import hash_words

# A prompt shared by most examples is a template; keeping them all in one split would leave nothing to divide.
TEMPLATE_SHARE, MIN_TEMPLATE_COUNT = 0.1, 3
# Sentence punctuation that may vary between copies. Signs that change the question (+ - * / # < > = %) are kept.
_MARKS = (
    r"[.,;:!?'\"()\[\]\u2018-\u201f\u2026\u00ab\u00bb\u00a1\u00bf\u3001\u3002\uff0c\uff1a\uff1b\uff01\uff1f"
    r"\u060c\u061b\u061f\u0964]"
)
_PUNCTUATION = re.compile(rf"(?<!\d){_MARKS}|{_MARKS}(?!\d)")


def min_template_count(count: int) -> int:
    """Return how many of `count` items must share something before it counts as a template."""
    return max(MIN_TEMPLATE_COUNT, math.ceil(count * TEMPLATE_SHARE))


def prompt_text(example: Example) -> str:
    """Join all messages of the prompt, with the arguments of tool calls."""
    return "\n".join(
        "\n".join([message.content, *(call.arguments for call in message.tool_calls)]) for message in example.messages
    )


def folded_prompt(example: Example) -> str:
    """Return a comparison key of the prompt, with images but without case and sentence punctuation."""
    text = normalize_text(_PUNCTUATION.sub(" ", prompt_text(example).casefold()))
    return json.dumps([text, *(image for message in example.messages for image in message.images)])


def prompt_key(example: Example) -> str:
    """Return a comparison key of the prompt: all turns and images, with white space and Unicode normalized."""
    turns: list[list[str]] = []
    for message in example.messages:
        calls = [part for call in message.tool_calls for part in (call.name, call.arguments)]
        turns.append([message.role, normalize_text(message.content), *message.images, *calls])
    return json.dumps([turns, example.tools] if example.tools else turns)


def example_key(example: Example) -> Hashable:
    """Return a comparison key of the prompt and its references; equal keys make two examples duplicates."""
    answers = (tuple(map(normalize_text, texts)) for texts in (example.references, example.rejected))
    return prompt_key(example), *answers, example.choices


def key_hash(key: str) -> int:
    """Hash a comparison key to 64 bits."""
    return int.from_bytes(blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def answer_hash(answer: str) -> int:
    """Hash an answer without case and punctuation; an answer of signs only counts as it is."""
    words = hash_words(answer)
    return words.whole() if len(words) else key_hash(answer.strip())
