"""Rows of decisions: a typed question with options about a text, answered by a label, several, or a distribution."""

from __future__ import annotations

import ast
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, get_args

from sizewise.documents.cells import ANSWER_KEYS, TURN_KEYS, Cells
from sizewise.documents.reading import LABEL_KEYS
from sizewise.documents.values import BadRow, first_key, text_of, texts_of, type_of
from sizewise.errors import UsageError
from sizewise.records import Option, QuestionType, StatedQuestion
from sizewise.text import visible_text

TYPES: tuple[QuestionType, ...] = get_args(QuestionType)
DISTRIBUTION_KEYS = ("label_distribution", "label_probabilities", "soft_labels", "soft_label")
ANNOTATION_KEYS = ("annotations", "annotator_labels")
TEXT_KEYS = ("text", "input", "context", "prompt")
QUESTION_KEYS = ("question", "instructions", "instruction")
DEFAULT_OPTIONS = (Option(value="yes"), Option(value="no"))
"""Options of a predicate whose data name none; the first is the positive one."""
MAX_OPTIONS = 2_000
"""With more, a column is no class: each option needs examples, and a prompt or a page lists them all."""
MISSING = frozenset(("nan", "none", "null", "n/a", "na", "<na>", "nat", "#n/a"))
"""What programs write, in small letters, where there is no value."""
SEPARATOR = "; "
"""Between the labels of a text, where an answer is written."""
_VALUE_KEYS, _DESCRIPTION_KEYS = ("value", "name", "label", "id", "option"), ("description", "text", "meaning")
_TRUE, _FALSE = ("yes", "true", "1"), ("no", "false", "0")
_ROUNDING = 0.02
_WHOLE = re.compile(r"\A([-+]?\d+)\.0+\Z")


def label_key(label: str) -> str:
    """Return a comparison key of a label: without case, invisible characters and needless blanks; 1.0 counts as 1.

    A single letter keeps its case: `a` and `A` may be two classes. Letters stay letters: `Maße` isn't `Masse`.
    """
    text = " ".join(visible_text(label).split()) or unicodedata.normalize("NFC", label)
    return text if len(text) == 1 else _WHOLE.sub(r"\1", text.lower())


class Decided(NamedTuple):
    """The answer of a row: one label, several, or a distribution."""

    label: str = ""
    labels: tuple[str, ...] = ()
    distribution: Mapping[str, float] = {}

    @property
    def references(self) -> tuple[str, ...]:
        """The answer as text; empty if the row has none."""
        answer = self.label or SEPARATOR.join(self.labels)
        return (answer,) if answer else ()


def options_of(value: Any) -> tuple[Option, ...]:
    """Parse options: texts, objects with value and description, or a mapping from value to description.

    Raises:
        BadRow: An option has no value or occurs twice, or there are too many.
    """
    if isinstance(value, str):
        value = [part.strip() for part in value.split("|") if part.strip()]
    if isinstance(value, dict):
        value = [{"value": key, "description": text} for key, text in value.items()]
    if value in (None, []):
        return ()
    if not isinstance(value, list):
        raise BadRow(f"options is {type_of(value)}, not a list or an object")
    if len(value) > MAX_OPTIONS:
        raise BadRow(f"there are {len(value):,} options, but at most {MAX_OPTIONS:,} are supported")
    options = tuple(_option(item) for item in value)
    repeated = [one for one, count in Counter(option.value for option in options).items() if count > 1]
    if repeated:
        raise BadRow(f"the option '{repeated[0][:50]}' occurs twice")
    if len(options) == 1:
        raise BadRow(f"'{options[0].value[:50]}' is the only option, so there is nothing to decide")
    return options


def _option(item: Any) -> Option:
    if not isinstance(item, dict):
        return Option(value=texts_of(item, "an option")[0])
    key = first_key(_VALUE_KEYS, item)
    if key is None:
        raise BadRow(f"an option has the keys {', '.join(map(repr, item))}, but no 'value'")
    described = first_key([name for name in _DESCRIPTION_KEYS if name != key], item)
    description = text_of(item[described], "a description").strip() if described else ""
    return Option(value=texts_of(item[key], "an option")[0], description=description)


def decides(cells: Cells, declared: StatedQuestion | None = None) -> bool:
    """Check whether a row is a decision in more than a text and a label: it has a type, options or a distribution."""
    labeled = first_key((*DISTRIBUTION_KEYS, *ANNOTATION_KEYS, *LABEL_KEYS), cells.values)
    if cells.values.get("choices") or cells.values.get("completion"):
        return False
    if _type(cells) is not None:
        return True
    if labeled is None:
        return False
    value = cells.values[labeled]
    special = labeled not in LABEL_KEYS or isinstance(value, dict) or declared is not None
    return special or bool(cells.values.get("options"))


def _type(cells: Cells) -> QuestionType | None:
    given = cells.values.get("type")
    name = given.strip().lower() if isinstance(given, str) else ""
    return next((one for one in TYPES if one == name), None)


def question_of(cells: Cells, declared: StatedQuestion | None) -> StatedQuestion | None:
    """Read the question of a row; None if the row states no type and no options.

    Raises:
        BadRow: The options don't fit the type.
    """
    kind, options = _type(cells), options_of(cells.values.get("options"))
    for key in ("type", "options"):
        cells.get(key)
    if kind is None and not options:
        return declared
    kind = kind or "choice"
    if kind == "predicate" and len(options or DEFAULT_OPTIONS) != 2:
        raise BadRow(f"a predicate has two options, but there are {len(options)}")
    asked = first_key(QUESTION_KEYS, cells.values)
    instructions = (
        cells.text(asked).strip() if asked and first_key(TEXT_KEYS, cells.values) not in (None, asked) else ""
    )
    if kind == "predicate" and not options:
        options = DEFAULT_OPTIONS
    return StatedQuestion(type=kind, instructions=instructions, options=options)


def decided(cells: Cells, question: StatedQuestion | None, names: Mapping[str, Sequence[str]]) -> tuple[str, Decided]:
    """Read the answer of a row; return its column, empty if the row has no answer, and the answer.

    Args:
        cells: The row.
        question: The question of the row, or of the whole dataset.
        names: Column -> names of its integer labels.

    Raises:
        BadRow: The answer is none of the options, or is no answer to this type of question.
    """
    key = cells.first((*DISTRIBUTION_KEYS, *ANNOTATION_KEYS, *LABEL_KEYS, *ANSWER_KEYS))
    if key is None:
        empty = next((one for one in LABEL_KEYS if one in cells.values), None)
        if empty is not None:
            raise BadRow("the label is empty")
        return "", Decided()
    value, options = cells.get(key), question.options if question else ()
    multi = question is not None and question.type == "multi"
    listed = names.get(key) or ()

    def named(one: Any) -> str:
        return _value(one, options, listed, key)

    if isinstance(value, str) and multi:
        value = _separated(value.strip(), key, commas=not options)
    if isinstance(value, list):
        value = _by_place(value, key, [option.value for option in options] or list(listed))
    if isinstance(value, dict):
        spread = _distributed({named(one): number for one, number in value.items()}, options, multi)
        return key, _with_label(cells, spread, named) if key in DISTRIBUTION_KEYS and not multi else spread
    if not isinstance(value, list):
        return key, Decided(label=named(value))
    found = [named(one) for one in value if one not in (None, "")]
    if not found:
        raise BadRow(f"'{key}' is empty" + ("; name an option that stands for none of the others" if multi else ""))
    if multi:
        return key, Decided(labels=_in_order(dict.fromkeys(found), options))
    if len(found) == 1:
        return key, Decided(label=found[0])
    if key not in ANNOTATION_KEYS and question is None:
        raise BadRow(
            f"'{key}' has {len(found)} labels instead of one (if several apply, declare the type multi; if several "
            "people labeled the text, name the column 'annotations')"
        )
    spread = _distributed(dict(Counter(found)), options, False)
    return key, _with_label(cells, spread, named) if key in ANNOTATION_KEYS else spread


def _separated(value: str, key: str, *, commas: bool) -> list[Any]:
    """Split the labels in a cell: a list as pandas or JSON write it, or labels with `;`, `|` or, if nothing else, `,`.

    Raises:
        BadRow: It is written as a list but isn't one.
    """
    if not (value.startswith("[") and value.endswith("]")):
        by_comma = commas and not re.search("[|;]", value)  # "Food, Beverage; Retail" are two labels
        return re.split(r"\s*,\s*" if by_comma else r"\s*[|;]\s*", value)
    try:
        found = ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        found = None
    if not isinstance(found, list) or re.search(r"['\"]\s+['\"]", value):  # adjacent texts would become one
        raise BadRow(f"'{key}' is {value[:50]}, which looks like a list but isn't one, as in ['a', 'b']")
    return found


def _by_place(value: list[Any], key: str, names: Sequence[str]) -> Any:
    """Name the numbers of a list with one number for each option: shares, or 1 for each label that applies.

    Raises:
        BadRow: The options that the numbers stand for aren't known.
    """
    numbers = all(isinstance(one, int | float) for one in value)
    marks = numbers and {"0", "1"} >= {f"{one:g}" for one in value} and not {"0", "1"} <= set(names)
    placed = len(value) == len(names) or len(set(value)) < len(value)  # labels that apply don't repeat
    if not numbers or key in ANNOTATION_KEYS or not (key in DISTRIBUTION_KEYS or (marks and placed)):
        return value
    if len(value) != len(names):
        known = f"there are {len(names)} options" if names else "the data don't name the options"
        raise BadRow(f"'{key}' has {len(value)} numbers, one for each option, but {known}; list them as 'options'")
    if key in DISTRIBUTION_KEYS:
        return dict(zip(names, value, strict=True))
    return [name for name, one in zip(names, value, strict=True) if one]


def _with_label(cells: Cells, spread: Decided, named: Callable[[Any], str]) -> Decided:
    """Take the label of another column, if there is one, instead of the most probable one."""
    key = cells.first(LABEL_KEYS)
    return spread if key is None else spread._replace(label=named(cells.get(key)))


def _value(value: Any, options: Sequence[Option], names: Sequence[str], key: str) -> str:
    """Return a label as text; true, false and numbers of options are translated.

    Raises:
        BadRow: The label is none of the options.
    """
    is_number = isinstance(value, int) and not isinstance(value, bool)
    if names and is_number:
        if not 0 <= value < len(names):
            raise BadRow(f"'{key}' is {value}, but the labels are numbered from 0 to {len(names) - 1}")
        value = names[value]
    label = texts_of(value, key)[0]
    known = {label_key(option.value) for option in options}
    if not options or label_key(label) in known:
        return label
    if len(options) == 2 and label.lower() in (*_TRUE, *_FALSE) and not known.intersection((*_TRUE, *_FALSE)):
        return options[label.lower() in _FALSE].value
    if len(options) == 2 and known in ({"yes", "no"}, {"true", "false"}) and label.lower() in (*_TRUE, *_FALSE):
        positive = label.lower() in _TRUE
        return next(one.value for one in options if (label_key(one.value) in _TRUE) == positive)
    if is_number and not names and 0 <= value < len(options):
        return options[int(value)].value
    some = ", ".join(option.value for option in options[:8]) + (" ..." if len(options) > 8 else "")
    raise BadRow(f"the label '{label[:50]}' is none of the options {some}")


def _in_order(labels: Mapping[str, Any], options: Sequence[Option]) -> tuple[str, ...]:
    rank = {label_key(option.value): place for place, option in enumerate(options)}
    return tuple(sorted(labels, key=lambda one: rank.get(label_key(one), 0))) if options else tuple(sorted(labels))


def _distributed(numbers: Mapping[str, Any], options: Sequence[Option], multi: bool) -> Decided:
    """Normalize probabilities, shares in percent, or counts of annotators.

    Raises:
        BadRow: A number is negative or no number, or the numbers sum to something else.
    """
    for label, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number) or number < 0:
            raise BadRow(f"the share of '{label[:50]}' is {str(number)[:40]}, not a number from 0")
    ordered = _in_order(numbers, options)
    if multi:
        if any(number > 1 for number in numbers.values()):
            raise BadRow("a probability is above 1")
        likely = tuple(label for label in ordered if numbers[label] >= 0.5)
        if not likely:
            raise BadRow("no label has a probability of at least 0.5")
        return Decided(labels=likely, distribution={label: float(numbers[label]) for label in ordered})
    total = math.fsum(numbers.values())
    counts = all(float(number).is_integer() for number in numbers.values())
    if total <= 0 or not (counts or abs(total - 1) <= _ROUNDING or abs(total - 100) <= 100 * _ROUNDING):
        raise BadRow(f"the probabilities of the labels sum to {total:g}, not to 1")
    shares = {label: numbers[label] / total for label in ordered}
    return Decided(label=max(ordered, key=lambda label: shares[label]), distribution=shares)


def declared_question(
    type: str, instructions: str = "", options: Any = None, positive: str = "", *, where: str = "--type"
) -> StatedQuestion:
    """Create the question that a user declares for the labels of a dataset.

    Args:
        type: predicate, choice, multi or score.
        instructions: What is asked of each text.
        options: Texts, objects with value and description, or a mapping; by default the labels of the data.
        positive: The option of a predicate that counts as yes; the first by default.
        where: Where the user declared it, for errors.

    Raises:
        UsageError: A value is invalid.
    """
    kind = next((one for one in TYPES if one == type), None)
    if kind is None:
        raise UsageError(f"{where} names the type {type!r:.40}.", ", ".join(TYPES), f"fix {where}")
    if not isinstance(instructions, str) or not isinstance(positive, str):
        raise UsageError(f"{where} has instructions or a positive option that isn't text.", "a text", f"fix {where}")
    try:
        found = options_of(options)
    except BadRow as error:
        raise UsageError(f"{where}: {error}.", 'options = ["LABEL", "LABEL"]', f"fix {where}") from error
    if kind == "predicate" and found and len(found) != 2:
        raise UsageError(f"{where} names {len(found)} options.", "two options of a predicate", f"fix {where}")
    if not positive:
        return StatedQuestion(type=kind, instructions=instructions, options=found)
    values = [option.value for option in found]
    if kind != "predicate" or positive not in values:
        raise UsageError(
            f"{where} names the positive option '{positive:.50}'.",
            "one of the two options of a predicate" + (f": {', '.join(values[:2])}" if values else ""),
            f"fix {where}",
        )
    ordered = sorted(found, key=lambda option: option.value != positive)
    return StatedQuestion(type=kind, instructions=instructions, options=tuple(ordered))


def has_turns(cells: Cells) -> bool:
    """Check whether the text of a row is a conversation."""
    return first_key(TURN_KEYS, cells.values) is not None
