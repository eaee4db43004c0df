"""Known families through every command, as tiny checkpoints: open, chat, evaluate, train, export and serve.

python -m benchmarks.families [NAME ...]     all of them, or some: docs/results/families.md

The commands run as from a terminal, the service in its own process. A cell says `works`, or quotes the error and what
it proposes; a traceback counts as a failure, and so does an answer that never ends or an error without a next step.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.family_networks import FAMILIES, Family, make_checkpoint

ROOT = Path(__file__).parents[1]
RESULT = Path(__file__).parent / "results" / "families.json"
PAGE = ROOT / "docs" / "results" / "families.md"
VERBS = ("open", "chat", "evaluate", "train", "hf", "gguf-q8_0", "gguf-q4_k_m", "openvino", "serve")
TIMEOUT_S = 240
ITEMS = 60
BEGIN, END = "<!-- table families: written by benchmarks/families.py -->", "<!-- end of table -->"
Row = dict[str, Any]


def corpus() -> tuple[list[str], list[list[dict[str, str]]]]:
    """Return short documents, and conversations of two turns about them."""
    nouns = ("patient", "record", "device", "claim", "order", "account", "result", "plan")
    verbs = ("names", "holds", "describes", "gives", "lists", "marks")
    facts = [
        f"Item {i} {verbs[i % 6]} the {nouns[i % 8]} of the {nouns[(3 * i + 1) % 8]}, number {i * 37 % 101}."
        for i in range(ITEMS)
    ]
    texts = ["\n\n".join([*facts[i : i + 5], f"Chapter {i} ends here."]) for i in range(0, ITEMS, 5)]
    chats = []
    for i, fact in enumerate(facts):
        other = facts[(i + 7) % ITEMS]
        chat = [
            {"role": "user", "content": f"What does item {i} say?"},
            {"role": "assistant", "content": fact},
            {"role": "user", "content": f"And item {(i + 7) % ITEMS}?"},
            {"role": "assistant", "content": other},
        ]
        chats.append(([{"role": "system", "content": "Answer from the book."}] if i % 3 == 0 else []) + chat)
    return texts, chats


def write_data(folder: Path) -> None:
    """Write the documents and conversations as files that `sizewise read` takes."""
    texts, chats = corpus()
    (folder / "texts").mkdir(parents=True)
    for number, text in enumerate(texts):
        (folder / "texts" / f"part{number:02d}.txt").write_text(text, encoding="utf-8")
    rows = [{"messages": chat, "source": f"part{number // 5:02d}.txt"} for number, chat in enumerate(chats)]
    (folder / "chats.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")


class Ended(NamedTuple):
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


class Runner:
    """Runs commands of Sizewise with a home of their own.

    Args:
        folder: folder for everything that is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            "SIZEWISE_HOME": str(folder / "home"),
            "SIZEWISE_OFFLINE": "1",
            "SIZEWISE_TRACEBACK": "1",
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "200",
        }

    def run(self, *arguments: str, stdin: str = "") -> Ended:
        """Run one command as the command line does, in this process: most of a command's time is importing."""
        from sizewise.cli.main import main as command_line

        out, err = io.StringIO(), io.StringIO()
        before, where, read_from = sys.argv, Path.cwd(), sys.stdin
        os.environ.update(self.environment)
        os.chdir(self.folder)
        sys.argv, sys.stdin = ["sizewise", *arguments], io.StringIO(stdin)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                command_line()
        except SystemExit as end:
            return Ended(int(end.code or 0), out.getvalue(), err.getvalue())
        finally:
            sys.argv, sys.stdin = before, read_from
            os.chdir(where)

    @contextlib.contextmanager
    def serving(self, model: str) -> Iterator[tuple[str, subprocess.Popen[str], Path]]:
        """Run a service; yield its address ("" if it didn't start), its process and its log."""
        log = self.folder / "serve.log"
        with log.open("w", encoding="utf-8") as err:
            process = subprocess.Popen(
                [sys.executable, "-m", "sizewise", "serve", model, "--port", "0", "--json"],
                stdout=subprocess.PIPE,
                stderr=err,
                text=True,
                env=os.environ | self.environment,
                cwd=self.folder,
            )
            assert process.stdout is not None
            line = process.stdout.readline()
            try:
                found = json.loads(line) if line.strip() else {}
                yield str(found.get("record", {}).get("url", "")), process, log
            finally:
                process.send_signal(signal.SIGINT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(30)
                process.kill()
                process.wait()


def outcome(code: int, out: str, err: str) -> Row:
    """Sort the end of a command into `works`, `refused` and `fails`."""
    if "Traceback" in err or code not in (0, 1, 2):
        return {"verdict": "fails", "said": f"exit {code}: " + (err.strip().splitlines() or [""])[-1]}
    if code == 0:
        return {"verdict": "works"}
    said = {part: text.strip() for part, text in re.findall(r"^(error|expected|next): (.*)$", err, re.MULTILINE)}
    with contextlib.suppress(ValueError, LookupError):  # with --json
        error = json.loads(out)["error"]
        said = {"error": error["what"], "next": error["next"]}
    verdict = "refused" if said.get("error") and said.get("next") else "fails"
    return {"verdict": verdict, "said": said.get("error", err.strip()[-300:]), "next": said.get("next", "")}


def opened(runner: Runner, model: str) -> Row:
    """Describe the model."""
    done = runner.run("models", model, "--json")
    row = outcome(done.returncode, done.stdout, done.stderr)
    return row | ({"note": json.loads(done.stdout)["record"].get("attention", "")} if row["verdict"] == "works" else {})


def chatted(runner: Runner, model: str) -> Row:
    """Ask one question in the terminal; the model has seen the answer in training and must end it."""
    done = runner.run("chat", model, "--max-tokens", "60", stdin="What does item 3 say?\n\n")
    row = outcome(done.returncode, done.stdout, done.stderr)
    if row["verdict"] != "works":
        return row
    tokens = re.search(r"\[(\d+) tokens", done.stderr)
    engine = re.search(r"runs with transformers because [^:]*: (.*)", done.stderr)
    if not tokens:
        return {"verdict": "fails", "said": done.stderr.strip()[-300:]}
    ended = int(tokens[1]) < 60
    found = {"said": done.stdout.strip()[:160], "engine": engine[1] if engine else "openvino"}
    return row | found | ({} if ended else {"verdict": "fails", "said": f"no end: {done.stdout.strip()[:120]}"})


def evaluated(runner: Runner, model: str, data: str) -> Row:
    """Evaluate on the dataset."""
    done = runner.run("evaluate", model, "--data", data, "--limit", "8", "--json")
    row = outcome(done.returncode, done.stdout, done.stderr)
    if row["verdict"] == "works":
        scores = {name: one["value"] for name, one in json.loads(done.stdout)["record"]["scores"].items()}
        row["note"] = ", ".join(f"{name} {value:.3g}" for name, value in scores.items() if value is not None)[:120]
    return row


def trained(runner: Runner, model: str, data: str) -> Row:
    """Train adapters for some steps on conversations of two turns."""
    size = ("--tokens", "6000", "--context", "256", "--rank", "4", "--example-share", "1", "--control", "none")
    done = runner.run("train", model, "--data", data, *size, "--json")
    row = outcome(done.returncode, done.stdout, done.stderr)
    if row["verdict"] == "works":
        row["run"] = json.loads(done.stdout)["id"]
    return row


def exported(runner: Runner, model: str, to: str) -> Row:
    """Export to a format, with the check of its outputs."""
    out = f"export-{to}"
    done = runner.run("export", model, "--to", to, "--out", out, "--prompts", "20", "--json")
    row = outcome(done.returncode, done.stdout, done.stderr)
    if row["verdict"] == "works":
        checks = json.loads(done.stdout)["record"]["parity"]
        row["note"] = ", ".join(f"{c['reader'].split()[0]} {c['agreement']['value']:.0%}" for c in checks)
    return row


def served(runner: Runner, model: str) -> Row:
    """Serve with the automatic engine, and ask for one answer over HTTP."""
    with runner.serving(model) as (url, process, log):
        if not url:
            return outcome(process.wait(60), "", log.read_text(encoding="utf-8"))
        wait_for(f"{url}/health")
        with urllib.request.urlopen(f"{url}/v1/models", timeout=60) as answer:
            name = json.load(answer)["data"][0]["id"]
        body = {"model": name, "messages": [{"role": "user", "content": "What does item 3 say?"}], "max_tokens": 60}
        request = urllib.request.Request(
            f"{url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            choice = json.load(answer)["choices"][0]
        said = log.read_text(encoding="utf-8")
    why = re.search(r"runs with transformers because [^:]*: (.*)", said)
    row = {
        "verdict": "works" if choice["finish_reason"] == "stop" else "fails",
        "engine": why[1] if why else "openvino",
        "said": str(choice["message"]["content"])[:160],
    }
    return row | ({"verdict": "fails", "said": "Traceback in the log"} if "Traceback" in said else {})


def wait_for(address: str) -> None:
    """Wait until a service has loaded its model."""
    for _ in range(TIMEOUT_S):
        with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(address, timeout=60):
            return
        time.sleep(1)


def check(family: Family, folder: Path, verbs: Sequence[str] = VERBS) -> Row:
    """Run a family through commands."""
    runner, row = Runner(folder), {"family": family.name, "kind": family.kind}
    texts, chats = corpus()
    row["loss"] = round(make_checkpoint(family, texts, chats, folder / "model"), 3)
    write_data(folder)
    data = json.loads(runner.run("read", "texts", "chats.jsonl", "--json").stdout)["id"]
    model, run = str(folder / "model"), ""
    for verb in verbs:
        begun = time.monotonic()
        try:
            if verb == "open":
                row[verb] = opened(runner, model)
            elif verb == "chat":
                row[verb] = chatted(runner, model)
            elif verb == "evaluate":
                row[verb] = evaluated(runner, model, data)
            elif verb == "train":
                row[verb] = trained(runner, model, data)
                run = row[verb].get("run", "")
            elif verb == "serve":
                row[verb] = served(runner, run or model)
            else:
                row[verb] = exported(runner, run or model, verb)
        except Exception as error:  # a result that can't be read is a failure of the command
            row[verb] = {"verdict": "fails", "said": f"{type(error).__name__}: {str(error)[:200]}"}
        row[verb]["seconds"] = round(time.monotonic() - begun, 1)
    return row


def cell(found: Row) -> str:
    """Write one cell of the table."""
    said = re.sub(r"(/[\w.-]+)+/", "", str(found.get("said", ""))).replace("|", "/").replace("<", "&lt;")
    if found["verdict"] == "works":
        engine = found.get("engine", "")
        return "works" if not engine else f"works ({'openvino' if engine == 'openvino' else 'transformers'})"
    return f"{found['verdict']}: {said[:200]}"


def table(rows: Sequence[Row]) -> str:
    """Write the table of families and commands; refusals are quoted below it."""
    lines = ["| Family | " + " | ".join(VERBS) + " |", "| --- " * (len(VERBS) + 1) + "|"]
    notes: dict[str, int] = {}
    for row in rows:
        cells = []
        for verb in VERBS:
            text = cell(row[verb])
            if not text.startswith("works"):
                number = notes.setdefault(f"{text} Next: `{row[verb].get('next', '')}`", len(notes) + 1)
                text = f"{row[verb]['verdict']} [{number}]"
            cells.append(text)
        lines.append(f"| {row['family']} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n\n" + "\n".join(f"{number}. {text}" for text, number in notes.items())


def write(rows: Sequence[Row]) -> None:
    """Write the results and the page."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    found = {
        "name": "families",
        "commit": commit.stdout.strip(),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {name: metadata.version(name) for name in ("transformers", "openvino-genai", "xllamacpp", "gguf")},
        "rows": list(rows),
    }
    RESULT.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{table(rows)}\n{END}{rest.split(END, 1)[1]}", encoding="utf-8")


def main(names: Sequence[str]) -> None:
    """Check families and write the results; those that aren't named keep their former result."""
    known = {family.name: family for family in FAMILIES}
    unknown = set(names) - set(known)
    if unknown:
        raise SystemExit(f"No family {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    before = {row["family"]: row for row in json.loads(RESULT.read_text(encoding="utf-8"))["rows"]} if names else {}
    for family in FAMILIES:
        if names and family.name not in names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            before[family.name] = check(family, Path(folder))
        print(json.dumps(before[family.name], ensure_ascii=False), flush=True)
    write([before[name] for name in known if name in before])


if __name__ == "__main__":
    main(sys.argv[1:])
