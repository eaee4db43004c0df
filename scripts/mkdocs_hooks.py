"""Hooks of the documentation: generated pages, notebooks as pages, and links to files outside docs/."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "src")]

from mkdocs.structure.files import File, Files  # noqa: E402

from benchmarks_page import page as benchmarks_page  # noqa: E402
from reference import PAGES  # noqa: E402
from stats_tables import cells_page  # noqa: E402


def notebook_page(path: Path) -> str:
    """Write a notebook as Markdown: text, code, and the text that code printed."""
    parts = [f"[Download this notebook]({path.name}) to run it yourself.\n"]
    cells: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["cells"]
    for cell in cells:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", ()):
            parts.append("```text\n" + "".join(output.get("text", ())).rstrip() + "\n```")
    title, rest = parts[1].partition("\n")[::2]
    return "\n\n".join([title, parts[0], rest, *parts[2:]]) + "\n"


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are made from code, results and notebooks."""
    pages = {name: write() for name, write in PAGES.items()} | {"benchmarks.md": benchmarks_page()}
    pages["results/statistics-grid.md"] = cells_page()
    docs = Path(config["docs_dir"])
    for path in docs.rglob("*.ipynb"):
        pages[path.relative_to(docs).with_suffix(".md").as_posix()] = notebook_page(path)
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files
