"""How an answer is given: grounded in what was asked, refused, long."""

from __future__ import annotations

import re

from sizewise.metrics.base import AnswerItem, Better, Mean
from sizewise.metrics.match import words_of

# Words that carry no content of their own; those under four letters are left out anyway.
_COMMON_WORDS = """
about above after again also because been before being below between both cannot could does doing down during each
even every from further have having here however into itself just like made make many might more most much must need
only other over same shall should since some such than that their them then there these they this those through under
until upon very were what when where which while will with within without would your
"""
_COMMON = frozenset(_COMMON_WORDS.split())
_REFUSAL = re.compile(
    r"\b(?:i(?:'m| am) (?:sorry|afraid|unable|not able)\b|i (?:can ?not|can't|won't|will not|must decline)\b"
    r"|as an? (?:ai|language model|assistant)\b|(?:can ?not|can't|unable to|not able to) "
    r"(?:help|assist|answer|comply|provide|do) )"
)
BEGINNING = 200  # characters in which a refusal shows


def content_words(text: str) -> list[str]:
    """Give numbers, and words of at least four letters that are not common ones."""
    return [word for word in words_of(text) if word.isdigit() or (len(word) >= 4 and word not in _COMMON)]


def refuses(answer: str) -> bool:
    """Tell whether an answer begins as refusals in English do."""
    return bool(_REFUSAL.search(answer[:BEGINNING].casefold().replace("\u2019", "'") + " "))


class Grounded(Mean):
    """Share of an answer's numbers and content words that stand in what was asked."""

    name, title = "lexical_grounding", "Grounded"
    stands_for_quality = False
    description = (
        "Share of the answers' numbers and telling words that stand in the question or in the passage given with it. "
        "Higher is better where answers must come from a passage. It cannot tell a wrong combination of right words."
    )

    def signature(self) -> str:
        """Say what is looked up."""
        return "grounded|words:numbers, 4 letters and more|in:prompt"

    def measure(self, item: AnswerItem) -> tuple[float, ...]:
        """Give (words found, words)."""
        known = set(words_of(item.prompt))
        words = content_words(item.completion)
        return float(sum(word in known for word in words)), float(len(words))


class Refusals(Mean):
    """Share of answers that begin with a refusal."""

    name, title = "refusals", "Refused"
    stands_for_quality = False
    better: Better = "lower"
    description = (
        "Share of answers that begin with a refusal in English. Lower is better where every question deserves an "
        "answer. Refusals in other words or languages are not seen."
    )

    def signature(self) -> str:
        """Say what counts as a refusal."""
        return f"refusals|english phrases|in:first {BEGINNING} characters"

    def measure(self, item: AnswerItem) -> tuple[float, ...]:
        """Give (1 or 0, 1)."""
        return float(refuses(item.completion)), 1.0


class AnswerWords(Mean):
    """Mean words of an answer."""

    name, title, unit = "answer_words", "Words of an answer", "words"
    stands_for_quality = False
    better: Better = "lower"
    description = (
        "Mean number of words of an answer; the right ones' length is the measure. Shorter answers cost less; it says "
        "nothing about whether they are right."
    )

    def measure(self, item: AnswerItem) -> tuple[float, ...]:
        """Give (words, 1)."""
        return float(len(item.completion.split())), 1.0
