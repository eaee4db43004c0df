"""Classifiers in ONNX, with the inputs and the output of `AutoModelForSequenceClassification`.

PyTorch's exporter asks for the package `onnx` only to add functions of onnxscript to a graph. A classifier has none, so
that step is left out.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sizewise.errors import SizewiseError
from sizewise.lm.classifier_format import Encoder, FloatArray, SavedClassifier, score_logits
from sizewise.lm.classifier_openvino import TRACED, Traced

GRAPH = "model.onnx"
OPSET = 18
MAX_BYTES = 2**31 - 2**20
"""Size that one file in ONNX's format may have, less what isn't weights."""


class _Masked(torch.nn.Module):
    """The network as a function of token ids and mask, (texts, tokens); padding is on the right."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.traced = Traced(network)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.traced(input_ids, attention_mask.sum(1) - 1)
        return found


@contextmanager
def _without_onnxscript() -> Iterator[None]:
    """Leave out the step of the export that needs the package `onnx`."""
    from torch.onnx._internal.torchscript_exporter import onnx_proto_utils as protos

    plain = protos._add_onnxscript_fn
    protos._add_onnxscript_fn = lambda model, opsets: model
    try:
        yield
    finally:
        protos._add_onnxscript_fn = plain


def write_onnx(classifier: SavedClassifier, folder: Path) -> None:
    """Write a classifier's network as `model.onnx`, with the inputs `input_ids` and `attention_mask`, in fp32.

    Args:
        classifier: the network and its encoder.
        folder: destination folder, which exists.

    Raises:
        SizewiseError: the network is too large for one file, or PyTorch can't export its architecture.
    """
    size = sum(one.numel() * 4 for one in classifier.network.parameters())
    if size > MAX_BYTES:
        raise SizewiseError(
            f"The classifier's weights take {size / 1e9:.1f} GB in fp32, and a file in ONNX's format holds 2 GB.",
            "a smaller network, or another format",
            "--to openvino",
        )
    example = (torch.ones(TRACED, dtype=torch.long), torch.ones(TRACED, dtype=torch.long))
    made = io.BytesIO()
    try:
        with torch.inference_mode(), warnings.catch_warnings(), _without_onnxscript():
            warnings.simplefilter("ignore")  # tracing warns of every branch of transformers' code
            torch.onnx.export(
                _Masked(classifier.network),
                example,
                made,
                dynamo=False,
                opset_version=OPSET,
                input_names=["input_ids", "attention_mask"],
                output_names=["logits"],
                dynamic_axes={
                    "input_ids": {0: "texts", 1: "tokens"},
                    "attention_mask": {0: "texts", 1: "tokens"},
                    "logits": {0: "texts"},
                },
            )
    except Exception as error:  # the export may fail in any way for an architecture that it doesn't know
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SizewiseError(
            f"PyTorch {torch.__version__} can't export this network as ONNX: {reason}", "another format", "--to hf"
        ) from error
    (folder / GRAPH).write_bytes(made.getbuffer())


class OnnxClassifier:
    """A classifier that onnxruntime runs in fp32.

    Args:
        folder: folder of `write_onnx`.
        encoder: encodes texts.
    """

    def __init__(self, folder: Path, encoder: Encoder) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(folder / GRAPH), options, providers=["CPUExecutionProvider"])
        self.encoder = encoder
        self.engine = f"onnxruntime {onnxruntime.__version__}"

    def logits(self, texts: Sequence[str]) -> FloatArray:
        """Compute the logits of texts, (texts, labels)."""
        if not texts:
            return np.zeros((0, self._session.get_outputs()[0].shape[1]))
        return score_logits(self._classify, self.encoder(texts))

    def _classify(self, ids: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
        mask = torch.arange(ids.shape[1])[None] <= last[:, None]
        inputs = {"input_ids": ids.numpy(), "attention_mask": mask.long().numpy()}
        return torch.from_numpy(self._session.run(["logits"], inputs)[0])
