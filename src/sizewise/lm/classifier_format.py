"""Classifiers as Hugging Face folders, as `AutoModelForSequenceClassification` loads them.

A text is encoded as the model's beginning token, if it has one, the text and a fixed suffix, at whose last token the
labels are read. The suffix is part of the saved tokenizer, so transformers encodes texts in the same way.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import processors
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from sizewise.errors import SizewiseError
from sizewise.lm.checking import VERIFIED
from sizewise.lm.control_tokens import control_tokens, encode_many, hide
from sizewise.lm.execution import execution_of
from sizewise.lm.hf_format import check_folder, load_error, load_tokenizer, quiet_libraries
from sizewise.lm.tokenizer import begin_ids

FloatArray = npt.NDArray[np.float64]
SUFFIX = "\nCategory:"
SETTINGS = "sizewise_classifier.json"
PLAIN_BATCH = 8
BATCH_TOKENS = 2048  # tokens that are scored at once


class Encoder:
    """Turns texts into token ids for a classifier: beginning token, text, suffix.

    Args:
        tokenizer: the model's tokenizer.
        limit: maximum tokens of a sequence; longer texts lose their end, never the suffix.
        suffix: ids after the text; by default those of `SUFFIX`.
        begin: ids before the text; by default the beginning-of-text tokens that the tokenizer adds.
    """

    def __init__(
        self,
        tokenizer: Any,
        limit: int,
        suffix: Sequence[int] | None = None,
        begin: Sequence[int] | None = None,
    ) -> None:
        self.tokenizer, self.limit = tokenizer, limit
        self.begin: list[int] = begin_ids(tokenizer) if begin is None else list(begin)
        ids = tokenizer(SUFFIX, add_special_tokens=False).input_ids if suffix is None else suffix
        self.suffix: list[int] = list(ids)

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Encode texts. Control tokens in them are text."""
        room = self.limit - len(self.begin) - len(self.suffix)
        encoded = encode_many(self.tokenizer, [hide(self.tokenizer, text) for text in texts])
        return [[*self.begin, *one.ids[:room], *self.suffix] for one in encoded]


@torch.inference_mode()
def score_logits(
    classify: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], ids: Sequence[list[int]]
) -> FloatArray:
    """Compute logits (texts, labels) in batches of similar length.

    Args:
        classify: maps token ids (texts, tokens), padded on the right, and the places of last tokens to logits.
        ids: encoded texts.
    """
    order = sorted(range(len(ids)), key=lambda i: (-len(ids[i]), i))
    found: dict[int, FloatArray] = {}
    while order:
        longest = len(ids[order[0]])
        size = max(1, BATCH_TOKENS // longest)
        batch, order = order[:size], order[size:]
        inputs = torch.zeros((len(batch), longest), dtype=torch.long)
        for row, i in enumerate(batch):
            inputs[row, : len(ids[i])] = torch.tensor(ids[i])
        last = torch.tensor([len(ids[i]) - 1 for i in batch])
        for i, logits in zip(batch, classify(inputs, last).double().numpy(), strict=True):
            found[i] = logits
    return np.stack([found[i] for i in range(len(ids))])


class SavedClassifier(NamedTuple):
    """A network with a head, and the encoder of its texts."""

    network: Any
    """An `AutoModelForSequenceClassification`, in fp32."""
    encoder: Encoder

    def logits(self, texts: Sequence[str]) -> FloatArray:
        """Compute the logits of texts, (texts, labels)."""
        if not texts:
            return np.zeros((0, self.network.config.num_labels))
        return score_logits(self._classify, self.encoder(texts))

    def probabilities(self, texts: Sequence[str]) -> FloatArray:
        """Compute the softmax of the logits."""
        return torch.from_numpy(self.logits(texts)).softmax(-1).numpy()

    def _classify(self, ids: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
        # Padding is on the right, where causal attention ignores it, so no mask is needed.
        device = self.network.device
        hidden = self.network.base_model(input_ids=ids.to(device), use_cache=False).last_hidden_state
        return self.network.score(hidden[torch.arange(len(last)), last.to(device)]).cpu()


def check_supported(network: Any) -> None:
    """Check that transformers has a classifier of this architecture, with one linear layer over the last token.

    Raises:
        SizewiseError: it has none.
    """
    config, execution = network.config, execution_of(network)
    found = type(config) in AutoModelForSequenceClassification._model_mapping and execution.logits == "head"
    if found and config.model_type not in VERIFIED:
        with torch.device("meta"):
            classifier = AutoModelForSequenceClassification.from_config(copy.deepcopy(config))
        decoder = getattr(classifier, classifier.base_model_prefix, None)
        found = hasattr(classifier, "score") and type(decoder) is type(execution.decoder)
    if not found:
        raise SizewiseError(
            f"transformers has no classifier of the architecture '{config.model_type}'.",
            "Llama, Mistral, Qwen 2 or 3, Gemma 3 or Phi-3",
            "choose another model: sizewise models; or --method options",
        )


def padding_of(tokenizer: Any, suffix: Sequence[int]) -> int:
    """Choose a padding token that no text's sequence ends with, because transformers looks for the last other token."""
    candidates = (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.unk_token_id)
    found = next((i for i in candidates if i is not None and i != suffix[-1]), None)
    if found is None:
        found = next(i for i in control_tokens(tokenizer).values() if i != suffix[-1])
    return int(found)


def as_classifier(network: Any, score: torch.Tensor, labels: Sequence[str], padding: int, independent: bool) -> Any:
    """Put a head on a language model's decoder, rounded to bf16 as it will be saved.

    Args:
        network: a causal language model without adapters; its decoder becomes part of the classifier.
        score: (labels, width) weights of the head.
        labels: names of the labels.
        padding: id of the padding token.
        independent: whether each label has a probability of its own.
    """
    config = type(network.config).from_dict(network.config.to_dict())
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: i for i, label in enumerate(labels)}
    config.pad_token_id = padding
    config.problem_type = "multi_label_classification" if independent else "single_label_classification"
    with torch.device("meta"):
        classifier = AutoModelForSequenceClassification.from_config(config)
    setattr(classifier, classifier.base_model_prefix, execution_of(network).decoder)
    classifier.score = torch.nn.Linear(score.shape[1], score.shape[0], bias=False, device=score.device)
    classifier.score.weight = torch.nn.Parameter(score.detach().clone())
    classifier.base_model.config.use_cache = False
    with _in_bf16(classifier):
        pass
    return classifier.eval()


@contextmanager
def _in_bf16(network: Any) -> Iterator[None]:
    """Convert a network to bf16 and back. Buffers, such as the frequencies of rotary positions, keep their values."""
    modules = list(network.modules())
    exact = [(one, name, buffer.clone()) for one in modules for name, buffer in one.named_buffers(recurse=False)]
    network.to(torch.bfloat16)
    try:
        yield
    finally:
        network.float()
        for module, name, buffer in exact:
            setattr(module, name, buffer)


def save_classifier(classifier: SavedClassifier, folder: Path) -> None:
    """Write a classifier in bf16 with its tokenizer.

    Raises:
        SizewiseError: the folder can't be written, for example because the disk is full.
    """
    network, encoder = classifier
    tokenizer = type(encoder.tokenizer).from_pretrained(_copied(encoder.tokenizer, folder))
    backend = tokenizer.backend_tokenizer
    names = [tokenizer.convert_ids_to_tokens(i) for i in encoder.suffix]
    special = {"id": "suffix", "ids": encoder.suffix, "tokens": names}
    suffix = processors.TemplateProcessing(single="$A suffix", pair="$A $B suffix", special_tokens=[special])
    parts = [backend.post_processor] if backend.post_processor is not None else []
    backend.post_processor = processors.Sequence([*parts, suffix])
    tokenizer.padding_side = "right"
    tokenizer.pad_token_id = network.config.pad_token_id
    tokenizer.model_max_length = encoder.limit
    try:
        with _in_bf16(network):
            network.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        settings = {"suffix": encoder.suffix, "limit": encoder.limit, "begin": encoder.begin}
        (folder / SETTINGS).write_text(json.dumps(settings) + "\n", encoding="utf-8")
    except OSError as error:
        raise SizewiseError(
            f"{folder} can't be written: {error.strerror or error}.",
            "a writable folder with enough free space",
            "export SIZEWISE_HOME=FOLDER or free disk space, then run the same command again",
        ) from error


def _copied(tokenizer: Any, folder: Path) -> Path:
    """Save a tokenizer, so that a copy can be changed."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    return folder


def load_encoder(folder: Path) -> Encoder:
    """Load the encoder of a classifier.

    Raises:
        SizewiseError: a file is missing or damaged.
    """
    quiet_libraries()
    try:
        settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        return Encoder(load_tokenizer(folder), settings["limit"], settings["suffix"], settings["begin"])
    except (OSError, ValueError, LookupError) as error:
        raise load_error(folder, error) from error


def load_classifier(folder: Path) -> SavedClassifier:
    """Load a classifier in fp32.

    Raises:
        SizewiseError: a file is missing or damaged.
    """
    check_folder(folder)
    encoder = load_encoder(folder)
    try:
        network, report = AutoModelForSequenceClassification.from_pretrained(
            folder,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except Exception as error:  # transformers may raise anything for a damaged folder
        raise load_error(folder, error) from error
    if report.get("missing_keys") or report.get("mismatched_keys"):
        raise SizewiseError(
            f"{folder} has no complete classification head.",
            "a classifier as training wrote it",
            "train the classifier again: sizewise train",
        )
    return SavedClassifier(network.eval(), encoder)


def remove_weights(folder: Path) -> None:
    """Remove transformers' weights from a classifier's folder; config and tokenizer stay."""
    for path in folder.glob("*.safetensors*"):
        path.unlink()


@torch.inference_mode()
def plain_probabilities(folder: Path, texts: Sequence[str], independent: bool) -> FloatArray:
    """Compute probabilities with transformers alone, as someone does who only has the folder.

    Args:
        folder: a classifier's folder.
        texts: texts without control tokens.
        independent: whether each label has a probability of its own.
    """
    quiet_libraries()
    network = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    found = []
    for start in range(0, len(texts), PLAIN_BATCH):
        batch = list(texts[start : start + PLAIN_BATCH])
        logits = network(**tokenizer(batch, return_tensors="pt", padding=True)).logits
        found.append((logits.sigmoid() if independent else logits.softmax(-1)).double().numpy())
    return np.concatenate(found)
