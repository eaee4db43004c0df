"""Detect contamination: test passages and test examples that share text with the training split.

A test example is contaminated if its prompt, in full or as a long passage, or its answer occurs in training. A short
answer, or one that several prompts share (a label, a canned reply, JSON with few values), isn't evidence, because it is
correct in every split. Text that a large share of the prompts has in common is a template and isn't evidence either.

The 13-gram rule follows Brown et al. (2020), Language Models are Few-Shot Learners, appendix C; copies with edits are
found by `copies`. Both work on disk and in time that grows linearly with the text; see
docs/explanation/contamination.md.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from sizewise.datasets.copies import Copies
from sizewise.datasets.keys import answer_hash, folded_prompt, key_hash, min_template_count, prompt_key, prompt_text
from sizewise.datasets.spool import Spool, repeated, shared
from sizewise.records import DRAFTED, ContaminationEntry, ContaminationReport, Document, Example, Split
from sizewise.text.ngrams import (
    NGRAM,
    NO_HASHES,
    Hashes,
    Mask,
    Words,
    hash_words,
    isin_sorted,
    join_words,
    left_out,
    letters_of,
    ngrams,
)

MAX_LABEL_WORDS = 3
MIN_CANNED_PROMPTS = 3  # an answer or phrase that this many prompts share is canned
SHORT_NGRAM = 7
DOCUMENTS, ANSWERS, PROMPTS = KINDS = ("documents", "answers", "prompts")
DRAFTED_PROMPTS = "drafted prompts"
"""Kind of prompts that were drafted from studied documents and may quote them: a copy counts for test prompts only."""
NO_ANSWERS: frozenset[int] = frozenset()


class Text(NamedTuple):
    """A passage of a test document."""

    item: str
    """Id of the passage."""
    text: str
    """Text of the passage."""


class _Part(NamedTuple):
    """A text of a test item: a passage, a prompt, or a reference answer."""

    words: Words
    left_out: Mask | None
    """Words of a template."""
    kinds: tuple[str, ...]
    """Kinds of training text in which a copy counts."""

    @property
    def is_long(self) -> bool:
        """Whether the text has a 13-gram, which makes a chance match with another text unlikely."""
        return len(ngrams(self.words, NGRAM).starts) > 0


class _Overlap(NamedTuple):
    """The overlap of a part with training."""

    exact: bool
    shared_words: int
    edited: bool
    words: int


class Templates:
    """Text that training prompts or answers have in common, which isn't evidence of a copy.

    Args:
        examples: Examples of all splits; only the training split has templates, but answers of all are counted.
        derived: Whether the examples were derived from the documents; such examples have no template.
        folder: Folder for working files.
    """

    def __init__(self, examples: Mapping[Split, Sequence[Example]], derived: bool, folder: Path) -> None:
        self.prompts = self.answers = NO_HASHES
        self._canned = self.keys = frozenset[int]()
        counts: dict[int, int] = defaultdict(int)
        prompts, answers = Spool(folder, "template", 1), Spool(folder, "canned", 1)
        for example in examples["train"]:
            counts[key_hash(folded_prompt(example))] += 1
            if not derived:
                prompts.add(np.unique(ngrams(hash_words(prompt_text(example)), NGRAM).hashes))
                for answer in example.references:
                    answers.add(np.unique(ngrams(hash_words(answer), NGRAM).hashes))
        self.min_count = min_template_count(len(examples["train"]))
        self.train_keys = frozenset(counts)
        if not derived:
            self.prompts, self.answers = repeated(prompts, self.min_count), repeated(answers, MIN_CANNED_PROMPTS)
            self._canned = _canned_answers(examples)
        self.keys = frozenset(key for key, count in counts.items() if count >= self.min_count)

    def is_canned(self, answer: str) -> bool:
        """Check whether at least three different prompts have this answer."""
        return answer_hash(answer) in self._canned


def _canned_answers(examples: Mapping[Split, Sequence[Example]]) -> frozenset[int]:
    pairs = [
        (answer_hash(answer), key_hash(prompt_key(example)))
        for some in examples.values()
        for example in some
        for answer in example.references
    ]
    if not pairs:
        return frozenset()
    distinct = np.unique(np.array(pairs, np.uint64), axis=0)
    answers, counts = np.unique(distinct[:, 0], return_counts=True)
    return frozenset(answers[counts >= MIN_CANNED_PROMPTS].tolist())


class _Comparison:
    """The test items against the training split; everything of the size of the text is on disk."""

    def __init__(
        self,
        documents: Iterable[Document],
        passages: Iterable[Text],
        examples: Mapping[Split, Sequence[Example]],
        derived: bool,
        studied: bool,
        folder: Path,
    ) -> None:
        self._studied = studied
        self._documents, self._passages, self._examples = documents, passages, examples
        self._templates = Templates(examples, derived, folder)
        self._folder = folder
        self._wanted: dict[int, set[int]] = {0: set(), SHORT_NGRAM: set()}
        self._grams = Spool(folder, "test", 1)
        self._copies: dict[int, list[tuple[str, int]]] = defaultdict(list)
        self._train: list[tuple[str, str, frozenset[int]]] = []  # kind, id and answers of each training text
        self._key_of: dict[int, set[int]] = {}

    def entries(self) -> Iterator[ContaminationEntry]:
        """Yield the entry of each test passage, then of each test example."""
        self._collect()
        number = 0
        for item, example, some in self._items():
            numbers = range(number, number + len(some))
            number += len(some)
            if example is None:
                overlap = self._overlap(some[0], numbers[0])
                yield ContaminationEntry(item=item, kind="passage", **overlap._asdict(), match=self._match(numbers))
            else:
                yield self._example_entry(example, some, numbers)

    def _items(self) -> Iterator[tuple[str, Example | None, list[_Part]]]:
        for passage in self._passages:
            yield passage.item, None, [_Part(hash_words(passage.text), None, KINDS)]
        for example in self._examples["test"]:
            prompt = hash_words(prompt_text(example))
            parts = [_Part(prompt, left_out(prompt, self._templates.prompts), (*KINDS, DRAFTED_PROMPTS))]
            yield example.id, example, [*parts, *map(self._answer_part, example.references)]

    def _answer_part(self, answer: str) -> _Part:
        part = _Part(hash_words(answer), None, KINDS)
        if len(part.words) <= MAX_LABEL_WORDS or self._templates.is_canned(answer):
            return part._replace(kinds=())
        return part if part.is_long and not _is_json(answer) else part._replace(kinds=(DOCUMENTS,))

    def _collect(self) -> None:
        """Index the test items, then stream the training split past them."""
        copies = Copies(self._folder, self._characters())
        number = 0
        for _, example, parts in self._items():
            for part in parts:
                self._grams.add(ngrams(part.words, NGRAM).hashes)
                self._wanted[0].add(part.words.whole())
                if part.kinds and part.is_long:
                    copies.look_for(letters_of(part.words, part.left_out), number)
                number += 1
            if example is not None:
                asked = hash_words(_asked(example))
                self._wanted[0].add(asked.whole())
                self._wanted[SHORT_NGRAM].update(ngrams(asked, SHORT_NGRAM).hashes.tolist())
        self._seen = {kind: _Seen(self._wanted, Spool(self._folder, kind, 1)) for kind in (*KINDS, DRAFTED_PROMPTS)}
        for kind, words, common, item, answers in self._training_texts():
            self._seen[kind].add(words, common)
            copies.add(letters_of(words, common))
            self._train.append((kind, item, answers))
        for seen in self._seen.values():
            seen.finish(self._grams)
        for copy in copies.found():
            kind, _, _ = self._train[copy.item]
            self._copies[copy.part].append((kind, copy.item))

    def _characters(self) -> int:
        return sum(len(document.text) for document in self._documents) + sum(
            len(prompt_text(example)) for example in self._examples["train"]
        )

    def _training_texts(self) -> Iterator[tuple[str, Words, Mask | None, str, frozenset[int]]]:
        for document in self._documents:
            paragraphs = [hash_words(paragraph) for paragraph in document.text.split("\n\n")]
            for paragraph in paragraphs:
                self._seen[DOCUMENTS].add_whole(paragraph)
            yield DOCUMENTS, join_words(paragraphs), None, document.id, NO_ANSWERS
        for example in self._examples["train"]:
            answers = frozenset(map(answer_hash, example.references))
            self._key_of.setdefault(key_hash(folded_prompt(example)), set()).update(answers)
            words = hash_words(prompt_text(example))
            is_drafted = self._studied and DRAFTED in example.tags
            kind = DRAFTED_PROMPTS if is_drafted else PROMPTS
            yield kind, words, left_out(words, self._templates.prompts), example.id, answers
            if is_drafted:
                continue  # its answer says what a document says that is studied as well
            for answer in (*example.references, *example.rejected):
                words = hash_words(answer)
                yield ANSWERS, words, left_out(words, self._templates.answers), example.id, answers

    def _overlap(self, part: _Part, number: int) -> _Overlap:
        seen = [self._seen[kind] for kind in part.kinds]
        return _Overlap(
            any(part.words.whole() in one.whole for one in seen),
            max((one.shared_words(part) for one in seen), default=0),
            any(kind in part.kinds for kind, _ in self._copies.get(number, ())),
            len(part.words),
        )

    def _example_entry(self, example: Example, parts: list[_Part], numbers: range) -> ContaminationEntry:
        prompt, *answers = parts
        found = [self._overlap(part, number) for part, number in zip(answers, numbers[1:], strict=True)]
        overlap = _combined(found) if found else _Overlap(False, 0, False, 0)
        prompted = self._overlap(prompt, numbers[0])
        given = frozenset(map(answer_hash, example.references))
        copied = [
            self._train[item] for kind, item in self._copies.get(numbers[0], ()) if kind in (PROMPTS, DRAFTED_PROMPTS)
        ]
        same = self._key_of.get(key_hash(folded_prompt(example)), set())
        return ContaminationEntry(
            item=example.id,
            kind="example",
            **overlap._asdict(),
            prompt_exact=self._has_prompt(example, prompt),
            prompt_shared_words=prompted.shared_words,
            prompt_edited=prompted.edited,
            prompt_words=prompted.words,
            pair=bool(given & same) or any(given & answers for _, _, answers in copied),
            match=self._match(numbers),
        )

    def _match(self, numbers: range) -> str:
        copies = [item for number in numbers for _, item in self._copies.get(number, ())]
        return self._train[copies[0]][1] if copies else ""

    def _has_prompt(self, example: Example, part: _Part) -> bool:
        """Check whether a complete prompt, even a short one, occurs in training; templates are exempt."""
        key = key_hash(folded_prompt(example))
        template = key in self._templates.keys
        if not template and key in self._templates.train_keys:
            return True
        asked = hash_words(_asked(example))
        if len(asked) <= MAX_LABEL_WORDS:
            return False
        if any(asked.whole() in self._seen[kind].whole for kind in (DOCUMENTS, ANSWERS)):
            return True
        searched = (DOCUMENTS, ANSWERS) if template else part.kinds
        short = ngrams(asked, SHORT_NGRAM).hashes
        is_long = len(ngrams(asked, NGRAM).starts) > 0
        return not is_long and len(short) > 0 and any(self._seen[kind].holds(short) for kind in searched)


class _Seen:
    """What one kind of training text has in common with the test items."""

    def __init__(self, wanted: Mapping[int, set[int]], grams: Spool) -> None:
        self._wanted_whole = wanted[0]
        self._wanted_short = np.array(sorted(wanted[SHORT_NGRAM]), np.uint64)
        self._short: list[Hashes] = []
        self._grams = grams
        self.whole: set[int] = set()

    def add(self, words: Words, common: Mask | None) -> None:
        """Add a training text without the words of a template."""
        self.add_whole(words)
        self._grams.add(ngrams(words, NGRAM, common).hashes)
        if len(self._wanted_short):
            short = ngrams(words, SHORT_NGRAM, common).hashes
            self._short.append(short[isin_sorted(short, self._wanted_short)])

    def add_whole(self, words: Words) -> None:
        """Add a training text, or a paragraph, as a whole."""
        whole = words.whole()
        if whole in self._wanted_whole:
            self.whole.add(whole)

    def finish(self, test: Spool) -> None:
        """Find the n-grams that the test items share."""
        self._shared = shared(self._grams, test)
        self._seen_short = np.unique(np.concatenate([NO_HASHES, *self._short]))

    def shared_words(self, part: _Part) -> int:
        """Count the words of a part in shared 13-grams."""
        grams = ngrams(part.words, NGRAM, part.left_out)
        return int(grams.covered(isin_sorted(grams.hashes, self._shared), len(part.words)).sum())

    def holds(self, short: Hashes) -> bool:
        """Return whether every 7-gram was seen."""
        return bool(isin_sorted(short, self._seen_short).all())


def contamination(
    documents: Iterable[Document],
    passages: Iterable[Text],
    examples: Mapping[Split, Sequence[Example]],
    derived: bool = False,
    folder: Path | None = None,
    studied: bool = False,
) -> Iterator[ContaminationEntry]:
    """Check every test passage and test example against the training split.

    Args:
        documents: Documents of the training split; they are read several times.
        passages: Passages of the test documents; they are read several times.
        examples: Examples of all splits.
        derived: Whether the examples were derived from the documents.
        folder: Folder for working files, up to fifteen times as large as the text; the system's own by default.
        studied: Whether unseen questions are asked about documents that models study. Then the answers of examples that
            were drafted from the documents give nothing away that the documents don't; their prompts count.
    """
    with TemporaryDirectory(dir=folder, prefix=".contamination-") as working:
        yield from _Comparison(documents, passages, examples, derived, studied, Path(working)).entries()


class Tally:
    """Sums over contamination entries, without keeping them."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = defaultdict(int)

    def add(self, entry: ContaminationEntry) -> ContaminationEntry:
        """Count an entry and return it."""
        counts = self.counts
        counts["exact"] += entry.exact
        if entry.kind == "passage":
            counts["passages"] += 1
            counts["uncontaminated_passages"] += entry.uncontaminated
            counts["words"] += entry.words
            counts["shared_words"] += entry.shared_words
        else:
            counts["examples"] += 1
            counts["uncontaminated_examples"] += entry.uncontaminated
            counts["prompts"] += entry.prompt_seen
            counts["answers"] += entry.answer_seen
            counts["pairs"] += entry.pair
        counts["edited"] += entry.edited or entry.prompt_edited
        return entry

    def report(self, removed: int) -> ContaminationReport:
        """Summarize the contamination of a dataset; `removed` is the number of duplicates that were removed."""
        names = ("passages", "uncontaminated_passages", "examples", "uncontaminated_examples", "words", "shared_words")
        counts = {name: self.counts[name] for name in (*names, "exact", "prompts", "answers", "pairs", "edited")}
        return ContaminationReport(ngram=NGRAM, duplicates_removed=removed, **counts)


def summarize(entries: Iterable[ContaminationEntry], removed: int) -> ContaminationReport:
    """Summarize the contamination of a dataset.

    Args:
        entries: One entry per test item.
        removed: Number of documents and examples removed as duplicates.
    """
    tally = Tally()
    for entry in entries:
        tally.add(entry)
    return tally.report(removed)


def _asked(example: Example) -> str:
    return "\n".join(message.content for message in example.messages if message.role != "system")


def _combined(overlaps: Sequence[_Overlap]) -> _Overlap:
    """Combine the overlaps of several reference answers."""
    return _Overlap(
        any(overlap.exact for overlap in overlaps),
        max(overlap.shared_words for overlap in overlaps),
        any(overlap.edited for overlap in overlaps),
        overlaps[0].words,
    )


def _is_json(answer: str) -> bool:
    if answer.lstrip()[:1] not in ("{", "["):
        return False
    try:
        json.loads(answer)
    except (ValueError, RecursionError):
        return False
    return True
