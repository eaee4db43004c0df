"""Update the demo block and screenshot in README.md from one study, so that text, table and picture match.

    make study && .venv/bin/python benchmarks/readme.py [STUDY [SECONDS]]

SECONDS is the time of the first session, if a later one only repeated the comparison.

Headless Chromium takes the screenshot of the report's first screen. docs/demo.json names the study, and a test checks
README.md and the screenshot against it.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from sizewise.records import Comparison, Study
from sizewise.report.words import measure_of, value_text
from sizewise.store import Store

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- study:begin -->", "<!-- study:end -->"
COLUMNS = ("bleu", "chrf", "token_f1", "bits_per_byte", "latency_s", "memory_bytes")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PICTURE = "docs/report.png"


def table(comparison: Comparison) -> str:
    """Format the scores of all candidates and baselines as Markdown."""
    heads = []
    for metric in COLUMNS:
        measure = measure_of(metric)
        heads.append(measure.heading)
    lines = [f"| candidate | {' | '.join(heads)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name in sorted(comparison.models, key=lambda name: comparison.models[name].role == "baseline"):
        answered = comparison.answered.get(name)
        cells = []
        for metric in COLUMNS:
            score = comparison.scores.get(metric, {}).get(name)
            quiet = answered is not None and answered.value == 0 and metric in ("bleu", "chrf", "token_f1")
            cells.append("no answer" if quiet else "-" if score is None or score.value is None else value_text(score))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def block(study: Study, comparison: Comparison, seconds: float) -> str:
    """Format the block between the markers."""
    scores = [one for one in comparison.scores.get("bleu", {}).values() if one.value is not None]
    items, documents = min(one.n for one in scores), min(one.clusters or 0 for one in scores)
    engine = f"{seconds / 60:.0f} minutes"
    return (
        f"{BEGIN}\n> {study.summary}\n\n{table(comparison)}\n\n"
        f"Value [95 % interval over source documents] on {items} held-out definitions from {documents} documents "
        "that share nothing with\ntraining. Weights of SmolLM2 and Gemma are dequantized from Q4_1 and Q4_K_M files. "
        f"This run took {engine} after the installation;\na slower machine trains less in the same minutes and may end "
        f"with another verdict.\n{END}"
    )


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
    listed = [one for _, kind, one, _ in store.listing() if kind == "study"]
    study_id = sys.argv[1] if len(sys.argv) > 1 else listed[-1]
    study = store.read(Study, study_id)
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else study.seconds
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    pattern = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    readme.write_text(
        pattern.sub(lambda _: block(study, store.read(Comparison, study.comparison), seconds), text), encoding="utf-8"
    )
    screenshot(Path(study.report), ROOT / PICTURE)
    told = {
        "study": study_id,
        "sentence": study.summary,
        "picture": PICTURE,
        "sha256": hashlib.sha256((ROOT / PICTURE).read_bytes()).hexdigest(),
        "seconds": round(seconds),
    }
    (ROOT / "docs" / "demo.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
