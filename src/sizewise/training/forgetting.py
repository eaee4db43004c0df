"""Control text: what a model knew before. Some of it is replayed in training, the rest shows what was forgotten."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from sizewise.documents import read_demo, read_paths
from sizewise.errors import SizewiseError
from sizewise.evaluation.general_questions import QUESTIONS
from sizewise.lm.score import answer_bits, bits_per_byte
from sizewise.lm.tokenizer import prefix_id
from sizewise.records import Example, Message
from sizewise.store import Store, offline
from sizewise.training.batches import example_unit

MEASURED_CHARACTERS = 8_000
WATCHED_PIECES = 3  # of the measured ones, at each validation
PIECE_CHARACTERS = 1_200
REPLAY_CHARACTERS = 2_000_000


@dataclass(frozen=True)
class Control:
    """Control text in two parts that share no document.

    Attributes:
        source: where it came from.
        replayed: texts that training may mix in.
        measured: pieces of the other documents.
    """

    source: str
    replayed: tuple[str, ...]
    measured: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """Bytes of the measured part."""
        return sum(len(text.encode("utf-8")) for text in self.measured)


def read_control(source: str, seed: int, store: Store) -> Control:
    """Read control text: half of its documents may be replayed, the others are measured.

    Args:
        source: a path or `demo:NAME`.
        seed: seed of the split.
        store: where fetched packages lie.

    Raises:
        SizewiseError: it cannot be read.
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
            f"{source} holds no text that could show what is forgotten.",
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


def control_bits(network: Any, tokenizer: Any, control: Control, context: int) -> float:
    """Give bits per byte of the measured control text."""
    return bits_per_byte(network, tokenizer, control.measured, context)


def general_answer_bits(network: Any, tokenizer: Any, context: int) -> float:
    """Give bits per byte of right answers to general questions, in the form in which the model is asked."""
    prefix = prefix_id(tokenizer)
    units = [
        example_unit(
            tokenizer,
            Example(id="q", messages=(Message(role="user", content=question),), references=(answer,), source="q"),
            prefix,
        )
        for question, answer in QUESTIONS
    ]
    return answer_bits(network, units, [answer for _, answer in QUESTIONS], context)
