"""Published answers of a large model to every question of Banking77, read out of the wheel `taskdistill`.

The wheel is read as data and never imported. Its recording keeps answers by the hash of the request, so the requests
are made again from the questions, and each answer is found by its hash.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PACKAGE = "taskdistill==0.1.1"
FILE = "taskdistill-0.1.1-py3-none-any.whl"
RECORDING = "taskdistill/_data/demos/banking77/teacher_recording.jsonl.gz"
PROMPT = "taskdistill/_data/tasks/banking77/teacher_prompt.md"
FIELDS = ("model", "messages", "temperature", "max_tokens", "response_format", "top_p", "seed", "stop")


class Answered(NamedTuple):
    """A question with its correct label and the large model's answer."""

    id: str
    text: str
    label: str
    split: str
    """`train` or `test`, as published."""
    answer: str
    """Label that the large model gave; its words if they are no label."""
    prompt_tokens: int
    completion_tokens: int
    usd: float
    latency_s: float


def fetch(folder: Path) -> Path:
    """Download the wheel, without installing it, and return its path."""
    path = folder / FILE
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--ignore-requires-python", "--quiet"]
        subprocess.run([*command, "--dest", str(folder), PACKAGE], check=True, stderr=subprocess.DEVNULL)
    return path


def answers(wheel: Path, banking: Path) -> Iterator[Answered]:
    """Yield the questions of both files with the recorded answers; a question without one is left out."""
    with zipfile.ZipFile(wheel) as archive:
        prompt = archive.read(PROMPT).decode("utf-8")
        lines = gzip.decompress(archive.read(RECORDING)).decode("utf-8").splitlines()
    manifest, *rows = map(json.loads, lines)
    recorded = {row["key"]: row for row in rows}
    for split in ("train", "test"):
        with (banking / f"{split}.csv").open(encoding="utf-8", newline="") as file:
            asked = list(csv.DictReader(file))
        labels = {_folded(row["category"]): row["category"] for row in asked}
        for number, row in enumerate(asked):
            found = next((recorded[key] for key in _keys(manifest, prompt, row["text"]) if key in recorded), None)
            if found is not None:
                yield Answered(
                    id=f"{split}-{number}",
                    text=row["text"],
                    label=row["category"],
                    split=split,
                    answer=labels.get(_folded(found["output"]), found["output"]),
                    prompt_tokens=found["usage"]["prompt_tokens"],
                    completion_tokens=found["usage"]["completion_tokens"],
                    usd=found["usage"]["cost"],
                    latency_s=found["latency_ms"] / 1_000,
                )


def _folded(label: str) -> str:
    return label.strip().strip("\"'`*.?").replace("_", " ").casefold()


def _keys(manifest: dict[str, object], prompt: str, text: str) -> Iterator[str]:
    """Yield the hashes that a request may have: of the text as it is, and without space around it."""
    generation = manifest["generation"]
    assert isinstance(generation, dict)
    for system in dict.fromkeys((prompt, prompt.strip())):
        for user in dict.fromkeys((text, text.strip())):
            body = dict.fromkeys(FIELDS) | {
                "model": manifest["teacher_model"],
                "messages": [{"role": "system", "content": system}, {"role": "user", "content": user}],
                "temperature": int(generation["temperature"]),
                "max_tokens": generation["max_tokens"],
                "response_format": generation["response_format"],
            }
            plain = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
            yield hashlib.sha256(plain.encode("utf-8")).hexdigest()
