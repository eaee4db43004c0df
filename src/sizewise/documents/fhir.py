"""Read the medical demo: the definitions of the HL7 FHIR health-record standard, from a wheel.

The wheel's Python source is parsed, never imported. Only its top-level modules are read, because the versioned
subpackages are near-duplicates and would contaminate the test split.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from sizewise.documents.cleaning import clean_text
from sizewise.documents.reading import Reading, make_document
from sizewise.packages import Wheel, member_names, read_members
from sizewise.records import Document, Example, Message

FHIR_WHEEL = Wheel(
    "fhir.resources==8.3.0",
    "fhir_resources-8.3.0-py2.py3-none-any.whl",
    "151e6c9b4336e36383cc2aaf2067a6f112a420fce1c7bd289182e55dd950871b",
)
FHIR_LICENSE = "CC0-1.0 (HL7 FHIR specification)"
# A few modules are very long; truncation keeps them from dominating the training text.
MAX_DOCUMENT_CHARACTERS = 6_000


class _Element(NamedTuple):
    """An element of a FHIR type: path, short title and definition."""

    path: str
    title: str
    definition: str


def read_fhir(wheel: Path) -> Reading:
    """Read each module of a wheel as a document, and each element definition as an example."""
    names = [name for name in member_names(wheel) if is_definition(name)]
    sources = read_members(wheel, names)
    documents: list[Document] = []
    examples: list[Example] = []
    cut = 0
    for name in sorted(sources):
        module = Path(name).stem
        paragraphs, elements = _parse(sources[name].decode("utf-8"))
        if not elements:
            continue
        kept: list[str] = []
        length = 0
        for paragraph in paragraphs:
            length += len(paragraph) + 2
            if kept and length > MAX_DOCUMENT_CHARACTERS:
                cut += 1
                break
            kept.append(paragraph)
        text = clean_text("\n\n".join(kept))
        origin = f"{FHIR_WHEEL.requirement}, {name}"
        documents.append(make_document(module, paragraphs[0], text, origin, FHIR_LICENSE))
        examples += [_example(module, element) for element in elements if _has_definition(element)]
    note = f"{cut} of {len(documents)} modules were truncated to {MAX_DOCUMENT_CHARACTERS} characters"
    return Reading(documents, examples, notes=[note])


def is_definition(name: str) -> bool:
    """Check whether a member of the wheel is a top-level module."""
    parts = name.split("/")
    return parts[:2] == ["fhir", "resources"] and len(parts) == 3 and name.endswith(".py")


def _parse(source: str) -> tuple[list[str], list[_Element]]:
    paragraphs: list[str] = []
    elements: list[_Element] = []
    for node in ast.parse(source).body:
        if not isinstance(node, ast.ClassDef):
            continue
        description = _docstring(node)
        paragraphs.append(f"{node.name}\n{description}" if description else node.name)
        for element in _elements(node):
            elements.append(element)
            same = element.title.rstrip(".") == element.definition.rstrip(".")
            body = element.title if same else f"{element.title}\n{element.definition}"
            paragraphs.append(f"{element.path}: {body}")
    return paragraphs, elements


def _docstring(node: ast.ClassDef) -> str:
    blocks = (ast.get_docstring(node) or "").split("\n\n")
    kept = [" ".join(block.split()) for block in blocks if not block.startswith("Disclaimer:")]
    return "\n".join(block for block in kept if block)


def _elements(node: ast.ClassDef) -> Iterator[_Element]:
    seen: set[tuple[str, str]] = set()
    for statement in node.body:
        if not (isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)):
            continue
        if not isinstance(statement.value, ast.Call) or statement.target.id.endswith("__ext"):
            continue
        keywords = {keyword.arg: keyword.value for keyword in statement.value.keywords}
        title, definition = literal(keywords.get("title")), literal(keywords.get("description"))
        if not title or not definition or (title, definition) in seen:
            continue
        seen.add((title, definition))  # choice types of an element repeat its text
        extra = keywords.get("json_schema_extra")
        name = _choice_name(extra) or statement.target.id.rstrip("_")
        yield _Element(f"{node.name}.{name}", title, definition)


def literal(node: ast.expr | None) -> str:
    """Return the text of a literal with single blanks; "" for anything else."""
    if node is None:
        return ""
    try:
        value = ast.literal_eval(node)
    except ValueError:
        return ""
    return " ".join(value.split()) if isinstance(value, str) else ""


def _choice_name(extra: ast.expr | None) -> str:
    if isinstance(extra, ast.Dict):
        for key, value in zip(extra.keys, extra.values, strict=True):
            if isinstance(key, ast.Constant) and key.value == "one_of_many":
                return f"{literal(value)}[x]"
    return ""


def _has_definition(element: _Element) -> bool:
    def plain(text: str) -> str:
        return text.lower().rstrip(". ")

    return plain(element.title) != plain(element.definition)


def _example(module: str, element: _Element) -> Example:
    question = (
        f"In the HL7 FHIR standard, what is the definition of the element {element.path} "
        f"(short title: {element.title})?"
    )
    return Example(
        id=element.path,
        messages=(Message(role="user", content=question),),
        references=(element.definition,),
        tags=("definition",),
        source=module,
        copy_text=element.title,
    )
