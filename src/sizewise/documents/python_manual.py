"""Read the technical demo: the manual and docstrings that ship with CPython, without a download.

The files are parsed as source code, never imported.
"""

from __future__ import annotations

import ast
import sysconfig
from pathlib import Path

from sizewise.documents.cleaning import clean_text
from sizewise.documents.reading import Reading, make_document
from sizewise.errors import SizewiseError
from sizewise.records import Document, Example, Message

LICENSE = "PSF-2.0 (Python documentation)"
MIN_CHARACTERS = 400  # shorter documents have too little content


def read_python_manual(folder: Path | None = None) -> Reading:
    """Read manual topics and module docstrings as documents, and each documented function or class as an example.

    Args:
        folder: Folder of a standard library; the one of the running Python by default.

    Raises:
        SizewiseError: This Python has no standard library source.
    """
    library = folder or Path(sysconfig.get_path("stdlib"))
    documents = read_manual_topics(library)
    examples: list[Example] = []
    for path in sorted(library.glob("*.py")):
        if path.name.startswith("_"):
            continue
        document, found = _module(path)
        if document is not None:
            documents.append(document)
            examples += found
    documents = [document for document in documents if len(document.text) >= MIN_CHARACTERS]
    if not documents:
        raise SizewiseError(
            f"No documentation was found in {library}.",
            "a Python that includes the source of its standard library",
            "choose another control text: --control PATH",
        )
    kept = {document.id for document in documents}
    return Reading(documents, [example for example in examples if example.source in kept])


def read_manual_topics(folder: Path | None = None) -> list[Document]:
    """Read the manual topics alone, which takes a fraction of a second; empty if this Python has none.

    Args:
        folder: folder of a standard library; the one of the running Python by default.
    """
    library = folder or Path(sysconfig.get_path("stdlib"))
    return [
        make_document(f"topic-{name}", name, clean_text(text), "CPython manual", LICENSE)
        for name, text in sorted(_topics(library / "pydoc_data" / "topics.py").items())
    ]


def _topics(path: Path) -> dict[str, str]:
    """Read the manual topics: name -> text. The variable name and the style of the literals don't matter."""
    if not path.is_file():
        return {}
    found: dict[str, str] = {}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(value, ast.Constant) and isinstance(value.value, str):
                    found[str(key.value)] = value.value
    return found


def _module(path: Path) -> tuple[Document | None, list[Example]]:
    """Read the docstrings of a module."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError):
        return None, []
    parts = [ast.get_docstring(tree) or ""]
    examples = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        text = ast.get_docstring(node)
        if not text:
            continue
        parts.append(f"{path.stem}.{node.name}: {text}")
        first = text.split("\n\n")[0].replace("\n", " ").strip()
        if len(first.split()) > 3:
            kind = "class" if isinstance(node, ast.ClassDef) else "function"
            examples.append(
                Example(
                    id=f"{path.stem}.{node.name}.{node.lineno}",
                    messages=(
                        Message(role="user", content=f"What does the Python {kind} {path.stem}.{node.name} do?"),
                    ),
                    references=(first,),
                    tags=(kind,),
                    source=f"module-{path.stem}",
                    copy_text=f"{path.stem}.{node.name}",
                )
            )
    text = clean_text("\n\n".join(part for part in parts if part))
    return make_document(f"module-{path.stem}", path.stem, text, "CPython docstrings", LICENSE), examples
