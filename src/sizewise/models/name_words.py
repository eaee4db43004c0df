"""The words of a model's name, in any order and spelling: `Claude 3.5 Sonnet` and `claude-3-5-sonnet` have the same."""

from __future__ import annotations

import re
import unicodedata

MAKERS = frozenset(
    [
        "openai", "open", "ai", "anthropic", "anthropics", "google", "googles", "deepmind", "meta", "metas",
        "facebook", "microsoft", "microsofts", "ibm", "ibms", "mistralai", "huggingface", "hugging", "face",
        "huggingfacetb", "alibaba", "openais", "hf", "bedrock", "azure", "openrouter", "vertex", "models", "model",
        "llm", "the", "by", "from", "version", "v", "latest", "newest", "current", "gguf", "awq", "gptq", "mlx",
        "onnx", "unsloth", "thebloke",
    ]
)  # fmt: skip
"""Words that don't tell models apart: makers, hosts, formats of files."""
SOFT = frozenset(["instruct", "it", "chat", "preview", "fp8", "fp16", "bf16", "int8", "int4", "4bit", "8bit"])
"""Words for a model's tuning and number format, which people leave out."""
_QUANTIZED = re.compile(r"[-_. ](?:iq|q)\d[-_](?:k|0|1)(?:[-_][sml])?(?=$|[-_. ])")
_PART = re.compile(r"[a-z]?\d+(?:\.\d+)*(?:[a-z](?![a-z]))?|[a-z]+")
_COUNTED = frozenset("bkmox")
"""Letters that belong to the number before them: 7 b, 128 k, 4 o."""
_NUMBERED = frozenset("orvek")
"""Letters that belong to the number behind them: o 1, r 1, v 0.1."""


def words_of_name(name: str) -> frozenset[str]:
    """Split a name into its words, without makers and formats: `gpt4 o` has `gpt` and `4o`."""
    text = unicodedata.normalize("NFKD", name).casefold()
    text = "".join(c for c in text if not unicodedata.combining(c)).replace("'s ", " ").replace("\u2019s ", " ")
    text = _QUANTIZED.sub(" ", text)
    parts = [part for chunk in re.split(r"[^a-z0-9.]+", text) for part in _PART.findall(chunk.strip("."))]
    return frozenset(word for word in map(_plain_version, _joined(parts)) if word not in MAKERS)


def _joined(parts: list[str]) -> list[str]:
    """Join parts that people write apart: `4 o`, `7 b`, `r 1`, `3 5`."""
    words: list[str] = []
    i = 0
    while i < len(parts):
        part, after = parts[i], parts[i + 1] if i + 1 < len(parts) else ""
        number = part.replace(".", "").isdigit()
        if (number and after in _COUNTED and len(after) == 1) or (
            part in _NUMBERED and after.replace(".", "").isdigit()
        ):
            words.append(part + after)
            i += 2
        elif max(len(part), len(after)) < 3 and (part + after).isdigit() and after and not _counts(parts, i + 1):
            words.append(f"{part}.{after}")
            i += 2
        else:
            words.append(part)
            i += 1
    return words


def _counts(parts: list[str], i: int) -> bool:
    """Return whether the number at a place is a size, because a unit follows: the 7 in `mistral 3 7 b`."""
    return i + 1 < len(parts) and parts[i + 1] in _COUNTED


def _plain_version(word: str) -> str:
    """Return a version without `v` and without a final zero: v2 is 2, and 4.0 is 4."""
    return re.sub(r"^(\d+)\.0$", r"\1", re.sub(r"^v(?=\d)", "", word))
