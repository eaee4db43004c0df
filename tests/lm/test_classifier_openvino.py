"""A classifier that OpenVINO runs, against the network itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sizewise.lm import classifier_openvino
from sizewise.lm.classifier_format import (
    Encoder,
    SavedClassifier,
    as_classifier,
    load_classifier,
    padding_of,
    save_classifier,
)
from sizewise.lm.classifier_openvino import OpenVinoClassifier, write_graph
from sizewise.lm.hf_format import load_network, load_tokenizer
from tests.conftest import make_tiny

pytest.importorskip("openvino")
TEXTS = ["the patient names the record of the code 12", "", "Привет", "a device holds the plan of the claim " * 12]


@pytest.fixture(params=["full", "window:16", "pattern:SL:16"])
def classifier(request: pytest.FixtureRequest, tmp_path: Path, text_folder: Path) -> SavedClassifier:
    folder = make_tiny(tmp_path / "net", text_folder, request.param)
    network, tokenizer = load_network(folder, "fp32"), load_tokenizer(folder)
    encoder = Encoder(tokenizer, 64)
    score = torch.randn((3, network.config.hidden_size), generator=torch.Generator().manual_seed(0))
    padding = padding_of(tokenizer, encoder.suffix)
    return SavedClassifier(as_classifier(network, score, ["a", "b", "c"], padding, independent=False), encoder)


def test_openvino_computes_the_same_probabilities(classifier: SavedClassifier, tmp_path: Path) -> None:
    assert write_graph(classifier, tmp_path, TEXTS) is None
    opened = OpenVinoClassifier(tmp_path, classifier.encoder)
    expected = classifier.probabilities(TEXTS)
    assert expected.std(0).max() > 0.01
    assert np.abs(opened.probabilities(TEXTS) - expected).max() < 1e-4
    assert np.abs(opened.probabilities(TEXTS[:1]) - expected[:1]).max() < 1e-4
    assert opened.logits([]).shape == (0, 3)


@pytest.mark.parametrize("classifier", ["full"], indirect=True)
def test_saving_rounds_weights_and_not_the_frequencies_of_positions(
    classifier: SavedClassifier, tmp_path: Path
) -> None:
    save_classifier(classifier, tmp_path / "saved")
    loaded = load_classifier(tmp_path / "saved")
    for kind in ("named_parameters", "named_buffers"):
        ours, theirs = (dict(getattr(one.network, kind)()) for one in (classifier, loaded))
        assert any("inv_freq" in name for name in ours) == (kind == "named_buffers")
        for name, value in ours.items():
            assert value.dtype == torch.float32
            assert torch.equal(value, theirs[name]), name


@pytest.mark.parametrize("classifier", ["full"], indirect=True)
def test_a_conversion_with_other_probabilities_is_not_kept(
    classifier: SavedClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classifier_openvino, "MAX_DIFFERENCE", 0.0)
    assert "differ from the network's" in (write_graph(classifier, tmp_path, TEXTS) or "")
    assert not list(tmp_path.glob("openvino*"))
