"""Forgetting: general control text, part of which is replayed in training while the rest is measured."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sizewise.datasets import DatasetContents
from sizewise.documents import read_demo, read_paths
from sizewise.errors import SizewiseError
from sizewise.evaluation.closed_book import knowledge_questions
from sizewise.evaluation.general_questions import Questions, questions_in
from sizewise.evaluation.references import data_language
from sizewise.lm.packing import Unit
from sizewise.lm.score import bits_of_answers, bits_of_texts
from sizewise.records import Example, Forgetting, Message, Recipe
from sizewise.store import Store, offline
from sizewise.text import language_name, main_language
from sizewise.training.encoded_data import encode_examples
from sizewise.training.intervals import ratio_score

ENGLISH = "en"
QUESTION_STEP = 2
"""Of the English questions on general knowledge, every second one is measured before and after training."""
MEASURED_CHARACTERS = 8_000
VALIDATION_PIECES = 3  # measured at each validation
PIECE_CHARACTERS = 800  # ten pieces, enough independent texts for an interval
REPLAY_CHARACTERS = 2_000_000


@dataclass(frozen=True)
class Control:
    """Control text in two parts that share no document, and general questions.

    Attributes:
        source: path or demo that the text was read from; empty without control text.
        replayed: texts that training may replay.
        measured: pieces of the other documents.
        questions: general questions and answers in the language of the training data.
    """

    source: str
    replayed: tuple[str, ...]
    measured: tuple[str, ...]
    questions: Questions = ()

    @property
    def bytes(self) -> int:
        """Size of the measured part in bytes."""
        return sum(len(text.encode("utf-8")) for text in self.measured)


def choose_control(recipe: Recipe, contents: DatasetContents, store: Store) -> tuple[Control | None, list[str]]:
    """Choose control text and general questions in the language of the training data.

    The built-in control text is English. It is left out for data in another language, as are questions in a language
    that has none.

    Args:
        recipe: recipe with the source of the control text.
        contents: the training data.
        store: where downloaded packages are.

    Returns:
        The control text and questions, None if there are neither; and notes on what was left out.

    Raises:
        SizewiseError: the control text can't be read or is empty.
    """
    if recipe.control == "none" or recipe.start == "scratch":
        return None, []
    language = data_language(contents, "train")
    notes: list[str] = []
    questions = knowledge_questions()[::QUESTION_STEP] if language in ("", ENGLISH) else questions_in(language)
    control = Control("", (), ())
    if recipe.control == Recipe.model_fields["control"].default and language not in ("", ENGLISH):
        notes.append(
            f"The built-in control text is in English and the data are in {language_name(language)}, so it was neither "
            "replayed nor measured. To measure forgetting on general text in that language, set --control PATH."
        )
    else:
        control = read_control(recipe.control, recipe.seed, store)
        found = main_language(control.measured)
        if language and found and found != language:
            notes.append(
                f"The control text {control.source} is in {language_name(found)}, the data are in "
                f"{language_name(language)}."
            )
    if not questions:
        notes.append(f"There are no general questions in {language_name(language)}; they were left out.")
    return (replace(control, questions=questions) if questions or control.measured else None), notes


def read_control(source: str, seed: int, store: Store) -> Control:
    """Read control text and split its documents: one half is measured, the other may be replayed.

    Args:
        source: a path or `demo:NAME`.
        seed: seed of the split.
        store: where downloaded packages are.

    Raises:
        SizewiseError: the text can't be read or is empty.
    """
    reading = (
        read_demo(source.removeprefix("demo:"), store.wheels_folder(), offline())
        if source.startswith("demo:")
        else read_paths([source])
    )
    texts = [document.text for document in reading.documents]
    random.Random(seed).shuffle(texts)
    if not any(text.strip() for text in texts):
        raise SizewiseError(
            f"{source} contains no text, so forgetting can't be measured.",
            "documents, not only examples",
            "--control PATH, or --control none",
        )
    half = (len(texts) + 1) // 2
    measured: list[str] = []
    for text in texts[:half]:
        if sum(map(len, measured)) >= MEASURED_CHARACTERS:
            break
        measured.append(text[:PIECE_CHARACTERS])
    replayed: list[str] = []
    for text in texts[half:]:
        if sum(map(len, replayed)) >= REPLAY_CHARACTERS:
            break
        replayed.append(text)
    return Control(source, tuple(replayed), tuple(measured))


def control_bits(network: Any, tokenizer: Any, control: Control, context: int) -> list[float]:
    """Compute the bits of each piece of the measured control text."""
    return bits_of_texts(network, tokenizer, control.measured, context)


def general_answer_bits(network: Any, tokenizer: Any, questions: Questions, context: int) -> list[float]:
    """Compute the bits of each reference answer to general questions, in the model's own prompt format."""
    examples = (
        Example(id="q", messages=(Message(role="user", content=question),), references=(answer,), source="q")
        for question, answer in questions
    )
    units = [Unit(item.ids.tolist(), item.first) for (item,) in encode_examples(tokenizer, examples)]
    return bits_of_answers(network, units, context)


def report_forgetting(
    control: Control, before: Mapping[str, Any], after: Mapping[str, Any], replay_share: float
) -> Forgetting:
    """Build the forgetting report from the bits of each text before and after training.

    Args:
        control: control text and general questions.
        before: bits of each piece (`control`) and of each answer (`answers`) before training.
        after: the same after training.
        replay_share: share of training rows that replayed control text.
    """
    answers = [answer for _, answer in control.questions]
    found: dict[str, Any] = {}
    for part, texts, fields in (
        ("control", control.measured, ("before", "after", "change")),
        ("answers", answers, ("answers_before", "answers_after", "answers_change")),
    ):
        if part not in before or part not in after:
            found |= dict.fromkeys(fields)
            continue
        sizes = [len(text.encode("utf-8")) for text in texts]
        change = [new - old for old, new in zip(before[part], after[part], strict=True)]
        score = ratio_score(
            f"{part}_change", change, sizes, unit="bits/byte", signature="after minus before, same texts"
        )
        found |= dict(zip(fields, (sum(before[part]) / sum(sizes), sum(after[part]) / sum(sizes), score), strict=True))
    return Forgetting(
        control=control.source,
        bytes=control.bytes,
        questions=len(control.questions),
        replay_share=replay_share,
        **found,
    )
