"""Data: planted leaks in seven languages and on real text, label tasks, a gigabyte, 10,000 files, a row of 4 GB.

    python benchmarks/data.py [--part leaks labels files row studies scale] [--megabytes 10 100 1000]

The part `scale` reads a generated corpus of each size with 100 examples a megabyte, is killed and resumed once at the
largest size, and then encodes every row and trains 50 steps of a tiny model. It reports seconds and peak memory; time
must grow linearly. Parts whose result is on disk are kept if others are run again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

HERE = Path(__file__).parent
ROOT = HERE.parent
RESULT = HERE / "results" / "data.json"
DATA = Path(os.environ.get("SIZEWISE_TEST_DATA", "/nonexistent"))
EDITS = [(edit, unit) for edit in ("replace", "drop", "move") for unit in ("words", "characters")]
PARTS = ("leaks", "labels", "files", "row", "studies", "scale")


def jsonl(path: Path) -> list[dict[str, Any]]:
    """Read a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]


def machine() -> str:
    """Name the processor class."""
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    kind = "AVX-512 with bf16" if "avx512_bf16" in flags else "AVX-512" if "avx512f" in flags else "AVX2"
    return f"{platform.machine()}, {os.cpu_count()} cores, {kind}"


# -- planted leaks -------------------------------------------------------------------------------------------------


def edited(text: str, edit: str, unit: str, rng: random.Random) -> str:
    """Replace, drop or move a tenth of the words or characters."""
    from sizewise.text import pieces_of

    parts = pieces_of(text) if unit == "words" else list(text)
    chosen = set(rng.sample(range(len(parts)), max(1, round(len(parts) / 10))))
    if edit == "replace":
        return "".join(rng.choice(parts) if i in chosen else part for i, part in enumerate(parts))
    taken = [parts[i] for i in sorted(chosen)]
    parts = [part for i, part in enumerate(parts) if i not in chosen]
    for part in taken if edit == "move" else ():
        parts.insert(rng.randrange(len(parts) + 1), part)
    return "".join(parts)


def texts_by_field() -> dict[str, list[str]]:
    """Collect passages of each language of the fixtures, and of real fields where the data folder is present."""
    sys.path.insert(0, str(ROOT))
    from tests.languages import PASSAGES

    fields = {language: [passage.text for passage in passages] for language, passages in PASSAGES.items()}
    if DATA.exists():
        sections = [row.get("text") or "" for row in jsonl(DATA / "dc_code" / "dc_code_sections.jsonl")]
        answers = [row.get("answer") or "" for row in jsonl(DATA / "medquad" / "medquad_qa.jsonl")]
        articles = jsonl(DATA / "ms_office_support" / "articles.jsonl")
        fields["law"] = sections
        fields["medicine"] = [part for text in answers for part in re.split(r"(?<=\.)\s{2,}|\n\n", text)]
        fields["support"] = [
            part for row in articles for value in row.values() if isinstance(value, str) for part in value.split("\n")
        ]
    for name in ("law", "medicine", "support"):
        if name in fields:
            fields[name] = [text for text in dict.fromkeys(fields[name]) if 15 <= len(text.split()) <= 400]
    return fields


def leaks() -> dict[str, Any]:
    """Detect planted passages of the training text; false alarms are passages of other languages and fields."""
    from sizewise.datasets.contamination import Text, contamination
    from sizewise.documents.reading import make_document

    fields, rows = texts_by_field(), {}
    for name, passages in fields.items():
        rng = random.Random(0)
        passages = list(passages)
        rng.shuffle(passages)
        train = passages[: min(6_000, len(passages) * 3 // 4)]
        planted = rng.sample(train, min(400, len(train)))
        repeats = max(1, 100 // len(planted))
        tests = {"verbatim": planted} | {
            f"{edit} {unit}": [edited(text, edit, unit, rng) for text in planted for _ in range(repeats)]
            for edit, unit in EDITS
        }
        held = passages[len(train) :] if len(name) == 2 else []
        others = [text for other, texts in fields.items() if other != name for text in texts]
        tests["fresh"] = held + rng.sample(others, min(3_000, len(others)))
        items = [Text(f"{kind}#{i}", text) for kind, some in tests.items() for i, text in enumerate(some)]
        documents = [make_document(f"d{i}", "", text, "benchmark") for i, text in enumerate(train)]
        begun = time.perf_counter()
        found: dict[str, list[bool]] = {kind: [] for kind in tests}
        for entry in contamination(documents, items, {"train": (), "validation": (), "test": ()}):
            found[entry.item.partition("#")[0]].append(not entry.uncontaminated)
        shares = {kind: float(np.mean(flags)) for kind, flags in found.items()}
        edits = [flag for kind, flags in found.items() if kind not in ("verbatim", "fresh") for flag in flags]
        rows[name] = {
            "verbatim": shares["verbatim"],
            "edited": float(np.mean(edits)),
            "false_alarms": shares["fresh"],
            "by_edit": {kind: shares[kind] for kind in tests if kind not in ("verbatim", "fresh")},
            "planted": len(planted),
            "edited_n": len(edits),
            "fresh_n": len(found["fresh"]),
            "seconds": time.perf_counter() - begun,
        }
        print(f"{name}: {rows[name]}", flush=True)
    return rows


# -- label tasks ---------------------------------------------------------------------------------------------------


def invented(rng: random.Random, vowels: str = "aeiou") -> str:
    """Make up a word."""
    return "".join(rng.choice("bdgklmnprst") + rng.choice(vowels) for _ in range(3))


def labels() -> dict[str, Any]:
    """Read, split and score 1,000 tickets with four labels of five words, JSON triage, and 40 canned replies."""
    from sizewise.datasets import load, read
    from sizewise.evaluation import evaluate
    from sizewise.store import Store

    names = [
        "Request for refund of payment",
        "Question about a late delivery",
        "Complaint about the shop staff",
        "Report of a broken item",
    ]
    triage = [json.dumps({"category": c, "priority": p}) for c in ("bill", "parcel", "login") for p in range(1, 5)]
    replies = [f"Dear customer, thank you for your message. Please see page {i} of our terms." for i in range(40)]
    rows = {}
    for task, answers in (("labels", names), ("json", triage), ("replies", replies)):
        with tempfile.TemporaryDirectory() as home:
            rng = random.Random(task)
            path = Path(home) / f"{task}.jsonl"
            lines = []
            for i in range(1_000):
                body = " ".join(
                    "".join(rng.choice("bdgklmnprst") + rng.choice("aeiou") for _ in range(3)) for _ in range(30)
                )
                column = "label" if task == "labels" else "references"
                lines.append(
                    json.dumps({"id": f"t{i}", "prompt": f"Ticket {i}: {body}", column: answers[i % len(answers)]})
                )
            path.write_text("\n".join(lines), encoding="utf-8")
            store = Store(Path(home) / "store")
            saved = read(path, store=store)
            contents = load(store, saved.id)
            sizes = {split: len(contents.examples[split]) for split in ("train", "validation", "test")}
            scores = evaluate("fake:copy", saved.id, store=store).record.scores
            rows[task] = {
                "kept": sum(sizes.values()),
                "splits": sizes,
                "uncontaminated": saved.record.contamination.uncontaminated_examples,
                "scores": sorted(name for name, score in scores.items() if score.value is not None),
                "n": max(score.n for score in scores.values()),
            }
            print(f"{task}: {rows[task]}", flush=True)
    return rows


# -- many files, one row -------------------------------------------------------------------------------------------


class Run(NamedTuple):
    """A command that was run."""

    code: int
    seconds: float
    cpu_seconds: float
    peak_gb: float
    output: str
    errors: str

    @property
    def saved(self) -> dict[str, Any]:
        """What the command printed with --json."""
        found: dict[str, Any] = json.loads(self.output)
        return found

    def facts(self, *fields: str) -> dict[str, Any]:
        """Return what was measured, with some fields of the record or the error."""
        record = self.saved.get("record", {})
        measured = {"code": self.code, "seconds": self.seconds, "peak_gb": self.peak_gb}
        return measured | {name: record.get(name) for name in fields} | {"error": self.saved.get("error")}


def open_text() -> Any:
    """Open a temporary text file."""
    return tempfile.TemporaryFile("w+", encoding="utf-8")


def limited(command: Sequence[str], home: Path, program: Sequence[str] = ("-m", "sizewise")) -> Run:
    """Run a command in a process of its own and measure it."""
    with open_text() as output, open_text() as errors:
        begun = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *program, *command],
            env=os.environ | {"SIZEWISE_HOME": str(home)},
            stdout=output,
            stderr=errors,
        )
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        cpu = used.ru_utime + used.ru_stime
        return Run(process.returncode, seconds, cpu, used.ru_maxrss / 1e6, output.read(), errors.read())


def files(count: int = 10_000) -> dict[str, Any]:
    """Read a folder of 10,000 mixed files: text in four encodings, Markdown, HTML, JSONL, CSV, mail, damaged ones."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "files"
        for i, path in enumerate(mixed_files(source, count)):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(mixed_content(i, path.suffix))
        made = limited(["read", str(source), "--json"], Path(folder) / "home")
    found = made.facts("splits", "not_read")
    print(f"files: {found}", flush=True)
    return found


def mixed_files(folder: Path, count: int) -> Iterator[Path]:
    """Yield paths of every kind."""
    kinds = (".txt", ".txt", ".txt", ".md", ".html", ".jsonl", ".csv", ".eml", ".rtf", ".json", ".pdf", ".bin")
    for i in range(count):
        yield folder / f"part{i % 50}" / f"file{i}{kinds[i % len(kinds)]}"


def mixed_content(i: int, kind: str) -> bytes:
    """Make the content of a file, sometimes in another encoding or damaged."""
    rng = random.Random(i)
    words = [invented(rng, "aeiouäöü") for _ in range(120)]
    text = " ".join(words)
    if kind == ".jsonl":
        return "\n".join(json.dumps({"prompt": f"Q{i} {w}?", "answer": text[:60]}) for w in words[:5]).encode()
    if kind == ".csv":
        return f"question;answer\n{text[:50]};{text[60:120]}\n".encode("cp1252")
    if kind == ".html":
        return f"<html><head><title>{i}</title></head><body><h1>{words[0]}</h1><p>{text}</p></body></html>".encode()
    if kind == ".eml":
        return f"From: a@example.org\nSubject: {words[0]}\nContent-Type: text/plain; charset=utf-8\n\n{text}\n".encode()
    if kind == ".rtf":
        return b"{\\rtf1\\ansi " + text.encode("ascii", "ignore") + b"}"
    if kind == ".json":
        return json.dumps([{"prompt": f"Q{i} {words[1]}?", "answer": words[2]}]).encode()
    if kind == ".pdf":
        return b"%PDF-1.4 damaged"
    if kind == ".bin":
        return bytes(rng.randrange(256) for _ in range(200))
    return text.encode(("utf-8", "utf-16", "cp1252", "utf-8-sig")[i % 4])


def row(gigabytes: float = 4.0) -> dict[str, Any]:
    """Read a JSONL file with one row of 4 GB among small ones: it is rejected, and nothing is held in memory."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        with path.open("wb") as file:
            for i in range(100):
                file.write(json.dumps({"prompt": f"Question {i * i}?", "answer": f"It is {i}."}).encode() + b"\n")
                if i == 50:
                    file.write(b'{"prompt": "')
                    block = b"word " * 200_000
                    for _ in range(int(gigabytes * 1_000)):
                        file.write(block)
                    file.write(b'"}\n')
        made = limited(["read", str(path), "--json"], Path(folder) / "home")
    found = made.facts("rejected", "notes")
    print(f"row: {found}", flush=True)
    return found


# -- studies -------------------------------------------------------------------------------------------------------


def studies() -> dict[str, Any]:
    """Run a whole study with tiny models on the fixtures of each language."""
    sys.path.insert(0, str(ROOT))
    from tests.languages import PASSAGES

    rows = {}
    for language, passages in PASSAGES.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder)
            write_study(path, language, passages)
            made = limited(["study", str(path / "study.toml"), "--json"], path / "home")
            rows[language] = made.facts("outcome", "summary")
            print(f"study {language}: {rows[language]}", flush=True)
    return rows


def write_study(folder: Path, language: str, passages: Sequence[Any]) -> None:
    """Write documents, examples and a study file for a language."""
    (folder / "texts").mkdir()
    examples = []
    for i, passage in enumerate(passages):
        (folder / "texts" / f"{language}{i}.txt").write_text(passage.text, encoding="utf-8")
        row = {"prompt": passage.question, "references": [passage.answer], "source": f"{language}{i}.txt"}
        examples.append(json.dumps(row, ensure_ascii=False))
    (folder / "examples.jsonl").write_text("\n".join(examples), encoding="utf-8")
    (folder / "study.toml").write_text(
        f"""[study]
name = "{language}"
[data]
documents = ["texts"]
examples = "examples.jsonl"
[[candidates]]
name = "tiny"
model = "scratch"
train = {{ parameters = 1000000, context = 128, tokens = 4000 }}
[[candidates]]
name = "copying"
model = "fake:copy"
""",
        encoding="utf-8",
    )


# -- scale ---------------------------------------------------------------------------------------------------------


class Language:
    """Text of a random language with Zipf's law.

    Args:
        seed: Seed of words and text.
    """

    def __init__(self, seed: int = 7) -> None:
        self.rng = np.random.default_rng(seed)
        syllables = [
            a + b for a in "bcdfghjklmnprstvwz" for b in ("a", "e", "i", "o", "u", "an", "er", "in", "or", "al")
        ]
        self.words = np.array(["".join(self.rng.choice(syllables, self.rng.integers(1, 5))) for _ in range(60_000)])
        weights = 1 / np.arange(1, len(self.words) + 1) ** 1.05
        self.cumulated = np.cumsum(weights / weights.sum())

    def sentences(self, count: int) -> list[str]:
        """Make sentences of so many words in total."""
        index = np.minimum(np.searchsorted(self.cumulated, self.rng.random(count)), len(self.words) - 1)
        words, found, start = self.words[index], [], 0
        while start < count:
            end = start + int(self.rng.integers(6, 22))
            found.append(" ".join(words[start:end]).capitalize() + ".")
            start = end
        return found


def generate(folder: Path, megabytes: float) -> None:
    """Write a corpus: documents, of which one in 50 is a new version of the one before, and 100 examples a megabyte."""
    language = Language()
    with (folder / "docs.jsonl").open("w", encoding="utf-8") as file:
        written, number, last = 0, 0, [""]
        while written < megabytes * 1e6:
            some = language.sentences(int(language.rng.integers(200, 1_600)))
            paragraphs = [" ".join(some[i : i + 5]) for i in range(0, len(some), 5)]
            if number % 50 == 49:
                paragraphs = [*last[:-1], paragraphs[0]]
            last = paragraphs
            line = json.dumps({"id": f"doc{number}", "text": "\n\n".join(paragraphs)}) + "\n"
            file.write(line)
            written, number = written + len(line), number + 1
    with (folder / "examples.jsonl").open("w", encoding="utf-8") as file:
        for number in range(int(100 * megabytes)):
            prompt, answer = (" ".join(language.sentences(int(language.rng.integers(10, 60)))) for _ in range(2))
            file.write(json.dumps({"id": f"ex{number}", "prompt": prompt, "references": [answer]}) + "\n")


def scale(sizes: Sequence[float]) -> dict[str, Any]:
    """Read, encode and train on corpora of several sizes, in processes of their own."""
    rows = {}
    for megabytes in sizes:
        with tempfile.TemporaryDirectory(dir=os.environ.get("SIZEWISE_BENCH_FOLDER")) as folder:
            source, home = Path(folder) / "corpus", Path(folder) / "home"
            source.mkdir()
            generate(source, megabytes)
            killed = None
            if megabytes == max(sizes):
                killed = killed_after(["read", str(source), "--json"], home, 60.0 if megabytes >= 500 else 5.0)
            made = limited(["read", str(source), "--json"], home)
            if made.code:
                raise SystemExit(made.output + made.errors[-2_000:])
            saved = made.saved
            trained = limited([saved["id"]], home, [str(HERE / "data_training.py")])
            rows[str(megabytes)] = {
                "read_s": made.seconds,
                "read_cpu_s": made.cpu_seconds,
                "read_peak_gb": made.peak_gb,
                "killed_after_s": killed,
                "splits": saved["record"]["splits"],
                "near_duplicates": saved["record"]["near_duplicates"],
                "training": json.loads(trained.output.splitlines()[-1]) if trained.code == 0 else trained.errors[-500:],
                "cpu_s_per_megabyte": made.cpu_seconds / megabytes,
                "training_peak_gb": trained.peak_gb,
            }
            shutil.rmtree(home, ignore_errors=True)
        print(f"{megabytes} MB: {rows[str(megabytes)]}", flush=True)
    return rows


def killed_after(command: Sequence[str], home: Path, seconds: float) -> float:
    """Start a command and kill it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "sizewise", *command],
        env=os.environ | {"SIZEWISE_HOME": str(home)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
    return seconds


def main() -> None:
    """Run the parts and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--megabytes", nargs="+", type=float, default=[10.0, 100.0, 1_000.0])
    args = parser.parse_args()
    parts = json.loads(RESULT.read_text(encoding="utf-8"))["parts"] if RESULT.exists() else {}
    run: dict[str, Callable[[], dict[str, Any]]] = {
        "leaks": leaks,
        "labels": labels,
        "files": files,
        "row": row,
        "studies": studies,
        "scale": lambda: scale(args.megabytes),
    }
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    result: dict[str, Any] = {}
    for part in args.part:
        parts[part] = run[part]()
        measured = parts.get("scale", {})
        sizes = [size for size in measured if size != "remark"]
        largest = max(sizes, key=float) if sizes else None
        result = {
            "name": "data",
            "ratio": None,
            "peer": "no other tool reads, splits and checks in one pass",
            "value": measured[largest]["read_s"] if largest else None,
            "unit": f"s for {largest} MB and 100 examples a megabyte" if largest else "s",
            "runs": 1,
            "machine": machine(),
            "commit": commit.stdout.strip(),
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "parts": parts,
        }
        RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
