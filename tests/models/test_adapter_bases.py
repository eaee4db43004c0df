"""Adapters and the weights that they belong to: a changed base makes another model, and faults have their names."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sizewise import datasets
from sizewise.errors import SizewiseError, UsageError
from sizewise.exporting import export
from sizewise.lm import hf_format
from sizewise.lm.hf_format import load_network
from sizewise.models import open_model
from sizewise.models.multi_lora import open_shared
from sizewise.models.opening import resolve_folder, revision_of
from sizewise.models.run_starts import full_uri
from sizewise.records import Checkpoint, Dataset, Recipe
from sizewise.store import Saved, Store
from sizewise.training import identity, run_id_of, train
from tests.models.test_reported_faults import adapters, llama, rewrite, saved

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


@pytest.fixture
def tokenizer(tiny_folder: Path) -> Any:
    return hf_format.load_tokenizer(tiny_folder)


def change(base: Path) -> None:
    """Put other weights into a folder, under the same names and of the same size."""
    network = load_network(base, "fp32")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    network.save_pretrained(base)


def logits(folder: Path) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = load_network(folder, "fp32")(torch.arange(3, 40)[None]).logits
    return found


def test_adapters_on_a_changed_base_are_merged_again_under_another_revision(
    tokenizer: Any, tmp_path: Path, store: Store
) -> None:
    base = saved(llama(len(tokenizer)), tokenizer, tmp_path / "base")
    adapters(base, tmp_path / "adapters")
    uri = str(tmp_path / "adapters")
    merged, revision = resolve_folder(uri, store)[0], revision_of(uri)
    recipe = Recipe(start=uri, tokens=500)
    run = run_id_of(recipe, "data-1")
    assert resolve_folder(uri, store)[0] == merged
    change(base)
    assert revision_of(uri) != revision
    assert run_id_of(recipe, "data-1") != run
    again = resolve_folder(uri, store)[0]
    assert again != merged
    assert float((logits(again) - logits(merged)).std()) > 0.1 * float(logits(merged).std())
    model = open_model(uri, store=store)
    assert model.describe().revision.startswith(revision_of(uri))
    model.close()


def test_adapters_of_the_hub_have_the_commit_of_their_base_in_their_revision(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    base = saved(llama(len(tokenizer)), tokenizer, tmp_path / "base")
    adapters(base, tmp_path / "adapters")
    rewrite(tmp_path / "adapters" / CONFIG, base_model_name_or_path="org/base")
    commits = {"adapters": ["a" * 40], "base": ["b" * 40, "c" * 40]}
    for name, states in commits.items():
        folder = tmp_path / "hub" / f"models--org--{name}"
        for commit in states:
            shutil.copytree(tmp_path / name, folder / "snapshots" / commit)
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text(states[0], encoding="utf-8")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("SIZEWISE_OFFLINE", "1")
    assert revision_of("hf:org/adapters") == f"{'a' * 40}-{'b' * 40}"
    (tmp_path / "hub" / "models--org--base" / "refs" / "main").write_text("c" * 40, encoding="utf-8")
    assert revision_of("hf:org/adapters") == f"{'a' * 40}-{'c' * 40}"


@pytest.fixture
def trained(text_folder: Path, tiny_folder: Path, store: Store, tmp_path: Path) -> tuple[list[str], Path]:
    """Two runs with adapters, whose start is given by a relative path."""
    data = datasets.read([text_folder], store=store, name="texts")
    small = {"tokens": 1_000, "context": 64, "control": "none", "rank": 4, "learning_rate": 0.02}
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        made = [
            train(Recipe.model_validate(small | {"start": tiny_folder.name, "seed": seed}), data.id, store=store).id
            for seed in (1, 2)
        ]
    finally:
        os.chdir(before)
    return made, tiny_folder


def test_a_run_finds_its_start_from_another_working_directory(
    trained: Any, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, tiny_folder = trained
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    shutil.copytree(tiny_folder, tiny_folder.name)  # another model under the same relative path
    change(Path(tiny_folder.name))
    record = store.read(Checkpoint, runs[0])
    assert (record.start, record.start_uri) == (tiny_folder.name, str(tiny_folder))
    done = export(runs[0], "hf", tmp_path / "out", store=store, prompts=4).record
    assert "adapter/" in done.notes[0]
    assert (tmp_path / "out" / "adapter").is_dir()
    uris = [f"run:{run}" for run in runs]
    shared = open_shared([*uris, str(tiny_folder)], store, "fp32")
    assert len(shared) == 3
    for one in shared.values():
        one.close()


def test_a_run_whose_start_changed_is_exported_as_it_was_and_shares_nothing(
    trained: Any, store: Store, tmp_path: Path
) -> None:
    runs, tiny_folder = trained
    own = store.folder("checkpoint", runs[0]) / "model"
    change(tiny_folder)
    uris = [f"run:{run}" for run in runs]
    with pytest.raises(SizewiseError, match="which has changed since") as refused:
        open_shared(uris, store, "fp32")
    assert store.read(Checkpoint, runs[0]).start_revision in refused.value.expected
    assert "run:" in refused.value.next_step
    done = export(runs[0], "hf", tmp_path / "out", store=store, prompts=4).record
    assert "has changed since" in done.notes[0]
    assert not (tmp_path / "out" / "adapter").exists()
    torch.testing.assert_close(logits(tmp_path / "out"), logits(own))
    shutil.rmtree(tiny_folder)
    done = export(runs[0], "hf", tmp_path / "gone", store=store, prompts=4).record
    assert "is no longer there" in done.notes[0]
    with pytest.raises(SizewiseError, match="is no longer there"):
        open_shared(uris, store, "fp32")


def test_a_run_of_an_earlier_version_is_not_checked(trained: Any, store: Store) -> None:
    runs, tiny_folder = trained
    for run in runs:
        path = store.folder("checkpoint", run) / "record.json"
        envelope = json.loads(path.read_text(encoding="utf-8"))
        envelope["record"] |= {"start": str(tiny_folder), "start_uri": "", "start_revision": ""}
        path.write_text(json.dumps(envelope), encoding="utf-8")
    change(tiny_folder)
    shared = open_shared([f"run:{run}" for run in runs], store, "fp32")
    assert len(shared) == 2
    for one in shared.values():
        one.close()


def test_full_uris(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("scratch", "model"):
        (tmp_path / name).mkdir()
    (tmp_path / "one.gguf").write_bytes(b"GGUF")
    assert full_uri("model") == str(tmp_path / "model")
    assert full_uri("gguf:one.gguf") == f"gguf:{tmp_path / 'one.gguf'}"
    for uri in ("scratch", "hf:org/name", "run:run-1", "gguf:none.gguf", "none"):
        assert full_uri(uri) == uri


def test_what_is_made_from_several_runs_knows_the_state_of_their_start(
    tiny_folder: Path, dataset: Saved[Dataset]
) -> None:
    recipe = Recipe(start=str(tiny_folder), tokens=500)
    before = identity.inputs_of(recipe, dataset.id)
    assert identity.inputs_of(recipe, dataset.id) == before
    change(tiny_folder)
    assert identity.inputs_of(recipe, dataset.id) != before
    scratch = Recipe(start="scratch", method="full", tokens=500)
    assert identity.inputs_of(scratch, "data-1") == [scratch.model_dump(mode="json"), "data-1"]  # ids as before


def truncate(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-500])


def point(folder: Path) -> None:
    (folder / WEIGHTS).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:a\n", encoding="utf-8")


DAMAGES: list[tuple[Callable[[Path], None], str, str]] = [
    (truncate, "adapter_model.safetensors can't be read", "download or save the adapters again"),
    (point, "a pointer of Git LFS", "git lfs pull"),
    (
        lambda folder: rewrite(folder / CONFIG, r=8),
        "r = 8, but the weights have the rank 4",
        "correct r",
    ),
    (lambda folder: rewrite(folder / CONFIG, r="four"), "states the rank r = 'four'", "correct r"),
]


@pytest.mark.parametrize(("damage", "said", "following"), DAMAGES, ids=["truncated", "LFS", "rank", "no rank"])
def test_damaged_adapters_are_not_blamed_on_their_base(
    damage: Callable[[Path], None], said: str, following: str, tokenizer: Any, tmp_path: Path, store: Store
) -> None:
    base = saved(llama(len(tokenizer)), tokenizer, tmp_path / "base")
    adapters(base, tmp_path / "adapters")
    damage(tmp_path / "adapters")
    with pytest.raises(SizewiseError, match=said) as refused:
        resolve_folder(str(tmp_path / "adapters"), store)
    assert following in refused.value.next_step


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"lora_bias": True}, "lora_bias"),
        ({"layer_replication": [(0, 2), (1, 2)]}, "layer_replication"),
        ({"modules_to_save": ["embed_tokens", "lm_head"]}, "added tokens or resized embeddings"),
    ],
    ids=["bias", "replication", "tokens"],
)
def test_adapters_of_other_kinds_are_refused_by_name(
    settings: dict[str, Any], said: str, tokenizer: Any, tmp_path: Path, store: Store
) -> None:
    base = saved(llama(len(tokenizer)), tokenizer, tmp_path / "base")
    adapters(base, tmp_path / "adapters", **settings)
    if "modules_to_save" in settings:  # the base has fewer tokens than the adapters
        shutil.rmtree(base)
        saved(llama(len(tokenizer) - 2), tokenizer, base)
    for _ in range(2):  # nothing half made is left behind
        with pytest.raises(SizewiseError, match=said):
            resolve_folder(str(tmp_path / "adapters"), store)


def test_a_damaged_file_of_the_user_is_not_to_be_removed(tmp_path: Path, store: Store) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF" + b"\0" * 40)
    with pytest.raises(SizewiseError, match="can't be read as GGUF") as refused:
        open_model(f"gguf:{path}", store=store)
    assert "remove" not in refused.value.next_step
    assert "again" in refused.value.next_step


def test_a_gguf_file_without_its_scheme_is_recognized(tmp_path: Path, store: Store) -> None:
    for name in ("model.gguf", "blob"):
        (tmp_path / name).write_bytes(b"GGUF" + b"\0" * 40)
        with pytest.raises(UsageError, match=f"Did you mean gguf:{tmp_path / name}"):
            open_model(str(tmp_path / name), store=store)


def test_a_folder_for_openvino_is_not_called_pickle(tmp_path: Path, dataset: Saved[Dataset], store: Store) -> None:
    folder = tmp_path / "converted"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}), encoding="utf-8")
    for name in ("openvino_model.xml", "openvino_model.bin"):
        (folder / name).write_text("", encoding="utf-8")
    with pytest.raises(SizewiseError, match="converted for OpenVINO"):
        hf_format.check_folder(folder)
    (folder / "openvino_model.xml").unlink()
    with pytest.raises(SizewiseError, match="pickle"):
        hf_format.check_folder(folder)
