"""One home with a record of each kind, made once for all pages and copied for each."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import random
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from tests.conftest import make_tiny
from tests.docs.pages import ROOT, small_study

HANDBOOK = ROOT / "examples" / "handbook"
STUDY = """
[study]
name = "Handbook"
simulation = true
[data]
documents = ["my-documents"]
examples = "examples.jsonl"
limit = 36
metrics = ["token_f1"]
[[candidates]]
name = "echo"
model = "fake:echo"
[[candidates]]
name = "recorded"
model = "recorded:answers.jsonl"
[needs]
quality = "token_f1"
"""


def write_files(folder: Path) -> None:
    """Write what a reader is assumed to have."""
    rng = random.Random(0)
    shutil.copytree(HANDBOOK, folder / "examples" / "handbook")
    study = folder / "examples" / "handbook" / "study.toml"
    for path in (study, study.with_name("offline.toml")):
        path.write_text(small_study(path.read_text(encoding="utf-8")), encoding="utf-8")
    shutil.copytree(HANDBOOK / "documents", folder / "my-documents")
    shutil.copy(HANDBOOK / "questions.jsonl", folder / "examples.jsonl")
    rows = [json.loads(line) for line in (HANDBOOK / "questions.jsonl").read_text(encoding="utf-8").splitlines()]
    answers = [{"id": row["id"], "completion": rng.choice(row["references"])} for row in rows]
    (folder / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers), encoding="utf-8")
    with (folder / "export.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(
            [("customer_text", "agent_reply"), *((row["prompt"], row["references"][0]) for row in rows)]
        )
    (folder / "tiny-study.toml").write_text(STUDY, encoding="utf-8")
    criterion = '[[criteria]]\nname = "correct"\ndescription = "Is it correct?"\nscale = [1, 5]\n'
    (folder / "rubric.toml").write_text(criterion, encoding="utf-8")
    (folder / "needs.toml").write_text('quality = "token_f1"\nmin_quality = 0.3\n', encoding="utf-8")
    for name, seed in (("answers.csv", 1), ("held-out.csv", 2)):
        rng = random.Random(seed)
        lines = ["prompt,weak_ok,strong_ok"]
        for number in range(300):
            easy = rng.random() < 0.6
            subject = rng.choice(["opening hours", "parking", "visits"] if easy else ["dosage", "insurance", "appeals"])
            lines.append(f"Question {seed}-{number} on {subject},{int(easy or rng.random() < 0.2)},1")
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    votes = [f"{a},{b},{rng.choice(['left', 'left', 'right', 'tie'])}" for a in "ABC" for b in "ABC" if a < b] * 8
    (folder / "votes.csv").write_text("\n".join(["left,right,winner", *votes]) + "\n", encoding="utf-8")
    tickets = [f"Where is parcel {i}?;It is at gate {i};{('shipping', 'customs')[i % 2]}" for i in range(30)]
    (folder / "tickets.csv").write_text("\n".join(["Kundenfrage;Antwort;Kategorie", *tickets]), encoding="utf-8")
    said = {"spam": ["win", "prize", "free", "cash"], "ham": ["lunch", "meeting", "home", "thanks"]}
    drawn = [(rng.choice(["spam", "ham", "ham"]), number) for number in range(240)]
    texts = [f"{rng.choice(said[label])} {rng.choice(said[label])} number {number},{label}" for label, number in drawn]
    (folder / "messages.csv").write_text("\n".join(["text,label", *texts]) + "\n", encoding="utf-8")
    unlabeled = [text.partition(",")[0] for text in texts[:40]]
    orders = {"attack": ["obey", "reveal", "secret", "forget"], "harmless": ["when", "parcel", "open", "price"]}
    drawn = [(rng.choice(["attack", "harmless", "harmless"]), number) for number in range(500)]
    texts = [f"{' '.join(rng.choices(orders[label], k=3))} number {number},{label}" for label, number in drawn]
    (folder / "attacks.csv").write_text("\n".join(["text,label", *texts]) + "\n", encoding="utf-8")
    (folder / "new-messages.csv").write_text("\n".join(["text", *unlabeled]) + "\n", encoding="utf-8")
    labels = [f"{rater},{item},{rng.choice(['good', 'good', 'bad'])}" for rater in ("Ada", "Ben") for item in range(20)]
    (folder / "ratings.csv").write_text("\n".join(["rater,item,label", *labels]) + "\n", encoding="utf-8")


def run(*arguments: str) -> tuple[int, str]:
    """Run a command in this process: its exit code, and what it printed to stdout."""
    from sizewise.cli.main import main

    printed, argv = io.StringIO(), sys.argv
    sys.argv = ["sizewise", *arguments]
    try:
        with contextlib.redirect_stdout(printed), pytest.raises(SystemExit) as stop:
            main()
    finally:
        sys.argv = argv
    assert isinstance(stop.value.code, int)
    return stop.value.code, printed.getvalue()


def record(*arguments: str) -> dict[str, Any]:
    """Run a command with --json; it must succeed."""
    code, printed = run(*arguments, "--json")
    assert code == 0, printed
    return dict(json.loads(printed))


def make_records(folder: Path) -> dict[str, str]:
    """Run each stage once, on stand-ins and a small random network."""
    make_tiny(folder / "tiny", folder / "my-documents", "full")
    data = record("read", "my-documents", "examples.jsonl")["id"]
    trained = record(
        "train", str(folder / "tiny"), "--data", data, "--tokens", "600", "--context", "64", "--control", "none"
    )["id"]
    study = record("study", "tiny-study.toml")
    first, second = list(study["record"]["evaluations"].values())[:2]
    return {
        "DATA": data, "RUN": trained, "STUDY": study["id"], "COMPARISON": study["record"]["comparison"],
        "EVAL": first, "EVAL_A": first, "EVAL_B": second,
    }  # fmt: skip


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with files, records (home/) and ids.json; shared by all processes of a test run."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if base.name.startswith("popen") else base) / "docs-records"
    with FileLock(f"{shared}.lock"):
        if not (shared / "ids.json").exists():
            shutil.rmtree(shared, ignore_errors=True)
            shared.mkdir()
            write_files(shared)
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(shared)
                patch.setenv("SIZEWISE_HOME", str(shared / "home"))
                patch.setenv("SIZEWISE_OFFLINE", "1")
                ids = make_records(shared)
            (shared / "ids.json").write_text(json.dumps(ids), encoding="utf-8")
    return shared
