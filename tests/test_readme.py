"""README's demo block and its picture come from one run; see benchmarks/readme.py."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_text_and_picture_are_of_one_run() -> None:
    told = json.loads((ROOT / "docs" / "demo.json").read_text(encoding="utf-8"))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    block = re.search(r"<!-- study:begin -->\n> (.*?)\n\n(.*?)<!-- study:end -->", readme, re.DOTALL)
    assert block is not None
    assert block[1] == told["sentence"]
    assert f"]({told['picture']})" in readme
    assert hashlib.sha256((ROOT / told["picture"]).read_bytes()).hexdigest() == told["sha256"]


def test_the_verdict_does_not_contradict_the_table() -> None:
    """A pick that is called better than the others leads the table."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    block = readme.partition("<!-- study:begin -->")[2].partition("<!-- study:end -->")[0]
    sentence = next(line for line in block.splitlines() if line.startswith("> "))
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines() if line[:2] == "| "]
    values = {row[0]: float(row[1].split()[0]) for row in rows[1:] if re.match(r"[\d.]+", row[1])}
    pick = re.match(r"> Use (.*?) \(", sentence)
    better_than_others = ("It's significantly better than", "shown to be better than all")
    if pick and any(claim in sentence for claim in better_than_others):
        assert max(values, key=lambda name: values[name]) == pick[1]
