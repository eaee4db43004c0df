"""Distillation: from a teacher's token distributions, or from its answers.

A teacher with the student's vocabulary teaches all tokens. Another one answers the examples; where none are trained on,
its likeliest tokens are turned into the student's.
"""

from __future__ import annotations

import json
import random
from collections import deque
from collections.abc import Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, NamedTuple

from sizewise.errors import SizewiseError
from sizewise.lm import hf_format as folders
from sizewise.lm import loop
from sizewise.lm.device import machine_precision, placed
from sizewise.lm.other_vocabulary import OtherVocabulary
from sizewise.models.opening import open_model, resolve_folder
from sizewise.models.prompts import make_request
from sizewise.progress import Reporter
from sizewise.records import Example, Recipe
from sizewise.store import Store, make_folder, open_private, read_lines

WEIGHTS = ("pkg", "run", "hf")
MAX_SIMILARITY = 0.95  # texts closer than this count as the same
MAX_ERROR_SHARE = 0.2  # of the requests; above it, the teacher counts as unavailable
MAX_ANSWER_TOKENS = 256
BATCH = 64
RECENT = 50  # answers that a new one is compared with


class Teaching(NamedTuple):
    """Training signal from a teacher."""

    teacher: loop.Teacher | None
    """Source of token distributions during training; None if the teacher wrote answers."""
    answers: dict[str, str]
    """Example id -> answer of the teacher."""
    notes: tuple[str, ...]
    """Notes for the record."""


def prepare_teacher(
    recipe: Recipe,
    tokenizer: Any,
    device: str,
    size: int,
    examples: Sequence[Example],
    folder: Path,
    store: Store,
    reporter: Reporter,
) -> Teaching:
    """Open the teacher of a recipe and generate its answers if they are needed.

    Args:
        recipe: names the teacher and its share.
        tokenizer: tokenizer of the student.
        device: device of the student.
        size: tokens that the student predicts.
        examples: examples that are trained on; a teacher with another vocabulary answers them.
        folder: folder where answers are saved as they arrive.
        store: where models live.
        reporter: receives progress.

    Raises:
        SizewiseError: the teacher can't be opened, or too many requests fail; answers that arrived are kept.
    """
    if recipe.teacher is None:
        return Teaching(None, {}, ())
    kind = recipe.teacher.partition(":")[0]
    if kind in WEIGHTS or Path(recipe.teacher).expanduser().is_dir():
        weights, _, _ = resolve_folder(recipe.teacher, store, reporter.say)
        own, precision = folders.load_tokenizer(weights), machine_precision(device, training=True)
        note = f"{recipe.teacher} was the teacher: its likeliest tokens made up {recipe.teacher_share:.0%} of the loss"
        if own.get_vocab() == tokenizer.get_vocab():
            network = folders.load_network(weights, precision, **placed(device))
            loop.prepare(network, compiled=False)
            network.eval()
            return Teaching(loop.teacher_of(network, recipe.teacher_share, size=size), {}, (note,))
        if not examples:
            network = folders.load_network(weights, precision, **placed(device))
            note += "; its vocabulary is another one, so they were turned into the student's"
            return Teaching(OtherVocabulary(network, own, tokenizer, recipe.teacher_share), {}, (note,))
    return _from_answers(recipe, examples, folder / "teacher.jsonl", store, reporter)


def _from_answers(
    recipe: Recipe, examples: Sequence[Example], path: Path, store: Store, reporter: Reporter
) -> Teaching:
    if not examples:
        raise SizewiseError(
            f"{recipe.teacher} has a different vocabulary, and there are no training examples for it to answer.",
            "training examples, or a teacher with the student's tokenizer",
            "sizewise train scratch --tokenizer URI gives the student the teacher's tokenizer",
        )
    size = max(1, round(len(examples) * recipe.teacher_share))
    numbers = set(random.Random(recipe.seed).sample(range(len(examples)), size))
    chosen = [example for number, example in enumerate(examples) if number in numbers]
    answers = _saved_answers(path)
    absent = [example for example in chosen if example.id not in answers]
    complete = path.with_suffix(".complete")  # once training may have begun, a later session gets the same answers
    if absent and not complete.is_file():
        answers |= _generate(str(recipe.teacher), absent, path, store, reporter, done=len(answers))
    make_folder(path.parent)
    complete.touch()
    kept, dropped = filter_answers(chosen, answers)
    if not kept:
        raise SizewiseError(
            f"None of the {len(answers)} answers of {recipe.teacher} can be learned: they are empty, cut off, copied "
            "from the question, or similar to an earlier one to a similar question.",
            "a teacher that answers the training examples",
            f"see its answers in {path}, and choose another teacher",
        )
    note = f"{recipe.teacher} wrote {len(kept)} of {len(examples)} training answers; {dropped} were dropped: " + (
        "empty, cut off, copied from the question, or similar to an earlier one to a similar question"
    )
    return Teaching(None, kept, (note,))


def _saved_answers(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    answers = {}
    for line in read_lines(path):
        try:
            row = json.loads(line)
        except ValueError:
            continue  # the process was killed in the middle of a line
        answers[str(row["id"])] = str(row["text"])
    return answers


def _generate(
    uri: str, examples: Sequence[Example], path: Path, store: Store, reporter: Reporter, done: int
) -> dict[str, str]:
    """Generate the teacher's answers; each is written to disk when it arrives."""
    answers: dict[str, str] = {}
    errors: list[str] = []
    model = open_model(uri, store=store, say=reporter.say)
    takes_tools = "tools" in model.describe().offers
    make_folder(path.parent)
    cut = path.is_file() and not path.read_bytes().endswith(b"\n")  # the process was killed in the middle of a line
    try:
        with open(path, "a", encoding="utf-8", opener=open_private) as file:
            file.write("\n" * cut)
            for start in range(0, len(examples), BATCH):
                requests = [
                    make_request(e, "chat", (), MAX_ANSWER_TOKENS, (), takes_tools)
                    for e in examples[start : start + BATCH]
                ]
                for answer in model.complete(requests):
                    if answer.finish == "error":
                        errors.append(str(answer.error))
                        continue
                    answers[answer.id] = answer.text if answer.finish == "stop" else ""
                    file.write(json.dumps({"id": answer.id, "text": answers[answer.id]}, ensure_ascii=False) + "\n")
                    file.flush()
                reporter.advance(f"Teacher answers: {uri}", done + len(answers), done + len(examples))
                if len(errors) > max(1, MAX_ERROR_SHARE * len(examples)):
                    raise SizewiseError(
                        f"The teacher {uri} failed on {len(errors)} requests, the last time with '{errors[-1]}'.",
                        "a teacher that answers most requests",
                        f"run the same command again: the {done + len(answers)} answers are kept",
                    )
    finally:
        model.close()
    return answers


def filter_answers(examples: Sequence[Example], answers: dict[str, str]) -> tuple[dict[str, str], int]:
    """Drop answers that are empty, similar to their question, or similar to a recent answer to a similar question.

    The same answer to different questions, such as a label, teaches what they have in common.

    Returns:
        Example id -> answer, and the number of dropped answers.
    """
    kept: dict[str, str] = {}
    dropped = 0
    recent: deque[tuple[str, str]] = deque(maxlen=RECENT)
    for example in examples:
        text = answers.get(example.id, "").strip()
        repeated = any(_alike(text, said) and _alike(example.prompt, asked) for asked, said in recent)
        if not text or repeated or _alike(text, example.prompt):
            dropped += 1
            continue
        kept[example.id] = text
        recent.append((example.prompt, text))
    return kept, dropped


def _alike(first: str, second: str) -> bool:
    if min(len(first), len(second)) < MAX_SIMILARITY * max(len(first), len(second)) * 0.9:
        return False
    matcher = SequenceMatcher(None, first, second, autojunk=False)
    return matcher.quick_ratio() > MAX_SIMILARITY and matcher.ratio() > MAX_SIMILARITY
