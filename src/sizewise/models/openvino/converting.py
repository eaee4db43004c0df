"""Convert networks to the format of openvino-genai."""

from __future__ import annotations

import importlib.util
import json
import shutil
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

from sizewise.errors import MissingExtraError, SizewiseError

MODEL_FILE = "openvino_model.xml"
WEIGHTS_FILE = "openvino_config.json"  # same name as in optimum-intel
READS = ("llama", "mistral", "qwen2", "qwen3")  # architectures that openvino-genai reads as GGUF


def engine_name() -> str:
    """Return the name and version of the engine."""
    return f"openvino-genai {metadata.version('openvino-genai')}"


def require() -> None:
    """Check that openvino-genai is installed.

    Raises:
        MissingExtraError: it is not installed.
    """
    if importlib.util.find_spec("openvino_genai") is None:
        raise MissingExtraError("openvino-genai", "openvino")


def check_convertible(folder: Path) -> None:
    """Check, without loading weights, that openvino-genai is installed and computes a network of this kind correctly.

    Raises:
        MissingExtraError: openvino-genai is not installed.
        SizewiseError: it doesn't support the network.
    """
    from sizewise.lm import hf_format, stateful_graph

    require()
    stateful_graph.check_convertible(hf_format.load_config(folder))


def convert_network(network: Any, tokenizer: Any, out: Path, weights: str = "f16") -> None:
    """Convert a network and its tokenizer for openvino-genai.

    Args:
        network: a causal language model, in fp32.
        tokenizer: its tokenizer.
        out: destination folder; it appears only once it is complete.
        weights: `f16`, or `q8_0` (8 bits per weight and one scale per 32 weights).

    Raises:
        MissingExtraError: openvino-genai is not installed.
        SizewiseError: OpenVINO doesn't support the network or the tokenizer.
    """
    require()
    import openvino

    from sizewise.lm.stateful_graph import stateful_graph

    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as temporary:
        made = Path(temporary) / "model"
        made.mkdir()
        _convert_tokenizer(tokenizer, made)
        openvino.save_model(stateful_graph(network, weights), made / MODEL_FILE, compress_to_fp16=False)
        (made / WEIGHTS_FILE).write_text(json.dumps({"weights": weights}) + "\n", encoding="utf-8")
        network.config.save_pretrained(made)
        network.generation_config.save_pretrained(made)
        tokenizer.save_pretrained(made)
        shutil.rmtree(out, ignore_errors=True)
        made.rename(out)


def _convert_tokenizer(tokenizer: Any, out: Path) -> None:
    """Write a tokenizer and its detokenizer as graphs.

    Raises:
        SizewiseError: OpenVINO doesn't support the tokenizer.
    """
    import openvino
    from openvino_tokenizers import convert_tokenizer

    try:
        parts = convert_tokenizer(tokenizer, with_detokenizer=True, skip_special_tokens=True)
    except Exception as error:  # it may raise anything for an unknown tokenizer
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SizewiseError(
            f"OpenVINO doesn't support the model's tokenizer: {reason}",
            "a tokenizer with a tokenizer.json",
            "run the same command with --engine transformers, or export with --to hf",
        ) from error
    for title, part in zip(("openvino_tokenizer.xml", "openvino_detokenizer.xml"), parts, strict=True):
        openvino.save_model(part, out / title, compress_to_fp16=False)


def convert_quantized(gguf: Path, out: Path) -> None:
    """Convert a quantized GGUF file for openvino-genai; the weights stay quantized.

    Args:
        gguf: the file; openvino-genai writes its model beside it.
        out: destination folder.

    Raises:
        MissingExtraError: openvino-genai is not installed.
        SizewiseError: openvino-genai doesn't support the architecture.
    """
    require()
    import openvino_genai

    from sizewise.lm.gguf import read_gguf_settings

    config, tokenizer = read_gguf_settings(gguf)
    if config.model_type not in READS:
        raise SizewiseError(
            f"openvino-genai doesn't support GGUF files of the architecture '{config.model_type}'.",
            " or ".join(READS),
            "--to hf, or --engine transformers",
        )
    out.mkdir(parents=True)
    pipeline = openvino_genai.LLMPipeline(str(gguf), "CPU", enable_save_ov_model=True)
    del pipeline
    for suffix in (".xml", ".bin"):
        (gguf.parent / MODEL_FILE).with_suffix(suffix).rename((out / MODEL_FILE).with_suffix(suffix))
    _convert_tokenizer(tokenizer, out)  # openvino-genai's own conversion of a GGUF tokenizer splits digits differently
    (out / WEIGHTS_FILE).write_text(json.dumps({"weights": "q4"}) + "\n", encoding="utf-8")
    config.save_pretrained(out)
    tokenizer.save_pretrained(out)


def weights_of(folder: Path) -> str:
    """Return the weight format that `convert_network` wrote to a folder."""
    path = folder / WEIGHTS_FILE
    config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return str(config.get("weights", "f16"))
