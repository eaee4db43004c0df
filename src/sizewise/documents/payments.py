"""The financial demo: the prose on payments that the client of the Stripe API carries, read from a wheel.

The wheel's Python source is parsed, never imported. Only its top-level modules are read: parameters of requests
repeat the same prose and would leak between the splits.
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
STRIPE_LICENCE = "MIT (Stripe)"
LEAST_CHARACTERS = 400  # shorter documents say too little
DOCUMENT_CHARACTERS = 20_000  # a few modules are very long
LEAST_WORDS = 8  # of a definition that is worth asking for
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")


def read_payments(wheel: Path) -> Reading:
    """Turn each module of the wheel into a document and each field with a definition into an example."""
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
            if length > DOCUMENT_CHARACTERS:
                cut += 1
                break
        text = clean_text("\n\n".join(paragraphs))
        if len(text) < LEAST_CHARACTERS:
            continue
        title = module.replace("_", " ")
        documents.append(make_document(module, title, text, f"{STRIPE_WHEEL.requirement}, {name}", STRIPE_LICENCE))
        for path, definition in fields:
            if "." in path and len(definition.split()) >= LEAST_WORDS and definition not in asked:
                asked.add(definition)  # the same prose stands at many fields
                examples.append(_example(module, path, definition))
    note = f"{cut} of {len(documents)} modules were cut at {DOCUMENT_CHARACTERS} characters"
    return Reading(tuple(documents), tuple(examples), notes=(note,))


def _definitions(tree: ast.Module, module: str) -> Iterator[tuple[str, str]]:
    """Yield (path, prose) of classes and of their fields, in order and each prose once."""
    seen: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield from _of_class(node, module, seen)


def _of_class(node: ast.ClassDef, path: str, seen: set[str]) -> Iterator[tuple[str, str]]:
    said = _plain(ast.get_docstring(node) or "")
    if said and said not in seen:
        seen.add(said)
        yield path, said
    for statement, after in pairwise([*node.body, ast.Pass()]):
        if isinstance(statement, ast.ClassDef):
            yield from _of_class(statement, f"{path}.{_snake(statement.name)}", seen)
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            said = _plain(_text(after))
            if said and said not in seen:
                seen.add(said)
                yield f"{path}.{statement.target.id}", said


def _text(node: ast.stmt) -> str:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
        return node.value.value
    return ""


def _plain(text: str) -> str:
    """Keep the words of links and drop their addresses."""
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
