"""What a decision costs beside the libraries that compute it, and over HTTP.

1. Batches of 64 in this process, by turns with the same weights in scikit-learn and onnxruntime called directly.
2. One decision over HTTP, by turns with the same decision in this process.

Processor time hardly changes with other work on the machine, so ratios are of processor time; the tenth percentile of
the wall time is what passes while the machine is free.

`python benchmarks/deciding.py` reads the folder that SIZEWISE_TEST_DATA names, ends stdout with one JSON line and
writes it to benchmarks/results/deciding.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import onnxruntime
from scipy.special import softmax
from tokenizers import Tokenizer

import decisions
from sizewise.datasets import load
from sizewise.models import open_model
from sizewise.records import Request
from sizewise.store import Store
from sizewise.training import train

RESULT = Path(__file__).parent / "results" / "deciding.json"
EACH_LABEL, BATCH, ROUNDS, SINGLE, WARM = 50, 64, 20, 200, 10
Decide = Callable[[Sequence[str]], np.ndarray]


def directly(model: Any, folder: Path) -> Decide:
    """Build the same computation of scikit-learn, tokenizers and onnxruntime, with the weights of a classifier."""
    scorer, temperature = model._scorer, model._record.calibrator.temperature

    def words(linear: Any, texts: Sequence[str]) -> np.ndarray:
        margins = linear._features.transform(texts) @ linear._weights.coefficients.T + linear._weights.intercepts
        return softmax(margins * linear._weights.scale, axis=1)

    def calibrated(found: np.ndarray) -> np.ndarray:
        return softmax(np.log(found) / temperature, axis=1)

    if scorer.encoder is None:
        return lambda texts: calibrated(words(scorer, texts))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
    graph = scorer.encoder.write_onnx(folder / "encoder.onnx")
    session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    tokenizer = Tokenizer.from_file(str(scorer.encoder.folder / "tokenizer.json"))
    tokenizer.enable_padding()
    tokenizer.enable_truncation(scorer.encoder.max_tokens)
    head, pool = scorer._head, scorer._pool

    def encoded(texts: Sequence[str]) -> np.ndarray:
        read = tokenizer.encode_batch([text.lower() for text in texts])
        ids, mask = (np.array([getattr(one, part) for one in read]) for part in ("ids", "attention_mask"))
        (vectors,) = session.run(None, {"input_ids": ids, "attention_mask": mask})
        own = softmax(vectors @ head.weights.T + head.intercepts, axis=1)
        if pool.words is None:
            return calibrated(own)
        both = (1 - pool.share) * np.log(own) + pool.share * np.log(words(pool.words, texts))
        return calibrated(softmax(both, axis=1))

    return encoded


def answer(model: Any, requests: Sequence[Request]) -> list[Any]:
    """Decide in this process."""
    return list(model.complete(requests))


def timed(run: Callable[[], Any]) -> tuple[float, float]:
    """Return the wall time and the processor time of a call in ms."""
    begun, used = time.perf_counter(), time.process_time()
    run()
    return 1e3 * (time.perf_counter() - begun), 1e3 * (time.process_time() - used)


def beside(model: Any, texts: Sequence[str], folder: Path) -> dict[str, float]:
    """Decide batches by turns through the model and directly."""
    peer = directly(model, folder)
    difference = float(np.abs(model.probabilities(texts[:BATCH]) - peer(texts[:BATCH])).max())
    assert difference < 1e-3, f"the peer computes something else: {difference}"
    ours, theirs = [], []
    for i in range(ROUNDS):
        part = [texts[(i * BATCH + j) % len(texts)] for j in range(BATCH)]
        requests = [Request(id=str(j), text=text) for j, text in enumerate(part)]
        pair = [(ours, partial(answer, model, requests)), (theirs, partial(peer, part))]
        for kept, run in pair if i % 2 else reversed(pair):
            kept.append(timed(run))
    own, other = np.array(ours), np.array(theirs)
    ratio = own[:, 1] / other[:, 1]
    return {
        "decisions_per_processor_s": BATCH * 1e3 / float(np.median(own[:, 1])),
        "decisions_per_s": BATCH * 1e3 / float(np.quantile(own[:, 0], 0.1)),
        "peer_decisions_per_processor_s": BATCH * 1e3 / float(np.median(other[:, 1])),
        "ratio": float(np.median(ratio)), "ratio_min": float(ratio.min()), "ratio_max": float(ratio.max()),
        "largest_difference": difference,
    }  # fmt: skip


def post(client: Any, body: dict[str, Any]) -> None:
    """Ask the service."""
    answered = client.post("/v1/decisions", json=body)
    assert answered.status_code == 200, answered.text


def over_http(uri: str, model: Any, texts: Sequence[str]) -> dict[str, float]:
    """Ask a service and the model in this process by turns, one decision at a time."""
    command = [sys.executable, "-m", "sizewise", "serve", uri, "--port", "0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr is not None
        address = next(found[1] for line in server.stderr if (found := re.search(r"API: (http\S+)/v1", line)))
        threading.Thread(target=server.stderr.read, daemon=True).start()
        values = [{"value": value} for value in model._record.question.values]
        asked = {"type": "choice", "instructions": "Which intent?", "choices": values}
        apart, near, processor = [], [], []
        with httpx2.Client(base_url=address, timeout=60) as client:
            while client.get("/health").status_code != 200:
                time.sleep(0.1)
            for i in range(SINGLE + WARM):
                text = texts[i % len(texts)]
                body = {"model": uri.removeprefix("run:"), "input": text, "questions": [asked]}
                wall, _ = timed(partial(post, client, body))
                alone, used = timed(partial(answer, model, [Request(id="a", text=text)]))
                apart.append(wall)
                near.append(alone)
                processor.append(used)
    finally:
        server.terminate()
        server.wait()
    apart, near, processor = apart[WARM:], near[WARM:], processor[WARM:]
    return {
        "http_p50_ms": float(np.median(apart)), "p50_ms": float(np.median(near)),
        "p95_ms": float(np.quantile(near, 0.95)), "p50_processor_ms": float(np.median(processor)),
        "added_p50_ms": float(np.median(apart) - np.median(near)),
        "added_p10_ms": float(np.quantile(apart, 0.1) - np.quantile(near, 0.1)),
    }  # fmt: skip


def main() -> None:
    """Measure the linear and the embedding classifier of Banking77."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    store, parts = Store(), dict[str, Any]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = decisions.few(decisions.questions(folder), EACH_LABEL)
        data = decisions.dataset(rows, folder, "banking", store)
        texts = [one.prompt for one in load(store, data.id).examples["test"]]
        for rung in ("linear", "MiniLM embeddings"):
            uri = f"run:{train(decisions.RUNGS[rung], data, store=store).id}"
            model = open_model(uri, store=store)
            parts[rung] = beside(model, texts, folder) | over_http(uri, model, texts)
            print(f"{rung}: {parts[rung]}", flush=True)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    best = parts["MiniLM embeddings"]
    output = {
        "name": "deciding",
        "ratio": best["ratio"],
        "peer": "tokenizers, onnxruntime and scikit-learn called directly, processor time",
        "value": best["decisions_per_processor_s"],
        "unit": "decisions per second of processor time, batches of 64, MiniLM embeddings",
        "runs": ROUNDS,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {decisions.here()['processor']}, threads "
        f"{os.environ.get('OMP_NUM_THREADS', 'all')}, load {os.getloadavg()[0]:.0f}",
        "commit": commit.stdout.strip(),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "parts": parts,
    }
    RESULT.write_text(json.dumps(output, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(output))


if __name__ == "__main__":
    main()
