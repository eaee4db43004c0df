"""A study whose trainings and measurements are spread over two Ray nodes, against the same one in one process.

The documents are German, so that no suite of English questions follows.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

STUDY = """
[study]
name = "Kleine Sätze"

[data]
documents = ["texts"]
limit = 12
metrics = ["bits_per_byte", "chrf"]
"""
CANDIDATE = """
[[candidates]]
name = "seed {seed}"
model = "scratch"
train = {{ tokens = {tokens}, parameters = 500000, context = 64, control = "none", seed = {seed} }}
"""
NOUNS = ("Haus", "Feld", "Buch", "Brot", "Schiff", "Fenster", "Pferd", "Licht", "Wasser", "Dorf")
VERBS = ("sieht", "findet", "trägt", "verliert", "zeichnet", "beschreibt")


def write_study(folder: Path, tokens: int) -> Path:
    """Write the documents and the study file."""
    (folder / "texts").mkdir(parents=True)
    for number in range(30):
        draw = random.Random(number)
        lines = [
            f"Das alte {draw.choice(NOUNS)} {draw.choice(VERBS)} heute das {draw.choice(NOUNS)} mit der Nummer "
            f"{draw.randint(1, 999)}, und der Mann {draw.choice(VERBS)} es nicht."
            for _ in range(12)
        ]
        (folder / "texts" / f"{number:02d}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    path = folder / "study.toml"
    path.write_text(STUDY + "".join(CANDIDATE.format(seed=seed, tokens=tokens) for seed in (0, 1)), encoding="utf-8")
    return path


def start(home: Path, study: Path, *more: str) -> subprocess.Popen[str]:
    """Start `sizewise study` with a store of its own; its progress goes to HOME.log."""
    environment = os.environ | {"SIZEWISE_HOME": str(home), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "sizewise", "study", str(study), "--page", "off", "--json", *more]
    with home.with_suffix(".log").open("w", encoding="utf-8") as log:
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)


def result(job: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait for a study and return what it printed."""
    text, _ = job.communicate()
    if job.returncode:
        raise RuntimeError(text)
    found: dict[str, Any] = json.loads(text)
    return found


def outcome(home: Path, found: dict[str, Any]) -> dict[str, Any]:
    """Return what doesn't depend on the clock: the ids, the verdict and the scores."""
    record = found["record"]
    kept = {name: record[name] for name in ("dataset", "outcome", "pick", "evaluations", "checkpoints")} | {
        "id": found["id"]
    }
    for name, one in record["evaluations"].items():
        saved = json.loads((home / "evaluation" / one / "record.json").read_text(encoding="utf-8"))["record"]
        kept[f"scores of {name}"] = {
            metric: saved["scores"][metric]["value"]
            for metric in ("bits_per_byte", "chrf")
            if metric in saved["scores"]
        }
    return kept


def kill_one_training(home: Path, job: subprocess.Popen[str]) -> bool:
    """Kill the process of a node that trains, once it has taken steps; returns whether it did."""
    while job.poll() is None:
        if any(home.glob("checkpoint/*/curve.jsonl")):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    if path.read_bytes().startswith(b"ray::TrainingHost.train"):
                        os.kill(int(path.parent.name), signal.SIGKILL)
                        return True
                except OSError:
                    continue
        time.sleep(0.05)
    return False
