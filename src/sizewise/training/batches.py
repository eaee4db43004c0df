"""Training data: encode a dataset with the model's tokenizer and chat template, and pack it into rows."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sizewise.datasets import DatasetContents
from sizewise.lm.packing import Mix, TokenFile, Unit, cut
from sizewise.lm.tokenizer import chat_sequence, prefix_id, text_ids
from sizewise.lm.validation import Held
from sizewise.models.prompts import question_prompt
from sizewise.records import Document, Example, Recipe
from sizewise.training import representation

MAX_REPEATS = 4  # of text that names a rare group, when it is reweighted


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


def training_part(contents: DatasetContents, recipe: Recipe) -> tuple[Sequence[Document], Sequence[Example]]:
    """Select the training documents and examples; `document_share` draws whole documents by the seed."""
    documents, examples = contents.documents["train"], contents.examples["train"]
    if recipe.document_share == 1:
        return documents, examples
    sources = sorted({document.id for document in documents} | {example.source for example in examples})
    random.Random(recipe.seed).shuffle(sources)
    chosen = set(sources[: max(1, round(len(sources) * recipe.document_share))])
    return (
        [document for document in documents if document.id in chosen],
        [example for example in examples if example.source in chosen],
    )


def make_mix(
    contents: DatasetContents, tokenizer: Any, recipe: Recipe, folder: Path, additions: Additions | None = None
) -> Material:
    """Pack the training documents and examples.

    Documents are cut into rows with an overlap of one token, so that each token is predicted once. In a conversation,
    only the answer contributes to the loss; a conversation longer than the context is truncated.

    Args:
        contents: the dataset.
        tokenizer: tokenizer of the model.
        recipe: settings of the run.
        folder: folder for the encoded text while the run lasts.
        additions: further training data.
    """
    additions = additions or Additions()
    documents, examples = training_part(contents, recipe)
    prefix = prefix_id(tokenizer)
    texts, notes = _balanced(documents, recipe)
    only_examples = bool(examples) and (recipe.example_share == 1 or not documents)
    with TokenFile(folder / "prose.tokens") as prose:
        for unit in _prose(texts, tokenizer, prefix, recipe.context):
            prose.add(unit)
        if not only_examples:
            for unit in additions.units:
                prose.add(unit)
    with TokenFile(folder / "examples.tokens") as conversations:
        notes += _add_examples(conversations, examples, tokenizer, recipe, additions.answers)
        if only_examples:  # no rows are drawn from the prose, so the units must be among the conversations
            for unit in additions.units:
                conversations.add(unit)
    with TokenFile(folder / "control.tokens") as control:
        if recipe.start != "scratch" and recipe.control_share:
            for unit in _prose(additions.control, tokenizer, prefix, recipe.context):
                control.add(unit)
    share = recipe.example_share if len(prose) and len(conversations) else float(bool(len(conversations)))
    replayed = control.pool(recipe.context, tokenizer.pad_token_id) if len(control) else None
    mix = Mix(
        prose.pool(recipe.context, tokenizer.pad_token_id),
        conversations.pool(recipe.context, tokenizer.pad_token_id),
        share,
        recipe.rows_per_step,
        recipe.seed,
        replayed,
        recipe.control_share if replayed else 0.0,
    )
    return Material(mix, tuple(notes))


def remove_rows(folder: Path) -> None:
    """Remove the encoded text of a finished run."""
    for name in ("prose", "examples", "control"):
        TokenFile.remove(folder / f"{name}.tokens")


def _prose(texts: Iterator[str] | Sequence[str], tokenizer: Any, prefix: int, context: int) -> Iterator[Unit]:
    for text in texts:
        yield from cut([prefix, *text_ids(tokenizer, text)], context)


def _balanced(documents: Sequence[Document], recipe: Recipe) -> tuple[Iterator[str], list[str]]:
    """Return the training texts; texts that name a rare group are repeated, or copies with swapped groups are added."""
    plain = (document.text for document in documents)
    if recipe.balance == "none":
        return plain, []
    _, counts = representation.count_groups(document.text for document in documents)
    rarer = representation.rarer_group(counts)
    if rarer is None:
        return plain, ["the text names too few people to balance groups, so it was not changed"]
    of_attribute = counts[representation.SWAPPED]
    if recipe.balance == "augment":
        changed = [d.text for d in documents if representation.swap_groups(d.text) != d.text]
        note = f"copies of {len(changed)} documents with genders swapped were added ({of_attribute} mentions before)"
        return itertools.chain(plain, map(representation.swap_groups, changed)), [note]
    repeats = min(MAX_REPEATS, round(max(of_attribute.values()) / max(1, of_attribute[rarer])))
    named = [d.text for d in documents if representation.names_group(d.text, rarer)]
    note = f"{len(named)} documents that name '{rarer}' were repeated {repeats} times ({of_attribute} mentions before)"
    return itertools.chain(plain, *[named] * (repeats - 1)), [note]


def _add_examples(
    file: TokenFile, examples: Sequence[Example], tokenizer: Any, recipe: Recipe, answers: Mapping[str, str]
) -> list[str]:
    """Encode examples, and return notes about those that did not fit."""
    prefix, cuts, left_out = prefix_id(tokenizer), 0, 0
    for example in examples:
        if example.id in answers:
            example = example.model_copy(update={"references": (answers[example.id],)})
        unit = example_unit(tokenizer, example, prefix)
        if unit.first_target >= recipe.context:
            left_out += 1
            continue
        cuts += len(unit.ids) > recipe.context
        file.add(Unit(unit.ids[: recipe.context], unit.first_target))
    notes = []
    if left_out:
        notes.append(
            f"{left_out} of {len(examples)} examples were left out of training: their prompt alone is longer than the "
            f"context of {recipe.context} tokens"
        )
    if cuts:
        notes.append(f"{cuts} of {len(examples)} examples were truncated to {recipe.context} tokens for training")
    return notes


def example_unit(tokenizer: Any, example: Example, prefix: int) -> Unit:
    """Encode one example: in the chat template if there is one, otherwise as question and answer in plain text."""
    answer = example.references[0]
    if tokenizer.chat_template:
        return chat_sequence(tokenizer, example.messages, answer)
    asked = "\n".join(message.content for message in example.messages)
    prompt = [prefix, *text_ids(tokenizer, question_prompt(asked))]
    return Unit(prompt + text_ids(tokenizer, f" {answer}\n"), len(prompt))


def held_out(contents: DatasetContents, tokenizer: Any, recipe: Recipe, characters: int) -> tuple[Held, list[str]]:
    """Select held-out text for validation, up to a number of characters, and return notes about it.

    It resembles the training data: documents, or answers if the loss only counts answers.
    """
    documents, examples = contents.documents["validation"], contents.examples["validation"]
    only_answers = recipe.example_share == 1 or not contents.documents["train"]
    if only_answers and examples and contents.examples["train"]:
        prefix, units, answers = prefix_id(tokenizer), [], []
        for example in examples:
            unit = example_unit(tokenizer, example, prefix)
            if len(unit.ids) <= recipe.context:
                units.append(unit)
                answers.append(example.references[0])
            if sum(map(len, answers)) >= characters:
                break
        if units:
            note = (
                f"validation used {len(units)} held-out answers instead of text, because only answers were trained on"
            )
            return Held.of(tokenizer, units, answers, recipe.context), [note]
    texts: list[str] = []
    for text in [d.text for d in documents] or _as_text(examples):
        if texts and sum(map(len, texts)) >= characters:
            break
        texts.append(text[:characters])
    return Held.of_texts(tokenizer, texts, recipe.context), []


def _as_text(examples: Sequence[Example]) -> list[str]:
    return [f"{example.prompt}\n{example.references[0]}" for example in examples]
