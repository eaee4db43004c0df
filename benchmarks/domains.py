"""End-to-end studies on real data, from `sizewise init` to a verdict, as a user runs them.

definitions   demo:fhir, the fields of a health record
notes         clinical notes of doctor-patient visits (ACI-Bench), with the published notes of GPT-4 and ChatGPT
visits        the same notes, of all test visits, and only by GPT-4 and ChatGPT
large         the same notes by GPT-4 (published), a stand-in for a priced API that replays ChatGPT's, a model of 1.5
              billion parameters, one of 135 million fine-tuned, and rules
published     the same, without the models on this machine
payments      demo:payments, the fields of a payments API
reports       answers out of pages of financial reports as JSON (TAT-QA)
regulations   definitions in US consumer-finance regulations
spam          text message spam (a stand-in for fraud), with a linear classifier as baseline
support       troubleshooting articles of Microsoft: which resolution a symptom has, in articles that are studied
diseases      sections on treatment and outlook of diseases (MedQuAD), in articles that are studied
legal         definitions in the code of the District of Columbia
summaries     sections of clinical notes, from the conversation that they summarize (MTS-Dialog)
voice         replies in an assistant's style (Schema-Guided Dialogue)

Each study ends with a verdict and a report. If the pick runs on this machine, it is then served and load-tested with
the number of concurrent users in the study file, to check the predicted latency and cost.

`python benchmarks/domains.py NAME... --out FOLDER` reads the folder that SIZEWISE_TEST_DATA names, ends stdout with one
JSON line and adds each finished study to benchmarks/results/domains.json.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import random
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

import closed_book_data
import extraction
from serving import service
from sizes import rows_of
from sizewise.choice import decide
from sizewise.datasets import load as load_dataset
from sizewise.datasets.sampling import sample_examples
from sizewise.loadtest import LoadOptions, load_test, load_test_model
from sizewise.records import Comparison, Evaluation, Recommendation, Study
from sizewise.service.running import name_of
from sizewise.store import Store

HERE = Path(__file__).parent
DATA = Path(os.environ.get("SIZEWISE_TEST_DATA", "/nonexistent"))
VISIT_TASK = (
    "Write the clinical note of this visit, with the history, the physical examination, the results, the assessment "
    "and the plan.\n\n"
)
SPAM_TASK = "Is this text message spam or ham? Answer with one word.\n\n"
SPAM_MESSAGES = 2_000
DISEASE_SECTIONS, KNOWLEDGE_MINUTES = 300, 9.0
LARGER = '[[candidates]]\nname = "Qwen2.5-Coder-1.5B{0}"\nmodel = "pkg:qwen2.5-coder-1.5b"\n{1}\n[needs]\n'
WITH_DOCUMENTS = ("[needs]\n", LARGER.format(" with the documents", "retrieve = true\n"))
TURNS = 3
SPEEDS = ("p50_latency_s", "p95_latency_s", "requests_per_s")


class Material(NamedTuple):
    """Input of a study."""

    documents: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()
    recorded: Mapping[str, str] = MappingProxyType({})
    """Name of a large model -> file with its recorded answers."""
    changes: tuple[tuple[str, str], ...] = ()
    """(before, after) edits of the study file that a user would make."""
    replayed: tuple[str, str] | None = None
    """Files of prompts and of answers by which a stand-in plays the provider of a remote model."""


def write_rows(path: Path, rows: list[dict[str, Any]]) -> str:
    """Write JSONL and return its path."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def table(name: str) -> Iterator[dict[str, str]]:
    """Read a CSV file of the visits."""
    with (DATA / "aci_bench" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def notes(out: Path) -> Material:
    """Prepare visits with their notes; those with published answers by GPT-4 and ChatGPT are the test set."""
    rows = []
    answers: dict[str, list[dict[str, Any]]] = {"gpt-4": [], "chatgpt": []}
    for part in ("train", "valid", "test1", "test2", "test3"):
        split = {"train": "train", "valid": "validation"}.get(part, "test")
        for row in table(part):
            name = f"{part}-{row['encounter_id']}"
            asked = VISIT_TASK + row["dialogue"]
            rows.append({"id": name, "prompt": asked, "references": [row["note"]], "split": split})
        for model, kept in answers.items():
            if split == "test":
                kept += [
                    {"id": f"{part}-{row['encounter_id']}", "completion": row["note"]}
                    for row in table(f"{part}_{model}")
                ]
    files = {model: write_rows(out / f"{model}.jsonl", kept) for model, kept in answers.items()}
    return Material(
        examples=(write_rows(out / "visits.jsonl", rows),),
        recorded={"GPT-4 (published answers)": files["gpt-4"], "ChatGPT (published answers)": files["chatgpt"]},
        changes=(
            ("local_only = true", "local_only = false"),
            ("limit = 180", "limit = 12"),
            ("minutes = 3.2", "minutes = 5.0, context = 3072"),
            ('[[candidates]]\nname = "Gemma-3-270M"\nmodel = "pkg:gemma3-270m"\n', ""),
            ('[[candidates]]\nname = "SmolLM2-135M"\nmodel = "pkg:smollm2-135m"\n', ""),
        ),
    )


def visits(out: Path) -> Material:
    """Prepare all test visits, for the models with published answers alone."""
    small = '[[candidates]]\nname = "SmolLM2-135M fine-tuned"\nmodel = "pkg:smollm2-135m"\n'
    trained = 'train = { method = "lora", minutes = 5.0, context = 3072 }\n'
    material = notes(out)
    kept = tuple(edit for edit in material.changes if edit[0] != "limit = 180")
    return material._replace(changes=(*kept, ("limit = 180", "limit = 120"), (small + trained, "")))


EXAMINED = re.compile(r"\b(exam|examination|vital signs|lungs|heart|reflexes|swelling|tenderness|range of motion)\b")
FOUND = re.compile(r"\b(results?|x-ray|mri|ct|labs?|blood test|ekg|a1c|hemoglobin)\b")
PLANNED = re.compile(r"\b(order|prescribe|refer|continue|start|follow[- ]?up|i want you|let's go ahead|plan|refill)\b")


def by_rules(dialogue: str) -> str:
    """Write a note as a rules engine would: turns of a visit under the heading whose key words they hold."""
    turns = re.findall(r"\[(doctor|patient)\] ([^\[]+)", dialogue)
    told = [text.strip() for who, text in turns if who == "patient" and len(text.split()) > 6]
    said = [text.strip() for who, text in turns if who == "doctor" and len(text.split()) > 6]
    sections = {"CHIEF COMPLAINT": told[:1], "HISTORY OF PRESENT ILLNESS": told[:12]}
    for heading, words in (("PHYSICAL EXAMINATION", EXAMINED), ("RESULTS", FOUND), ("ASSESSMENT AND PLAN", PLANNED)):
        sections[heading] = [text for text in said if words.search(text)][:4]
    return "\n\n".join(f"{heading}\n\n" + "\n".join(lines) for heading, lines in sections.items())


def runs_of(text: str) -> set[tuple[str, ...]]:
    """Return the runs of 13 words in a text."""
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[start : start + 13]) for start in range(len(words) - 12)}


def large(out: Path) -> Material:
    """Prepare the visits for a large model's recorded notes, a priced API, two small models and rules.

    Test visits that share a run of words with one of training are left out, since they wouldn't count.
    """
    material = notes(out)
    rows = [json.loads(line) for line in (out / "visits.jsonl").read_text(encoding="utf-8").splitlines()]
    studied = set().union(
        *(runs_of(row["prompt"] + " " + row["references"][0]) for row in rows if row["split"] != "test")
    )
    studied -= runs_of(VISIT_TASK)
    rows = [
        row
        for row in rows
        if row["split"] != "test"
        or not studied & runs_of(row["prompt"].removeprefix(VISIT_TASK) + " " + row["references"][0])
    ]
    write_rows(out / "visits.jsonl", rows)
    by_hand = [
        {"id": row["id"], "completion": by_rules(row["prompt"].removeprefix(VISIT_TASK))}
        for row in rows
        if row["split"] == "test"
    ]
    written = write_rows(out / "rules.jsonl", by_hand)
    candidates = f"""
[[candidates]]
name = "GPT-4 (published notes)"
model = "recorded:{out / "gpt-4.jsonl"}"
of = "gpt-4"

[[candidates]]
name = "stand-in for GPT-4o"
model = "openai:gpt-4o"

[[candidates]]
name = "Qwen2.5-Coder-1.5B"
model = "pkg:qwen2.5-coder-1.5b"

[[candidates]]
name = "rules"
model = "recorded:{written}"
process = "rules"

[needs]
requests_per_month = 20000
"""
    kept = tuple(edit for edit in material.changes if edit[0] != "limit = 180")
    edits = (*kept, ("limit = 180", "limit = 24"), ("[needs]\n", candidates.lstrip()))
    return material._replace(
        recorded={}, changes=edits, replayed=(str(out / "visits.jsonl"), str(out / "chatgpt.jsonl"))
    )


def published(out: Path) -> Material:
    """Prepare the visits for what was published, the stand-in and rules alone: nothing that takes long."""
    own = '[[candidates]]\nname = "Qwen2.5-Coder-1.5B"\nmodel = "pkg:qwen2.5-coder-1.5b"\n\n'
    small = '[[candidates]]\nname = "SmolLM2-135M fine-tuned"\nmodel = "pkg:smollm2-135m"\n'
    trained = 'train = { method = "lora", minutes = 5.0, context = 3072 }\n'
    material = large(out)
    return material._replace(changes=(*material.changes, (own, ""), (small + trained, "")))


def regulations(out: Path) -> Material:
    """Prepare sections of regulations and the definitions cited from them."""
    subprocess.run([sys.executable, str(HERE / "regulations.py"), str(DATA / "cfpb_regs"), str(out)], check=True)
    return Material((str(out / "documents.jsonl"),), (str(out / "examples.jsonl"),))


def spam(out: Path) -> Material:
    """Prepare labeled text messages."""
    lines = (DATA / "sms_spam" / "SMSSpamCollection").read_text(encoding="utf-8").splitlines()
    random.Random(0).shuffle(lines)
    rows = []
    for number, line in enumerate(lines[:SPAM_MESSAGES]):
        label, _, text = line.partition("\t")
        rows.append(
            {"id": f"sms-{number}", "prompt": SPAM_TASK + text, "references": [label], "choices": ["ham", "spam"]}
        )
    return Material(
        examples=(write_rows(out / "messages.jsonl", rows),),
        changes=(("limit = 180", "limit = 400"), ("[needs]\n", LARGER.format("", ""))),
    )


def support(out: Path) -> Material:
    """Prepare articles as files, and the resolution of each symptom with the article that has it."""
    folder = DATA / "ms_office_support"
    articles = [json.loads(line) for line in (folder / "articles.jsonl").read_text("utf-8").splitlines()]
    for row in articles:
        path = out / "articles" / row["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(row["text"], encoding="utf-8")
    asked = [json.loads(line) for line in (folder / "symptom_resolution_qa.jsonl").read_text("utf-8").splitlines()]
    examples = [
        {"id": row["path"], "prompt": row["question"], "references": [row["answer"]], "source": row["path"],
         "tags": [row["product"].split("/")[0]]}
        for row in asked
    ]  # fmt: skip
    return Material(
        (str(out / "articles"),), (write_rows(out / "resolutions.jsonl", examples),), changes=(WITH_DOCUMENTS,)
    )


def diseases(out: Path) -> Material:
    """Prepare articles on diseases as files, the question on each of their sections, and what is synthesized of them.

    The trained candidates get the minutes in which they see each article about thirty times.
    """
    rows = closed_book_data.sections(DATA)[:DISEASE_SECTIONS]
    closed_book_data.write_articles(rows, out / "articles")
    examples = [
        {"id": str(number), "prompt": closed_book_data.question_of(row), "references": [row["answer"]],
         "source": closed_book_data.file_of(row["focus"])}
        for number, row in enumerate(rows)
    ]  # fmt: skip
    synthetic = out / "synthetic.jsonl"
    if not synthetic.is_file():
        formats = [part for name in closed_book_data.FORMATS for part in ("--format", name)]
        options = ["--by", "extractive", *formats, "--count", "5000", "--train-only", "--out", str(synthetic)]
        subprocess.run([sys.executable, "-m", "sizewise", "synthesize", str(out / "articles"), *options], check=True)
    questions = write_rows(out / "questions.jsonl", examples)
    return Material(
        (str(out / "articles"),),
        (questions, str(synthetic)),
        changes=(WITH_DOCUMENTS, ("minutes = 3.2", f"minutes = {KNOWLEDGE_MINUTES}")),
    )


def legal(out: Path) -> Material:
    """Prepare sections of a legal code and the distinct definitions in them."""
    folder = DATA / "dc_code"
    sections = [json.loads(line) for line in (folder / "dc_code_sections.jsonl").read_text("utf-8").splitlines()]
    asked = [json.loads(line) for line in (folder / "dc_code_definitions_qa.jsonl").read_text("utf-8").splitlines()]
    documents = [{"id": row["cite"], "title": row["heading"], "text": row["text"]} for row in sections]
    examples = [{"prompt": row["question"], "references": [row["answer"]], "source": row["cite"]} for row in asked]
    return Material(
        (write_rows(out / "sections.jsonl", documents),), (write_rows(out / "definitions.jsonl", examples),)
    )


def summaries(out: Path) -> Material:
    """Prepare conversations and the note section written about each."""
    parts = {"TrainingSet": "train", "ValidationSet": "validation", "TestSet-1-MEDIQA-Chat-2023": "test"}
    rows = []
    for part, split in parts.items():
        with (DATA / "mts_dialog" / f"MTS-Dialog-{part}.csv").open(encoding="utf-8-sig", newline="") as file:
            for row in csv.DictReader(file):
                asked = f"Sum up this conversation for the section '{row['section_header']}' of the note.\n\n"
                rows.append(
                    {"id": f"{split}-{row['ID']}", "prompt": asked + row["dialogue"],
                     "references": [row["section_text"]],
                     "tags": [row["section_header"]], "split": split}
                )  # fmt: skip
    rows = [row for row in rows if len(row["references"][0].split()) > 3]
    return Material(
        examples=(write_rows(out / "conversations.jsonl", rows),), changes=(("[needs]\n", LARGER.format("", "")),)
    )


def voice(out: Path) -> Material:
    """Prepare customer messages and the assistant's replies."""
    rows = []
    for line in (DATA / "sgd_support" / "sgd_bank_payment_service_turns.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        rows.append(
            {"id": f"{row['dialogue_id']}-{row['turn']}", "prompt": row["context"], "references": [row["reply"]],
             "source": row["dialogue_id"]}
        )  # fmt: skip
    return Material(examples=(write_rows(out / "turns.jsonl", rows[:3_000]),))


def reports(out: Path) -> Material:
    """Fields asked for from pages of financial reports (TAT-QA); a page stays in one split."""
    rows = [
        {
            "id": row.id,
            "prompt": row.prompt,
            "references": [json.dumps(row.answer, ensure_ascii=False)],
            "schema": extraction.SCHEMA,
            "source": row.page,
        }
        for split in extraction.FILES
        for row in extraction.rows_of(split)
    ]
    return Material(
        examples=(write_rows(out / "examples.jsonl", rows),), changes=(("[needs]\n", LARGER.format("", "")),)
    )


STUDIES = {
    "reports": ("extraction", reports),
    "definitions": ("medical", lambda out: Material()),
    "notes": ("summary", notes),
    "visits": ("summary", visits),
    "large": ("summary", large),
    "published": ("summary", published),
    "payments": ("financial", lambda out: Material()),
    "regulations": ("compliance", regulations),
    "spam": ("fraud", spam),
    "support": ("support", support),
    "diseases": ("medical", diseases),
    "legal": ("legal", legal),
    "summaries": ("summary", summaries),
    "voice": ("voice", voice),
}


def sizewise(*arguments: str) -> str:
    """Run a sizewise command; its messages go to the terminal."""
    done = subprocess.run([sys.executable, "-m", "sizewise", *arguments], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


def study_file(
    name: str, out: Path, concurrent_users: int, edits: Sequence[tuple[str, str]]
) -> tuple[Path, list[list[str]], tuple[str, str] | None]:
    """Write the study file, with edits where their text stands; return its path, those edits and what is replayed."""
    domain, prepare = STUDIES[name]
    material = prepare(out)
    path = out / "study.toml"
    said = [
        part for kind in ("documents", "examples") for one in getattr(material, kind) for part in (f"--{kind}", one)
    ]
    sizewise("init", "--domain", domain, *said, "--out", str(path), "--force")
    text = path.read_text(encoding="utf-8")
    for before, after in (
        *material.changes,
        ("[needs]\n", f"[needs]\nconcurrent_users = {concurrent_users}\nmachine_usd_per_hour = 0.1\n"),
    ):
        if before not in text:
            raise SystemExit(f"{path} does not contain {before!r}")
        text = text.replace(before, after)
    made = [[before, after] for before, after in edits if before in text]
    for before, after in made:
        text = text.replace(before, after)
    for model, answers in material.recorded.items():
        added = f'[[candidates]]\nname = "{model}"\nmodel = "recorded:{answers}"\n\n'
        text = text.replace("[needs]\n", f"{added}[needs]\n")
    path.write_text(text, encoding="utf-8")
    return path, made, material.replayed


@contextmanager
def provider(replayed: tuple[str, str] | None) -> Iterator[None]:
    """Run the stand-in for a provider, and have studies take it for OpenAI; without files, do nothing."""
    if replayed is None:
        yield
        return
    command = [sys.executable, str(HERE / "replaying.py"), *replayed]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    port = process.stdout.readline().strip()
    os.environ |= {"OPENAI_BASE_URL": f"http://127.0.0.1:{port}/v1", "OPENAI_API_KEY": "stand-in"}
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


def served_speed(study: Study, concurrent_users: int, store: Store, turns: int = TURNS) -> dict[str, Any] | None:
    """Compare the predicted speed of a pick with the speed when it is served, on the same requests in turns."""
    evaluation = study.evaluations.get(study.pick or "")
    if not turns or evaluation is None or (study.pick or "") not in study.load_tests:
        return None
    measured = store.read(Evaluation, evaluation)
    uri, form = measured.model.uri, measured.prompting
    if form is None:
        return None
    examples = sample_examples(load_dataset(store, study.dataset).examples["test"], measured.limit, measured.seed)
    prompts = [one.prompt for one in examples]
    rows: dict[str, list[dict[str, float]]] = {"predicted": [], "served": []}
    for turn in range(turns):
        here = load_test_model(evaluation, [concurrent_users], store=store, seed=1_000 + turn).record.levels[0]
        with service(uri, "--as-measured", evaluation) as address:
            there = load_test(
                address,
                [concurrent_users],
                options=LoadOptions(
                    model=name_of(uri), requests=here.requests, prompts=prompts, max_tokens=form.max_tokens
                ),
                store=store,
            ).record.levels[0]
        for kind, level in (("predicted", here), ("served", there)):
            rows[kind].append({what: level.scores[what].value or float("nan") for what in SPEEDS})
    found: dict[str, Any] = {"concurrent_users": concurrent_users, "turns": turns}
    for what in SPEEDS:
        before, after = (float(np.median([row[what] for row in rows[kind]])) for kind in ("predicted", "served"))
        found[what] = {"predicted": before, "served": after, "ratio": after / before}
    return found


class Options(NamedTuple):
    """How studies are run."""

    concurrent_users: int = 8
    minutes: float | None = None
    """Time for each study; None for as long as it takes."""
    turns: int = TURNS
    """Load tests of each pick, alone and served; 0 for none."""
    edits: tuple[tuple[str, str], ...] = ()
    """(before, after) edits of the study files, to save time; those that a file doesn't contain change nothing."""


def run(name: str, out: Path, options: Options) -> dict[str, Any]:
    """Run a study and return its outcome."""
    out.mkdir(parents=True, exist_ok=True)
    path, edits, replayed = study_file(name, out, options.concurrent_users, options.edits)
    limit = () if options.minutes is None else ("--minutes", f"{options.minutes:g}")
    with provider(replayed):
        told = sizewise("study", str(path), "--json", *limit)
    store = Store()
    found = json.loads(told)
    study = Study.model_validate(found["record"])
    verdict = store.read(Recommendation, study.recommendation)
    compared = store.read(Comparison, study.comparison)
    rows = compared.scores[verdict.quality]
    return {
        "study": found["id"],
        "domain": study.domain,
        "outcome": study.outcome,
        "pick": study.pick,
        "decisive": study.decisive,
        "sentence": study.summary,
        "quality": verdict.quality,
        "scores": {one: score.model_dump(mode="json") for one, score in rows.items()},
        "probability_best": verdict.probability_best,
        "sizes": rows_of(verdict, compared),
        "seconds": study.seconds,
        "minutes": options.minutes,
        "edits": edits,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "why": list(study.reasons),
        "come_true": served_speed(study, options.concurrent_users, store, options.turns),
    }


def decided_again(study: Study, store: Store) -> dict[str, Any]:
    """Decide a study again from its evaluations, by today's rules."""
    verdict = store.read(Recommendation, study.recommendation)
    compared = store.read(Comparison, study.comparison)
    found = decide(compared, study.comparison, verdict.needs)
    return {
        "outcome": found.outcome,
        "pick": found.pick,
        "decisive": found.decisive,
        "sentence": found.summary,
        "probability_best": found.probability_best,
        "sizes": rows_of(found, compared),
        "why": list(found.reasons),
        "decided": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def main() -> None:
    """Run the named studies."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(STUDIES))
    parser.add_argument("--out", type=Path, default=Path("domains"))
    parser.add_argument("--users", type=int, default=8)
    parser.add_argument("--minutes", type=float, help="time for each study; default: no limit")
    parser.add_argument("--turns", type=int, default=TURNS, help="load tests of each pick, alone and served")
    parser.add_argument(
        "--edit", nargs=2, action="append", default=[], metavar=("BEFORE", "AFTER"), help="edit of the study files"
    )
    parser.add_argument("--served", action="store_true", help="only serve the picks of earlier studies")
    parser.add_argument("--decide", action="store_true", help="only decide earlier studies again")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the stand-in for a provider ends too
    options = Options(args.users, args.minutes, args.turns, tuple((before, after) for before, after in args.edit))
    result = HERE / "results" / "domains.json"
    kept: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))["studies"] if result.exists() else {}
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    for name in args.names:
        if args.served:
            study = Store().read(Study, kept[name]["study"])
            kept[name]["come_true"] = served_speed(study, args.users, Store(), args.turns)
        elif args.decide:
            kept[name] |= decided_again(Store().read(Study, kept[name]["study"]), Store())
            kept[name]["commit"] = commit.stdout.strip()
        else:
            kept[name] = run(name, (args.out / name).resolve(), options) | {"commit": commit.stdout.strip()}
        served = [one["come_true"] for one in kept.values() if "turns" in (one["come_true"] or {})]
        parts = [one[what]["ratio"] for one in served for what in SPEEDS]
        output = {
            "name": "domains",
            "ratio": max((max(part, 1 / part) for part in parts), default=None),
            "peer": "waiting and answers a second that the study predicts, against the served pick; the worst of all",
            "value": sum(one["pick"] is not None for one in kept.values()),
            "unit": f"of {len(kept)} studies ended with a pick",
            "runs": 1,
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "commit": commit.stdout.strip(),
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "studies": kept,
        }
        result.write_text(json.dumps(output, indent=1) + "\n", encoding="utf-8")
        print(f"{name}: {kept[name]['sentence']}", file=sys.stderr, flush=True)
    print(json.dumps({key: value for key, value in output.items() if key != "studies"}))


if __name__ == "__main__":
    main()
