"""What test passages and test examples share with training: documents, prompts and answers.

A test example is contaminated if its prompt, whole or a passage of it, stands in training, or if its answer does. An
answer alone is no evidence where it is short, or is given to several prompts (a label, a canned reply, JSON of few
values): then it is right in all splits. What a large share of the prompts has in common is a template, and no evidence.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from sizewise.datasets.repeats import common_from, prompt_key
from sizewise.records import ContaminationEntry, ContaminationReport, Document, Example, Split
from sizewise.text.ngrams import NGRAM, NO_NGRAMS, Overlap, SeenText, common_ngrams, is_long
from sizewise.text.words import normalize_text, words_of

LABEL_WORDS = 3
# An answer, or a phrase of answers, that so many prompts have is a canned one.
CANNED = 3
# Punctuation that another hand sets otherwise; signs that make another question (+ - * / # < > = %) stay.
_MARKS = (
    r"[.,;:!?'\"()\[\]\u2018-\u201f\u2026\u00ab\u00bb\u00a1\u00bf\u3001\u3002\uff0c\uff1a\uff1b\uff01\uff1f"
    r"\u060c\u061b\u061f\u0964]"
)
_PUNCTUATION = re.compile(rf"(?<!\d){_MARKS}|{_MARKS}(?!\d)")


class Text(NamedTuple):
    """A passage of a test document."""

    item: str
    """Its id."""
    text: str
    """What it says."""


class Training:
    """What a model is trained on.

    Args:
        documents: of the training split.
        examples: of all splits; those of the training split are what was seen.
        derived: whether the examples are passages of the documents; then nothing in them is a template.
    """

    def __init__(
        self, documents: Iterable[Document], examples: Mapping[Split, Sequence[Example]], derived: bool
    ) -> None:
        self._documents, self._prompts, self._answers = SeenText(), SeenText(), SeenText()
        self._documents.add(text for d in documents for text in (d.text, *d.text.split("\n\n")))
        train = examples["train"]
        asked = [prompt_text(example) for example in train]
        self._template = NO_NGRAMS if derived else common_ngrams(asked, common_from(len(asked)))
        self._prompts.add(asked, self._template)
        given = [answer for example in train for answer in example.references]
        self._phrases = NO_NGRAMS if derived else common_ngrams(given, CANNED)
        self._answers.add(given, self._phrases)
        keys = Counter(folded_prompt(example) for example in train)
        self._keys = frozenset(keys)
        self._shared_keys = {key for key, count in keys.items() if count >= common_from(len(train))}
        prompts_of: dict[str, set[str]] = defaultdict(set)
        for some in examples.values():
            for example in some:
                for answer in example.references:
                    prompts_of[_normal(answer)].add(prompt_key(example))
        self._canned = {answer for answer, prompts in prompts_of.items() if len(prompts) >= CANNED and not derived}

    def passage(self, passage: Text) -> ContaminationEntry:
        """Return what a passage of a test document shares with training."""
        found = _most(
            self._documents.look_up(passage.text),
            self._answers.look_up(passage.text, self._phrases),
            self._prompts.look_up(passage.text, self._template),
        )
        return ContaminationEntry(item=passage.item, kind="passage", **found._asdict())

    def example(self, example: Example) -> ContaminationEntry:
        """Return what a test example shares with training, its answers and its prompt."""
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
            **_most(*answers)._asdict(),
            prompt_exact=self._stands(example),
            prompt_shared_words=max(part.shared_words for part in parts),
            prompt_words=parts[0].words,
        )

    def _stands(self, example: Example) -> bool:
        """Tell whether a whole prompt stands in training, be it short; what many examples ask alike is a template."""
        key = folded_prompt(example)
        template = key in self._shared_keys
        if not template and key in self._keys:
            return True
        said = "\n".join(message.content for message in example.messages if message.role != "system")
        if len(words_of(said)) <= LABEL_WORDS:
            return False
        elsewhere = (self._documents, self._answers)
        if any(place.look_up(said).exact for place in elsewhere):
            return True
        places = elsewhere if template else (*elsewhere, self._prompts)
        return not is_long(said) and any(place.holds(said) for place in places)

    def _answer(self, answer: str) -> Overlap:
        in_text = self._documents.look_up(answer)
        none = Overlap(False, 0, False, in_text.words)
        if in_text.words <= LABEL_WORDS or _normal(answer) in self._canned:
            return none
        if not is_long(answer) or _is_json(answer):
            return in_text
        return _most(in_text, self._answers.look_up(answer, self._phrases))


def contamination(
    documents: Iterable[Document],
    passages: Iterable[Text],
    examples: Mapping[Split, Sequence[Example]],
    derived: bool = False,
) -> list[ContaminationEntry]:
    """Return what each test passage and each test example shares with training.

    Args:
        documents: of the training split.
        passages: of the documents of the test split.
        examples: of all splits.
        derived: whether the examples are passages of the documents.
    """
    training = Training(documents, examples, derived)
    return [*map(training.passage, passages), *map(training.example, examples["test"])]


def contamination_sums(entries: Sequence[ContaminationEntry], removed: int) -> ContaminationReport:
    """Add up what test items share with training.

    Args:
        entries: one an item.
        removed: documents and examples that were removed as duplicates.
    """
    of_text = [entry for entry in entries if entry.kind == "passage"]
    of_work = [entry for entry in entries if entry.kind == "example"]
    return ContaminationReport(
        ngram=NGRAM,
        passages=len(of_text),
        uncontaminated_passages=sum(entry.uncontaminated for entry in of_text),
        examples=len(of_work),
        uncontaminated_examples=sum(entry.uncontaminated for entry in of_work),
        words=sum(entry.words for entry in of_text),
        shared_words=sum(entry.shared_words for entry in of_text),
        exact=sum(entry.exact for entry in entries),
        duplicates_removed=removed,
        prompts=sum(entry.prompt_seen for entry in of_work),
    )


def prompt_text(example: Example) -> str:
    """Return all turns of what is asked."""
    return "\n".join(message.content for message in example.messages)


def folded_prompt(example: Example) -> str:
    """Return what is asked, without case and the punctuation of sentences, with its pictures."""
    said = normalize_text(_PUNCTUATION.sub(" ", prompt_text(example).casefold()))
    return json.dumps([said, *(image for message in example.messages for image in message.images)])


def _most(*found: Overlap) -> Overlap:
    return Overlap(
        any(one.exact for one in found),
        max(one.shared_words for one in found),
        any(one.edited for one in found),
        found[0].words,
    )


def _normal(answer: str) -> str:
    return " ".join(words_of(answer)) or answer.strip()


def _is_json(answer: str) -> bool:
    if answer.lstrip()[:1] not in ("{", "["):
        return False
    try:
        json.loads(answer)
    except (ValueError, RecursionError):
        return False
    return True
