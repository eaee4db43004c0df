"""Update the demo block and screenshot in README.md from one run of the demo, so that text, tables and picture match.

    make study && .venv/bin/python benchmarks/readme.py

Headless Chromium takes the screenshot of the first screen of the decision study's report. docs/demo.json names the
studies, and a test checks README.md and the screenshot against it.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from sizewise.models.machine import describe_machine
from sizewise.records import Study
from sizewise.report import load_view
from sizewise.report.standing import Standing
from sizewise.report.tiles import short_headings, short_table
from sizewise.store import Saved, Store

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- study:begin -->", "<!-- study:end -->"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PICTURE = "docs/report.png"
TASKS = {
    "FHIR data types": "Which data type does this field hold? (decision, true labels)",
    "FHIR definitions": "Define this element. (text, the standard's own definitions)",
}


def table(study: Saved[Study], store: Store) -> str:
    """Format the short table of a study as Markdown, as the terminal prints it."""
    standing = Standing(load_view(store, study.id, study.record))
    rows = short_table(standing)
    head = short_headings(standing)
    return "\n".join([_line(head), "|---" * len(head) + "|", *map(_line, rows)])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def block(studies: Sequence[Saved[Study]], store: Store) -> str:
    """Format the block between the markers."""
    parts = [BEGIN]
    for study in studies:
        parts += [f"**{TASKS[study.record.name]}**\n", f"> {study.record.summary}\n", table(study, store) + "\n"]
    minutes = sum(study.record.seconds for study in studies) / 60
    parts.append(
        f"Values with 95 % intervals, on test items that share nothing with training. This run took {minutes:.0f} "
        f"minutes after the installation\non {describe_machine()}; a slower machine asks fewer items and trains less "
        f"in the same time.\n{END}"
    )
    return "\n".join(parts)


def screenshot(report: Path, target: Path) -> None:
    """Capture the first screen of the report."""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        raise SystemExit("Chromium isn't installed. Expected: chromium on the PATH. Next: apt-get install chromium")
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [
                browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars",
                "--disable-background-networking", "--disable-component-update", "--disable-sync",
                f"--user-data-dir={profile}", "--window-size=1280,1000", f"--screenshot={target}", report.as_uri(),
            ],
            check=True, timeout=120, capture_output=True,
        )  # fmt: skip


def main() -> None:
    """Update README.md, the screenshot and docs/demo.json."""
    store = Store()
    found = {}
    for _, kind, one, _ in store.listing():
        if kind == "study" and (study := store.get(Study, one)).record.name in TASKS:
            found[study.record.name] = study  # the newest one of each task
    studies = [found[name] for name in TASKS]
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    pattern = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    readme.write_text(pattern.sub(lambda _: block(studies, store), text), encoding="utf-8")
    screenshot(Path(studies[0].record.report), ROOT / PICTURE)
    told = {
        "studies": [study.id for study in studies],
        "sentences": [study.record.summary for study in studies],
        "picture": PICTURE,
        "sha256": hashlib.sha256((ROOT / PICTURE).read_bytes()).hexdigest(),
        "seconds": [round(study.record.seconds) for study in studies],
    }
    (ROOT / "docs" / "demo.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
