"""Turn weights into what openvino-genai opens."""

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
WEIGHTS_FILE = "openvino_config.json"  # named as optimum-intel names it
READS = ("llama", "mistral", "qwen2", "qwen3")  # architectures whose GGUF openvino-genai reads


def engine_name() -> str:
    """Name the engine with its version."""
    return f"openvino-genai {metadata.version('openvino-genai')}"


def require() -> None:
    """Make sure that the engine is installed.

    Raises:
        MissingExtraError: it is not.
    """
    if importlib.util.find_spec("openvino_genai") is None:
        raise MissingExtraError("openvino-genai", "openvino")


def convert(folder: Path, out: Path, name: str, license: str) -> None:
    """Turn a Hugging Face folder into one that openvino-genai opens, by way of an F16 GGUF file.

    Args:
        folder: a Hugging Face folder.
        out: where to; it appears only when it is whole.
        name: what the model is called.
        license: licence of its weights.

    Raises:
        MissingExtraError: openvino-genai is not installed.
        SizewiseError: the architecture or the tokenizer is not one that it reads.
    """
    from sizewise.lm import hf_format as folders
    from sizewise.lm.gguf_writing import check_writable

    require()
    config, tokenizer = folders.load_config(folder), folders.load_tokenizer(folder)
    _check_read(config)
    check_writable(config, tokenizer)  # before the weights are loaded, which takes long
    convert_network(folders.load_network(folder, "fp32"), tokenizer, out, name, license)


def _check_read(config: Any) -> None:
    if config.model_type not in READS:
        raise SizewiseError(
            f"openvino-genai does not read GGUF of the architecture '{config.model_type}'.",
            " or ".join(READS),
            "--to hf, or --engine transformers",
        )


def convert_network(
    network: Any, tokenizer: Any, out: Path, name: str, license: str, quantisation: str = "f16"
) -> None:
    """Turn a network and its tokenizer into a folder that openvino-genai opens; see `convert`.

    Args:
        network: a causal language model, in fp32.
        tokenizer: its tokenizer.
        out: where to; it appears only when it is whole.
        name: what the model is called.
        license: licence of its weights.
        quantisation: how weights are kept: `f16`, or `q8_0`, 8 bits each and a scale for 32.
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
        write_gguf(network, tokenizer, packed, quantisation, name, license)
        # It is saved beside the file that it was read from.
        pipeline = openvino_genai.LLMPipeline(str(packed), "CPU", enable_save_ov_model=True)
        del pipeline
        graph = openvino.Core().read_model(Path(temporary) / MODEL_FILE)
        _restore_vectors(graph, vectors_of(network))
        openvino.save_model(graph, made / MODEL_FILE, compress_to_fp16=False)
        del graph
        # The tokenizer that it makes of a GGUF file cuts digits in its own way; this one is made of ours.
        parts = convert_tokenizer(tokenizer, with_detokenizer=True, skip_special_tokens=True)
        for title, part in zip(("openvino_tokenizer.xml", "openvino_detokenizer.xml"), parts, strict=True):
            openvino.save_model(part, made / title, compress_to_fp16=False)
        (made / WEIGHTS_FILE).write_text(json.dumps({"weights": quantisation}) + "\n", encoding="utf-8")
        network.config.save_pretrained(made)
        network.generation_config.save_pretrained(made)
        tokenizer.save_pretrained(made)
        shutil.rmtree(out, ignore_errors=True)
        made.rename(out)


def weights_of(folder: Path) -> str:
    """Say how a folder keeps its weights, as `convert_network` wrote it."""
    path = folder / WEIGHTS_FILE
    told = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return str(told.get("weights", "f16"))


def _restore_vectors(graph: Any, vectors: Sequence[np.ndarray[Any, np.dtype[np.float32]]]) -> None:
    """Put vectors back in fp32 that openvino-genai rounds to F16 when it saves a model.

    Those are the norms' weights and the frequencies of the rotary positions, whose error grows with the length of the
    text.
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
        whole = op.Constant(exact.reshape(shape))
        for user in node.output(0).get_target_inputs():
            convert = user.get_node()
            for wanting in convert.output(0).get_target_inputs():
                wanting.replace_source_output(whole.output(0))
