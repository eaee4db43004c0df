"""Read the folder of a sentence encoder: its network's settings, its pooling and its weights.

Folders of transformers (`config.json`, `model.safetensors`, `tokenizer.json`) and of sentence-transformers (with
`modules.json`) are read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sizewise.errors import SizewiseError

FAMILIES = ("bert", "roberta", "xlm-roberta", "camembert", "mpnet", "distilbert")
"""Values of `model_type` in config.json that can be opened."""
_POSITIONS_AFTER_PADDING = ("roberta", "xlm-roberta", "camembert", "mpnet")
ACTIVATIONS = {"gelu": "none", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh", "relu": ""}
"""Activation function -> approximation of the Gelu operation; empty for Relu."""
POOLINGS = ("mean", "cls", "max")
MODULES = ("Transformer", "Pooling", "Normalize")
DEFAULT_TOKENS = 512
PASSAGE_PROMPTS = ("document", "passage", "corpus")
EXPECTED = f"an encoder of the family {', '.join(FAMILIES[:-1])} or {FAMILIES[-1]} with mean, cls or max pooling"
NEXT = "use pkg:minilm, or another sentence encoder of these families"


class EncoderSettings(NamedTuple):
    """What a folder states about its encoder."""

    family: str
    """The `model_type`, one of `FAMILIES`."""
    width: int
    """Width of the hidden states and of the vectors."""
    layers: int
    """Number of layers."""
    heads: int
    """Attention heads of each layer."""
    activation: str
    """Activation function, one of `ACTIVATIONS`."""
    epsilon: float
    """Epsilon of the layer normalization."""
    first_position: int
    """Row of the position table that the first token uses."""
    max_tokens: int
    """Longest input in tokens, special tokens included; the rest of a text is cut off."""
    pooling: str
    """One of `POOLINGS`."""
    lowercase: bool
    """Whether texts are lower-cased before they are tokenized."""
    prompt: str
    """Text put in front of every text, as some encoders require."""
    passage_prompt: str
    """Text put in front of passages that questions are compared with."""


def is_encoder(folder: Path) -> bool:
    """Check whether a folder has a sentence encoder: a network of a known family without a task of its own."""
    try:
        config = _read_json(folder / "config.json")
    except SizewiseError:
        return False
    names = [str(name) for name in config.get("architectures") or ["Model"]]
    return config.get("model_type") in FAMILIES and all(name.endswith("Model") for name in names)


def read_settings(folder: Path) -> EncoderSettings:
    """Read the settings of an encoder.

    Raises:
        SizewiseError: the folder has no encoder, or one of an unsupported kind.
    """
    config = _read_json(folder / "config.json", required=True)
    family = config.get("model_type")
    if family not in FAMILIES:
        raise refused(folder, f"is a model of the type {family!r}")
    if config.get("is_decoder") or config.get("position_embedding_type", "absolute") != "absolute":
        raise refused(folder, "is a decoder, or doesn't have absolute positions")
    if family == "distilbert":
        names = {"dim": "hidden_size", "n_layers": "num_hidden_layers", "n_heads": "num_attention_heads"}
        config |= {new: config[old] for old, new in names.items() if old in config}
        config |= {"hidden_act": config.get("activation", "gelu"), "layer_norm_eps": 1e-12}
    activation = config.get("hidden_act", "gelu")
    if activation not in ACTIVATIONS:
        raise refused(folder, f"has the activation function {activation!r}")
    first = int(config.get("pad_token_id") or 0) + 1 if family in _POSITIONS_AFTER_PADDING else 0
    pooling = _read_pooling(folder)
    sentence = _read_json(folder / "sentence_bert_config.json")
    try:
        return EncoderSettings(
            family=family,
            width=int(config["hidden_size"]),
            layers=int(config["num_hidden_layers"]),
            heads=int(config["num_attention_heads"]),
            activation=activation,
            epsilon=float(config.get("layer_norm_eps", 1e-12)),
            first_position=first,
            max_tokens=_max_tokens(folder, sentence, int(config["max_position_embeddings"]) - first),
            pooling=pooling,
            lowercase=bool(sentence.get("do_lower_case")),
            **_prompts(folder),
        )
    except (LookupError, TypeError, ValueError) as error:
        raise SizewiseError(
            f"{folder / 'config.json'} lacks a setting, or has an invalid one: {error}",
            "the config.json that transformers writes",
            "save the encoder again with save_pretrained()",
        ) from error


def _max_tokens(folder: Path, sentence: Mapping[str, Any], positions: int) -> int:
    tokenizer = _read_json(folder / "tokenizer_config.json").get("model_max_length")
    stated = sentence.get("max_seq_length") or tokenizer or DEFAULT_TOKENS
    return max(4, min(int(stated), positions))


def _prompts(folder: Path) -> dict[str, str]:
    """Return the prompts of texts and of passages, as sentence-transformers finds them."""
    config = _read_json(folder / "config_sentence_transformers.json")
    known = config.get("prompts") or {}
    default = str(known.get(config.get("default_prompt_name")) or "")
    passage = next((str(known[name] or "") for name in PASSAGE_PROMPTS if name in known), default)
    return {"prompt": default, "passage_prompt": passage}


def _read_pooling(folder: Path) -> str:
    """Return the pooling; without modules.json, the mean, which sentence-transformers uses as well."""
    modules = _read_json(folder / "modules.json", default=[])
    for module in modules:
        kind = str(module.get("type", "")).rpartition(".")[2]
        if kind not in MODULES:
            raise refused(folder, f"has a module of the type {kind!r} after the network")
    paths = [str(module.get("path", "")) for module in modules if str(module.get("type")).endswith("Pooling")]
    if not paths:
        return "mean"
    config = _read_json(folder / paths[0] / "config.json", required=True)
    if mode := config.get("pooling_mode"):  # the form of sentence-transformers 5
        found = [mode] if isinstance(mode, str) else list(mode)
    else:
        found = [key.removeprefix("pooling_mode_") for key, used in config.items() if used is True]
        found = [name.removesuffix("_tokens").removesuffix("_token") for name in found if name != "include_prompt"]
    if len(found) != 1 or found[0] not in POOLINGS:
        raise refused(folder, f"has the pooling {' + '.join(map(str, found)) or 'none'}")
    return str(found[0])


def read_tensors(folder: Path) -> dict[str, npt.NDArray[np.float32]]:
    """Read the weights of an encoder as float32, without the prefix of its model class.

    Raises:
        SizewiseError: a file is missing or damaged.
    """
    found: dict[str, npt.NDArray[np.float32]] = {}
    for path in _weight_files(folder):
        found |= _read_file(path)
    table = "embeddings.word_embeddings.weight"
    prefix = next((name.removesuffix(table) for name in found if name.endswith(table)), None)
    if prefix is None:
        raise refused(folder, f"has no tensor named {table}")
    renamed = {".gamma": ".weight", ".beta": ".bias"}  # names of early BERT files
    names = {name: name.removeprefix(prefix) for name in found if name.startswith(prefix)}
    for old, new in renamed.items():
        names = {name: new_name.removesuffix(old) + new if new_name.endswith(old) else new_name
                 for name, new_name in names.items()}  # fmt: skip
    return {new: found[name] for name, new in names.items()}


def _weight_files(folder: Path) -> list[Path]:
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return [single]
    names = sorted(set(_read_json(index).get("weight_map", {}).values()))
    files = [folder / name for name in names if Path(name).name == name]
    if not files or not all(path.is_file() for path in files):
        raise SizewiseError(
            f"{folder} has no complete weights in model.safetensors.",
            "an encoder whose weights are safetensors files",
            "save it again with save_pretrained(), which writes safetensors",
        )
    return files


def _read_file(path: Path) -> dict[str, npt.NDArray[np.float32]]:
    from safetensors import SafetensorError, deserialize

    kinds = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16, "F64": np.float64}
    found = {}
    try:
        for name, tensor in deserialize(path.read_bytes()):  # type: ignore[no-untyped-call]
            if tensor["dtype"] not in kinds:
                continue  # position ids, an integer buffer in early files
            values = np.frombuffer(tensor["data"], dtype=kinds[tensor["dtype"]]).reshape(tensor["shape"])
            if tensor["dtype"] == "BF16":  # the upper half of a float32
                values = (values.astype(np.uint32) << 16).view(np.float32)
            found[name] = np.asarray(values, dtype=np.float32)
    except (OSError, SafetensorError, ValueError) as error:
        raise SizewiseError(
            f"{path} is not a complete safetensors file: {error}",
            "a complete file",
            "copy or download the encoder again",
        ) from error
    return found


def _read_json(path: Path, required: bool = False, default: Any = None) -> Any:
    if not path.is_file() and not required:
        return {} if default is None else default
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else f"can't be read: {error}"
        raise SizewiseError(
            f"{path} {reason}.", "a folder with config.json, model.safetensors and tokenizer.json", NEXT
        ) from error
    if not isinstance(found, dict if default is None else type(default)):
        raise SizewiseError(f"{path} doesn't have the expected form.", "the file that transformers writes", NEXT)
    return found


def refused(folder: Path, what: str) -> SizewiseError:
    """Build the error for a folder whose encoder can't be opened."""
    return SizewiseError(f"{folder} {what}.", EXPECTED, NEXT)
