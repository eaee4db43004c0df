"""A classifier in ONNX, against the network itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sizewise.errors import SizewiseError
from sizewise.lm import classifier_onnx
from sizewise.lm.classifier_format import SavedClassifier
from sizewise.lm.classifier_onnx import OnnxClassifier, write_onnx
from tests.lm.test_classifier_openvino import TEXTS, classifier

__all__ = ["classifier"]


def test_onnxruntime_computes_the_same_logits(classifier: SavedClassifier, tmp_path: Path) -> None:
    write_onnx(classifier, tmp_path)
    opened, expected = OnnxClassifier(tmp_path, classifier.encoder), classifier.logits(TEXTS)
    assert expected.std(0).max() > 0.01
    assert np.abs(opened.logits(TEXTS) - expected).max() < 1e-4
    assert np.abs(opened.logits(TEXTS[:1]) - expected[:1]).max() < 1e-4
    assert opened.logits([]).shape == (0, 3)


@pytest.mark.parametrize("classifier", ["full"], indirect=True)
def test_what_one_file_cannot_hold_is_refused(
    classifier: SavedClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classifier_onnx, "MAX_BYTES", 1_000)
    with pytest.raises(SizewiseError, match="holds 2 GB"):
        write_onnx(classifier, tmp_path)

    def failing(*args: object, **more: object) -> None:
        raise torch.onnx.errors.UnsupportedOperatorError("aten::odd", 18, None)

    monkeypatch.setattr(classifier_onnx, "MAX_BYTES", 2**31)
    monkeypatch.setattr(torch.onnx, "export", failing)
    with pytest.raises(SizewiseError, match=r"can't export this network as ONNX.*aten::odd"):
        write_onnx(classifier, tmp_path)
    assert not list(tmp_path.glob("*.onnx"))
