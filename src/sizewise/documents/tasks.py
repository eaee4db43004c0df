"""The prompt and the reference answers of a row, in the formats of common tools."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sizewise.documents.cells import (
    ANSWER_KEYS,
    CONTEXT_KEYS,
    PROMPT_KEYS,
    REFERENCE_KEYS,
    TURN_KEYS,
    Cells,
)
from sizewise.documents.decisions import TEXT_KEYS as DECISION_TEXTS
from sizewise.documents.decisions import Decided, decided, decides, has_turns, question_of
from sizewise.documents.reading import LABEL_KEYS
from sizewise.documents.tables import column_name
from sizewise.documents.turns import content_of, conversation, is_call, same_turns, text_turns
from sizewise.documents.values import BadRow, first_key, text_of, texts_of, type_of
from sizewise.records import Message, StatedQuestion
from sizewise.records.tool_calls import answer_of
from sizewise.text import normalize_text, phrase_pattern

LabelNames = Mapping[str, Sequence[str]]
"""Column -> names of its integer labels."""
NO_REFERENCE = "no reference answer"
MIN_SIMILARITY = 0.8
RATING_KEYS = ("kto_tag", "label")
RATED_KEYS = ("completion", "response", "output", "answer")
"""Answers of a model, which a rating may call bad; other columns hold reference answers."""
_TRUE_OR_FALSE = {"true": True, "false": False}
_BLANK_LINES = re.compile(r"\A(?:[^\S\n]*\n)+")


class Task(NamedTuple):
    """The prompt of an example and its answers."""

    form: str
    """The row format, as shown to users."""
    messages: tuple[Message, ...]
    references: tuple[str, ...] = ()
    rejected: tuple[str, ...] = ()
    """Answers that people preferred less."""
    label: str = ""
    question: StatedQuestion | None = None
    """What the row asks about the text."""
    answer: Decided = Decided()
    """The answer to the question: one label, several, or a distribution."""


def task_of(cells: Cells, names: LabelNames, declared: StatedQuestion | None = None) -> Task:
    """Read the prompt and the answers of a row in any supported format.

    Args:
        cells: The row.
        names: Column -> names of its integer labels.
        declared: The question that the labels answer, if the user stated it.

    Raises:
        BadRow: The row cannot be used.
    """
    if decides(cells, declared):
        return _decision_task(cells, names, declared)
    if cells.values.get("chosen") not in (None, "", [], {}):
        return _preference_task(cells)
    turns_key, prompt_key = cells.first(TURN_KEYS), first_key(PROMPT_KEYS, cells.values)
    if turns_key is not None:
        if prompt_key not in (None, "input") and not _repeats_prompt(cells, prompt_key, turns_key):
            raise BadRow(f"it has both '{prompt_key}' and '{turns_key}', but only one can be the prompt")
        return _conversation_task(cells, turns_key, names)
    if prompt_key is None and cells.first(("text",)):
        prompt_key = "text"
    if prompt_key is None:
        empty = next((key for key in (*PROMPT_KEYS, *TURN_KEYS, "text") if key in cells.values), None)
        reason = f"'{cells.name(empty)}' is empty" if empty else "an example needs either prompt or messages"
        suggestion = "" if empty else cells.suggestion(PROMPT_KEYS)
        seen = "" if empty or suggestion else f"; the columns are {', '.join(map(repr, list(cells.values)[:12]))}"
        raise BadRow(f"{reason}{suggestion}{seen}")
    good, rating_key = _rating(cells)
    if good is not None:
        return _rated_task(cells, prompt_key, good, rating_key)
    answer_key, references, label = _answers(cells, names)
    parts, turns = _prompt(cells, prompt_key)
    if answer_key is None:
        return Task(f"{' + '.join(parts)}, {NO_REFERENCE}", turns, label=label)
    messages = _without_answer(turns, references, cells.name(prompt_key), answer_key)
    form = " + ".join([*parts, cells.name(answer_key).strip().lower()])
    return Task(form + _named(prompt_key, answer_key, cells.values[answer_key]), messages, references, label=label)


def _decision_task(cells: Cells, names: LabelNames, declared: StatedQuestion | None) -> Task:
    """Read a typed question about a text, with its options and its answer."""
    question = question_of(cells, declared)
    named = {key: names.get(column_name(cells.name(key))) or () for key in LABEL_KEYS}
    if has_turns(cells):
        turns_key = cells.first(TURN_KEYS) or ""
        parts, turns = [turns_key], _with_system(cells, conversation(cells.get(turns_key), turns_key))
    else:
        key = first_key((*DECISION_TEXTS, *PROMPT_KEYS), cells.values)
        if key is None:
            empty = next((key for key in (*DECISION_TEXTS, *PROMPT_KEYS) if key in cells.values), None)
            raise BadRow(f"'{cells.name(empty)}' is empty" if empty else "a decision needs a text")
        parts, text = [cells.name(key).strip().lower()], text_of(cells.get(key), key)
        if not text.strip():
            raise BadRow(f"'{key}' is empty")
        turns = (*_system(cells), Message(role="user", content=text))
    answer_key, answer = decided(cells, question, named)
    parts += [cells.name(answer_key).strip().lower()] if answer_key else []
    kind = f" ({question.type})" if question else " (distribution)"
    form = " + ".join(parts) + kind + ("" if answer_key else f", {NO_REFERENCE}")
    own = question if question != declared else None
    return Task(form, turns, answer.references, label=answer.label, question=own, answer=answer)


def _named(prompt_key: str, answer_key: str, answer: Any) -> str:
    """Return the usual name of a row format, if it has one."""
    if prompt_key == "instruction" and answer_key == "output":
        return " (Alpaca)"
    spans = answer if isinstance(answer, list) else [answer]
    return " (SQuAD)" if any(isinstance(span, dict) and "answer_start" in span for span in spans) else ""


def prompt_of(row: Mapping[str, Any]) -> tuple[Message, ...]:
    """Return the prompt of a row, read like the rows of a dataset; empty if the row has none.

    Raises:
        BadRow: The prompt cannot be read.
    """
    cells = Cells(row)
    key = first_key(PROMPT_KEYS, cells.values)
    return _prompt(cells, key)[1] if key else ()


def _prompt(cells: Cells, key: str) -> tuple[list[str], tuple[Message, ...]]:
    """Read the prompt under a key, with its input or context if any; also return the parts of the row format."""
    given, name = cells.get(key), cells.name(key).strip().lower()
    if isinstance(given, list):
        return [f"{name} (messages)"], _with_system(cells, conversation(given, key))
    prompt, parts = text_of(given, key), [name]
    for other in CONTEXT_KEYS:
        if other == key or other not in cells.values:
            continue
        parts.append(other)
        more = cells.text(other)
        if more.strip() and f"\n{more.strip()}\n" not in f"\n{prompt.strip()}\n":
            prompt = f"{more}\n\n{prompt}" if other == "context" and key != "instruction" else f"{prompt}\n\n{more}"
    if not prompt.strip():
        raise BadRow(f"'{key}' is empty")
    images = cells.get("images") or cells.get("image") or ()
    message = {"role": "user", "content": prompt, "images": [images] if isinstance(images, str) else images}
    return parts, (*_earlier_messages(cells), Message.model_validate(message))


def _system(cells: Cells) -> list[Message]:
    key = cells.first(("system", "systeminstruction", "system_instruction"))
    given = cells.get(key) if key else None
    if isinstance(given, dict):
        given = given.get("parts", given.get("content"))
    system = "" if given is None else content_of(given)
    return [Message(role="system", content=system)] if system.strip() else []


def _with_system(cells: Cells, turns: tuple[Message, ...]) -> tuple[Message, ...]:
    """Put the system message of a column before a conversation that has none."""
    return turns if turns[0].role == "system" else (*_system(cells), *turns)


def _repeats_prompt(cells: Cells, prompt_key: str, turns_key: str) -> bool:
    """Check whether the prompt is also a message of the conversation (UltraChat)."""
    prompt = cells.values[prompt_key]
    if not isinstance(prompt, str):
        return False
    turns = conversation(cells.values[turns_key], turns_key)
    cells.get(prompt_key)
    return any(turn.role != "assistant" and normalize_text(turn.content) == normalize_text(prompt) for turn in turns)


def _earlier_messages(cells: Cells) -> list[Message]:
    """Read the messages before the prompt: a system message, and pairs of earlier prompts and answers."""
    messages = _system(cells)
    history = cells.get("history") or []
    if not isinstance(history, list):
        raise BadRow(f"history is {type_of(history)}, not a list of pairs")
    for pair in history:
        if not isinstance(pair, list) or len(pair) != 2:
            raise BadRow("history has an item that isn't a pair of prompt and answer")
        messages.append(Message(role="user", content=text_of(pair[0], "history")))
        messages.append(Message(role="assistant", content=text_of(pair[1], "history")))
    return messages


def _conversation_task(cells: Cells, key: str, names: LabelNames) -> Task:
    """Read a conversation; without references, the assistant's last message is the reference answer."""
    value = cells.get(key)
    turns = _with_system(cells, conversation(_without_ignored(value), key))
    named = " (ShareGPT)" if "from" in value[0] else " (OpenAI)" if key == "messages" else ""
    given = any(name in cells.values for name in ANSWER_KEYS)
    *messages, last = turns
    good, rating_key = _rating(cells, of_last_turn=last.role == "assistant")
    if good is not None:
        return _rated_conversation(cells, turns, key, good, rating_key)
    if given or last.role != "assistant":
        answer_key, references, label = _answers(cells, names)
        if answer_key is not None:
            messages_only = _without_answer(turns, references, key, answer_key)
            return Task(f"{key} + {answer_key}{named}", messages_only, references, label=label)
        return Task(f"{key}, {NO_REFERENCE}{named}", turns, label=label)
    if not any(turn.role == "user" for turn in messages):
        raise BadRow(f"'{key}' has no user message before the answer")
    label_key = cells.first(LABEL_KEYS)
    references = answer_texts(answer_of(last), "the answer")
    form = f"{key} that end with the answer{named}"
    if label_key is None or last.tool_calls:
        return Task(form, tuple(messages), references)
    label = _label(cells, label_key, names)
    if normalize_text(last.content) != normalize_text(label):
        asked = _without_answer(turns, (label,), key, label_key)
        return Task(f"{key} + {label_key}{named}", asked, (label,), label=label)
    return Task(form, tuple(messages), references, label=label)


def _without_ignored(value: Any) -> Any:
    """Drop the end of a conversation whose answers have weight 0, which OpenAI's format doesn't train on."""
    turns = list(value) if isinstance(value, list) else []
    while (
        turns and isinstance(turns[-1], dict) and turns[-1].get("role") == "assistant" and turns[-1].get("weight") == 0
    ):
        turns.pop()
    if not turns or len(turns) == len(value):
        return value
    answered = [
        place
        for place, turn in enumerate(turns)
        if isinstance(turn, dict) and turn.get("role") == "assistant" and turn.get("weight") != 0
    ]
    return turns[: answered[-1] + 1] if answered else turns


def _without_answer(
    turns: tuple[Message, ...], references: tuple[str, ...], key: str, answer_key: str
) -> tuple[Message, ...]:
    """Drop the assistant's last message if it is the reference answer, which the prompt must not contain."""
    *messages, last = turns
    if last.role != "assistant":
        return turns
    if normalize_text(last.content) in map(normalize_text, references) and any(
        turn.role == "user" for turn in messages
    ):
        return tuple(messages)
    contained = (phrase_pattern(answer).search(last.content) for answer in references)
    if answer_key not in LABEL_KEYS and any(contained):
        raise BadRow(f"'{key}' ends with an assistant message that contains the reference answer in '{answer_key}'")
    return turns


def _answers(cells: Cells, names: LabelNames) -> tuple[str | None, tuple[str, ...], str]:
    """Read the references and the label; return the column of the references, None if the row has no such column."""
    key = cells.first(REFERENCE_KEYS)
    label_key = cells.first(LABEL_KEYS)
    label = _label(cells, label_key, names) if label_key is not None else ""
    if key is None:
        empty = next((key for key in REFERENCE_KEYS if key in cells.values), None)
        if empty is not None:
            reason = "null" if cells.values[empty] is None else "empty"
            raise BadRow(f"the reference answer is missing: '{cells.name(empty)}' is {reason}")
        suggestion = cells.suggestion(REFERENCE_KEYS, MIN_SIMILARITY)
        if suggestion:
            raise BadRow(f"the reference answer is missing: no answer column{suggestion}")
        return None, (), ""
    if key in LABEL_KEYS:
        return key, (label,), label
    if is_unanswerable(cells.values[key]):
        cells.get(key)
        return None, (), label
    given = cells.get(key) if cells.values.get("choices") else _named_labels(cells, key, names)
    return key, _references(given, key), label


def is_unanswerable(value: Any) -> bool:
    """Check whether a value is SQuAD's mark of a question without an answer: an object with an empty list of texts."""
    return isinstance(value, dict) and value.get("text") == [] and "answer_start" in value


def _label(cells: Cells, key: str, names: LabelNames) -> str:
    labels = texts_of(_named_labels(cells, key, names), key)
    if len(labels) > 1:
        raise BadRow(
            f"'{key}' has {len(labels)} labels instead of one (use 'references' for several reference answers)"
        )
    return labels[0]


def _named_labels(cells: Cells, key: str, names: LabelNames) -> Any:
    """Return a value with the names of its integer labels, where the file names them."""
    value = cells.get(key)
    listed = names.get(column_name(cells.name(key))) or ()

    def named(number: Any) -> Any:
        if not listed or not isinstance(number, int) or isinstance(number, bool):
            return number
        if not 0 <= number < len(listed):
            raise BadRow(f"'{key}' is {number}, but the labels are numbered from 0 to {len(listed) - 1}")
        return listed[number]

    return [named(item) for item in value] if isinstance(value, list) else named(value)


def answer_texts(value: Any, name: str) -> tuple[str, ...]:
    """Return answers without blank lines around them; an indentation of the first line stays, as in code.

    A single blank before the answer is dropped: completions are often written as " yes".

    Raises:
        BadRow: A value isn't text, or no text is left.
    """
    values = value if isinstance(value, list) else [value]
    texts = [_BLANK_LINES.sub("", text_of(item, name)).rstrip() for item in values if item is not None]
    kept = tuple(text if text[:2].isspace() or text[0] == "\t" else text.lstrip() for text in texts if text)
    if not kept:
        raise BadRow(f"{name} is {'null' if value is None else 'empty'}")
    return kept


def _references(value: Any, key: str) -> tuple[str, ...]:
    if isinstance(value, dict) and isinstance(value.get("text"), list):  # SQuAD: {"text": [...], "answer_start"}
        value = value["text"]
    if isinstance(value, list) and value and all(isinstance(item, dict) and "answer_start" in item for item in value):
        value = list(dict.fromkeys(text_of(item.get("text"), key) for item in value))
    if isinstance(value, list) and value and all(isinstance(turn, dict) and "content" in turn for turn in value):
        value = _single_answer(conversation(value, key), key)
    if isinstance(value, dict):
        raise BadRow(f"'{key}' is an object, not text (pass a JSON answer as a string)")
    return answer_texts(value, key)


def _single_answer(turns: Sequence[Message], key: str) -> str:
    if len(turns) != 1 or turns[0].role != "assistant" or is_call(turns[0]):
        raise BadRow(f"'{key}' must be a single text message from the assistant")
    return turns[0].content


def _rating(cells: Cells, *, of_last_turn: bool = False) -> tuple[bool | None, str]:
    """Return whether an answer was rated good (KTO), and the column that says so; (None, "") if it wasn't rated.

    Args:
        cells: The row.
        of_last_turn: The row is a conversation that ends with an answer.
    """
    answered = cells.first(RATED_KEYS) or of_last_turn
    for key in RATING_KEYS if answered else ():
        given = cells.values.get(key)
        good = _TRUE_OR_FALSE.get(given.strip().lower()) if isinstance(given, str) else given
        if cells.ratings == key and given not in (None, "") and not isinstance(good, bool):
            if str(given).strip() not in ("0", "1", "0.0", "1.0"):
                raise BadRow(f"'{key}' is {str(given)[:40]!r}, but it is 0 or 1 in other rows, a rating of the answer")
            good = str(given).strip() in ("1", "1.0")
        if isinstance(good, bool):
            cells.get(key)
            return good, key
    return None, ""


def _rated_task(cells: Cells, prompt_key: str, good: bool, rating_key: str) -> Task:
    """Read an answer that was rated good or bad: a bad one never becomes the reference."""
    parts, messages = _prompt(cells, prompt_key)
    key = cells.first(RATED_KEYS) or ""
    answer = _references(cells.get(key), key)
    form = " + ".join([*parts, key, f"{rating_key} (good or bad answer, KTO)"])
    return Task(form, messages, answer) if good else Task(form, messages, rejected=answer)


def _rated_conversation(cells: Cells, turns: tuple[Message, ...], key: str, good: bool, rating_key: str) -> Task:
    """Read a conversation whose last answer, or the answer in another column, was rated good or bad."""
    answer_key = cells.first(RATED_KEYS)
    if answer_key is not None:
        answer = _references(cells.get(answer_key), answer_key)
        messages = _without_answer(turns, answer, key, answer_key)
    else:
        messages, answer = turns[:-1], answer_texts(answer_of(turns[-1]), "the answer")
    if not any(turn.role == "user" for turn in messages):
        raise BadRow(f"'{key}' has no user message before the answer")
    form = " + ".join([key, *([answer_key] if answer_key else []), f"{rating_key} (good or bad answer, KTO)"])
    return Task(form, messages, answer) if good else Task(form, messages, rejected=answer)


def _preference_task(cells: Cells) -> Task:
    """Read a pair of a better and a worse answer, as texts, dialogues as text, or messages."""
    (asked, better), (asked_worse, worse) = _side(cells, "chosen"), _side(cells, "rejected")
    if not same_turns(asked, asked_worse):
        raise BadRow("'chosen' and 'rejected' answer different prompts")
    if better == worse:
        raise BadRow("'chosen' and 'rejected' are the same answer")
    key, prompt_key = cells.first(TURN_KEYS), first_key(PROMPT_KEYS, cells.values)
    messages, parts = tuple(asked), ["chosen", "rejected"]
    if key is not None:
        messages, parts = _pair_prompt(cells, key, messages, (better, worse)), [key, *parts]
        if prompt_key is not None and _repeats_prompt(cells, prompt_key, key):
            cells.get(prompt_key)
    elif prompt_key is not None:
        names, prompt = _prompt(cells, prompt_key)
        if not asked:
            messages = prompt
        elif not any(turn.content.strip() == prompt[-1].content.strip() for turn in asked):
            raise BadRow(f"'{prompt_key}' is another prompt than that of 'chosen'")
        parts = [*names, *parts]
    if not messages:
        raise BadRow("the preference pair has no prompt")
    return Task(" + ".join(parts) + " (preference pair)", _with_system(cells, messages), (better,), (worse,))


def _pair_prompt(cells: Cells, key: str, asked: tuple[Message, ...], answers: tuple[str, str]) -> tuple[Message, ...]:
    """Return the conversation beside a pair without its answer, which UltraFeedback repeats there."""
    turns = conversation(cells.get(key), key)
    before = turns[:-1] if turns[-1].role == "assistant" else turns
    said, told = ([_asks(turn) for turn in some if turn.role != "system"] for some in (asked, before))
    if said and told[-len(said) :] != said:
        raise BadRow(f"'{key}' is another conversation than that of 'chosen'")
    if turns[-1].role != "assistant":
        return turns
    if turns[-1].content.strip() not in {answer.strip() for answer in answers} and not asked:
        raise BadRow(f"'{key}' ends with an answer that is neither 'chosen' nor 'rejected'")
    return asked or before


def _asks(turn: Message) -> tuple[str, str]:
    return turn.role, normalize_text(turn.content)


def _side(cells: Cells, key: str) -> tuple[Sequence[Message], str]:
    """Read one answer of a pair; return the turns before it and its text."""
    value = cells.get(key)
    turns: Sequence[Message]
    if isinstance(value, dict):
        value = [value]
    if isinstance(value, list):
        turns = conversation(value, key)
    else:
        if value in (None, ""):
            raise BadRow(f"'{key}' is {'empty' if value == '' else 'null'}")
        text = text_of(value, key)
        turns = text_turns(text) or [Message(role="assistant", content=text)]
    if turns[-1].role != "assistant" or not turns[-1].content.strip():
        raise BadRow(f"'{key}' doesn't end with an answer of the assistant")
    return turns[:-1], answer_texts(turns[-1].content, key)[0]
