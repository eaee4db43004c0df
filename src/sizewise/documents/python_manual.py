"""The technical demo: the manual and docstrings that come with every CPython. No download.

The files are parsed as source, never imported.
"""

from __future__ import annotations

import ast
import sysconfig
from pathlib import Path

from sizewise.documents.cleaning import clean_text
from sizewise.documents.reading import Reading, make_document
from sizewise.errors import SizewiseError
from sizewise.records import Document, Example, Message

LICENCE = "PSF-2.0 (Python documentation)"
LEAST_CHARACTERS = 400  # shorter documents say too little


def read_python_manual(folder: Path | None = None) -> Reading:
    """Turn each topic of the manual and each module's docstrings into a document, each function into an example.

    Args:
        folder: a standard library; by default that of the running Python.

    Raises:
        SizewiseError: this Python came without its library's source.
    """
    library = folder or Path(sysconfig.get_path("stdlib"))
    documents = [
        make_document(f"topic-{name}", name, clean_text(text), "CPython manual", LICENCE)
        for name, text in sorted(_topics(library / "pydoc_data" / "topics.py").items())
    ]
    examples: list[Example] = []
    for path in sorted(library.glob("*.py")):
        if path.name.startswith("_"):
            continue
        document, found = _module(path)
        if document is not None:
            documents.append(document)
            examples += found
    documents = [document for document in documents if len(document.text) >= LEAST_CHARACTERS]
    if not documents:
        raise SizewiseError(
            f"No documentation was found in {library}.",
            "a Python with the source of its standard library",
            "use another text: --control PATH",
        )
    kept = {document.id for document in documents}
    return Reading(tuple(documents), tuple(example for example in examples if example.source in kept))


def _topics(path: Path) -> dict[str, str]:
    """Read the dictionary of manual topics, whatever it is called and however its strings are joined."""
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
    """Read one module's docstrings."""
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
    return make_document(f"module-{path.stem}", path.stem, text, "CPython docstrings", LICENCE), examples
