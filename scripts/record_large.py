"""Record the answers of the larger packaged model on the test items of the demos, and pack them for shipping.

python scripts/record_large.py record fhir-types --into FOLDER     ask what FOLDER lacks; stop and go on at any time
python scripts/record_large.py record fhir --into FOLDER --items 180
python scripts/record_large.py pack fhir-types --into FOLDER       write src/sizewise/models/recorded_answers/

Items are asked one at a time, in random order, so that every latency is one of a single user. Decisions are asked in
words, after the options and their descriptions; definitions after two examples, in plain text.
"""

from __future__ import annotations

import argparse
import gzip
import json
import statistics
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sizewise import datasets
from sizewise.datasets import DatasetContents
from sizewise.datasets.sampling import sample_examples
from sizewise.lm.hf_format import load_tokenizer
from sizewise.models import openvino
from sizewise.models.machine import describe_machine
from sizewise.models.opening import resolve_folder
from sizewise.models.prompts import answer_limit, choose_shots, make_request, stop_texts
from sizewise.records import Example, fingerprint
from sizewise.store import Store

MODEL, NAME = "pkg:qwen2.5-coder-1.5b", "Qwen2.5-Coder-1.5B-Instruct"
SHIPPED = Path(__file__).parent.parent / "src" / "sizewise" / "models" / "recorded_answers"
SEED, THREADS, MAX_TOKENS = 0, 1, 200


def prompts_of(contents: DatasetContents, items: int | None) -> list[tuple[str, str]]:
    """Return id and prompt of the test items, in the random order in which a study with seed 0 asks them."""
    examples = contents.examples["test"]
    inner = sample_examples(examples, min(items or len(examples), len(examples) - 1), SEED)
    known = {example.id for example in inner}
    rest = [example for example in examples if example.id not in known] if items is None else []
    chosen = [*inner, *rest]
    question = contents.record.question
    if question is None:  # in plain text after examples, as studies prompt a model that does better so
        shots, stop = choose_shots(contents, SEED), stop_texts(contents.examples["train"])
        return [(one.id, make_request(one, "few_shot", shots, 0, stop).text or "") for one in chosen]
    options = "\n".join(f"- {option.value}: {option.description}" for option in question.options)
    # The part that all prompts share comes first, so that it is read once.
    asked = f"Question: {question.instructions}\nOptions:\n{options}\nAnswer with one of the options only.\n\nText: "
    return [(example.id, asked + example.prompt) for example in chosen]


def record(contents: DatasetContents, path: Path, items: int | None) -> None:
    """Ask the items that the file lacks and append their answers."""
    import openvino_genai

    path.parent.mkdir(parents=True, exist_ok=True)
    done = {row["id"] for row in rows_in(path)}
    pending = [one for one in prompts_of(contents, items) if one[0] not in done]
    limit = min(MAX_TOKENS, answer_limit(contents.examples["train"]))
    folder, _, _ = resolve_folder(MODEL, Store(), print)
    tokenizer = load_tokenizer(folder)
    scheduler = openvino_genai.SchedulerConfig()
    scheduler.enable_prefix_caching, scheduler.cache_size = True, 1
    pipeline = openvino_genai.LLMPipeline(str(folder), "CPU", scheduler_config=scheduler, INFERENCE_NUM_THREADS=THREADS)
    stop = set() if contents.record.question else set(stop_texts(contents.examples["train"]))
    facts = {"engine": openvino.engine_name(), "weights": "Q4_K_M", "machine": describe_machine()}
    with path.open("a", encoding="utf-8") as out:
        for number, (item, prompt) in enumerate(pending, len(done) + 1):
            turns = [{"role": "user", "content": prompt}]
            chat = contents.record.question is not None
            text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True) if chat else prompt
            begun = time.perf_counter()
            answer = pipeline.generate([text], max_new_tokens=limit, apply_chat_template=False, stop_strings=stop)
            seconds, counts = time.perf_counter() - begun, answer.perf_metrics
            written = counts.get_num_generated_tokens()
            row = {
                "id": item,
                "completion": answer.texts[0].strip(),
                "finish_reason": "length" if written >= limit else "stop",
                "usage": {"prompt_tokens": counts.get_num_input_tokens(), "completion_tokens": written},
                "latency_s": round(seconds, 3),
                "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                **facts,
            }
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
            out.flush()
            print(f"{number} of {len(done) + len(pending)}: {item}", file=sys.stderr)


def rows_in(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a file of answers; a line that was cut off is asked again."""
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.is_file() else []
    return [json.loads(line) for line in lines if line]


def pack(contents: DatasetContents, demo: str, path: Path) -> None:
    """Write the answers as compressed package data, and what they are beside it."""
    known = {example.id: example for example in contents.examples["test"]}
    rows = [row for row in rows_in(path) if row["id"] in known]
    SHIPPED.mkdir(exist_ok=True)
    kept = ("id", "completion", "finish_reason", "usage", "latency_s")
    lines = [
        json.dumps(
            {key: row[key] for key in kept} | {"model": NAME, "created": row["created"][:10]}, ensure_ascii=False
        )
        for row in sorted(rows, key=lambda row: row["id"])
    ]
    packed = gzip.compress("\n".join([*lines, ""]).encode(), 9, mtime=0)
    (SHIPPED / f"{demo}.jsonl.gz").write_bytes(packed)
    days = sorted({row["created"][:10] for row in rows})
    tokens = {
        kind: round(statistics.fmean(row["usage"][f"{kind}_tokens"] for row in rows))
        for kind in ("prompt", "completion")
    }
    latencies = sorted(row["latency_s"] for row in rows)
    facts = {
        "demo": demo,
        "model": NAME,
        "uri": MODEL,
        "license": "not stated by the wheels; upstream Apache-2.0",
        "recorded": days,
        "answers": len(rows),
        "test_items": len(known),
        "prompt": "chat: question, options with descriptions, text; answered in words"
        if contents.record.question
        else "plain text after two examples of the training split",
        "decoding": "greedy",
        "concurrent_users": 1,
        "latency": "one request at a time, other work on the machine beside it",
        **{key: sorted({row[key] for row in rows}) for key in ("engine", "weights", "machine")},
        "mean_tokens": tokens,
        "latency_s": {"p50": statistics.median(latencies), "p95": latencies[int(0.95 * len(latencies))]},
        "asked": asked_hash(contents, [known[row["id"]] for row in rows]),
    }
    (SHIPPED / f"{demo}.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    print(f"{len(rows)} answers, {len(packed):,} bytes")


def asked_hash(contents: DatasetContents, examples: Sequence[Example]) -> str:
    """Return a hash of the question and the texts that were asked."""
    question = contents.record.question
    stated = question.model_dump(mode="json") if question else None
    return fingerprint([stated, sorted([example.id, example.prompt] for example in examples)])


def main() -> None:
    """Record or pack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("record", "pack"))
    parser.add_argument("demo", choices=("fhir-types", "fhir"))
    parser.add_argument("--into", type=Path, required=True)
    parser.add_argument("--items", type=int)
    given = parser.parse_args()
    store = Store()
    contents = datasets.load(store, datasets.read([f"demo:{given.demo}"], store=store, seed=SEED).id)
    path = given.into / f"{given.demo}.jsonl"
    if given.action == "record":
        record(contents, path, given.items)
    else:
        pack(contents, given.demo, path)


if __name__ == "__main__":
    main()
