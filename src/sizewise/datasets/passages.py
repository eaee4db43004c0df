"""Split documents into passages, and derive examples from them when none are given."""

from __future__ import annotations

from typing import NamedTuple

from sizewise.records import Document, Example, Message
from sizewise.text import pieces_of

MIN_DERIVED_WORDS = 40
MAX_DERIVED_PER_DOCUMENT = 6
MAX_PROMPT_WORDS, MAX_REFERENCE_WORDS = 100, 60
PROXY_NOTE = (
    "No task examples were given, so answers are compared with the second half of held-out passages. "
    "This language modeling proxy measures familiarity with the text, not performance on a task."
)

NO_EXAMPLES_NOTE = (
    "No task examples were given, and no held-out passage is long enough to make one of it. Only the text itself can "
    "be scored, with metrics such as bits_per_byte."
)


class Passage(NamedTuple):
    """A paragraph of a document, as a span of its text."""

    item: str
    """Id: document id, `#`, number."""
    start: int
    """Offset of the first character."""
    end: int
    """Offset after the last character. The blank line that follows is included, so that spans cover the text."""


def passages(document: Document) -> list[Passage]:
    """Split a document at its blank lines; the spans cover the whole text."""
    spans: list[Passage] = []
    start = 0
    text = document.text
    while start < len(text):
        blank = text.find("\n\n", start)
        end = len(text) if blank < 0 else blank + 2
        spans.append(Passage(f"{document.id}#{len(spans)}", start, end))
        start = end
    return spans


def derived_examples(document: Document) -> list[Example]:
    """Make continuation examples: the first half of a passage is the prompt, the second half the reference."""
    examples: list[Example] = []
    for passage in passages(document):
        text = document.text[passage.start : passage.end].strip()
        pieces = pieces_of(text)
        if len(pieces) < MIN_DERIVED_WORDS:
            continue
        half = min(len(pieces) // 2, MAX_PROMPT_WORDS)
        first, second = (
            " ".join("".join(part).split()) for part in (pieces[:half], pieces[half : half + MAX_REFERENCE_WORDS])
        )
        examples.append(
            Example(
                id=f"{passage.item}/half",
                messages=(Message(role="user", content=f"Continue this passage:\n\n{first}"),),
                references=(second,),
                tags=("derived",),
                source=document.id,
                copy_text=first,
            )
        )
        if len(examples) == MAX_DERIVED_PER_DOCUMENT:
            break
    return examples
