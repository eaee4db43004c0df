"""Knowledge from documents: do questions find their document, and how fast, by words and by meaning?

The questions are the symptoms in Microsoft's troubleshooting articles (CC BY 4.0), which are indexed without that
section, as in `benchmarks/support.py`. Half of the articles with a question stay in the index. How both rankings are
combined was chosen on the questions of the other half, with their articles in the index instead (`chosen_on`); the
reported numbers are of the first half.

1. Recall of the right article in the first 1, 2 and 4 passages, by words, by meaning, combined, and by reciprocal rank
   fusion; the differences from words alone are paired.
2. Time of a question in 100,000 generated passages, and of making the index.

`python benchmarks/knowledge.py` reads the folder that SIZEWISE_TEST_DATA names, ends stdout with one JSON line and
writes it to benchmarks/results/knowledge.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sizewise.records import Document
from sizewise.retrieval import Cutting, NamedEncoder, Passage, cut, open_encoder, open_index, update_index
from sizewise.retrieval.fusion import CANDIDATES, WORDS_SHARE, best_first, fuse
from sizewise.retrieval.meaning import Meaning, encode_passages
from sizewise.retrieval.search_index import SearchIndex
from sizewise.stats import percentile_interval, wilson

HERE = Path(__file__).parent
DATA = Path(os.environ.get("SIZEWISE_TEST_DATA", "/nonexistent"))
SHARES = (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0)
RANK_CONSTANT = 60
FIRST = (1, 2, 4)

Array = npt.NDArray[np.float64]
Ranked = tuple[npt.NDArray[np.int64], Array]


def rows(name: str) -> list[dict[str, str]]:
    """Read a JSONL file of the support data."""
    return [json.loads(line) for line in (DATA / "ms_office_support" / name).read_text(encoding="utf-8").splitlines()]


def share(values: Sequence[bool]) -> dict[str, Any]:
    """Compute a share with its Wilson interval."""
    ci_low, ci_high = wilson(float(sum(values)), len(values))
    return {"value": float(np.mean(values)), "ci_low": ci_low, "ci_high": ci_high, "n": len(values)}


def paired(values: Sequence[bool], others: Sequence[bool]) -> dict[str, Any]:
    """Compute a paired difference of shares with its bootstrap interval."""
    gaps = np.array(values, dtype=float) - np.array(others, dtype=float)
    draws = np.random.default_rng(0).integers(0, len(gaps), (10_000, len(gaps)))
    ci_low, ci_high = percentile_interval(gaps[draws].mean(axis=1))
    return {"value": float(gaps.mean()), "ci_low": ci_low, "ci_high": ci_high, "n": len(gaps)}


def articles_without_symptoms(gone: set[str]) -> list[Document]:
    """Return the articles that are in the index."""
    return [
        Document(
            id=one["path"],
            title=one["title"],
            text=re.sub(r"(?ms)^#+ *Symptoms?.*?(?=^#|\Z)", "", one["text"]),
            origin="ms_office_support",
            sha256="0" * 64,
        )
        for one in rows("articles.jsonl")
        if one["path"] not in gone
    ]


def reciprocal_ranks(words: Array, similarities: Array) -> Ranked:
    """Combine by reciprocal rank fusion (Cormack, Clarke and Buettcher, 2009)."""
    scores = np.zeros(len(words))
    for ranking in (words, similarities):
        best = best_first(ranking, CANDIDATES)
        scores[best] += 1 / (RANK_CONSTANT + 1 + np.arange(len(best)))
    order = best_first(scores, CANDIDATES)
    return order, scores[order]


def ways() -> dict[str, Callable[[Array, Array], Ranked]]:
    """Return how rankings are combined, by name."""
    found: dict[str, Callable[[Array, Array], Ranked]] = {
        f"share {part}": (lambda words, similarities, part=part: fuse(words, similarities, part)) for part in SHARES
    }
    found["words"] = lambda words, similarities: fuse(words, None)
    found["reciprocal ranks"] = reciprocal_ranks
    return found


def documents_of(passages: Sequence[Passage], positions: Sequence[int]) -> list[str]:
    """Return the documents of the best passages, each once, best first."""
    return list(dict.fromkeys(passages[position].document for position in positions))


def recall(index: SearchIndex, pairs: Sequence[dict[str, str]]) -> dict[str, dict[int, list[bool]]]:
    """Return whether the right article is among the first ones, by the way of combining and by how many come first."""
    scored = [
        (
            pair["path"],
            index.term_index.scores(index.query_terms(pair["question"])),
            index.similarities(pair["question"]),
        )
        for pair in pairs
    ]
    found: dict[str, dict[int, list[bool]]] = {}
    for name, combine in ways().items():
        ranked = [
            (right, documents_of(index.passages, combine(words, similarities)[0].tolist()))
            for right, words, similarities in scored
        ]
        found[name] = {first: [right in documents[:first] for right, documents in ranked] for first in FIRST}
    return found


def measure_recall(encoder: NamedEncoder) -> dict[str, Any]:
    """Choose on one half of the questions and report on the other."""
    pairs = rows("symptom_resolution_qa.jsonl")
    random.Random(0).shuffle(pairs)
    left_out, kept = pairs[: len(pairs) // 2], pairs[len(pairs) // 2 :]
    everything = cut(articles_without_symptoms(set()))
    begun = time.perf_counter()
    all_vectors = encode_passages(
        encoder.encoder, everything, lambda done, total: print(f"{done} of {total}", flush=True)
    )
    found: dict[str, Any] = {"encoded": len(everything), "encoded_s": time.perf_counter() - begun}
    for name, asked, gone in (("chosen_on", left_out, kept), ("reported", kept, left_out)):
        absent = {pair["path"] for pair in gone}
        places = [i for i, passage in enumerate(everything) if passage.document not in absent]
        passages, vectors = [everything[i] for i in places], all_vectors[places]
        index = SearchIndex.of_passages(passages, meaning=Meaning(encoder.encoder, vectors))
        right = recall(index, asked)
        found[name] = {
            "passages": len(passages),
            "right_in": {way: {str(n): share(values) for n, values in of_way.items()} for way, of_way in right.items()},
            "first_minus_words": {way: paired(of_way[1], right["words"][1]) for way, of_way in right.items()},
        }
        print(json.dumps(found[name]["right_in"], indent=1), flush=True)
    return found


def generated(count: int) -> Iterator[Document]:
    """Yield documents of four passages with words that are as frequent as in a language (Zipf)."""
    rng = np.random.default_rng(0)
    syllables = ["ka", "lo", "mi", "re", "tu", "sa", "ne", "pi", "do", "va", "shi", "bor", "len", "gra"]
    words = ["".join(rng.choice(syllables, 1 + i % 4)) + str(i % 7 or "") for i in range(60_000)]
    weights = 1 / np.arange(1, len(words) + 1)
    weights /= weights.sum()
    for number in range(count // 4):
        drawn = rng.choice(len(words), (4, 90), p=weights)
        paragraphs = [" ".join(words[i] for i in row) + "." for row in drawn]
        text = "\n\n".join(f"## Part {i}\n\n{paragraph}" for i, paragraph in enumerate(paragraphs))
        yield Document(id=f"g{number}", title=f"Text {number}", text=text, origin="generated", sha256="0" * 64)


class DrawnVectors:
    """Draws the vectors of passages, because the time of a search doesn't depend on them; encodes questions."""

    def __init__(self, named: NamedEncoder) -> None:
        self.fingerprint, self.width = named.encoder.fingerprint, named.encoder.width
        self._encoder = named.encoder
        self._rng = np.random.default_rng(0)

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Encode questions."""
        return self._encoder.encode(texts)

    def encode_passages(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Draw the vectors of passages."""
        vectors = self._rng.standard_normal((len(texts), self.width)).astype(np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def measure_speed(encoder: NamedEncoder, count: int, questions: int) -> dict[str, Any]:
    """Measure the time of a question, of making an index and of bringing it up to date."""
    documents = list(generated(count))
    with tempfile.TemporaryDirectory() as folder:
        stand_in = NamedEncoder(encoder.uri, DrawnVectors(encoder))
        begun = time.perf_counter()
        update_index(Path(folder) / "index", documents, stand_in, cutting=Cutting())
        built_s = time.perf_counter() - begun
        built_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        changed = [document.model_copy(update={"text": f"{document.text} new"}) for document in documents[:10]]
        begun = time.perf_counter()
        update_index(Path(folder) / "index", [*changed, *documents[10:]], stand_in)
        updated_s = time.perf_counter() - begun
        begun = time.perf_counter()
        library = open_index(Path(folder) / "index", lambda uri: encoder.encoder)
        opened_s = time.perf_counter() - begun
        rng = random.Random(1)
        times, spent = [], []
        for i in range(questions + 10):
            words = rng.choice(documents).text.split()
            start = rng.randrange(len(words) - 12)
            begun, begun_cpu = time.perf_counter(), time.process_time()
            library.find(" ".join(words[start : start + rng.randint(4, 12)]))
            if i >= 10:
                times.append(1_000 * (time.perf_counter() - begun))
                spent.append(1_000 * (time.process_time() - begun_cpu))
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    sample = cut(documents[:64])
    begun = time.process_time()
    encode_passages(encoder.encoder, sample)
    each = (time.process_time() - begun) / len(sample)
    return {
        "passages": len(library),
        "questions": questions,
        "p50_ms": float(np.percentile(times, 50)),
        "p95_ms": float(np.percentile(times, 95)),
        "p50_processor_ms": float(np.percentile(spent, 50)),
        "p95_processor_ms": float(np.percentile(spent, 95)),
        "load_average": os.getloadavg()[0],
        "built_without_encoding_s": built_s,
        "encoding_a_passage_processor_ms": 1_000 * each,
        "encoding_all_processor_min": each * len(library) / 60,
        "ten_documents_changed_s": updated_s,
        "opened_s": opened_s,
        "disk_mb": size / 1e6,
        "peak_memory_of_building_mb": built_mb,
    }


def processor() -> str:
    """Return the class of the processor."""
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").is_file() else ""
    extensions = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in flags]
    return f"{platform.machine()}, {os.cpu_count()} cores, {' '.join(extensions) or 'extensions unknown'}"


def main() -> None:
    """Run both parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", default="pkg:minilm")
    parser.add_argument("--passages", type=int, default=100_000)
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--part", choices=["recall", "speed", "both"], default="both")
    args = parser.parse_args()
    encoder = NamedEncoder(args.encoder, open_encoder(args.encoder))
    target = HERE / "results" / "knowledge.json"
    parts = json.loads(target.read_text(encoding="utf-8"))["parts"] if target.is_file() else {}
    if args.part in ("recall", "both"):
        parts["recall"] = measure_recall(encoder)
    if args.part in ("speed", "both"):
        parts["speed"] = measure_speed(encoder, args.passages, args.questions)
        print(json.dumps(parts["speed"], indent=1))
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    first = {way: of_way["1"] for way, of_way in parts["recall"]["reported"]["right_in"].items()}
    chosen = f"share {WORDS_SHARE}"
    result = {
        "name": "knowledge",
        "ratio": first[chosen]["value"] / first["words"]["value"],
        "peer": "search by words (BM25)",
        "value": first[chosen]["value"],
        "unit": "share of questions whose right article comes first",
        "runs": first[chosen]["n"],
        "machine": processor(),
        "commit": commit.stdout.strip(),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "parts": parts,
    }
    target.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
