"""Detect contamination: test passages and test examples that share text with the training split.

A test example is contaminated if its prompt, in full or as a long passage, or its answer occurs in training. A short
answer, or one that several prompts share (a label, a canned reply, JSON with few values), isn't evidence, because it is
correct in every split. Text that a large share of the prompts has in common is a template and isn't evidence either.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from sizewise.datasets.deduplication import min_template_count, prompt_key
from sizewise.records import ContaminationEntry, ContaminationReport, Document, Example, Split
from sizewise.text import normalize_text, words_of
from sizewise.text.ngrams import NGRAM, NO_NGRAMS, Overlap, SeenText, common_ngrams, is_long

MAX_LABEL_WORDS = 3
MIN_CANNED_PROMPTS = 3  # an answer or phrase that this many prompts share is canned
# Sentence punctuation that may vary between copies. Signs that change the question (+ - * / # < > = %) are kept.
_MARKS = (
    r"[.,;:!?'\"()\[\]\u2018-\u201f\u2026\u00ab\u00bb\u00a1\u00bf\u3001\u3002\uff0c\uff1a\uff1b\uff01\uff1f"
    r"\u060c\u061b\u061f\u0964]"
)
_PUNCTUATION = re.compile(rf"(?<!\d){_MARKS}|{_MARKS}(?!\d)")


class Text(NamedTuple):
    """A passage of a test document."""

    item: str
    """Id of the passage."""
    text: str
    """Text of the passage."""


class TrainingText:
    """An index of the training split, against which test items are checked.

    Args:
        documents: Documents of the training split.
        examples: Examples of all splits; those of the training split are indexed.
        derived: Whether the examples were derived from the documents; such examples have no template.
    """

    def __init__(
        self, documents: Iterable[Document], examples: Mapping[Split, Sequence[Example]], derived: bool
    ) -> None:
        self._documents, self._prompts, self._answers = SeenText(), SeenText(), SeenText()
        self._documents.add(text for d in documents for text in (d.text, *d.text.split("\n\n")))
        train = examples["train"]
        prompts = [prompt_text(example) for example in train]
        self._template = NO_NGRAMS if derived else common_ngrams(prompts, min_template_count(len(prompts)))
        self._prompts.add(prompts, self._template)
        answers = [answer for example in train for answer in example.references]
        self._canned_phrases = NO_NGRAMS if derived else common_ngrams(answers, MIN_CANNED_PROMPTS)
        self._answers.add(answers, self._canned_phrases)
        counts = Counter(folded_prompt(example) for example in train)
        self._keys = frozenset(counts)
        self._template_keys = {key for key, count in counts.items() if count >= min_template_count(len(train))}
        prompts_of: dict[str, set[str]] = defaultdict(set)
        for some in examples.values():
            for example in some:
                for answer in example.references:
                    prompts_of[_folded(answer)].add(prompt_key(example))
        self._canned = {
            answer for answer, keys in prompts_of.items() if len(keys) >= MIN_CANNED_PROMPTS and not derived
        }

    def passage(self, passage: Text) -> ContaminationEntry:
        """Check a passage of a test document."""
        overlap = _combined(
            self._documents.look_up(passage.text),
            self._answers.look_up(passage.text, self._canned_phrases),
            self._prompts.look_up(passage.text, self._template),
        )
        return ContaminationEntry(item=passage.item, kind="passage", **overlap._asdict())

    def example(self, example: Example) -> ContaminationEntry:
        """Check the references and the prompt of a test example."""
        answers = [self._answer(answer) for answer in example.references]
        prompt = prompt_text(example)
        parts = [
            self._documents.look_up(prompt, self._template),
            self._answers.look_up(prompt, self._template),
            self._prompts.look_up(prompt, self._template),
        ]
        return ContaminationEntry(
            item=example.id,
            kind="example",
            **_combined(*answers)._asdict(),
            prompt_exact=self._has_prompt(example),
            prompt_shared_words=max(part.shared_words for part in parts),
            prompt_words=parts[0].words,
        )

    def _has_prompt(self, example: Example) -> bool:
        """Check whether a complete prompt, even a short one, occurs in training; templates are exempt."""
        key = folded_prompt(example)
        template = key in self._template_keys
        if not template and key in self._keys:
            return True
        prompt = "\n".join(message.content for message in example.messages if message.role != "system")
        if len(words_of(prompt)) <= MAX_LABEL_WORDS:
            return False
        other_text = (self._documents, self._answers)
        if any(seen.look_up(prompt).exact for seen in other_text):
            return True
        searched = other_text if template else (*other_text, self._prompts)
        return not is_long(prompt) and any(seen.holds(prompt) for seen in searched)

    def _answer(self, answer: str) -> Overlap:
        in_text = self._documents.look_up(answer)
        none = Overlap(False, 0, False, in_text.words)
        if in_text.words <= MAX_LABEL_WORDS or _folded(answer) in self._canned:
            return none
        if not is_long(answer) or _is_json(answer):
            return in_text
        return _combined(in_text, self._answers.look_up(answer, self._canned_phrases))


def contamination(
    documents: Iterable[Document],
    passages: Iterable[Text],
    examples: Mapping[Split, Sequence[Example]],
    derived: bool = False,
) -> list[ContaminationEntry]:
    """Check every test passage and test example against the training split.

    Args:
        documents: Documents of the training split.
        passages: Passages of the test documents.
        examples: Examples of all splits.
        derived: Whether the examples were derived from the documents.
    """
    training = TrainingText(documents, examples, derived)
    return [*map(training.passage, passages), *map(training.example, examples["test"])]


def summarize(entries: Sequence[ContaminationEntry], removed: int) -> ContaminationReport:
    """Summarize the contamination of a dataset.

    Args:
        entries: One entry per test item.
        removed: Number of documents and examples removed as duplicates.
    """
    passages = [entry for entry in entries if entry.kind == "passage"]
    examples = [entry for entry in entries if entry.kind == "example"]
    return ContaminationReport(
        ngram=NGRAM,
        passages=len(passages),
        uncontaminated_passages=sum(entry.uncontaminated for entry in passages),
        examples=len(examples),
        uncontaminated_examples=sum(entry.uncontaminated for entry in examples),
        words=sum(entry.words for entry in passages),
        shared_words=sum(entry.shared_words for entry in passages),
        exact=sum(entry.exact for entry in entries),
        duplicates_removed=removed,
        prompts=sum(entry.prompt_seen for entry in examples),
    )


def prompt_text(example: Example) -> str:
    """Join all messages of the prompt."""
    return "\n".join(message.content for message in example.messages)


def folded_prompt(example: Example) -> str:
    """Return a comparison key of the prompt, with images but without case and sentence punctuation."""
    text = normalize_text(_PUNCTUATION.sub(" ", prompt_text(example).casefold()))
    return json.dumps([text, *(image for message in example.messages for image in message.images)])


def _combined(*overlaps: Overlap) -> Overlap:
    """Combine overlaps of the same text with several indexes."""
    return Overlap(
        any(overlap.exact for overlap in overlaps),
        max(overlap.shared_words for overlap in overlaps),
        any(overlap.edited for overlap in overlaps),
        overlaps[0].words,
    )


def _folded(answer: str) -> str:
    return " ".join(words_of(answer)) or answer.strip()


def _is_json(answer: str) -> bool:
    if answer.lstrip()[:1] not in ("{", "["):
        return False
    try:
        json.loads(answer)
    except (ValueError, RecursionError):
        return False
    return True
