"""Every kind of model can be evaluated on the same test items."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sizewise import datasets
from sizewise.evaluation import evaluate
from sizewise.exporting import export
from sizewise.lm import hf_format
from sizewise.models.fake import FakeModel
from sizewise.models.openvino import convert_network
from sizewise.records import Dataset
from sizewise.store import Saved, Store
from tests.models.standin import StandIn
from tests.models.test_remote import KINDS
from tests.service.test_service import running

pytest.importorskip("pydantic_ai")


@pytest.mark.parametrize("uri", KINDS)
def test_providers(uri: str, monkeypatch: pytest.MonkeyPatch, dataset: Saved[Dataset], store: Store) -> None:
    key, address, path = KINDS[uri]
    server = StandIn()
    monkeypatch.setenv(key, "secret")
    monkeypatch.setenv(address, server.url + path)
    try:
        record = evaluate(uri, dataset.id, ["bleu", "bits_per_byte"], store=store, limit=4).record
    finally:
        server.close()
    assert (record.model.uri, record.failed) == (uri, 0)
    assert record.scores["bleu"].n > 0
    assert record.scores["usd_per_1000"].value is not None
    assert record.scores["bits_per_byte"].missing_reason


def as_folder(folder: Path, _: Path, __: Store) -> str:
    return str(folder)


def as_openvino(folder: Path, out: Path, _: Store) -> str:
    convert_network(hf_format.load_network(folder, "fp32"), hf_format.load_tokenizer(folder), out / "fast")
    return str(out / "fast")


def as_gguf(folder: Path, out: Path, store: Store) -> str:
    export(str(folder), "gguf-f16", out / "packed", store=store)
    (path,) = (out / "packed").rglob("*.gguf")
    return f"gguf:{path}"


@pytest.mark.parametrize(
    ("make", "engine"), [(as_folder, "transformers"), (as_openvino, "openvino-genai"), (as_gguf, "transformers")]
)
def test_weights_on_this_machine(
    make: Callable[[Path, Path, Store], str],
    engine: str,
    tiny_folder: Path,
    tmp_path: Path,
    dataset: Saved[Dataset],
    store: Store,
) -> None:
    plain = evaluate(str(tiny_folder), dataset.id, ["bleu", "bits_per_byte"], store=store, limit=4).record
    record = evaluate(
        make(tiny_folder, tmp_path, store), dataset.id, ["bleu", "bits_per_byte"], store=store, limit=4
    ).record
    assert record.model.engine.startswith(engine)
    assert record.failed == 0
    assert record.scores["bleu"].value == pytest.approx(plain.scores["bleu"].value)
    assert record.scores["bits_per_byte"].value == pytest.approx(plain.scores["bits_per_byte"].value, rel=1e-3)


def test_recorded_answers_and_an_openai_compatible_server(
    dataset: Saved[Dataset], store: Store, tmp_path: Path
) -> None:
    contents = datasets.load(store, dataset.id)
    path = tmp_path / "said.jsonl"
    rows = [{"id": one.id, "completion": one.references[0]} for one in contents.examples["test"]]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    recorded = evaluate(f"recorded:{path}", dataset.id, ["exact_match"], store=store).record
    assert recorded.scores["exact_match"].value == 1
    with running({"echo": FakeModel("echo")}) as address:
        served = evaluate(f"{address}/v1#echo", dataset.id, ["chrf"], store=store, limit=4).record
    assert (served.failed, served.model.uri) == (0, f"{address}/v1#echo")
    assert served.scores["chrf"].value > 0
