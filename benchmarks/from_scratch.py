"""From scratch against n-grams: `python benchmarks/from_scratch.py` trains on a demo's text, scores unseen documents.

Arms, all on the same training documents and the same test documents, in bits per byte:

- a byte 5-gram (Witten-Bell), the product's own baseline;
- a word 5-gram with modified Kneser-Ney smoothing (Chen and Goodman, 1999); a word not seen in training is spelled with
  the byte 5-gram, so both models assign a probability to every text;
- networks trained from scratch for the same number of minutes, one per size and seed.

Ends stdout with one JSON line and writes it to benchmarks/results/from_scratch.json. Finished runs are kept, so a
killed benchmark continues.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from reporter import StderrReporter
from sizewise import datasets
from sizewise.datasets.passages import passages
from sizewise.evaluation import evaluate
from sizewise.lm.device import machine_precision
from sizewise.models.baselines import NgramModel
from sizewise.records import ItemRow, Recipe
from sizewise.store import Store
from sizewise.training import train

RESULTS = Path(__file__).parent / "results"
WORDS = re.compile(r" ?\w+| ?[^\w\s]+|\s+(?=\S)|\s+")
UNKNOWN, START = "\x00unknown", "\x00start"
ORDER = 5


class KneserNey:
    """Interpolated word n-gram model with three discounts an order; its lowest order interpolates with a uniform share.

    Args:
        texts: training texts, each cut into words; words seen once in all are also counted as unknown.
    """

    def __init__(self, texts: Sequence[list[str]]) -> None:
        seen = Counter(word for text in texts for word in text)
        self.vocabulary = {word for word, count in seen.items() if count > 1} | {UNKNOWN}
        raw: list[Counter[tuple[str, ...]]] = [Counter() for _ in range(ORDER + 1)]
        for text in texts:
            words = [START] * (ORDER - 1) + [self.known(word) for word in text]
            for end in range(ORDER - 1, len(words)):
                raw[ORDER][tuple(words[end - ORDER + 1 : end + 1])] += 1
        # Lower orders count the distinct words before an n-gram, not its occurrences.
        for size in range(ORDER - 1, 0, -1):
            for gram in raw[size + 1]:
                raw[size][gram[1:]] += 1
        self.counts = raw
        self.total: list[Counter[tuple[str, ...]]] = [Counter() for _ in range(ORDER + 1)]
        self.kinds: list[dict[tuple[str, ...], list[int]]] = [defaultdict(lambda: [0, 0, 0]) for _ in range(ORDER + 1)]
        self.discounts = [[0.0, 0.0, 0.0] for _ in range(ORDER + 1)]
        for size in range(1, ORDER + 1):
            often = Counter(min(count, 5) for count in raw[size].values())
            n1, n2, n3, n4 = (max(1, often[k]) for k in (1, 2, 3, 4))
            y = n1 / (n1 + 2 * n2)
            self.discounts[size] = [1 - 2 * y * n2 / n1, max(0.0, 2 - 3 * y * n3 / n2), max(0.0, 3 - 4 * y * n4 / n3)]
            for gram, count in raw[size].items():
                self.total[size][gram[:-1]] += count
                self.kinds[size][gram[:-1]][min(count, 3) - 1] += 1

    def known(self, word: str) -> str:
        """Return the word, or the sign of an unknown one."""
        return word if word in self.vocabulary else UNKNOWN

    def probability(self, before: tuple[str, ...], word: str) -> float:
        """Compute the probability of a known word (or UNKNOWN) after ORDER - 1 words."""
        found = 1 / len(self.vocabulary)
        for size in range(1, ORDER + 1):
            context = before[len(before) - size + 1 :] if size > 1 else ()
            total = self.total[size].get(context, 0)
            if not total:
                break
            count = self.counts[size].get((*context, word), 0)
            discount = self.discounts[size][min(count, 3) - 1] if count else 0.0
            held_back = sum(d * n for d, n in zip(self.discounts[size], self.kinds[size][context], strict=True))
            found = (count - discount + held_back * found) / total
        return found


def kneser_ney_bits(model: KneserNey, spelling: NgramModel, text: str) -> np.ndarray:
    """Return the bits spent up to each character of a text, at the ends of its words: (characters + 1,).

    An unknown word costs the sign of an unknown word and its bytes, with the end of the word.
    """
    words = WORDS.findall(text)
    spent, at = np.zeros(len(text) + 1), 0
    before = (START,) * (ORDER - 1)
    for word in words:
        known = model.known(word)
        bits = -math.log2(model.probability(before, known))
        if known == UNKNOWN:
            data = b"\x00" + word.encode() + b"\x00"
            chances = [spelling.probability(data[max(0, i - 4) : i], data[i : i + 1]) for i in range(1, len(data))]
            bits -= sum(map(math.log2, chances))
        spent[at + 1 : at + len(word) + 1] = bits / len(word)  # a passage's border inside a word splits its bits
        at += len(word)
        before = (*before[1:], known)
    return np.cumsum(spent)


class Spelling(NgramModel):
    """Byte 5-gram of the distinct rare words of a text, between zero bytes."""

    def __init__(self, words: set[str]) -> None:
        self._seen, self._total, self._kinds = Counter(), Counter(), Counter()
        for word in words:
            data = b"\x00" + word.encode() + b"\x00"
            for end in range(1, len(data) + 1):
                for size in range(1, min(ORDER, end) + 1):
                    self._seen[data[end - size : end]] += 1
        for gram, count in self._seen.items():
            self._total[gram[:-1]] += count
            self._kinds[gram[:-1]] += 1


def kneser_ney(store: Store, data: str, evaluation: str) -> dict[str, Any]:
    """Score the passages that an evaluation scored with the word 5-gram."""
    documents = datasets.load(store, data).documents
    texts = [WORDS.findall(document.text) for document in documents["train"]]
    model = KneserNey(texts)
    spelling = Spelling({word for text in texts for word in text if word not in model.vocabulary})
    rows = store.read_rows(store.folder("evaluation", evaluation), "items.jsonl", ItemRow)
    scored = {row.item for row in rows if row.kind == "passage" and row.uncontaminated}
    bits = size = 0.0
    for document in documents["test"]:
        spent = kneser_ney_bits(model, spelling, document.text)
        for passage in passages(document):
            if passage.item in scored:
                bits += spent[passage.end] - spent[passage.start]
                size += len(document.text[passage.start : passage.end].encode())
    return {"bits_per_byte": bits / size, "n": len(scored), "vocabulary": len(model.vocabulary)}


def main() -> None:
    """Train, score, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="demo:fhir", help="documents: a demo, a folder or a file")
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--parameters", type=int, nargs="*", default=[5_000_000])
    parser.add_argument("--seeds", type=int, default=1)
    args = parser.parse_args()
    store = Store()
    data = datasets.read([args.data], store=store)
    contents = datasets.load(store, data.id)
    result: dict[str, Any] = {
        "benchmark": "from_scratch", "data": data.id, "minutes": args.minutes, "precision": str(machine_precision()),
        "at": datetime.now(UTC).isoformat(timespec="minutes"),
        "training bytes": sum(len(d.text.encode()) for d in contents.documents["train"]), "arms": {},
    }  # fmt: skip
    models = {"byte 5-gram, Witten-Bell": f"ngram:{data.id}"}
    for parameters in args.parameters:
        for seed in range(args.seeds):
            recipe = Recipe(
                start="scratch",
                method="full",
                parameters=parameters,
                minutes=args.minutes,
                example_share=0.0,
                seed=seed,
            )
            run = train(recipe, data, store=store, reporter=StderrReporter())
            models[f"from scratch, {parameters / 1e6:g}M, seed {seed}"] = f"run:{run.id}"
    for name, uri in models.items():
        found = evaluate(uri, data.id, metrics=["bits_per_byte"], store=store)
        if uri.startswith("ngram:"):
            result["arms"]["word 5-gram, Kneser-Ney"] = kneser_ney(store, data.id, found.id)
        score = found.record.scores["bits_per_byte"]
        result["arms"][name] = {"bits_per_byte": score.value, "low": score.ci_low, "high": score.ci_high, "n": score.n}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "from_scratch.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
