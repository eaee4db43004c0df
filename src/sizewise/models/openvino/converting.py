"""Convert networks to the format of openvino-genai."""

from __future__ import annotations

import importlib.util
import json
import shutil
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

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


def convert(folder: Path, out: Path, name: str, license: str) -> None:
    """Convert a Hugging Face folder for openvino-genai via an F16 GGUF file.

    Args:
        folder: a Hugging Face folder.
        out: destination folder; it appears only once it is complete.
        name: name of the model.
        license: license of the weights.

    Raises:
        MissingExtraError: openvino-genai is not installed.
        SizewiseError: openvino-genai doesn't support the architecture or the tokenizer.
    """
    from sizewise.lm import hf_format
    from sizewise.lm.gguf_writing import check_writable

    require()
    config, tokenizer = hf_format.load_config(folder), hf_format.load_tokenizer(folder)
    _check_read(config)
    check_writable(config, tokenizer)  # before loading the weights, which is slow
    convert_network(hf_format.load_network(folder, "fp32"), tokenizer, out, name, license)


def _check_read(config: Any) -> None:
    if config.model_type not in READS:
        raise SizewiseError(
            f"openvino-genai doesn't support GGUF files of the architecture '{config.model_type}'.",
            " or ".join(READS),
            "--to hf, or --engine transformers",
        )


def convert_network(
    network: Any, tokenizer: Any, out: Path, name: str, license: str, quantization: str = "f16"
) -> None:
    """Convert a network and its tokenizer for openvino-genai; see `convert`.

    Args:
        network: a causal language model, in fp32.
        tokenizer: its tokenizer.
        out: destination folder; it appears only once it is complete.
        name: name of the model.
        license: license of the weights.
        quantization: `f16`, or `q8_0` (8 bits per weight and one scale per 32 weights).
    """
    require()
    import openvino
    import openvino_genai
    from openvino_tokenizers import convert_tokenizer

    from sizewise.lm.gguf_writing import write_gguf
    from sizewise.lm.hf_format import vectors_of

    _check_read(network.config)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as temporary:
        made = Path(temporary) / "model"
        made.mkdir()
        packed = Path(temporary) / "model.gguf"
        write_gguf(network, tokenizer, packed, quantization, name, license)
        # The pipeline saves the converted model next to the GGUF file.
        pipeline = openvino_genai.LLMPipeline(str(packed), "CPU", enable_save_ov_model=True)
        del pipeline
        graph = openvino.Core().read_model(Path(temporary) / MODEL_FILE)
        _restore_vectors(graph, vectors_of(network))
        openvino.save_model(graph, made / MODEL_FILE, compress_to_fp16=False)
        del graph
        # openvino-genai's conversion of a GGUF tokenizer splits digits differently, so convert ours.
        parts = convert_tokenizer(tokenizer, with_detokenizer=True, skip_special_tokens=True)
        for title, part in zip(("openvino_tokenizer.xml", "openvino_detokenizer.xml"), parts, strict=True):
            openvino.save_model(part, made / title, compress_to_fp16=False)
        (made / WEIGHTS_FILE).write_text(json.dumps({"weights": quantization}) + "\n", encoding="utf-8")
        network.config.save_pretrained(made)
        network.generation_config.save_pretrained(made)
        tokenizer.save_pretrained(made)
        shutil.rmtree(out, ignore_errors=True)
        made.rename(out)


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
    import openvino
    import openvino_genai
    from openvino_tokenizers import convert_tokenizer

    from sizewise.lm.gguf import read_gguf_settings

    config, tokenizer = read_gguf_settings(gguf)
    _check_read(config)
    out.mkdir(parents=True)
    pipeline = openvino_genai.LLMPipeline(str(gguf), "CPU", enable_save_ov_model=True)
    del pipeline
    for suffix in (".xml", ".bin"):
        (gguf.parent / MODEL_FILE).with_suffix(suffix).rename((out / MODEL_FILE).with_suffix(suffix))
    # As in `convert_network`, the tokenizer is converted from ours.
    parts = convert_tokenizer(tokenizer, with_detokenizer=True, skip_special_tokens=True)
    for title, part in zip(("openvino_tokenizer.xml", "openvino_detokenizer.xml"), parts, strict=True):
        openvino.save_model(part, out / title, compress_to_fp16=False)
    (out / WEIGHTS_FILE).write_text(json.dumps({"weights": "q4"}) + "\n", encoding="utf-8")
    config.save_pretrained(out)
    tokenizer.save_pretrained(out)


def weights_of(folder: Path) -> str:
    """Return the weight format that `convert_network` wrote to a folder."""
    path = folder / WEIGHTS_FILE
    config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return str(config.get("weights", "f16"))


def _restore_vectors(graph: Any, vectors: Sequence[np.ndarray[Any, np.dtype[np.float32]]]) -> None:
    """Restore fp32 vectors that openvino-genai rounds to F16 when it saves a model.

    These are norm weights and rotary frequencies; the error of the latter grows with the length of the text.
    """
    from openvino import op

    rounded = {vector.astype(np.float16).tobytes(): vector for vector in vectors}
    for node in graph.get_ops():
        if node.get_type_name() != "Constant" or node.get_element_type().get_type_name() != "f16":
            continue
        shape = tuple(node.get_output_shape(0))
        exact = rounded.get(node.data.tobytes()) if int(np.prod(shape)) == max(shape, default=0) else None
        if exact is None:
            continue
        constant = op.Constant(exact.reshape(shape))
        for user in node.output(0).get_target_inputs():
            convert = user.get_node()
            for consumer in convert.output(0).get_target_inputs():
                consumer.replace_source_output(constant.output(0))
