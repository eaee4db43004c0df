"""Turn a dataset into packed training rows, in the model's own tokens and template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sizewise.dataset import DatasetContents
from sizewise.lm.packing import Mix, Unit, cut, pack
from sizewise.lm.tokenizer import chat_sequence, prefix_id, text_ids
from sizewise.records import Example, Recipe


class Material(NamedTuple):
    """What a run trains on."""

    mix: Mix
    notes: tuple[str, ...]


def make_mix(contents: DatasetContents, tokenizer: Any, recipe: Recipe) -> Material:
    """Pack the training documents and examples.

    Documents are cut at the context with an overlap of one token, so that each token is predicted once.
    Of a conversation only the answer counts; one longer than the context is cut at its end.
    """
    prefix = prefix_id(tokenizer)
    prose = [
        unit
        for document in contents.documents["train"]
        for unit in cut([prefix, *text_ids(tokenizer, document.text)], recipe.context)
    ]
    units = [example_unit(tokenizer, example, prefix) for example in contents.examples["train"]]
    fitting = [unit for unit in units if unit.first_target < recipe.context]
    shortened = [Unit(unit.ids[: recipe.context], unit.first_target) for unit in fitting]
    notes = []
    if len(fitting) < len(units):
        notes.append(
            f"{len(units) - len(fitting)} of {len(units)} examples were left out of training: their prompt "
            f"alone is longer than the context of {recipe.context} tokens"
        )
    cuts = sum(1 for unit in fitting if len(unit.ids) > recipe.context)
    if cuts:
        notes.append(f"{cuts} of {len(units)} examples were cut at {recipe.context} tokens for training")
    share = recipe.example_share if prose and shortened else float(bool(shortened))
    padding = tokenizer.pad_token_id
    mix = Mix(
        pack(prose, recipe.context, padding),
        pack(shortened, recipe.context, padding),
        share,
        recipe.rows_per_step,
        recipe.seed,
    )
    return Material(mix, tuple(notes))


def example_unit(tokenizer: Any, example: Example, prefix: int) -> Unit:
    """Encode one example: in the chat template where there is one, else as question and answer in plain text."""
    answer = example.references[0]
    if tokenizer.chat_template:
        sequence = chat_sequence(tokenizer, example.messages, answer)
        return Unit(sequence.ids, sequence.first_target)
    asked = "\n".join(message.content for message in example.messages)
    prompt = [prefix, *text_ids(tokenizer, f"Question: {asked}\nAnswer:")]
    return Unit(prompt + text_ids(tokenizer, f" {answer}\n"), len(prompt))


def validation_texts(contents: DatasetContents, characters: int) -> list[str]:
    """Give held-out text to watch training by: validation documents up to a size, else examples."""
    texts: list[str] = []
    for text in [d.text for d in contents.documents["validation"]] or _as_text(contents.examples["validation"]):
        if texts and sum(map(len, texts)) >= characters:
            break
        texts.append(text[:characters])
    return texts


def _as_text(examples: Sequence[Example]) -> list[str]:
    return [f"{example.prompt}\n{example.references[0]}" for example in examples]
