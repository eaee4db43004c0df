"""Convert the consumer-finance regulations of the CFPB into documents and examples: `regulations.py FOLDER OUT`.

FOLDER holds `cfpb_regulations.jsonl` (part, reg, label, kind, text; one paragraph per row) and
`cfpb_definitions_qa.jsonl` (cite, reg, term, question, answer), made from github.com/cfpb/regulations-xml (public
domain). Each document is a section. A definition belongs to the section that cites it; duplicate answers are dropped.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def section_of(row: dict[str, str]) -> str:
    """Return the section of a paragraph, such as 1002-2."""
    part = row["part"].split()[-1]
    label = row["label"] or ""
    return f"{part}-{label.split('-')[1]}" if label.startswith(f"{part}-") else f"{part} {label}".strip()


def main() -> None:
    """Write documents.jsonl and examples.jsonl."""
    folder, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    sections: dict[str, list[str]] = {}
    for line in (folder / "cfpb_regulations.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        sections.setdefault(section_of(row), []).append(row["text"])
    with (out / "documents.jsonl").open("w", encoding="utf-8") as file:
        for name, texts in sections.items():
            document = {"id": name, "text": "\n\n".join(texts), "license": "public domain"}
            file.write(json.dumps(document) + "\n")
    seen: set[str] = set()
    with (out / "examples.jsonl").open("w", encoding="utf-8") as file:
        for line in (folder / "cfpb_definitions_qa.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if row["answer"] not in seen:
                seen.add(row["answer"])
                source = "-".join(row["cite"].split()[-1].split("-")[:2])
                example = {"prompt": row["question"], "references": [row["answer"]], "source": source}
                file.write(json.dumps(example) + "\n")
    print(f"{len(sections)} documents, {len(seen)} examples in {out}")


if __name__ == "__main__":
    main()
