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
    block = readme.partition("<!-- study:begin -->")[2].partition("<!-- study:end -->")[0]
    assert [line[2:] for line in block.splitlines() if line.startswith("> ")] == told["sentences"]
    assert f"]({told['picture']})" in readme
    assert hashlib.sha256((ROOT / told["picture"]).read_bytes()).hexdigest() == told["sha256"]


def test_a_pick_is_in_its_table() -> None:
    """The candidate that a verdict names stands in the table below it."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    block = readme.partition("<!-- study:begin -->")[2].partition("<!-- study:end -->")[0]
    for part in block.split("\n> ")[1:]:
        sentence, *rest = part.splitlines()
        rows = [line.strip("|").split("|")[0].strip() for line in rest if line.startswith("| ")]
        pick = re.match(r"Use (.*?) \(", sentence)
        assert pick is None or pick[1] in rows
