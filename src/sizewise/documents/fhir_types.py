"""Read the decision demo: which FHIR data type a field holds, from the field's title and description alone.

The labels are the types in the standard's own declarations. Types that a description can't tell apart count as one.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from sizewise.documents.fhir import FHIR_WHEEL, is_definition, literal
from sizewise.documents.reading import Reading
from sizewise.packages import member_names, read_members
from sizewise.records import Example, Message, Option, Split, StatedQuestion

TYPES: Mapping[str, tuple[str, ...]] = {
    "CodeableConcept": ("CodeableConcept", "Coding"),
    "code": ("Code",),
    "string": ("String", "Markdown"),
    "boolean": ("bool",),
    "integer": ("Integer", "PositiveInt", "UnsignedInt", "Integer64", "Decimal"),
    "dateTime": ("DateTime", "Date", "Instant"),
    "Period": ("Period", "Timing"),
    "Quantity": ("Quantity", "Money", "Duration", "Age", "Distance", "Count", "Range", "Ratio", "RatioRange"),
    "Identifier": ("Identifier", "Id"),
    "uri": ("Uri", "Url", "Canonical", "Oid", "Uuid"),
    "Reference": ("Reference", "CodeableReference"),
    "ContactDetail": ("ContactDetail", "ContactPoint", "ExtendedContactDetail", "Address"),
    "Annotation": ("Annotation",),
    "BackboneElement": (),
}
"""Label -> types of the standard that it covers. Fields of a resource's own structure are `BackboneElement`."""
QUESTION = StatedQuestion(
    type="choice",
    instructions="Which data type does the described field of a health record hold?",
    options=(
        Option(value="CodeableConcept", description="a medical or administrative concept, chosen from a terminology"),
        Option(value="code", description="one word from a short, fixed list, such as a status"),
        Option(value="string", description="a name, a title or other text for people to read"),
        Option(value="boolean", description="yes or no"),
        Option(value="integer", description="a number without a unit: a count, a position or a factor"),
        Option(value="dateTime", description="a point in time: a date, with or without the time of day"),
        Option(value="Period", description="a stretch of time with start and end, or a schedule"),
        Option(value="Quantity", description="an amount with a unit: a measurement, a duration, a price or a ratio"),
        Option(value="Identifier", description="a number or key that identifies something, given by some system"),
        Option(value="uri", description="a web address, or another address of a definition or a rule"),
        Option(value="Reference", description="a link to another record, such as a patient or an organization"),
        Option(value="ContactDetail", description="how to reach somebody: name with phone, e-mail or address"),
        Option(value="Annotation", description="a comment, with its author and the time"),
        Option(value="BackboneElement", description="a group of further fields that belong together"),
    ),
)
NGRAM = 8
"""Fields whose texts share this many words in a row, apart from their resource's name, are near-copies."""
TEST_SHARE, VALIDATION_SHARE = 0.297, 0.06
_LABELS = {name: label for label, names in TYPES.items() for name in names}
_CAMEL = re.compile(r"[A-Z][a-z0-9]+|[a-z0-9]+|[A-Z]+(?![a-z])")
_WORD = re.compile(r"[a-z0-9]+")
_TYPE = re.compile(r"\b(?:fhirtypes\.(\w+?)Type|(bool))\b")


class _Field(NamedTuple):
    """A field of a FHIR resource."""

    id: str
    """Class and field, such as `Account.coverage`."""
    label: str
    """Its data type, as a label."""
    text: str
    """Title and description."""
    words: tuple[str, ...]
    """Words of the text, with those of the resource's name replaced, so that copies look alike."""


def read_fhir_types(wheel: Path) -> Reading:
    """Read each described field of a wheel as an example whose label is its data type.

    Of near-copies with one label, only the first is kept; all that are left of them are in one split.
    The test split is the same for every seed, so that answers that were recorded for it can be used again.
    """
    names = sorted(name for name in member_names(wheel) if is_definition(name))
    sources = read_members(wheel, names)
    trees = [ast.parse(sources[name].decode("utf-8")) for name in names]
    classes = [node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)]
    structures = {node.name for node in classes if any("backboneelement" in ast.unparse(base) for base in node.bases)}
    every = [field for node in classes for field in _fields(node, structures)]
    dropped = Counter(field.label for field in every if field.label not in TYPES)
    known = [field for field in every if field.label in TYPES]
    groups = _groups(known)
    examples: list[Example] = []
    seen: set[tuple[int, str]] = set()
    for field, group in zip(known, groups, strict=True):
        if (group, field.label) not in seen:
            seen.add((group, field.label))
            examples.append(_example(field, known[group].id))
    notes = [
        f"{dropped.total():,} fields of {len(dropped)} rarer types were left out, and "
        f"{len(known) - len(examples):,} near-copies of other fields",
        f"The test split of {FHIR_WHEEL.requirement} is the same for every seed",
    ]
    return Reading([], examples, notes=notes, question=QUESTION)


def _fields(node: ast.ClassDef, structures: set[str]) -> Iterator[_Field]:
    for statement in node.body:
        if not (isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)):
            continue
        if not isinstance(statement.value, ast.Call) or statement.target.id.endswith("__ext"):
            continue
        keywords = {keyword.arg: keyword.value for keyword in statement.value.keywords}
        title, description = literal(keywords.get("title")), literal(keywords.get("description"))
        found = _TYPE.search(ast.unparse(statement.annotation))
        extra = keywords.get("json_schema_extra")
        if not title or found is None or (extra is not None and "one_of_many" in ast.unparse(extra)):
            continue  # a choice of types has no type of its own
        name = found[1] or found[2]
        label = "BackboneElement" if name in structures else _LABELS.get(name, name)
        same = title.rstrip(". ").casefold() == description.rstrip(". ").casefold()
        text = title if same or not description else f"{title}\n{description}"
        own = {word.lower() + end for word in _CAMEL.findall(node.name) for end in ("", "s", "es")}
        words = tuple("*" if word in own else word for word in _WORD.findall(text.lower()))
        yield _Field(f"{node.name}.{statement.target.id.rstrip('_')}", label, text, words)


def _groups(fields: list[_Field]) -> list[int]:
    """Return for each field the index of the first one that is connected with it by shared words."""
    first = list(range(len(fields)))
    holder: dict[tuple[str, ...], int] = {}

    def root(i: int) -> int:
        while first[i] != i:
            first[i] = first[first[i]]
            i = first[i]
        return i

    for i, field in enumerate(fields):
        ends = range(min(NGRAM, len(field.words)), len(field.words) + 1)
        for end in ends:
            a, b = root(i), root(holder.setdefault(field.words[max(0, end - NGRAM) : end], i))
            first[max(a, b)] = min(a, b)
    return [root(i) for i in range(len(fields))]


def _example(field: _Field, group: str) -> Example:
    return Example(
        id=field.id,
        messages=(Message(role="user", content=field.text),),
        references=(field.label,),
        source=group,
        label=field.label,
        split=_split(group),
    )


def _split(group: str) -> Split:
    """Choose the split of a group of near-copies by its name."""
    place = int(sha256(group.encode()).hexdigest()[:8], 16) / 2**32
    return "test" if place < TEST_SHARE else "validation" if place < TEST_SHARE + VALIDATION_SHARE else "train"
