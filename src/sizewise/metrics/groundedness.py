"""Whether answers keep to the passages they were given: statements, quotations and citations."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from sizewise.metrics.base import AnswerItem, CannotMeasure, Mean
from sizewise.metrics.support import MIN_COVERAGE, WINDOW, is_supported, statements_of
from sizewise.text import count_words, fold_text, phrase_pattern, sentences_of

MIN_QUOTED_WORDS = 3
"""Words in quotation marks from which they count as a quotation."""
_CITED = re.compile(
    r"[\[\u3010]\^?\s*(\d{1,3}(?:\s*(?:[,;\u2013-]|and)\s*\^?\d{1,3})*)(?:\u2020[^\]\u3011]*)?\s*[\]\u3011]"
)
_LATE = re.compile(rf"([.!?\u3002])[ \t]*((?:{_CITED.pattern}[ \t]*)+)(?=\s|$|[A-Z])")
_QUOTED = re.compile(
    r"\"([^\"\n]+)\""
    r"|\u201c([^\u201c\u201d\n]+)[\u201d\"]"  # English; some close with a straight one
    r"|\u201e([^\u201c\u201d\n]+)[\u201c\u201d]"  # German, Polish, Hungarian
    r"|\u201d([^\u201c-\u201f\n]+)\u201d"  # Finnish, Swedish
    r"|\u00ab([^\u00ab\u00bb\n]+)\u00bb|\u00bb([^\u00ab\u00bb\n]+)\u00ab"
    r"|\u300c([^\u300c\u300d\n]+)\u300d|\u300e([^\u300e\u300f\n]+)\u300f"  # Chinese, Japanese
    r"|(?<!\w)\u2018([^\u2018\n]+?)\u2019(?!\w)"  # British; within a word it is an apostrophe
)
_MARKS = '"\u201c\u201d\u201e\u201f\u00ab\u00bb\u300c\u300d\u300e\u300f\u2018\u2019\u201a\u2039\u203a'
_ONE_KIND: dict[int, str | None] = {
    **{ord(mark): "'" for mark in _MARKS},
    **{ord(dash): "-" for dash in "\u2012\u2013\u2014\u2212"},
    **{ord(sign): None for sign in "*`"},
}
"""Quotation marks inside of a quotation and dashes of one kind, and no signs of Markdown."""
_NUMBERED = re.compile(r"(?m)^\s*\[(\d{1,3})\][ \t:.]*")
_EDGES = " .,;:!?\u2026'\"()[]\u3001\u3002\uff0c\uff01\uff1f"
_SUPPORT = f"support:words, {MIN_COVERAGE:g} in {WINDOW} sentences; numbers; names; negation"


class Cited(NamedTuple):
    """A statement of an answer with the numbers of the passages that it cites."""

    text: str
    numbers: tuple[int, ...]


def passages_of(item: AnswerItem) -> tuple[str, ...]:
    """Return the passages of an item: those beside the prompt, those numbered [1], [2] ... in it, or the prompt."""
    if item.passages:
        return item.passages
    marks = list(_NUMBERED.finditer(item.prompt))
    if marks and [int(mark[1]) for mark in marks] == list(range(1, len(marks) + 1)):
        ends = [*(mark.start() for mark in marks[1:]), len(item.prompt)]
        texts = [item.prompt[mark.end() : end].strip() for mark, end in zip(marks, ends, strict=True)]
        texts[-1] = texts[-1].split("\n\n")[0]  # the question follows
        return tuple(texts)
    return (item.prompt,) if item.prompt.strip() else ()


def cited_statements(answer: str) -> list[Cited]:
    """List the statements of an answer with their citations, such as `[1]`, `[2, 3]` and `[1-3]`.

    A citation behind the full stop belongs to the sentence before it.

    Args:
        answer: The answer.
    """
    answer = _LATE.sub(lambda found: f" {found[2].strip()}{found[1]} ", answer)
    found = []
    for sentence in sentences_of(answer):
        bare = _CITED.sub("", sentence)
        for statement in statements_of(bare):
            found.append(Cited(statement, _numbers(sentence)))
    return found


def without_citations(answer: str) -> str:
    """Remove the citations of an answer."""
    return _CITED.sub("", answer)


def _numbers(sentence: str) -> tuple[int, ...]:
    numbers: list[int] = []
    for mark in _CITED.finditer(sentence):
        for part in re.split(r"[,;]|and", mark[1]):
            ends = [int(one) for one in re.findall(r"\d+", part)]
            numbers += range(ends[0], min(ends[-1], ends[0] + 99) + 1) if ends else ()
    return tuple(dict.fromkeys(numbers))


class _FromPassages(Mean):
    stands_for_quality = False
    needs_references = False

    def _passages(self, item: AnswerItem) -> tuple[str, ...]:
        passages = passages_of(item)
        if not passages:
            raise CannotMeasure("there are no passages, and the prompt is empty")
        return passages


class Groundedness(_FromPassages):
    """Share of the answers' statements that the passages support."""

    name, title, version = "groundedness", "Groundedness", 2
    description = (
        "Share of the sentences that state something and that a passage supports: at least half of the content words "
        "within three sentences of it, every number and name, and the same negation. Higher is better where answers "
        "must come from passages. Other words for the same thing count as unsupported, and a wrong statement in a "
        "passage's own words counts as supported: on four sets of summaries it follows people's view of the facts only "
        "weakly (rank correlation 0.05 to 0.20; fact_precision: 0.20 to 0.31)."
    )

    def signature(self) -> str:
        """Describe what supports a statement, and where it is looked for."""
        return f"{self.name}|{_SUPPORT}|in:passages, or the prompt"

    def measure(self, item: AnswerItem) -> tuple[float, ...]:
        """Return (supported statements, statements).

        Raises:
            CannotMeasure: there are neither passages nor a prompt.
        """
        passages = self._passages(item)
        statements = statements_of(without_citations(item.completion))
        return float(sum(is_supported(one, passages) for one in statements)), float(len(statements))


class QuotesVerbatim(_FromPassages):
    """Share of quotations that a passage contains word for word."""

    name, title, version = "quotes_verbatim", "Verbatim quotes", 2
    description = (
        f"Share of the quotations of at least {MIN_QUOTED_WORDS} words (in scripts without spaces, of twice as many "
        "characters) that a passage contains word for word, ignoring case, white space, the kind of quotation marks "
        "and dashes, and an omission marked by an ellipsis. Higher is better. It doesn't see statements outside "
        "quotation marks."
    )

    def signature(self) -> str:
        """Describe what counts as a quotation."""
        return f"{self.name}|words:{MIN_QUOTED_WORDS} and more|case, marks and dashes:folded|in:passages, or the prompt"

    def measure(self, item: AnswerItem) -> tuple[float, ...]:
        """Return (verbatim quotations, quotations).

        Raises:
            CannotMeasure: there are neither passages nor a prompt.
        """
        passages = [_folded(one) for one in self._passages(item)]
        quotes = [next(filter(None, found.groups())) for found in _QUOTED.finditer(item.completion)]
        quotes = [one for one in quotes if count_words(one) >= MIN_QUOTED_WORDS]
        return float(sum(any(_quotes(one, passage) for passage in passages) for one in quotes)), float(len(quotes))


def _folded(text: str) -> str:
    return fold_text(text.translate(_ONE_KIND))


def _quotes(quote: str, passage: str) -> bool:
    """Check whether a passage contains the parts of a quotation in their order; an ellipsis separates parts."""
    position = 0
    for part in re.split(r"\[?(?:\.\.\.|\u2026)\]?", _folded(quote)):
        wanted = part.strip(_EDGES)
        found = phrase_pattern(wanted).search(passage, position) if wanted else None
        if wanted and found is None:
            return False
        position = found.end() if found else position
    return True


class _Citations(_FromPassages):
    def _passages(self, item: AnswerItem) -> tuple[str, ...]:
        passages = passages_of(item)
        if passages == (item.prompt,) and not item.passages:
            raise CannotMeasure("there are no passages that an answer could cite by number")
        return super()._passages(item)


class CitationRecall(_Citations):
    """Share of statements that the passages they cite support.

    Source: Gao et al. (2023), Enabling large language models to generate text with citations (ALCE), with a comparison
    of words in place of the entailment model.
    """

    name, title = "citation_recall", "Citation recall"
    description = (
        "Share of the sentences that state something and that the passages cited in them ([1], [2, 3]) support, as "
        "groundedness defines it. Higher is better. A statement without a citation counts as unsupported."
    )

    def signature(self) -> str:
        """Describe what supports a statement."""
        return f"{self.name}|{_SUPPORT}|cited passages joined"

    def measure(self, item: AnswerItem) -> tuple[float, ...]:
        """Return (statements supported by what they cite, statements).

        Raises:
            CannotMeasure: there are no numbered passages.
        """
        passages = self._passages(item)
        found = cited_statements(item.completion)
        return float(sum(_supported(one, one.numbers, passages) for one in found)), float(len(found))


class CitationPrecision(_Citations):
    """Share of citations that are needed for the statement they stand at.

    Source: Gao et al. (2023), as for citation recall: a citation counts if the statement is supported, and if its
    passage supports the statement alone or the others don't support it without it.
    """

    name, title = "citation_precision", "Citation precision"
    description = (
        "Share of the citations ([1], [2, 3]) at statements that the cited passages support, without those whose "
        "passage adds nothing. Higher is better. Answers without citations don't count, so read it with citation "
        "recall."
    )

    def signature(self) -> str:
        """Describe which citations count."""
        return f"{self.name}|{_SUPPORT}|needed alone or with the others"

    def measure(self, item: AnswerItem) -> tuple[float, ...]:
        """Return (citations that are needed, citations).

        Raises:
            CannotMeasure: there are no numbered passages.
        """
        passages = self._passages(item)
        needed, cited = 0, 0
        for one in cited_statements(item.completion):
            cited += len(one.numbers)
            if not _supported(one, one.numbers, passages):
                continue
            for number in one.numbers:
                others = tuple(other for other in one.numbers if other != number)
                needed += _supported(one, (number,), passages) or not _supported(one, others, passages)
        return float(needed), float(cited)


def _supported(statement: Cited, numbers: Sequence[int], passages: Sequence[str]) -> bool:
    """Check whether the passages with these numbers support a statement together; unknown numbers add nothing."""
    cited = [passages[number - 1] for number in numbers if 1 <= number <= len(passages)]
    return bool(cited) and is_supported(statement.text, ["\n".join(cited)])
