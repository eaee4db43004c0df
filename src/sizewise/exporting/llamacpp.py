"""Verify GGUF files with llama.cpp, the engine of Ollama, if its bindings (`xllamacpp`) are installed."""

from __future__ import annotations

import importlib.util
import json
import os
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

from sizewise.errors import SizewiseError
from sizewise.models.parity import plain_prompt
from sizewise.records import Message

PARALLEL = 4
TIMEOUT_S = 600


def is_installed() -> bool:
    """Check whether llama.cpp's bindings are installed."""
    return importlib.util.find_spec("xllamacpp") is not None


def name() -> str:
    """Return the engine's name with the version of its bindings."""
    return f"llama.cpp (xllamacpp {metadata.version('xllamacpp')})"


class Engine:
    """llama.cpp with an open GGUF file.

    Args:
        path: the file.
        context: maximum tokens of a prompt and its answer.
        chats: whether the model has a chat template; llama.cpp would take one of its own otherwise.

    Raises:
        SizewiseError: llama.cpp can't open the file.
    """

    def __init__(self, path: Path, context: int, chats: bool = True) -> None:
        import xllamacpp

        self._chats = chats
        settings = xllamacpp.CommonParams()
        settings.model.path = str(path)
        settings.n_parallel = PARALLEL
        settings.n_ctx = context * PARALLEL
        settings.cpuparams.n_threads = os.cpu_count() or 1
        settings.verbosity = -1
        try:
            self._server = xllamacpp.Server(settings)
        except RuntimeError as error:
            raise SizewiseError(
                f"llama.cpp can't open {path.name}: {error}",
                "a GGUF file that llama.cpp supports",
                "another format, such as --to hf, or a newer version: pip install --upgrade xllamacpp",
            ) from error
        # A server that is stopped before its loop began waits forever (xllamacpp 2026.10); an answer shows that it did.
        self._server.handle_completions({"prompt": [0], "max_tokens": 1})

    def greedy(self, prompts: Sequence[list[int]], lengths: Sequence[int]) -> list[list[int]]:
        """Generate a number of greedy tokens after each prompt."""

        def generate(prompt: list[int], length: int) -> list[int]:
            request = {
                "prompt": prompt,
                "max_tokens": length,
                "temperature": 0,
                "logprobs": 1,
                "ignore_eos": False,
                "logit_bias": [],
                "cache_prompt": False,
            }
            answer = self._server.handle_completions(request)
            if "error" in answer:
                raise SizewiseError(
                    f"llama.cpp failed: {answer['error'].get('message')}",
                    "an answer to each prompt, so that the export can be compared with the model",
                    "run the same command again; if llama.cpp fails again, take another format: --to hf",
                )
            choice = answer["choices"][0]
            return [int(token["id"]) for token in (choice.get("logprobs") or {}).get("content", ())]

        with ThreadPoolExecutor(PARALLEL) as pool:
            return list(pool.map(generate, prompts, lengths))

    def encode(self, prompt: Sequence[Message] | str) -> list[int]:
        """Encode a conversation or a text with the file's own template and tokenizer.

        llama.cpp takes the beginning-of-text token out of the template's output, and puts it before every prompt.
        """
        text, chat = prompt, not isinstance(prompt, str)
        if not isinstance(text, str):
            messages = [message for message in prompt if not isinstance(message, str)]
            turns = [message.model_dump() for message in messages]
            if self._chats:
                text = str(self._post("/apply-template", {"messages": turns})["prompt"])
            else:
                text = plain_prompt(messages)
        found = self._post("/tokenize", {"content": text, "add_special": chat, "parse_special": True})
        return [int(token) for token in found["tokens"]]

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(
            self._server.listening_address + path,
            json.dumps(body).encode("utf-8"),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def close(self) -> None:
        """Stop the server."""
        del self._server
