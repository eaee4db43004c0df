"""Read the financial demo: the payments documentation in the Stripe API client, from a wheel.

The wheel's Python source is parsed, never imported. Only its top-level modules are read, because the request
parameters repeat the same text and would contaminate the test split.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from sizewise.documents.cleaning import clean_text
from sizewise.documents.reading import Reading, make_document
from sizewise.packages import Wheel, member_names, read_members
from sizewise.records import Document, Example, Message

STRIPE_WHEEL = Wheel(
    "stripe==16.1.0",
    "stripe-16.1.0-py3-none-any.whl",
    "3798e07a0603c8923710414cd1942ae847ed43cebbf34c3258417c189711ea70",
)
STRIPE_LICENSE = "MIT (Stripe)"
MIN_CHARACTERS = 400  # shorter documents have too little content
MAX_DOCUMENT_CHARACTERS = 20_000  # a few modules are very long
MIN_DEFINITION_WORDS = 8  # shorter definitions make trivial examples
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")


def read_payments(wheel: Path) -> Reading:
    """Read each module of a wheel as a document, and each field with a definition as an example."""
    names = [name for name in member_names(wheel) if name.startswith("stripe/_") and name.count("/") == 1]
    sources = read_members(wheel, [name for name in names if name.endswith(".py") and "_service" not in name])
    documents: list[Document] = []
    examples: list[Example] = []
    asked: set[str] = set()
    cut = 0
    for name in sorted(sources):
        module = Path(name).stem.removeprefix("_")
        paragraphs: list[str] = []
        length, fields = 0, []
        for path, text in _definitions(ast.parse(sources[name].decode("utf-8")), module):
            paragraphs.append(f"{path}: {text}")
            fields.append((path, text))
            length += len(paragraphs[-1]) + 2
            if length > MAX_DOCUMENT_CHARACTERS:
                cut += 1
                break
        text = clean_text("\n\n".join(paragraphs))
        if len(text) < MIN_CHARACTERS:
            continue
        title = module.replace("_", " ")
        documents.append(make_document(module, title, text, f"{STRIPE_WHEEL.requirement}, {name}", STRIPE_LICENSE))
        for path, definition in fields:
            if "." in path and len(definition.split()) >= MIN_DEFINITION_WORDS and definition not in asked:
                asked.add(definition)  # many fields share a definition
                examples.append(_example(module, path, definition))
    note = f"{cut} of {len(documents)} modules were truncated to {MAX_DOCUMENT_CHARACTERS} characters"
    return Reading(documents, examples, notes=[note])


def _definitions(tree: ast.Module, module: str) -> Iterator[tuple[str, str]]:
    """Yield (path, description) of classes and their fields in order, skipping repeated descriptions."""
    seen: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield from _of_class(node, module, seen)


def _of_class(node: ast.ClassDef, path: str, seen: set[str]) -> Iterator[tuple[str, str]]:
    description = _without_links(ast.get_docstring(node) or "")
    if description and description not in seen:
        seen.add(description)
        yield path, description
    for statement, after in pairwise([*node.body, ast.Pass()]):
        if isinstance(statement, ast.ClassDef):
            yield from _of_class(statement, f"{path}.{_snake(statement.name)}", seen)
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            description = _without_links(_string(after))
            if description and description not in seen:
                seen.add(description)
                yield f"{path}.{statement.target.id}", description


def _string(node: ast.stmt) -> str:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
        return node.value.value
    return ""


def _without_links(text: str) -> str:
    """Replace Markdown links with their text."""
    return " ".join(_LINK.sub(r"\1", text).split())


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _example(module: str, path: str, definition: str) -> Example:
    words = path.split(".")[-1].replace("_", " ")
    return Example(
        id=path,
        messages=(Message(role="user", content=f"In an API for payments, what does the field {path} hold?"),),
        references=(definition,),
        tags=("definition",),
        source=module,
        copy_text=words,
    )
