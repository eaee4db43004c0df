"""Properties of an answer besides its quality: lexical grounding, refusals and length."""

from __future__ import annotations

from sizewise.metrics.base import AnswerItem, Better, Mean
from sizewise.metrics.refusal_phrases import HEAD, KNOWN_LANGUAGES, refusal_in
from sizewise.text import count_words, words_of
from sizewise.text.words import content_terms

# Function words; anything shorter than four letters is dropped anyway.
_COMMON_WORDS = """
about above after again also because been before being below between both cannot could does doing down during each
even every from further have having here however into itself just like made make many might more most much must need
only other over same shall should since some such than that their them then there these they this those through under
until upon very were what when where which while will with within without would your
"""
_COMMON = frozenset(_COMMON_WORDS.split())


def content_words(text: str) -> list[str]:
    """Extract numbers, words of four letters or more that aren't function words, and n-grams of unspaced scripts."""
    return [
        word
        for word, spaced in content_terms(words_of(text))
        if not spaced or word.isdigit() or (len(word) >= 4 and word not in _COMMON)
    ]


def refuses(answer: str) -> bool:
    """Return whether an answer begins with a refusal in one of the known languages, and gives no answer after it."""
    return refusal_in(answer)


class LexicalGrounding(Mean):
    """Share of an answer's numbers and content words that occur in the prompt."""

    name, title, version = "lexical_grounding", "Lexical grounding", 3
    stands_for_quality = False
    needs_references = False
    description = (
        "Share of an answer's numbers and content words that also occur in the question or its passages. "
        "Higher is better when answers must come from a passage. It can't detect correct words combined into a wrong "
        "statement."
    )

    def signature(self) -> str:
        """Describe which words are looked up."""
        return "grounded|words:numbers, 4 letters and more, n-grams in scripts without spaces|in:prompt, passages"

    def measure(self, item: AnswerItem) -> tuple[float, ...]:
        """Return (words found, words)."""
        known = {word for text in (item.prompt, *item.passages) for word, _ in content_terms(words_of(text))}
        words = content_words(item.completion)
        return float(sum(word in known for word in words)), float(len(words))


class Refusals(Mean):
    """Share of answers that refuse, or say that they don't know."""

    name, title, version = "refusals", "Refusal rate", 2
    languages = KNOWN_LANGUAGES
    stands_for_quality = False
    needs_references = False
    better: Better = "lower"
    description = (
        "Share of answers that begin with a refusal, or say that the answer isn't known, in one of 15 languages. Lower "
        "is better when every question deserves an answer. On 230 answers written for its test it finds nine in ten "
        "refusals, and one in a hundred that it reports is none. Data in other languages aren't measured."
    )

    def signature(self) -> str:
        """Describe what counts as a refusal."""
        return f"refusals|phrases:{len(KNOWN_LANGUAGES)} languages|in:first {HEAD} sentences"

    def measure(self, item: AnswerItem) -> tuple[float, ...]:
        """Return (1 or 0, 1)."""
        return float(refuses(item.completion)), 1.0


class AnswerWords(Mean):
    """Mean number of words per answer."""

    name, title, unit, version = "answer_words", "Answer length", "words", 2
    stands_for_quality = False
    needs_references = False
    better: Better = "lower"
    description = (
        "Mean number of words per answer, estimated in scripts without spaces; compare it with the length of the "
        "reference answers. Shorter answers cost less, but length says nothing about correctness."
    )

    def measure(self, item: AnswerItem) -> tuple[float, ...]:
        """Return (words, 1)."""
        return float(count_words(item.completion)), 1.0
