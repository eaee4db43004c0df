"""Learning from a teacher: its expectation at each place where the vocabulary is shared, else texts that it writes."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, NamedTuple

from sizewise.errors import SizewiseError
from sizewise.lm import hf_format as folders
from sizewise.lm import loop
from sizewise.lm.device import machine_precision
from sizewise.models.opening import open_model, resolve_folder
from sizewise.progress import Reporter
from sizewise.records import Example, Recipe, Request
from sizewise.store import Store, make_folder, open_private, read_lines

WEIGHTS = ("pkg", "run", "hf")
SIMILARITY_LIMIT = 0.95  # an answer closer than this to its question, or to one before it, teaches nothing
MOST_ERRORS = 0.2  # share of requests that may fail before the teacher counts as gone
LONGEST_ANSWER = 256
BATCH = 64


class Lesson(NamedTuple):
    """What a teacher gives to a run."""

    expects: loop.Teacher | None
    answers: dict[str, str]
    notes: tuple[str, ...]


def ask_teacher(
    recipe: Recipe,
    tokenizer: Any,
    device: str,
    examples: Sequence[Example],
    folder: Path,
    store: Store,
    reporter: Reporter,
) -> Lesson:
    """Prepare what a teacher says.

    Args:
        recipe: names the teacher and its share.
        tokenizer: the student's.
        device: where the student runs.
        examples: training examples, which a teacher without the student's vocabulary answers.
        folder: where its answers are kept as they arrive.
        store: where models live.
        reporter: told how far it is.

    Raises:
        SizewiseError: the teacher cannot be opened, or stopped answering; what it said is kept.
    """
    if recipe.teacher is None:
        return Lesson(None, {}, ())
    kind = recipe.teacher.partition(":")[0]
    if kind in WEIGHTS or Path(recipe.teacher).expanduser().is_dir():
        place, _, _ = resolve_folder(recipe.teacher, store, reporter.say)
        if folders.load_tokenizer(place).get_vocab() == tokenizer.get_vocab():
            network = folders.load_network(place, machine_precision(device)).to(device)
            loop.prepare(network, compiled=False)
            network.eval()
            note = f"{recipe.teacher} taught by its likeliest tokens, {recipe.teacher_share:.0%} of the loss"
            return Lesson(loop.teacher_of(network, recipe.teacher_share), {}, (note,))
    return _texts(recipe, examples, folder / "teacher.jsonl", store, reporter)


def _texts(recipe: Recipe, examples: Sequence[Example], path: Path, store: Store, reporter: Reporter) -> Lesson:
    if not examples:
        raise SizewiseError(
            f"{recipe.teacher} has another vocabulary and there are no training examples that it could answer.",
            "examples, or a teacher with the student's tokenizer",
            "sizewise train scratch --tokenizer URI: a student with the teacher's tokenizer",
        )
    chosen = list(examples)
    random.Random(recipe.seed).shuffle(chosen)
    chosen = chosen[: max(1, round(len(chosen) * recipe.teacher_share))]
    said = _said(path)
    missing = [example for example in chosen if example.id not in said]
    if missing:
        said |= _ask(str(recipe.teacher), missing, path, store, reporter, done=len(said))
    kept, dropped = filtered(chosen, said)
    note = f"{recipe.teacher} wrote {len(kept)} of {len(examples)} training answers; {dropped} were dropped: " + (
        "empty, cut off, copied from the question or like one before"
    )
    return Lesson(None, kept, (note,))


def _said(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    said = {}
    for line in read_lines(path):
        try:
            row = json.loads(line)
        except ValueError:
            continue  # a kill in the middle of a line
        said[str(row["id"])] = str(row["text"])
    return said


def _ask(
    uri: str, examples: Sequence[Example], path: Path, store: Store, reporter: Reporter, done: int
) -> dict[str, str]:
    """Let the teacher answer; each answer is on disk as soon as it arrives."""
    said: dict[str, str] = {}
    errors: list[str] = []
    model = open_model(uri, store=store, say=reporter.say)
    make_folder(path.parent)
    cut = path.is_file() and not path.read_bytes().endswith(b"\n")  # a kill in the middle of a line
    try:
        with open(path, "a", encoding="utf-8", opener=open_private) as file:
            file.write("\n" * cut)
            for start in range(0, len(examples), BATCH):
                requests = [
                    Request(id=e.id, messages=e.messages, max_tokens=LONGEST_ANSWER, copy_text=e.copy_text)
                    for e in examples[start : start + BATCH]
                ]
                for answer in model.complete(requests):
                    if answer.finish == "error":
                        errors.append(str(answer.error))
                        continue
                    said[answer.id] = answer.text if answer.finish == "stop" else ""
                    file.write(json.dumps({"id": answer.id, "text": said[answer.id]}, ensure_ascii=False) + "\n")
                    file.flush()
                reporter.advance(f"{uri} writes", done + len(said), done + len(examples))
                if len(errors) > max(1, MOST_ERRORS * len(examples)):
                    raise SizewiseError(
                        f"The teacher {uri} stopped answering: {len(errors)} requests failed, the last with "
                        f"'{errors[-1]}'.",
                        "a teacher that answers",
                        f"run the same command again: its {done + len(said)} answers are kept",
                    )
    finally:
        model.close()
    return said


def filtered(examples: Sequence[Example], said: dict[str, str]) -> tuple[dict[str, str], int]:
    """Keep the answers that can teach something.

    Returns:
        Example id -> answer, and how many were dropped.
    """
    kept: dict[str, str] = {}
    dropped = 0
    recent: list[str] = []
    for example in examples:
        text = said.get(example.id, "").strip()
        if not text or _alike(text, example.prompt) or any(_alike(text, other) for other in recent[-50:]):
            dropped += 1
            continue
        kept[example.id] = text
        recent.append(text)
    return kept, dropped


def _alike(one: str, other: str) -> bool:
    if min(len(one), len(other)) < SIMILARITY_LIMIT * max(len(one), len(other)) * 0.9:
        return False
    matcher = SequenceMatcher(None, one, other, autojunk=False)
    return matcher.quick_ratio() > SIMILARITY_LIMIT and matcher.ratio() > SIMILARITY_LIMIT
