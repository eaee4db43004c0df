"""Sentence encoders: the vectors of transformers, whatever the batch; long and odd texts; folders that are refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from sizewise.errors import SizewiseError, UsageError
from sizewise.retrieval import Encoder, open_encoder
from sizewise.store import Store
from tests.retrieval.encoders import add_pooling, write_encoder

TEXTS = ["my card", "the loan and the mortgage rate please", "", "\u4f60\u597d \U0001f600 card", "pin " * 50, "card"]


def reference(folder: Path, texts: list[str], pooling: str = "mean", limit: int = 24) -> npt.NDArray[np.float32]:
    """Compute the vectors with transformers, one text at a time."""
    import torch
    from tokenizers import Tokenizer
    from transformers import AutoModel

    network = AutoModel.from_pretrained(folder).eval()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(limit)
    found = []
    for text in texts:
        with torch.inference_mode():
            hidden = network(torch.tensor([tokenizer.encode(text).ids])).last_hidden_state[0]
        pooled = {"mean": hidden.mean(0), "cls_token": hidden[0], "max_tokens": hidden.max(0).values}[pooling]
        found.append((pooled / pooled.norm()).numpy())
    return np.stack(found)


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta", "mpnet", "distilbert"])
def test_vectors_are_those_of_transformers(tmp_path: Path, family: str) -> None:
    folder = write_encoder(tmp_path / family, family)
    found = Encoder.open(folder).encode(TEXTS)
    assert found.dtype == np.float32
    assert np.abs(found - reference(folder, TEXTS)).max() < 1e-5


@pytest.mark.parametrize("pooling", ["cls_token", "mean_tokens", "max_tokens"])
def test_pooling_and_length_are_those_of_the_folder(tmp_path: Path, pooling: str) -> None:
    folder = write_encoder(tmp_path / "one", hidden_act="gelu_new" if pooling == "cls_token" else "relu")
    add_pooling(folder, pooling, max_tokens=9)
    encoder = Encoder.open(folder)
    read = encoder.read(TEXTS)
    assert np.abs(read.vectors - reference(folder, TEXTS, pooling.replace("mean_tokens", "mean"), 9)).max() < 1e-5
    assert read.tokens.max() == encoder.max_tokens == 9
    assert read.truncated.tolist() == [False, False, False, False, True, False]
    assert encoder.count_tokens(["my card", ""]) == [4, 2]


def test_vectors_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    encoder = Encoder.open(write_encoder(tmp_path / "one"))
    whole = encoder.encode(TEXTS)
    assert np.allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-6)
    for batch in (1, 2, 5):
        assert np.abs(encoder.encode(TEXTS, batch) - whole).max() < 1e-5
    assert np.abs(encoder.encode(TEXTS[::-1])[::-1] - whole).max() < 1e-5
    assert encoder.encode([]).shape == (0, 32)


def test_a_megabyte_of_text_and_half_a_character(tmp_path: Path) -> None:
    encoder = Encoder.open(write_encoder(tmp_path / "one"))
    read = encoder.read(["my card " * 125_000, "card \ud83d", "\x00"])
    assert read.truncated.tolist() == [True, False, False]
    assert np.isfinite(read.vectors).all()


def test_the_onnx_file_is_complete(tmp_path: Path) -> None:
    import onnxruntime

    encoder = Encoder.open(write_encoder(tmp_path / "one"))
    path = encoder.write_onnx(tmp_path / "out" / "encoder.onnx")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    ids = np.array(encoder.token_ids(["my card and the pin"]))
    (found,) = session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})
    assert np.abs(found - encoder.encode(["my card and the pin"])).max() < 1e-6
    assert [one.name for one in session.get_outputs()] == ["sentence_embedding"]
    assert list(path.parent.iterdir()) == [path]


def test_half_precision_weights_open(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModel

    folder = write_encoder(tmp_path / "one")
    rounded = AutoModel.from_pretrained(folder).to(torch.bfloat16)
    rounded.save_pretrained(tmp_path / "two")
    (tmp_path / "two" / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    rounded.float().save_pretrained(tmp_path / "three")
    (tmp_path / "three" / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    two, three = Encoder.open(tmp_path / "two"), Encoder.open(tmp_path / "three")
    assert np.abs(two.encode(TEXTS) - three.encode(TEXTS)).max() < 1e-6
    assert two.fingerprint != three.fingerprint


def edited(folder: Path, file: str, **changes: object) -> Path:
    written = json.loads((folder / file).read_text(encoding="utf-8"))
    (folder / file).write_text(json.dumps(written | changes), encoding="utf-8")
    return folder


def test_folders_that_cannot_be_opened_say_why(tmp_path: Path) -> None:
    with pytest.raises(SizewiseError, match="does not exist"):
        Encoder.open(tmp_path / "nothing")
    folder = write_encoder(tmp_path / "one")
    for change, said in (({"model_type": "llama"}, "'llama'"), ({"hidden_act": "swish"}, "'swish'")):
        before = (folder / "config.json").read_text(encoding="utf-8")
        with pytest.raises(SizewiseError, match=said):
            Encoder.open(edited(folder, "config.json", **change))
        (folder / "config.json").write_text(before, encoding="utf-8")
    with pytest.raises(SizewiseError, match=r"layer\.2"):
        Encoder.open(edited(folder, "config.json", num_hidden_layers=3))
    edited(folder, "config.json", num_hidden_layers=2)
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:-100])
    with pytest.raises(SizewiseError, match="not a complete safetensors file"):
        Encoder.open(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(SizewiseError, match="no complete weights"):
        Encoder.open(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(SizewiseError, match=r"tokenizer\.json does not exist"):
        Encoder.open(folder)


def test_other_modules_and_poolings_are_refused(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path / "one")
    add_pooling(folder, "mean_sqrt_len_tokens")
    with pytest.raises(SizewiseError, match="pooling none"):
        Encoder.open(folder)
    modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    modules.append({"path": "3_Dense", "type": "sentence_transformers.models.Dense"})
    (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    with pytest.raises(SizewiseError, match="'Dense'"):
        Encoder.open(folder)


def test_uris_open_encoders(tmp_path: Path, store: Store) -> None:
    folder = write_encoder(tmp_path / "one")
    assert open_encoder(folder, store=store).width == 32
    write_encoder(store.folder("checkpoint", "checkpoint-1") / "model")
    assert open_encoder("run:checkpoint-1", store=store).width == 32
    for uri in ("pkg:nothing", "run:checkpoint-2", "fake:echo", ""):
        with pytest.raises(UsageError, match="pkg:minilm"):
            open_encoder(uri, store=store)


def test_encoding_loads_no_torch_and_keeps_no_telemetry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, home = write_encoder(tmp_path / "one"), tmp_path / "user"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for name in ("XDG_CACHE_HOME", "ORT_DISABLE_TELEMETRY"):
        monkeypatch.delenv(name, raising=False)
    code = (
        f"import sys; from sizewise.retrieval import Encoder; encoder = Encoder.open({str(folder)!r})\n"
        "print(encoder.encode(['my card']).shape, {'torch', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(1, 32) set()"
    assert done.stderr == ""
    assert (
        list(home.rglob("*")) == []
    )  # onnxruntime's telemetry opens a database in the cache as soon as it is imported
