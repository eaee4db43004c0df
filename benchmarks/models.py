"""The Model interface against the libraries behind it, each in a separate process, in turns.

1. 10,000 requests, 200 concurrent, to a local server where one in twenty fails: CPU time per request against the
   official SDK.
2. Log-likelihoods of held-out text (SmolLM2-135M, in the native precision of the CPU): tokens/s against the `hf` model
   of lm-evaluation-harness at its default batch size and at the best of several.
3. Answers for 8 concurrent users: output tokens/s against plain openvino-genai.

`python benchmarks/models.py` ends stdout with one JSON line and writes it to benchmarks/results/models.json.
lm-evaluation-harness needs `--lm-eval PYTHON`, an interpreter that has it (`make bench-models` makes one).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).parent
MODEL = "pkg:smollm2-135m"
REQUESTS, CONCURRENT = 10_000, 200
USERS, ANSWER_TOKENS = 8, 96
BATCHES = (1, 8, 16, 32)


def texts(count: int) -> list[str]:
    """Load held-out text of the demo."""
    from sizewise import datasets
    from sizewise.store import Store

    store = Store()
    contents = datasets.load(store, datasets.read(["demo:fhir"], store=store).id)
    return [document.text[:3_000] for document in contents.documents["test"][:count]]


def prompts(count: int) -> list[str]:
    """Build questions of about 60 tokens."""
    return [f"Question {i}: {text[:220]} What does this describe?" for i, text in enumerate(texts(count))]


# -- jobs, each in a separate process ------------------------------------------------------------------------------


def job_requests_ours(port: int) -> dict[str, Any]:
    """Send all requests through the Model interface."""
    from sizewise.models import open_model
    from sizewise.records import Message, Request

    model = open_model(f"http://127.0.0.1:{port}/v1#stand-in")
    asked = [
        Request(id=f"r{i}", messages=(Message(role="user", content=f"question number {i} of many"),), max_tokens=16)
        for i in range(REQUESTS)
    ]
    list(model.complete(asked[:200]))  # warm up connections and the concurrency limit
    begun, used = time.perf_counter(), time.process_time()
    seen: dict[str, int] = {}
    failed, memory = 0, []
    for n, answer in enumerate(model.complete(asked[200:])):
        seen[answer.id] = seen.get(answer.id, 0) + 1
        failed += answer.error is not None
        wrong = answer.error is None and answer.text != f"echo: questionnumber{answer.id[1:]}of"
        if wrong:
            raise RuntimeError(f"{answer.id} was answered with {answer.text!r}")
        if n % 1_000 == 999:
            memory.append(_memory())
    used, seconds = time.process_time() - used, time.perf_counter() - begun
    model.close()
    once = all(count == 1 for count in seen.values()) and len(seen) == REQUESTS - 200
    return {"cpu_ms": 1e3 * used / len(seen), "seconds": seconds, "failed": failed, "once": once, "memory": memory}


def job_requests_sdk(port: int) -> dict[str, Any]:
    """Send all requests through the official SDK, with its own retries."""
    from openai import APIError, AsyncOpenAI

    async def run() -> dict[str, Any]:
        client = AsyncOpenAI(api_key="none", base_url=f"http://127.0.0.1:{port}/v1", max_retries=6)
        gate = asyncio.Semaphore(CONCURRENT)

        async def ask(i: int) -> str | None:
            async with gate:
                for _ in range(6):
                    try:
                        stream = await client.chat.completions.create(
                            model="stand-in",
                            messages=[{"role": "user", "content": f"question number {i} of many"}],
                            max_tokens=16,
                            temperature=0,
                            stream=True,
                            stream_options={"include_usage": True},
                        )
                        parts = [c.choices[0].delta.content or "" async for c in stream if c.choices]
                        return "".join(parts)
                    except (APIError, Exception):
                        continue
            return None

        await asyncio.gather(*(ask(i) for i in range(200)))
        begun, used = time.perf_counter(), time.process_time()
        found = await asyncio.gather(*(ask(i) for i in range(200, REQUESTS)))
        used, seconds = time.process_time() - used, time.perf_counter() - begun
        await client.close()
        return {"cpu_ms": 1e3 * used / len(found), "seconds": seconds, "failed": sum(one is None for one in found)}

    return asyncio.run(run())


def job_score_ours(path: str) -> dict[str, Any]:
    """Score texts with the Model interface."""
    from sizewise.models import open_model

    given = json.loads(Path(path).read_text(encoding="utf-8"))
    model = open_model(MODEL)
    list(model.score(given[:2]))
    begun = time.perf_counter()
    found = list(model.score(given))
    seconds = time.perf_counter() - begun
    tokens = sum(len(one.nats) for one in found)
    return {"tokens_per_s": tokens / seconds, "tokens": tokens, "nats": sum(float(one.nats.sum()) for one in found)}


def job_users_ours() -> dict[str, Any]:
    """Answer 8 concurrent users through the Model interface."""
    from sizewise.models import open_model
    from sizewise.records import Message, Request

    model = open_model(MODEL, engine="openvino")
    model._ends = ()  # no stop tokens: answers have the maximum length, as for the peer
    asked = [
        Request(id=str(i), messages=(Message(role="user", content=text),), max_tokens=ANSWER_TOKENS)
        for i, text in enumerate(prompts(USERS))
    ]
    list(model.complete(asked[:1]))
    rates = []
    for _ in range(5):
        begun = time.perf_counter()
        tokens = sum(answer.completion_tokens for answer in model.complete(asked))
        rates.append(tokens / (time.perf_counter() - begun))
    model.close()
    return {"tokens_per_s": median(rates)}


def job_users_openvino() -> dict[str, Any]:
    """Answer the same 8 prompts with plain openvino-genai."""
    import numpy as np
    import openvino
    import openvino_genai

    from sizewise.lm.device import machine_precision
    from sizewise.lm.hf_format import load_tokenizer
    from sizewise.lm.tokenizer import render_chat, text_ids
    from sizewise.models import open_model
    from sizewise.records import Message
    from sizewise.store import Store

    open_model(MODEL, engine="openvino").close()
    (folder,) = Store().weights_folder("x").parent.glob("openvino-*")
    tokenizer = load_tokenizer(folder)
    ids = [text_ids(tokenizer, render_chat(tokenizer, (Message(role="user", content=t),))) for t in prompts(USERS)]
    scheduler = openvino_genai.SchedulerConfig()
    scheduler.cache_size = 1
    kind = {"fp32": "f32", "bf16": "bf16"}[machine_precision()]
    bare = {"INFERENCE_PRECISION_HINT": kind, "KV_CACHE_PRECISION": kind}
    pipeline = openvino_genai.ContinuousBatchingPipeline(str(folder), scheduler, "CPU", bare)
    config = openvino_genai.GenerationConfig()
    config.max_new_tokens, config.do_sample, config.ignore_eos = ANSWER_TOKENS, False, True
    tensors = [openvino.Tensor(np.array([one], dtype=np.int64)) for one in ids]
    pipeline.generate(tensors[:1], [config])
    rates = []
    for _ in range(5):
        begun = time.perf_counter()
        found = pipeline.generate(tensors, [config] * len(tensors))
        tokens = sum(len(one.m_generation_ids[0]) for one in found)
        rates.append(tokens / (time.perf_counter() - begun))
    return {"tokens_per_s": median(rates)}


LM_EVAL = """
import json, sys, time
from lm_eval.models.huggingface import HFLM
from lm_eval.api.instance import Instance
folder, path, size, dtype = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
texts = json.load(open(path, encoding="utf-8"))
model = HFLM(pretrained=folder, dtype=dtype, device="cpu", batch_size=size, max_length=2048)
def ask(some):
    asked = [Instance("loglikelihood_rolling", {}, (text,), 0) for text in some]
    return model.loglikelihood_rolling(asked, disable_tqdm=True)
ask(texts[:2])
begun = time.perf_counter()
found = ask(texts)
seconds = time.perf_counter() - begun
tokens = sum(len(model.tok_encode(t, add_special_tokens=False)) for t in texts)
print(json.dumps({"tokens_per_s": tokens / seconds, "tokens": tokens, "nats": -sum(float(x) for x in found)}))
"""


def _memory() -> int:
    """Read the memory of this process, in MB."""
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") // 10**6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 10**6


# -- driver --------------------------------------------------------------------------------------------------------


def run(*command: str) -> dict[str, Any]:
    """Run a job and parse its last line."""
    with tempfile.TemporaryDirectory() as home:
        # Answers are cached by hash, so each run starts with an empty store.
        env = os.environ | ({"SIZEWISE_HOME": home} if "requests_ours" in command else {})
        done = subprocess.run(list(command), capture_output=True, text=True, env=env, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    print(command[-2:], json.dumps(found), file=sys.stderr, flush=True)
    return found


def own(*command: str) -> dict[str, Any]:
    """Run a job of this file in a new process."""
    return run(sys.executable, str(HERE / "models.py"), "--job", *command)


def requests_part(rounds: int) -> dict[str, Any]:
    """Compare CPU time per request, in turns."""
    pairs = []
    for _ in range(rounds):
        server = subprocess.Popen(
            [sys.executable, str(HERE / "answering.py")], stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )
        try:
            assert server.stdout
            port = server.stdout.readline().strip()
            pairs.append((own("requests_ours", port), own("requests_sdk", port)))
        finally:
            server.kill()
    ours, bare = [one for one, _ in pairs], [one for _, one in pairs]
    return {
        "cpu_ratio": median(a["cpu_ms"] / b["cpu_ms"] for a, b in pairs),
        "cpu_ms": median(one["cpu_ms"] for one in ours),
        "sdk_cpu_ms": median(one["cpu_ms"] for one in bare),
        "seconds": median(one["seconds"] for one in ours),
        "sdk_seconds": median(one["seconds"] for one in bare),
        "each_answered_once_or_reported": all(one["once"] for one in ours),
        "reported_failures": [one["failed"] for one in ours],
        "memory_mb": ours[0]["memory"],
    }


def score_part(rounds: int, interpreter: str) -> dict[str, Any]:
    """Compare scoring, in turns."""
    from sizewise.lm.device import machine_precision
    from sizewise.models.opening import resolve_folder
    from sizewise.store import Store

    folder = str(resolve_folder(MODEL, Store())[0])
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "texts.json"
        path.write_text(json.dumps(texts(24)), encoding="utf-8")
        script = Path(temporary) / "harness.py"
        script.write_text(LM_EVAL, encoding="utf-8")
        dtype = {"fp32": "float32", "bf16": "bfloat16"}[machine_precision()]
        first = {size: run(interpreter, str(script), folder, str(path), str(size), dtype) for size in BATCHES}
        best = max(BATCHES, key=lambda size: first[size]["tokens_per_s"])
        rows = []
        for _ in range(rounds):
            rows.append(
                (
                    own("score_ours", str(path)),
                    run(interpreter, str(script), folder, str(path), str(best), dtype),
                    run(interpreter, str(script), folder, str(path), "1", dtype),
                )
            )
    return {
        "ratio_to_best": median(a["tokens_per_s"] / b["tokens_per_s"] for a, b, _ in rows),
        "ratio_to_default": median(a["tokens_per_s"] / c["tokens_per_s"] for a, _, c in rows),
        "tokens_per_s": median(a["tokens_per_s"] for a, _, _ in rows),
        "harness_best_tokens_per_s": median(b["tokens_per_s"] for _, b, _ in rows),
        "harness_default_tokens_per_s": median(c["tokens_per_s"] for _, _, c in rows),
        "harness_best_batch": best,
        "precision": machine_precision(),
        "nats": [rows[0][0]["nats"], rows[0][1]["nats"]],
        "tokens": rows[0][0]["tokens"],
    }


def users_part(rounds: int) -> dict[str, Any]:
    """Compare answers for 8 users, in turns."""
    pairs = [(own("users_ours"), own("users_openvino")) for _ in range(rounds)]
    return {
        "ratio": median(a["tokens_per_s"] / b["tokens_per_s"] for a, b in pairs),
        "tokens_per_s": median(a["tokens_per_s"] for a, _ in pairs),
        "openvino_tokens_per_s": median(b["tokens_per_s"] for _, b in pairs),
        "concurrent_users": USERS,
    }


def main() -> None:
    """Run the selected parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--job", nargs="+")
    parser.add_argument("--only", nargs="*", default=["requests", "concurrent_users", "score"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--lm-eval", default="", help="interpreter that has lm-evaluation-harness")
    args = parser.parse_args()
    if args.job:
        name, *rest = args.job
        print(json.dumps(globals()[f"job_{name}"](*rest)))
        return
    path = HERE / "results" / "models.json"
    parts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["parts"] if path.exists() else {}
    if "requests" in args.only:
        parts["requests"] = requests_part(args.rounds)
    if "concurrent_users" in args.only:
        parts["concurrent_users"] = users_part(args.rounds)
    if "score" in args.only and args.lm_eval:
        parts["score"] = score_part(args.rounds, args.lm_eval)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    result = {
        "name": "models",
        "ratio": parts.get("concurrent_users", {}).get("ratio"),
        "peer": "openvino-genai alone, 8 users",
        "value": parts.get("concurrent_users", {}).get("tokens_per_s"),
        "unit": "tokens/s",
        "runs": args.rounds,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "commit": commit.stdout.strip(),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "parts": parts,
    }
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
