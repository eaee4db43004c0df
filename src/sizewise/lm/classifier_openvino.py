"""Classifiers in OpenVINO's format, which computes the same logits as the network in about two thirds of the time."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sizewise.lm.attention import additive_masks
from sizewise.lm.classifier_format import Encoder, FloatArray, SavedClassifier, score_logits

GRAPH = "openvino_model.xml"
MAX_DIFFERENCE = 1e-3
"""Maximum difference of a probability from the network's."""
TRACED = (2, 12)  # texts and tokens of the input that the conversion follows


class Traced(torch.nn.Module):
    """The network as a function that exporters can trace."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, ids: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
        """Compute logits (texts, labels) of token ids (texts, tokens) and the places of last tokens (texts,)."""
        place = torch.arange(ids.shape[1])
        distance = place[:, None] - place[None]
        masks = additive_masks(self.network.config, distance >= 0, distance, torch.float32)
        hidden = self.network.base_model(
            input_ids=ids, attention_mask=masks, position_ids=place[None], use_cache=False
        ).last_hidden_state
        chosen = hidden.gather(1, last[:, None, None].expand(-1, 1, hidden.shape[-1]))[:, 0]
        return self.network.score(chosen)


def is_installed() -> bool:
    """Check whether OpenVINO is installed."""
    return importlib.util.find_spec("openvino") is not None


def engine_name() -> str:
    """Return the name and version of the engine."""
    return f"openvino {metadata.version('openvino')}"


def write_graph(classifier: SavedClassifier, folder: Path, texts: Sequence[str]) -> str | None:
    """Write a classifier for OpenVINO beside its other files, if it gives the same probabilities.

    Args:
        classifier: the network and its encoder.
        folder: destination folder.
        texts: texts on which both are compared.

    Returns:
        Why there is no such file; None if it was written.
    """
    import openvino
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    example = {"ids": torch.ones(TRACED, dtype=torch.long), "last": torch.full(TRACED[:1], TRACED[1] - 1)}
    frontend = FrontEndManager().load_by_framework("pytorch")
    try:
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tracing warns of every branch of transformers' code
            decoder = TorchScriptPythonDecoder(Traced(classifier.network), example_input=example)
            graph = frontend.convert(frontend.load(decoder))
        openvino.save_model(graph, folder / GRAPH)  # in fp16, which holds the bf16 weights
        found = OpenVinoClassifier(folder, classifier.encoder).probabilities(texts)
    except Exception as error:  # the conversion may fail in any way for an architecture that it doesn't know
        remove_graph(folder)
        return (
            f"OpenVINO can't convert this architecture: {(str(error).strip() or type(error).__name__).splitlines()[0]}"
        )
    difference = float(np.abs(found - classifier.probabilities(texts)).max())
    if not difference <= MAX_DIFFERENCE:  # `not <=` also rejects NaN
        remove_graph(folder)
        return f"OpenVINO's probabilities differ from the network's by {difference:.2g}"
    return None


def remove_graph(folder: Path) -> None:
    """Remove the files of `write_graph`."""
    for path in (folder / GRAPH, (folder / GRAPH).with_suffix(".bin")):
        path.unlink(missing_ok=True)


class OpenVinoClassifier:
    """A classifier that OpenVINO runs in fp32.

    Args:
        folder: folder of `write_graph`.
        encoder: encodes texts.
    """

    def __init__(self, folder: Path, encoder: Encoder) -> None:
        import openvino

        settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        self._compiled = openvino.Core().compile_model(folder / GRAPH, "CPU", settings)
        self._request = self._compiled.create_infer_request()
        self.encoder = encoder
        self.engine = engine_name()

    def logits(self, texts: Sequence[str]) -> FloatArray:
        """Compute the logits of texts, (texts, labels)."""
        if not texts:
            return np.zeros((0, self._compiled.output(0).get_partial_shape()[1].get_length()))
        return score_logits(self._classify, self.encoder(texts))

    def probabilities(self, texts: Sequence[str]) -> FloatArray:
        """Compute the softmax of the logits."""
        return torch.from_numpy(self.logits(texts)).softmax(-1).numpy()

    def _classify(self, ids: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
        found = self._request.infer([ids.numpy(), last.numpy()])[0]
        return torch.from_numpy(found.copy())
