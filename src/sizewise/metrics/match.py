"""Agreement with the reference answer: exact match, token F1 and ROUGE-L."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from sizewise.errors import MissingExtraError
from sizewise.metrics.base import AnswerItem, Mean
from sizewise.text import fold_text, words_of

_ARTICLES = frozenset({"a", "an", "the"})


class ExactMatch(Mean):
    """Share of answers that equal a reference answer, ignoring case, whitespace and Unicode form."""

    name, title, version = "exact_match", "Exact match", 2
    description = (
        "Share of answers identical to the reference answer, ignoring case, whitespace and Unicode form. Higher is "
        "better. Meant for short answers: a correct answer in different words counts as wrong."
    )

    def signature(self) -> str:
        """Describe how texts are compared."""
        return "exact_match|case:folded|space:collapsed|unicode:folded"

    def measure(self, item: AnswerItem) -> tuple[float, ...]:
        """Return (1 or 0, 1)."""
        return float(fold_text(item.completion) in set(map(fold_text, item.references))), 1.0


class TokenF1(Mean):
    """Mean token F1 between an answer and its best-matching reference.

    Source: Rajpurkar et al. (2016), SQuAD, which also ignores English articles.
    """

    name, title, version = "token_f1", "Token F1", 2
    description = (
        "Overlap between the words of the answer and of the reference answer in any order (SQuAD definition), from 0 "
        "to 1. Higher is better. In scripts without spaces, each character is a word. In a long answer it barely "
        "notices 'is' versus 'is not'."
    )

    def signature(self) -> str:
        """Describe the tokenization."""
        return "token_f1|case:folded|articles:no|words:unicode|references:best"

    def measure(self, item: AnswerItem) -> tuple[float, ...]:
        """Return (F1, 1)."""
        answer = _content(item.completion)
        return max((_f1(answer, _content(reference)) for reference in item.references), default=0.0), 1.0


def _content(text: str) -> list[str]:
    return [word for word in words_of(text) if word not in _ARTICLES]


def _f1(answer: Sequence[str], reference: Sequence[str]) -> float:
    if not answer or not reference:
        return float(answer == reference)
    shared = (Counter(answer) & Counter(reference)).total()
    return 2 * shared / (len(answer) + len(reference))


class RougeL(Mean):
    """Mean F1 of the longest common word subsequence with the best-matching reference.

    Source: Lin (2004), ROUGE: sentence level, without stemming.
    """

    name, title, version = "rouge_l", "ROUGE-L", 2
    description = (
        "Longest sequence of words, gaps allowed, that the answer shares with the reference answer, as an F1 from 0 to "
        "1. Higher is better. Designed for summaries; paraphrases score low."
    )

    def signature(self) -> str:
        """Describe how it is computed."""
        return "rouge_l|case:folded|stem:no|f:1|words:unicode|references:best"

    def measure(self, item: AnswerItem) -> tuple[float, ...]:
        """Return (F1, 1)."""
        try:
            from rapidfuzz.distance.LCSseq import similarity as common_subsequence
        except ImportError as error:
            raise MissingExtraError("rapidfuzz", "study") from error
        answer = words_of(item.completion)
        best = 0.0
        for reference in map(words_of, item.references):
            if answer and reference:
                best = max(best, 2 * common_subsequence(answer, reference) / (len(answer) + len(reference)))
        return best, 1.0
