"""Context training: examples whose question comes with passages, so that a model learns to use what it is given.

Most of these examples have the passage that supports the answer among others that match the question too, in any
order; the answer ends with the sentence that supports it, in quotation marks. In the rest no passage supports the
answer, and the model learns to say so. The form is that of `rag:`. Passages are found by words, so that a run doesn't
depend on an encoder.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sizewise.models.given_passages import NOT_GIVEN, PASSAGE_COUNTS, before_question, not_given, passage_text
from sizewise.models.retrieving import PASSAGES, has_signals
from sizewise.records import Document, Example, Recipe
from sizewise.retrieval import Library, Passage, cut
from sizewise.retrieval.passages import MIN_PASSAGE_WORDS, PASSAGE_WORDS
from sizewise.text import count_words, fold_text, sentences_of

CONTEXT_VERSION = 3
"""Incremented when examples get other passages; part of the id of a run with passages."""
MIN_SUPPORT = 0.6
"""Share of an answer's informative words that the passage must have, as the support agent asks of its sentences."""
UNSUPPORTED_SHARE = 0.2
"""Share of the examples whose passages don't hold the answer, those that come without an answer included. With 38 %
SmolLM2-135M declined 59 of 100 questions with the right passage in view (see docs/log.md)."""
SEARCHED = 12
"""Best passages from which distractors are taken."""
MIN_QUOTED_WORDS, MAX_QUOTED_WORDS = 3, 40
TOKENS_PER_WORD, ANSWER_TOKENS = 1.5, 160
"""Room that a word takes, and an answer with its quote at least."""
LONG_ANSWERS = 0.9
"""Share of the answers that are to fit whole beside three passages; one that is cut off doesn't teach where to end."""


class Given(NamedTuple):
    """Examples with passages before their question."""

    examples: dict[str, Example]
    """Example id -> the example with passages."""
    notes: tuple[str, ...]
    """What was done, for the record of the run."""


def give_passages(
    documents: Sequence[Document], examples: Sequence[Example], recipe: Recipe, taken: Iterable[str] = ()
) -> Given:
    """Put passages of the training documents before the question of a share of the examples.

    Args:
        documents: the training documents.
        examples: the training examples.
        recipe: settings of the run; `passage_share` is the share.
        taken: ids of examples that stay as they are, such as those that a teacher answered.
    """
    if not recipe.passage_share:
        return Given({}, ())
    max_words = _words_for(recipe.context, examples)
    passages = cut(documents, max_words) if len(documents) else []
    if not passages:
        return Given({}, ("no passages were put before questions, because there are no training documents",))
    unsupported_share = _unsupported_share(examples, recipe.passage_share)
    chooser = _Chooser(passages, random.Random(recipe.seed), unsupported_share)
    left, unsupported = set(taken), 0
    found: dict[str, Example] = {}
    draw = random.Random(f"passages {recipe.seed}")
    for example in examples:
        if draw.random() >= recipe.passage_share or example.id in left or not _can_have_passages(example):
            continue
        given = chooser.example(example)
        if given is None:
            unsupported += 1
        else:
            found[example.id] = given
    return Given(found, tuple(_notes(len(found), chooser.without_answer, unsupported, max_words)))


def _unsupported_share(examples: Sequence[Example], passage_share: float) -> float:
    """Return which share of the examples with passages is to have no answer in them, besides those that decline."""
    declining = sum(_declines(example) for example in examples)
    given = passage_share * (len(examples) - declining)
    return max(0.0, UNSUPPORTED_SHARE * (given + declining) - declining) / given if given else 0.0


def _declines(example: Example) -> bool:
    return bool(example.references) and example.references[0] in NOT_GIVEN.values()


def _words_for(context: int, examples: Sequence[Example]) -> int:
    """Return how many words passages may have so that they fit into a training row with most of the answers."""
    lengths = sorted(count_words(example.references[0]) for example in examples if _can_have_passages(example))
    long = TOKENS_PER_WORD * lengths[int(LONG_ANSWERS * (len(lengths) - 1))] if lengths else 0
    room = (context - max(ANSWER_TOKENS, long)) / (PASSAGES * TOKENS_PER_WORD)
    return max(MIN_PASSAGE_WORDS, min(PASSAGE_WORDS, int(room)))


def _can_have_passages(example: Example) -> bool:
    last = example.messages[-1]
    asks = last.role == "user" and bool(example.references) and "derived" not in example.tags
    return asks and not last.images and not example.label


def _notes(given: int, without: int, unsupported: int, max_words: int) -> list[str]:
    notes = [
        f"passages were put before the question of {given:,} examples; in {without:,} of them no passage holds the "
        "answer, and the model learns to say so"
    ]
    if unsupported:
        notes.append(f"{unsupported:,} examples stayed without passages, because no passage supports their answer")
    if max_words < PASSAGE_WORDS:
        notes.append(
            f"these passages have {max_words} words at most instead of {PASSAGE_WORDS}, so that they fit into the "
            "context; a larger one (--context 1024) trains on passages as `rag:` gives them"
        )
    return notes


class _Chooser:
    """Chooses the passages of examples."""

    def __init__(self, passages: list[Passage], rng: random.Random, unsupported_share: float) -> None:
        self._library, self._rng = Library(passages, learn=False), rng
        self._unsupported_share = unsupported_share
        self._of_document: dict[str, list[Passage]] = defaultdict(list)
        for passage in passages:
            self._of_document[passage.document].append(passage)
        self._signals: dict[Passage, bool] = {}
        self.without_answer = 0

    def example(self, example: Example) -> Example | None:
        """Return an example with passages; None if no passage without signs of injection supports its answer."""
        question, answer = example.messages[-1].content, example.references[0]
        found = [hit.passage for hit in self._library.find(question, SEARCHED).hits]
        hits = [passage for passage in found if not self._has_signals(passage)]
        right = self._supporting(answer, self._of_document.get(example.source) or hits)
        if right is None or self._has_signals(right):
            return None
        others = [
            passage
            for passage in hits
            if passage != right and self._library.support(answer, [passage])[1] < MIN_SUPPORT
        ]
        count = self._rng.choice(PASSAGE_COUNTS)
        if len(others) >= PASSAGES and self._rng.random() < self._unsupported_share:
            # Another version of the passage states something else in place of the answer, which isn't no answer.
            unrelated = [one for one in others if not self._library.is_related(answer, right, one)]
            if len(unrelated) >= PASSAGES:
                self.without_answer += 1
                return _with_passages(example, unrelated[:count], not_given(question))
        given = [right, *others[: count - 1]]
        self._rng.shuffle(given)
        return _with_passages(example, given, self._quoted(answer, right))

    def _has_signals(self, passage: Passage) -> bool:
        """Check for signs of prompt injection: `rag:` leaves such passages out."""
        if passage not in self._signals:
            self._signals[passage] = has_signals(passage_text(passage))
        return self._signals[passage]

    def _supporting(self, answer: str, passages: Sequence[Passage]) -> Passage | None:
        if not passages:
            return None
        index, support = self._library.support(answer, passages)
        return passages[index] if support >= MIN_SUPPORT else None

    def _quoted(self, answer: str, passage: Passage) -> str:
        """Add the sentence that supports an answer, unless the answer stands in the passage as it is."""
        if fold_text(answer).strip(" .") in fold_text(passage.text):
            return answer
        sentences = [
            sentence
            for sentence in sentences_of(passage.text)
            if MIN_QUOTED_WORDS <= count_words(sentence) <= MAX_QUOTED_WORDS and '"' not in sentence
        ]
        best = max(sentences, key=lambda sentence: self._library.overlap(answer, sentence), default="")
        return f'{answer}\n\n"{best}"' if best and self._library.overlap(answer, best) > 0 else answer


def _with_passages(example: Example, passages: Sequence[Passage], answer: str) -> Example:
    last = example.messages[-1]
    content = before_question([passage_text(passage) for passage in passages], last.content)
    messages = (*example.messages[:-1], last.model_copy(update={"content": content}))
    return example.model_copy(update={"messages": messages, "references": (answer,), "choices": ()})
