"""Training data: documents and examples of a dataset, encoded and packed into rows."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, overload

import numpy as np
import numpy.typing as npt

from sizewise.datasets import DatasetContents
from sizewise.errors import SizewiseError
from sizewise.lm.encoding import EncodedItems, Item, encode_texts
from sizewise.lm.packing import IntArray, Mix, Pool, Unit, cut_items
from sizewise.lm.tokenizer import prefix_ids
from sizewise.progress import Reporter
from sizewise.records import Document, Example, Recipe
from sizewise.training import representation
from sizewise.training.context_training import give_passages
from sizewise.training.encoded_data import EncodedData, encode_examples

MAX_REPEATS = 4  # of text that names a rare group, when it is reweighted
RATED_FORMS = ("(preference pair)", "(good or bad answer, KTO)")
PREFERENCES_NOTE = (
    "the data tell better answers from worse ones: the better ones were learned, the worse ones weren't used"
)
R = TypeVar("R", bound=Document | Example)


class Additions(NamedTuple):
    """Training data in addition to the dataset."""

    control: tuple[str, ...] = ()
    """General texts, replayed to reduce forgetting."""
    units: tuple[Unit, ...] = ()
    """Encoded units, such as canaries."""
    answers: Mapping[str, str] = {}
    """Example id -> answer of a teacher, which replaces the reference answer."""


class Material(NamedTuple):
    """Packed training data of a run, and notes about it."""

    mix: Mix
    notes: tuple[str, ...]
    encoded_bytes: int = 0
    """Size of the encoded text on disk."""
    without_answer: int = 0
    """Examples that were left out because they have no reference answer."""
    too_long: int = 0
    """Examples that were left out because their prompt is longer than a row."""


class _LeftOut(NamedTuple):
    """Examples that can't be trained on, and notes about them."""

    without_answer: int = 0
    too_long: int = 0
    notes: tuple[str, ...] = ()


class Chosen(Sequence[R]):
    """Some of the rows of a dataset, in its order and read when they are asked for.

    Args:
        rows: all rows.
        places: places of the chosen ones, ascending.
    """

    def __init__(self, rows: Sequence[R], places: IntArray) -> None:
        self._rows, self.places = rows, places

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[R]:
        if len(self.places) == len(self._rows):
            yield from self._rows
            return
        wanted = iter(self.places.tolist())
        following = next(wanted, None)
        for number, row in enumerate(self._rows):
            if number == following:
                yield row
                following = next(wanted, None)

    @overload
    def __getitem__(self, place: int) -> R: ...
    @overload
    def __getitem__(self, place: slice) -> list[R]: ...
    def __getitem__(self, place: int | slice) -> R | list[R]:
        """Read one row, or the rows of a slice."""
        if isinstance(place, slice):
            return [self._rows[i] for i in self.places[place].tolist()]
        return self._rows[int(self.places[place])]


def training_part(contents: DatasetContents, recipe: Recipe) -> tuple[Chosen[Document], Chosen[Example]]:
    """Select the training documents and examples; `document_share` draws whole documents by the seed."""
    documents, examples = contents.documents["train"], contents.examples["train"]
    if recipe.document_share == 1:
        return Chosen(documents, np.arange(len(documents))), Chosen(examples, np.arange(len(examples)))
    ids, of_examples = [document.id for document in documents], [example.source for example in examples]
    sources = sorted({*ids, *of_examples})
    random.Random(recipe.seed).shuffle(sources)
    chosen = set(sources[: max(1, round(len(sources) * recipe.document_share))])

    def places(names: Sequence[str]) -> IntArray:
        return np.array([number for number, name in enumerate(names) if name in chosen], np.int64)

    return Chosen(documents, places(ids)), Chosen(examples, places(of_examples))


class _Units:
    """Collects units of several sources of tokens for a pool."""

    def __init__(self) -> None:
        self._tokens: list[npt.NDArray[Any]] = []
        self._learned: list[npt.NDArray[Any] | None] = []
        self._parts: list[tuple[IntArray, IntArray, IntArray]] = []
        self._offset = 0

    def __len__(self) -> int:
        return sum(len(starts) for starts, _, _ in self._parts)

    def add(self, items: EncodedItems, starts: IntArray, lengths: IntArray, firsts: IntArray) -> None:
        self._tokens.append(items.tokens)
        self._learned.append(items.learned)
        self._parts.append((starts + self._offset, lengths, firsts))
        self._offset += len(items.tokens)

    def add_whole(self, items: EncodedItems) -> None:
        self.add(items, items.starts, items.lengths, items.firsts)

    def add_texts(self, items: EncodedItems, context: int, index: IntArray | None = None) -> None:
        """Add texts, each cut into units that overlap by one token."""
        chosen = np.arange(len(items)) if index is None else index
        columns = (items.starts[chosen], items.lengths[chosen], items.firsts[chosen])
        self.add(items, *cut_items(*columns, context))

    def pool(self, context: int, padding: int) -> Pool:
        empty = np.zeros(0, np.int64)
        starts, lengths, firsts = (
            np.concatenate([empty, *(part[column] for part in self._parts)]) for column in range(3)
        )
        return Pool(self._tokens, starts, lengths, firsts, context, padding, self._learned)


def make_mix(
    contents: DatasetContents,
    tokenizer: Any,
    recipe: Recipe,
    folder: Path,
    additions: Additions | None = None,
    reporter: Reporter | None = None,
) -> Material:
    """Encode and pack the training documents and examples.

    Documents are cut into rows with an overlap of one token, so that each token is predicted once. In a conversation,
    all answers contribute to the loss; a conversation longer than the context is truncated.

    Args:
        contents: the dataset.
        tokenizer: tokenizer of the model.
        recipe: settings of the run.
        folder: folder of all encoded data; what is there for this dataset and tokenizer is reused.
        additions: further training data.
        reporter: receives progress.

    Raises:
        SizewiseError: an example has images, the chat template rejects one, or the disk is full.
    """
    additions = additions or Additions()
    documents, examples = training_part(contents, recipe)
    data = EncodedData(contents, tokenizer, folder, reporter)
    prose, conversations, control, notes, left_out = _Units(), _Units(), _Units(), list[str](), _LeftOut()
    if len(documents):
        notes += _add_documents(prose, documents, data, recipe)
    if len(examples) and (recipe.example_share or not len(documents)):
        given = give_passages(documents, examples, recipe, additions.answers)
        replaced = given.examples | _taught(examples, additions.answers)
        left_out = _add_examples(conversations, examples, tokenizer, recipe, data, replaced)
        notes += [*given.notes, *left_out.notes]
        notes += [PREFERENCES_NOTE] if any(form.endswith(RATED_FORMS) for form in contents.record.forms) else []
        if len(prose):
            _check_any_left(conversations, recipe, left_out)
    if additions.units:
        only_examples = len(conversations) and (recipe.example_share == 1 or not len(documents))
        # no rows are drawn from the prose then, so the units must be among the conversations
        (conversations if only_examples else prose).add_whole(_in_memory(additions.units))
    if recipe.start != "scratch" and recipe.control_share:
        prefix = prefix_ids(tokenizer)
        encoded = encode_texts(tokenizer, additions.control)
        texts = _in_memory(Unit([*prefix, *ids], len(prefix)) for ids in encoded)
        control.add_texts(texts, recipe.context)
    share = recipe.example_share if len(prose) and len(conversations) else float(bool(len(conversations)))
    context, padding = recipe.context, tokenizer.pad_token_id
    replayed = control.pool(context, padding) if len(control) else None
    mix = Mix(
        prose.pool(context, padding),
        conversations.pool(context, padding),
        share,
        recipe.rows_per_step,
        recipe.seed,
        replayed,
        recipe.control_share if replayed else 0.0,
    )
    return Material(mix, tuple(notes), data.bytes(), left_out.without_answer, left_out.too_long)


def _check_any_left(conversations: _Units, recipe: Recipe, left_out: _LeftOut) -> None:
    """Check that a run on the examples of a dataset with text has any.

    Raises:
        SizewiseError: all examples were left out, so that the run would learn the text instead.
    """
    if recipe.example_share < 1 or len(conversations):
        return
    advice = "use a longer --context" if left_out.too_long else "read examples with answers: --reference COLUMN"
    raise SizewiseError(
        ". ".join(["Only examples were to be trained on, and none is left", *left_out.notes]) + ".",
        f"examples with an answer, whose prompt is shorter than {recipe.context} tokens",
        f"{advice}, or --example-share 0 to train on the text",
    )


def _in_memory(units: Iterable[Unit]) -> EncodedItems:
    return EncodedItems.of([Item(np.asarray(unit.ids, np.int32), unit.first_target)] for unit in units)


def _add_documents(units: _Units, documents: Chosen[Document], data: EncodedData, recipe: Recipe) -> list[str]:
    """Add documents; those that name a rare group are repeated, or copies with swapped groups are added."""
    items, index = data.documents(), documents.places
    units.add_texts(items, recipe.context, index)
    if recipe.balance == "none":
        return []
    if language := representation.foreign_language(documents):
        return [f"groups are balanced by English words and the text is in {language}, so it was not changed"]
    _, counts = representation.count_groups(document.text for document in documents)
    rarer = representation.rarer_group(counts)
    if rarer is None:
        return ["the text names too few people to balance groups, so it was not changed"]
    of_attribute = counts[representation.SWAPPED]
    if recipe.balance == "augment":
        swapped = data.swapped()
        units.add_texts(swapped, recipe.context, index)
        changed = int((swapped.lengths[index] > 0).sum())
        return [f"copies of {changed} documents with genders swapped were added ({of_attribute} mentions before)"]
    repeats = min(MAX_REPEATS, round(max(of_attribute.values()) / max(1, of_attribute[rarer])))
    names = [representation.names_group(document.text, rarer) for document in documents]
    named = index[np.array(names, bool)]
    units.add_texts(items, recipe.context, np.tile(named, repeats - 1))
    return [
        f"{len(named)} documents that name '{rarer}' were repeated {repeats} times ({of_attribute} mentions before)"
    ]


def _add_examples(
    units: _Units,
    examples: Chosen[Example],
    tokenizer: Any,
    recipe: Recipe,
    data: EncodedData,
    replaced: Mapping[str, Example],
) -> _LeftOut:
    """Add examples, or what replaces them, and return those that were left out, with notes, also about truncation."""
    encoded, rows = data.examples(), examples.places
    parts: list[tuple[EncodedItems, IntArray | slice]] = []
    if replaced:
        places = zip(rows.tolist(), examples, strict=True)
        changed = np.array([place for place, example in places if example.id in replaced], np.int64)
        replacements = (replaced[example.id] for example in examples if example.id in replaced)
        turns = data.turns()
        flags = (turns.learned(place) for place in changed.tolist())
        parts = [(EncodedItems.of(encode_examples(tokenizer, replacements, flags)), slice(None))]
        rows = np.setdiff1d(rows, changed)
    parts = [(encoded, np.flatnonzero(np.isin(encoded.rows, rows))), *parts]
    absent = left_out = cuts = 0
    for items, index in parts:
        columns = (items.starts, items.lengths, items.firsts, items.rows)
        starts, lengths, firsts, row_of = (column[index] for column in columns)
        absent += int((lengths == 0).sum())
        left_out += len(np.unique(row_of[(lengths > 0) & (firsts >= recipe.context)]))
        usable = (lengths > 0) & (firsts < recipe.context)
        cuts += len(np.unique(row_of[usable & (lengths > recipe.context)]))
        units.add(items, starts[usable], np.minimum(lengths[usable], recipe.context), firsts[usable])
    total, notes = len(examples), []
    if absent:
        notes.append(f"{absent} of {total} examples were left out of training: they have no reference answer")
    if left_out:
        notes.append(
            f"{left_out} of {total} examples were left out of training: their prompt alone is longer than the "
            f"context of {recipe.context} tokens"
        )
    if cuts:
        notes.append(f"{cuts} of {total} examples were truncated to {recipe.context} tokens for training")
    return _LeftOut(absent, left_out, tuple(notes))


def _taught(examples: Iterable[Example], answers: Mapping[str, str]) -> dict[str, Example]:
    """Return the examples that a teacher answered, with its answers."""
    return {
        example.id: example.model_copy(update={"references": (answers[example.id],), "choices": ()})
        for example in (examples if answers else ())
        if example.id in answers
    }
