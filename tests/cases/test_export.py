"""What an exported model's reader has to know."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sizewise.exporting import export
from sizewise.store import Store

pytest.importorskip("gguf")


# ollama#8363, #521, #6371, unsloth#416, #5386
def test_a_modelfile_names_every_text_that_ends_an_answer(tmp_path: Path, tiny_folder: Path, store: Store) -> None:
    config = tiny_folder / "generation_config.json"
    known = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
    config.write_text(json.dumps(known | {"eos_token_id": [2, 0]}), encoding="utf-8")
    out = tmp_path / "made"
    export(str(tiny_folder), "gguf-f16", out, store=store, prompts=2)
    lines = (out / "Modelfile").read_text(encoding="utf-8").splitlines()
    stops = {line.split('"')[1] for line in lines if line.startswith("PARAMETER stop")}
    assert stops >= {"<|im_end|>", "<|endoftext|>"}
    assert any(line.startswith("TEMPLATE") for line in lines)
