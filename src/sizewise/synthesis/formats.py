"""What is synthesized from a passage: a question with its answer, or the passage rewritten in another form.

FAQ, tutorials and tables are the rewrites that help most, and a small writer is enough for them (FinePhrase, 2026);
questions, rewritten documents and rewrites around a question are mixed (arXiv 2603.23562).
"""

from __future__ import annotations

import json
import re
from typing import NamedTuple

from sizewise.errors import UsageError
from sizewise.metrics.manner import refuses
from sizewise.metrics.support import is_supported, statements_of
from sizewise.retrieval import Passage
from sizewise.text import count_words, detect_language, fold_text
from sizewise.text.languages import NAMES
from sizewise.text.ngrams import hash_words, ngrams

QUESTION, FOCAL, UNANSWERABLE = "question", "focal", "unanswerable"
MIN_SUPPORTED_SHARE = 0.8
"""Share of a rewrite's statements that the passage must support."""
MIN_WORDS, MAX_WORDS = 15, 500
REPEATED_NGRAM, MIN_DISTINCT = 4, 0.6
"""A text repeats itself if fewer of its word 4-grams than this share are distinct."""
MAX_COPIED = 0.9
"""Share of a rewrite's word 4-grams in the passage from which it is a copy."""
_FIELDS = ("text", "faq", "tutorial", "table", "dialogue", "answer", "content")


class Format(NamedTuple):
    """A form in which a passage is written again."""

    name: str
    """Name, and the tag of its examples."""
    instruction: str
    """What the writer is asked to write."""
    label: str
    """What stands before the topic in the prompt of the example."""


REWRITES = {
    one.name: one
    for one in (
        Format("faq", "Write an FAQ: three questions that users ask, each with its answer.", "FAQ"),
        Format("tutorial", "Write a short tutorial that explains it step by step to a beginner.", "Tutorial"),
        Format("table", "Write its facts as a Markdown table with a header.", "Table"),
        Format("dialogue", "Write a dialogue in which a user asks and an expert answers.", "Dialogue"),
        Format(FOCAL, "Answer this question in a paragraph of its own: {question}", ""),
    )
}
FORMATS = (QUESTION, *REWRITES, UNANSWERABLE)
TEXT_PROMPT = (
    "Here is a passage of '{title}'.\n\n{passage}\n\n{instruction}{language} Use only what the passage says, and don't "
    'mention the passage. Reply with JSON only: {{"text": "..."}}'
)
UNANSWERABLE_PROMPT = (
    "Here is a passage of '{title}'.\n\n{passage}\n\nWrite one question on the same subject that somebody could ask "
    'and that the passage does not answer.{language} Reply with JSON only: {{"question": "..."}}'
)
TEXT_SCHEMA, UNANSWERABLE_SCHEMA = (
    json.dumps(
        {
            "type": "object",
            "properties": {name: {"type": "string"}},
            "required": [name],
            "additionalProperties": False,
        }
    )
    for name in ("text", "question")
)


def check_formats(names: tuple[str, ...], known: tuple[str, ...] = FORMATS) -> tuple[str, ...]:
    """Return the formats in their usual order.

    Raises:
        UsageError: one is unknown, or none is given.
    """
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise UsageError(
            f"'{unknown[0]}' isn't a format." if unknown else "No format is given.",
            ", ".join(known),
            f"--formats {known[0]}",
        )
    return tuple(name for name in known if name in names)


def topic_of(passage: Passage) -> str:
    """Return what a passage is about: its title and heading."""
    if not passage.heading or fold_text(passage.heading) == fold_text(passage.title):
        return passage.title
    return f"{passage.title}: {passage.heading}"


def language_request(passage: Passage) -> str:
    """Return the sentence that asks for the language of the passage; empty for English and unknown languages."""
    language = detect_language(passage.text)
    return f" Write in {NAMES[language]}." if language in NAMES and language != "en" else ""


def read_text(answer: str, names: tuple[str, ...] = _FIELDS) -> str | None:
    """Read a written text from JSON; None if the reply has none."""
    for start in (i for i, letter in enumerate(answer) if letter == "{"):
        try:
            row, _ = json.JSONDecoder().raw_decode(answer, start)
        except (ValueError, RecursionError):
            continue
        for name in names:
            if isinstance(row.get(name), str) and row[name].strip():
                return str(row[name]).strip()
    text = re.sub(r"^```\w*\n|\n```$", "", answer.strip())
    return text if text and not text.startswith("{") else None


def problem_of(text: str, passage: Passage) -> str:
    """Return why a rewrite isn't kept; empty if it is."""
    words = count_words(text)
    if refuses(text):
        return "the writer refused"
    if not MIN_WORDS <= words <= MAX_WORDS:
        return "the text is too short or too long"
    grams = ngrams(hash_words(text), REPEATED_NGRAM).hashes.tolist()
    if grams and len(set(grams)) < MIN_DISTINCT * len(grams):
        return "the text repeats itself"
    of_passage = set(ngrams(hash_words(passage.text), REPEATED_NGRAM).hashes.tolist())
    if grams and sum(gram in of_passage for gram in grams) > MAX_COPIED * len(grams):
        return "the text is a copy of the passage"
    if len({detect_language(text), detect_language(passage.text)} - {""}) > 1:
        return "the text is not in the language of the passage"
    statements = statements_of(_plain(text))
    supported = sum(is_supported(statement, [passage.full_text]) for statement in statements)
    if not statements or supported < MIN_SUPPORTED_SHARE * len(statements):
        return "the passage doesn't support the text"
    return ""


def _plain(text: str) -> str:
    """Remove the markup of tables and lists, and labels of speakers, which state nothing."""
    lines = [line for line in text.splitlines() if not re.fullmatch(r"[\s|:-]+", line)]
    bare = (re.sub(r"^\s*(?:[-*#>]+|\d+[.)]|\**(?:Q|A|User|Expert)\**\s*:)\s*", "", line) for line in lines)
    return "\n".join(re.sub(r"\s*\|\s*", " ", line).strip() for line in bare)
