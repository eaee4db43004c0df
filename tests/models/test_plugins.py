from __future__ import annotations

import importlib
import shutil
from pathlib import Path

import pytest

from sizewise.errors import SizewiseError
from sizewise.evaluation import evaluate
from sizewise.models import open_model
from sizewise.records import Dataset
from sizewise.store import Saved, Store

EXAMPLES = Path(__file__).parents[2] / "examples"
EXAMPLE = EXAMPLES / "shouting_model.py"
METRIC = EXAMPLES / "digits_metric.py"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The example, installed as a package would be."""
    site = tmp_path / "site"
    facts = site / "shouting_model-1.0.dist-info"
    facts.mkdir(parents=True)
    shutil.copy(EXAMPLE, site)
    shutil.copy(METRIC, site)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: shouting-model\nVersion: 1.0\n", encoding="utf-8")
    (facts / "entry_points.txt").write_text(
        "[sizewise.models]\nshout = shouting_model:ShoutingModel\nbroken = shouting_model:nothing\n"
        "[sizewise.metrics]\ndigits_kept = digits_metric:DigitsKept\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(str(site))
    importlib.invalidate_caches()
    return site


def test_the_example_opens_and_is_evaluated(installed: Path, dataset: Saved[Dataset], store: Store) -> None:
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) < 40
    record = evaluate("shout:loud", dataset.id, ["bleu", "bits_per_byte"], store=store, limit=4).record
    assert record.model.uri == "shout:loud"
    assert record.scores["bleu"].value is not None
    assert record.scores["bits_per_byte"].missing_reason is not None
    assert open_model("shout:loud", store=store).ask("Hello") == "HELLO"


def test_the_example_of_a_metric_measures_with_an_interval(
    installed: Path, dataset: Saved[Dataset], store: Store
) -> None:
    assert len(METRIC.read_text(encoding="utf-8").splitlines()) < 40
    copied = evaluate("fake:copy", dataset.id, ["digits_kept"], store=store).record.scores["digits_kept"]
    silent = evaluate("fake:silent", dataset.id, ["digits_kept"], store=store).record.scores["digits_kept"]
    assert silent.value == 0
    assert copied.value is not None
    assert copied.n > 0
    assert "digits_kept" in copied.signature


def test_a_broken_plug_in_is_named(installed: Path, store: Store) -> None:
    with pytest.raises(SizewiseError, match="shouting-model failed to open broken:x"):
        open_model("broken:x", store=store)
