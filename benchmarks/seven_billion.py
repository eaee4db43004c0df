"""A 7B on this machine: `python benchmarks/seven_billion.py` runs a network of Mistral 7B's shape with 4-bit weights.

Its weights are random, written block by block as valid Q4_K and Q6_K (4.4 GB of disk, little memory), so its answers
mean nothing; memory and speed are those of any network of this shape in this format. In turns, the same requests go to
the product's HTTP door (`serve gguf:FILE`) and to llama.cpp's own server. `--shape 1.5b` writes Qwen2.5-1.5B's shape.
Ends stdout with one JSON line and writes it to benchmarks/results/seven_billion.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import gguf
import httpx2
import numpy as np
from gguf import GGMLQuantizationType as Kind
from transformers import AutoConfig

from sizewise.documents.python_manual import read_manual_topics
from sizewise.lm import gguf_writing, k_quants
from sizewise.lm.tokenizer import train_tokenizer
from sizewise.models.llamacpp.engine import SLOTS
from sizewise.store import Store

HERE = Path(__file__).parent
MIX, DEVIATION = "q4_k_m", 0.02
SHAPES = {
    "7b": ("mistral", {
        "hidden_size": 4096, "intermediate_size": 14_336, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 8, "head_dim": 128, "max_position_embeddings": 32_768, "vocab_size": 32_000,
        "sliding_window": None, "tie_word_embeddings": False,
    }),
    "1.5b": ("qwen2", {
        "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12,
        "num_key_value_heads": 2, "max_position_embeddings": 32_768, "vocab_size": 32_000, "tie_word_embeddings": True,
    }),
}  # fmt: skip
QUESTION = "Explain in plain words what a mutable default argument is, and why it surprises people."


def random_blocks(kind: Kind, blocks: int, random: np.random.Generator) -> np.ndarray:
    """Make random quantized blocks whose weights have about DEVIATION: (blocks, bytes of a block)."""
    size = gguf.GGML_QUANT_SIZES[kind][1]
    found = random.integers(0, 256, (blocks, size), dtype=np.uint8)
    if kind == Kind.Q4_K:  # two scales, 12 bytes of 6-bit scales, 128 bytes of weights
        scale = np.float16(DEVIATION / (32 * 4.6))
        found[:, 0:2] = np.frombuffer(scale.tobytes(), np.uint8)
        found[:, 2:4] = np.frombuffer(np.float16(7.5 * float(scale)).tobytes(), np.uint8)
    elif kind == Kind.Q6_K:  # 192 bytes of weights, 16 signed scales, a scale
        found[:, 208:210] = np.frombuffer(np.float16(DEVIATION / (74 * 18.5)).tobytes(), np.uint8)
    else:
        raise ValueError(f"no random blocks of {kind.name}")
    return found


def write(path: Path, shape: str) -> None:
    """Write a GGUF file of a shape, one tensor at a time."""
    kind, settings = SHAPES[shape]
    texts = [topic.text for topic in read_manual_topics()]
    tokenizer = train_tokenizer(texts, settings["vocab_size"], settings["max_position_embeddings"])
    config = AutoConfig.for_model(kind, **settings)
    family = gguf_writing._family(config)
    writer = gguf.GGUFWriter(path, family.name)
    writer.add_name(f"random weights in the shape of {shape}")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_K_M)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    gguf_writing._add_shape(writer, config)
    gguf_writing._add_tokenizer(writer, tokenizer, config.vocab_size)
    tensors = list(_tensors(config, kind == "qwen2"))
    for title, dimensions, of in tensors:
        size = int(np.prod(dimensions)) // gguf.GGML_QUANT_SIZES[of][0] * gguf.GGML_QUANT_SIZES[of][1]
        writer.add_tensor_info(title, dimensions, np.dtype(np.float32), size, of)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    random = np.random.default_rng(0)
    for _, dimensions, of in tensors:
        if of == Kind.F32:
            data = np.ones(dimensions, dtype=np.float32)
        else:
            data = random_blocks(of, int(np.prod(dimensions)) // gguf.QK_K, random)
        writer.write_tensor_data(data)
    writer.close()


def _tensors(config: Any, biased: bool) -> Iterator[tuple[str, tuple[int, ...], Kind]]:
    """Yield name, shape and type of each tensor."""
    width, inner, blocks = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    head = getattr(config, "head_dim", None) or width // config.num_attention_heads
    queries, keys = head * config.num_attention_heads, head * config.num_key_value_heads
    tied = config.tie_word_embeddings

    def matrix(title: str, rows: int, columns: int, block: int = 0, is_head: bool = False) -> Any:
        return title, (rows, columns), k_quants.mixed_kind(MIX, title, block, blocks, columns, is_head)

    yield matrix("token_embd.weight", config.vocab_size, width, is_head=tied)
    yield "output_norm.weight", (width,), Kind.F32
    if not tied:
        yield matrix("output.weight", config.vocab_size, width, is_head=True)
    for block in range(blocks):
        name = f"blk.{block}."
        yield f"{name}attn_norm.weight", (width,), Kind.F32
        yield f"{name}ffn_norm.weight", (width,), Kind.F32
        for part, rows in (("attn_q", queries), ("attn_k", keys), ("attn_v", keys)):
            yield matrix(f"{name}{part}.weight", rows, width, block)
            if biased:
                yield f"{name}{part}.bias", (rows,), Kind.F32
        yield matrix(f"{name}attn_output.weight", width, queries, block)
        yield matrix(f"{name}ffn_gate.weight", inner, width, block)
        yield matrix(f"{name}ffn_up.weight", inner, width, block)
        yield matrix(f"{name}ffn_down.weight", width, inner, block)


@contextmanager
def product(path: Path) -> Iterator[tuple[str, int]]:
    """Serve the file; yield the address and the process."""
    command = [sys.executable, "-m", "sizewise", "serve", f"gguf:{path}", "--engine", "llamacpp", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        found = next(filter(None, (re.search(r"API: (http\S+)/v1", line) for line in process.stderr)))
        yield found[1], process.pid
        process.terminate()


@contextmanager
def peer(path: Path) -> Iterator[tuple[str, int]]:
    """Run llama.cpp's own server with the same file, its defaults and all threads."""
    code = (
        "import sys, time, xllamacpp\nsettings = xllamacpp.CommonParams()\n"
        f"settings.model.path = {str(path)!r}\nsettings.n_ctx = 8192\nsettings.n_parallel = {SLOTS}\n"
        f"settings.kv_unified = True\nsettings.cpuparams.n_threads = {os.cpu_count()}\nsettings.verbosity = -1\n"
        "server = xllamacpp.Server(settings)\nprint(server.listening_address, flush=True)\ntime.sleep(1e6)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield next(line for line in process.stdout if line.startswith("http")).strip(), process.pid
        process.kill()


def asked(address: str, tokens: int, number: int) -> dict[str, float]:
    """Ask one question and measure the time to the first token and the speed after it."""
    body = {
        "model": httpx2.get(f"{address}/v1/models").json()["data"][0]["id"], "stream": True, "temperature": 0,
        "max_tokens": tokens, "prompt": f"Question {number}. {QUESTION}", "ignore_eos": True,
    }  # fmt: skip
    if "sizewise" in json.dumps(httpx2.get(f"{address}/v1/models").json()).lower():
        body.pop("ignore_eos")
    begun, times = time.perf_counter(), []
    with httpx2.stream("POST", f"{address}/v1/completions", json=body, timeout=900) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: {") and json.loads(line[6:])["choices"]:
                times.append(time.perf_counter())
    return {"first_s": times[0] - begun, "tokens_per_s": (len(times) - 1) / (times[-1] - times[0]), "n": len(times)}


def held_bytes(pid: int) -> int:
    """Return the largest memory, files included, of a process and those that it started."""
    process = Path(f"/proc/{pid}")
    peak = re.search(r"VmHWM:\s+(\d+)", (process / "status").read_text(encoding="utf-8"))
    total = 1024 * int(peak[1]) if peak else 0
    for child in (process / f"task/{pid}/children").read_text(encoding="utf-8").split():
        total = max(total, held_bytes(int(child)))
    return total


def main() -> None:
    """Write the file, serve it, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=list(SHAPES), default="7b")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    path = Store().weights_folder("") / f"random-{args.shape}-{MIX}.gguf"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file():
        new = path.with_suffix(".new")
        write(new, args.shape)
        new.replace(path)
    with product(path) as (ours, pid), peer(path) as (theirs, other):
        described = httpx2.get(f"{ours}/v1/models").json()["data"][0]
        rows: dict[str, list[dict[str, float]]] = {"sizewise": [], "llama.cpp": []}
        for number in range(args.runs + 1):
            for name, address in (("sizewise", ours), ("llama.cpp", theirs)):
                found = asked(address, args.tokens, number)
                print(name, found, file=sys.stderr, flush=True)
                if number:  # the first warms up
                    rows[name].append(found)
        memory = {"sizewise": held_bytes(pid), "llama.cpp": held_bytes(other)}
    ratios = [a["tokens_per_s"] / b["tokens_per_s"] for a, b in zip(rows["sizewise"], rows["llama.cpp"], strict=True)]
    output = {
        "benchmark": "seven_billion", "shape": args.shape, "at": datetime.now(UTC).isoformat(timespec="minutes"),
        "machine": platform.processor() or platform.machine(), "cores": os.cpu_count(),
        "file_bytes": path.stat().st_size, "described": described, "memory_bytes": memory,
        "rows": rows, "ratio": round(median(ratios), 3),
        "tokens_per_s": {name: round(median(r["tokens_per_s"] for r in some), 2) for name, some in rows.items()},
        "first_s": {name: round(median(r["first_s"] for r in some), 2) for name, some in rows.items()},
    }  # fmt: skip
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / "seven_billion.json").write_text(json.dumps(output, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(output))


if __name__ == "__main__":
    main()
