"""Held-out data that steers a run: answers where the job is answers, otherwise text; the same for every recipe."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from sizewise.datasets import DatasetContents
from sizewise.datasets.contamination import Text, contamination
from sizewise.lm import loop
from sizewise.lm.packing import Unit, cut
from sizewise.lm.tokenizer import prefix_ids, text_ids
from sizewise.lm.validation import Held
from sizewise.records import Document, Example, Recipe, Score, Validation
from sizewise.store import write_atomically
from sizewise.training.encoded_data import example_unit
from sizewise.training.intervals import ratio_score

SHARE_OF_TIME = 0.05  # of a run, for all of its validations together
STEPS_PER_PASS = 2  # a training step takes at least this many times as long as a validation of as many tokens
MIN_TOKENS, MAX_TOKENS = 2_048, 65_536
MIN_VALIDATIONS = 4  # of a run
MIN_ITEMS = 10  # of a sample, whatever they cost
MIN_ANSWERS = 8  # with fewer, text is the steadier measure, unless only answers are trained on
CANDIDATES, CHARACTERS_PER_TOKEN = 3, 5  # pieces are chosen among so many times as many as are needed
CHECKED_CHARACTERS = 5_000_000  # of the training split; a larger one is hardly read twice
RECITED = "most of the held-out text is in the training text as well, so validation also counts what is recited"
SHORT_PIECE_CHARACTERS = 500  # where most of the longer ones share something with the training text
PIECE_CHARACTERS = 2_000  # of a document at a time, so that many documents are seen
WORD_CHARACTERS = 100  # in which the end of a word is looked for
FILE = "validation.json"
_NAMES = {
    "answers": ("held-out answer", "held-out answers"),
    "text": ("piece of held-out text", "pieces of held-out text"),
}


class HeldOut(NamedTuple):
    """The held-out data of a run."""

    held: Held
    kind: Literal["answers", "text"]
    sources: tuple[str, ...]
    """Source document of each item."""
    notes: tuple[str, ...] = ()


def tokens_for(budget: int, validations: int) -> int:
    """Return how many tokens a validation may have, so that all of them take a few percent of a run.

    Args:
        budget: tokens of the run.
        validations: validations of the run, without the one before the first step.
    """
    paid_for = int(SHARE_OF_TIME * STEPS_PER_PASS * budget / (validations + 1))
    return min(MAX_TOKENS, max(MIN_TOKENS, paid_for))


def tokens_in(seconds: float, validation_s: float, tokens: int) -> int:
    """Return how many tokens a validation of a run with a time budget may have.

    Args:
        seconds: time of the run.
        validation_s: time of a validation.
        tokens: tokens of that validation.
    """
    each_s = SHARE_OF_TIME * seconds / (MIN_VALIDATIONS + 1)
    return min(MAX_TOKENS, max(MIN_TOKENS, int(tokens * each_s / max(validation_s, 1e-6))))


def hold_out(contents: DatasetContents, tokenizer: Any, recipe: Recipe, tokens: int) -> HeldOut:
    """Sample held-out data up to a number of tokens.

    Answers are sampled if examples are trained on, otherwise pieces of documents; pieces that the training split holds
    as well are left out, since learning those by heart would count as progress. The seed of a recipe, and how much of
    the data it uses, don't change the sample, so runs with different recipes are compared on the same items.

    Args:
        contents: the dataset; its validation split isn't empty.
        tokenizer: tokenizer of the model.
        recipe: settings of the run.
        tokens: most tokens of the sample, prompts included; a few items are always taken.
    """
    documents, examples = contents.documents["validation"], contents.examples["validation"]
    if _is_job_answers(contents, recipe) and examples:
        found = _answers(examples, tokenizer, recipe.context, tokens)
        only_answers = recipe.example_share == 1 or not len(contents.documents["train"]) or not len(documents)
        if len(found.sources) >= (1 if only_answers else MIN_ANSWERS):
            return found
        few = (
            f"{len(found.sources)} validation answers fit into the context of {recipe.context} tokens, fewer than "
            f"{MIN_ANSWERS}, so validation is on text"
        )
        found = _texts(contents, tokenizer, recipe.context, tokens)
        return found._replace(notes=(few, *found.notes))
    return _texts(contents, tokenizer, recipe.context, tokens)


def _is_job_answers(contents: DatasetContents, recipe: Recipe) -> bool:
    """Check whether a run is for answering; examples that were derived from text are text again."""
    if not len(contents.examples["train"]) or not recipe.example_share:
        return not len(contents.documents["train"])
    return not contents.record.derived or recipe.example_share == 1 or not len(contents.documents["train"])


def _answers(examples: Sequence[Example], tokenizer: Any, context: int, tokens: int) -> HeldOut:
    units: list[Unit] = []
    answers: list[str] = []
    sources: list[str] = []
    left = tokens
    for number in _shuffled(len(examples)):
        example = examples[number]
        unit = example_unit(tokenizer, example) if example.references else None
        if unit is None or len(unit.ids) > context or not example.references[0]:
            continue
        if len(units) >= MIN_ITEMS and len(unit.ids) > left:
            break
        units.append(unit)
        answers.append(example.references[0])
        sources.append(example.group or example.source)
        left -= len(unit.ids)
    return HeldOut(Held.of(tokenizer, units, answers, context), "answers", tuple(sources))


def _choose_pieces(contents: DatasetContents, tokens: int) -> tuple[Iterable[tuple[str, str]], tuple[str, ...]]:
    """Return source and text of pieces of held-out text, at least as many as are needed, and notes about them."""
    documents = contents.documents["validation"]
    if not len(documents):
        return _as_text(contents.examples["validation"]), ()
    if not _is_checked(contents):
        return _pieces(documents, PIECE_CHARACTERS), ()
    for size, share in ((PIECE_CHARACTERS, 0.5), (SHORT_PIECE_CHARACTERS, 0.0)):
        some = _first(_pieces(documents, size), CANDIDATES * CHARACTERS_PER_TOKEN * tokens)
        kept = _unseen(contents, some)
        if len(kept) == len(some) or len(kept) >= max(MIN_ITEMS, share * len(some)):
            return kept, ()
    return _pieces(documents, PIECE_CHARACTERS), (RECITED,)


def _first(pieces: Iterable[tuple[str, str]], characters: int) -> list[tuple[str, str]]:
    """Return the first pieces, up to a number of characters; a few are always taken."""
    found: list[tuple[str, str]] = []
    for source, text in pieces:
        if characters <= 0 and len(found) >= CANDIDATES * MIN_ITEMS:
            break
        found.append((source, text))
        characters -= len(text)
    return found


def _unseen(contents: DatasetContents, pieces: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the pieces that share no long passage with the training split."""
    texts = [Text(str(number), text) for number, (_, text) in enumerate(pieces)]
    entries = contamination(contents.documents["train"], texts, {"train": (), "validation": (), "test": ()})
    return [piece for piece, entry in zip(pieces, entries, strict=True) if entry.uncontaminated]


def _is_checked(contents: DatasetContents) -> bool:
    """Whether the training split is so small that it is read often, and compared with held-out text in seconds."""
    left = CHECKED_CHARACTERS
    for document in contents.documents["train"]:
        left -= len(document.text)
        if left < 0:
            return False
    return True


def _texts(contents: DatasetContents, tokenizer: Any, context: int, tokens: int) -> HeldOut:
    """Sample pieces of documents, one of each document before the second of any."""
    pieces, notes = _choose_pieces(contents, tokens)
    prefix, left = prefix_ids(tokenizer), tokens
    units: list[Unit] = []
    owners: list[int] = []
    texts: list[str] = []
    sources: list[str] = []
    for source, text in pieces:
        ids = text_ids(tokenizer, text)
        if not ids:
            continue
        if len(texts) >= MIN_ITEMS and len(ids) > left:
            break
        found = cut(prefix + ids, context, len(prefix))
        units += found
        owners += [len(texts)] * len(found)
        texts.append(text)
        sources.append(source)
        left -= len(ids)
    return HeldOut(Held.of(tokenizer, units, texts, context, owners), "text", tuple(sources), notes)


def _pieces(documents: Sequence[Document], size: int) -> Iterator[tuple[str, str]]:
    """Yield the source and text of pieces, each a random one of its document, in rounds over the documents."""
    order, number = _shuffled(len(documents)), 0
    exhausted: set[int] = set()
    while len(exhausted) < len(order):
        for place in order:
            if place in exhausted:
                continue
            document = documents[place]
            count = max(1, round(len(document.text) / size))
            if number >= count:
                exhausted.add(place)
                continue
            piece = _piece(document.text, _shuffled(count, place)[number], size)
            if piece.strip():
                yield document.group or document.id, piece
        number += 1


def _piece(text: str, number: int, size: int) -> str:
    begin, end = (_word_end(text, number + i, size) for i in (0, 1))
    return text[begin:end]


def _word_end(text: str, number: int, size: int) -> int:
    """Return where piece `number` begins: at a multiple of the length, moved to the end of the word there."""
    place = number * size
    if number == 0 or place >= len(text) or number >= max(1, round(len(text) / size)):
        return 0 if number == 0 else len(text)
    space = next((i for i in range(place, min(len(text), place + WORD_CHARACTERS)) if text[i].isspace()), place)
    return space


def _as_text(examples: Sequence[Example]) -> Iterator[tuple[str, str]]:
    for number in _shuffled(len(examples)):
        example = examples[number]
        yield example.group or example.source, "\n".join((example.prompt, *example.references[:1]))


def _shuffled(size: int, key: int = 0) -> list[int]:
    order = list(range(size))
    random.Random(f"validation {key}").shuffle(order)
    return order


def describe(out: HeldOut) -> str:
    """Describe the sample in a phrase."""
    items, sources = len(out.sources), len(set(out.sources))
    one, many = _NAMES[out.kind]
    origin = f"{sources:,} source{'s' * (sources != 1)}"
    return f"{items:,} {one if items == 1 else many} from {origin} ({out.held.bytes:,} bytes)"


def score_bits(out: HeldOut, nats: Sequence[float], name: str = "bits_per_byte") -> Score:
    """Score the bits per byte of the sample with an interval over sources; `nats` may be differences."""
    bits = (np.asarray(nats) / np.log(2)).tolist()
    sizes = [float(size) for size in out.held.sizes]
    signature = f"validation on {out.kind}"
    return ratio_score(name, bits, sizes, unit="bits/byte", signature=signature, clusters=out.sources)


def score_validation(out: HeldOut, before: loop.Bits, after: loop.Bits) -> Validation | None:
    """Score a run on its held-out data; None if an earlier version began the run and kept no values of items."""
    if len(before.items) != len(out.sources) or len(after.items) != len(out.sources):
        return None
    change = np.subtract(after.items, before.items)
    return Validation(
        kind=out.kind,
        items=len(out.sources),
        sources=len(set(out.sources)),
        bytes=out.held.bytes,
        before=score_bits(out, before.items),
        after=score_bits(out, after.items),
        change=score_bits(out, change.tolist(), "change of bits_per_byte"),
    )


def score_difference(first: Measured, second: Measured, name: str) -> Score | None:
    """Score how the second run differs from the first on the same items; None if they were measured on other items."""
    if (first.sizes, first.sources) != (second.sizes, second.sources):
        return None
    bits = np.subtract(second.nats, first.nats) / np.log(2)
    signature = "the same held-out items"
    return ratio_score(name, bits.tolist(), first.sizes, unit="bits/byte", signature=signature, clusters=first.sources)


class Measured(NamedTuple):
    """What a finished run scored on each held-out item, for comparisons with other runs on the same items."""

    nats: list[float]
    sizes: list[int]
    sources: list[str]


def measured_of(out: HeldOut, nats: Sequence[float]) -> Measured:
    """Return what weights scored on each item of the sample."""
    return Measured(list(nats), list(out.held.sizes), list(out.sources))


def save_items(folder: Path, measured: Measured) -> None:
    """Save what the kept weights scored on each item, beside the record of a run."""
    write_atomically(folder / FILE, json.dumps(measured._asdict()))


def load_items(folder: Path) -> Measured | None:
    """Load what `save_items` saved; None if an earlier version made the run."""
    try:
        return Measured(**json.loads((folder / FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
