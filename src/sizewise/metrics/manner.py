"""Properties of an answer that need no reference: lexical grounding, refusals, length, repetition and language."""

from __future__ import annotations

from sizewise.metrics.base import AnswerItem, Better, CannotMeasure, Mean
from sizewise.metrics.refusal_phrases import HEAD, KNOWN_LANGUAGES, refusal_in
from sizewise.text import count_words, detect_language, words_of
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


REPEATED_WORDS = 4
"""Length of the runs of words that repetition counts."""


class Repetition(Mean):
    """Share of each answer's runs of four words that occurred in it before.

    Source: Welleck et al. (2020), Neural text generation with unlikelihood training (seq-rep-4).
    """

    name, title = "repetition", "Repetition"
    stands_for_quality = False
    needs_references = False
    better: Better = "lower"
    description = (
        "Share of an answer's runs of four words that occurred in that answer before, from 0 to 1. Lower is better: "
        "models that get stuck in a loop come close to 1, and people's texts rarely exceed 0.1. In scripts without "
        "spaces a character counts as a word. It finds loops and nothing finer: on 1,300 summaries without loops its "
        "rank correlation with people's grades of fluency is -0.05."
    )

    def signature(self) -> str:
        """Describe what is counted."""
        return f"repetition|words:{REPEATED_WORDS}"

    def measure(self, item: AnswerItem) -> tuple[float, ...]:
        """Return (share, 1); answers of fewer than four words repeat nothing."""
        words = words_of(item.completion)
        runs = [tuple(words[i : i + REPEATED_WORDS]) for i in range(len(words) - REPEATED_WORDS + 1)]
        return (1 - len(set(runs)) / len(runs) if runs else 0.0), 1.0


class AnswerLanguage(Mean):
    """Share of answers in the language that was expected."""

    name, title = "answer_language", "Answer language"
    stands_for_quality = False
    needs_references = False
    description = (
        "Share of the answers that are written in the language of the reference answer or, without a reference, of the "
        "prompt. Higher is better, unless prompts ask for a translation and there is no reference. Texts that are too "
        "short to identify their language, such as labels, aren't measured."
    )

    def signature(self) -> str:
        """Describe which language is expected."""
        return "answer_language|expected:reference, else prompt"

    def measure(self, item: AnswerItem) -> tuple[float, ...]:
        """Return (1 or 0, 1).

        Raises:
            CannotMeasure: the language of the answer, or the expected one, can't be identified.
        """
        expected = {detect_language(one) for one in item.references or (item.prompt,)} - {""}
        given = detect_language(item.completion)
        if not expected or not given:
            raise CannotMeasure("the texts are too short to identify their language")
        return float(given in expected), 1.0
