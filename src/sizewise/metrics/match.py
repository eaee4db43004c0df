"""Whether an answer is right: the same text, the same words, the same subsequence."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from sizewise.errors import MissingExtraError
from sizewise.metrics.base import AnswerItem, Mean

_ARTICLES = frozenset({"a", "an", "the"})


def plain(text: str) -> str:
    """Fold case and white space."""
    return " ".join(text.casefold().split())


def words_of(text: str) -> list[str]:
    """Give words of letters and digits in any script, case folded."""
    return re.findall(r"\w+", text.casefold())


class ExactMatch(Mean):
    """Share of answers that equal a reference, white space and case put aside."""

    name, title = "exact_match", "Exact match"
    description = (
        "Share of answers that are the right one letter for letter. Higher is better. Made for short answers: "
        "a right answer in other words counts as wrong."
    )

    def signature(self) -> str:
        """Say how texts are compared."""
        return "exact_match|case:folded|space:collapsed"

    def measure(self, item: AnswerItem) -> tuple[float, ...]:
        """Give (1 or 0, 1)."""
        return float(plain(item.completion) in {plain(reference) for reference in item.references}), 1.0


class TokenF1(Mean):
    """Mean F1 of the words of an answer and of the best reference.

    Source: Rajpurkar et al. (2016), SQuAD, whose English articles are left out too.
    """

    name, title = "token_f1", "Word F1"
    description = (
        "How well the words of an answer and of the right one cover each other, in any order, 0 to 1. Higher is "
        "better. It cannot tell 'is' from 'is not' in a long answer."
    )

    def signature(self) -> str:
        """Say what a word is."""
        return "token_f1|case:folded|articles:no|references:best"

    def measure(self, item: AnswerItem) -> tuple[float, ...]:
        """Give (F1, 1)."""
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
    """Mean F1 of the longest common subsequence of words with the best reference.

    Source: Lin (2004), ROUGE: sentence level, without stemming.
    """

    name, title = "rouge_l", "ROUGE-L"
    description = (
        "Longest run of words, gaps allowed, that an answer shares with the right one, 0 to 1. Higher is better. "
        "Made for summaries; other wording counts as wrong."
    )

    def signature(self) -> str:
        """Say how it is computed."""
        return "rouge_l|case:folded|stem:no|f:1|references:best"

    def measure(self, item: AnswerItem) -> tuple[float, ...]:
        """Give (F1, 1)."""
        try:
            from rapidfuzz.distance.LCSseq import similarity as common
        except ImportError as error:
            raise MissingExtraError("rapidfuzz", "study") from error
        answer = words_of(item.completion)
        found = 0.0
        for reference in map(words_of, item.references):
            if answer and reference:
                found = max(found, 2 * common(answer, reference) / (len(answer) + len(reference)))
        return found, 1.0
