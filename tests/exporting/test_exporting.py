from __future__ import annotations

import gc
import json
import signal
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from transformers import AutoConfig, AutoModelForCausalLM

from sizewise.cli.main import app
from sizewise.errors import SizewiseError, UsageError
from sizewise.exporting import Bounds, export, llamacpp, ollama, writing
from sizewise.lm import gguf_writing
from sizewise.lm import hf_format as folders
from sizewise.lm.gguf_writing import write_gguf
from sizewise.models import open_model
from sizewise.models.openvino import Engine, OpenvinoModel
from sizewise.records import Checkpoint, Dataset, Message, Recipe, Request
from sizewise.store import Saved, Store
from sizewise.training import train
from tests.conftest import make_tiny

ASKED = (Message(role="user", content="What does item 7-1 say?"),)
LLAMA = pytest.mark.skipif(not llamacpp.is_installed(), reason="llama.cpp's bindings are not installed")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Saved[Checkpoint], Saved[Dataset]]:
    """A tiny network from scratch, adapted with LoRA: it has learnt enough to be sure of its tokens."""
    from sizewise.datasets import read

    root = tmp_path_factory.mktemp("exporting")
    texts = root / "texts"
    texts.mkdir()
    lines = [f"Item {i} of the plan names the record {i * 7 % 13} of the patient." for i in range(40)]
    for number in range(12):
        (texts / f"d{number}.txt").write_text("\n\n".join(lines[number:] + lines[:number]), encoding="utf-8")
    rows = [
        {"id": f"q{i}", "prompt": f"What is item {i}?", "references": [lines[i]], "source": f"d{i % 12}.txt"}
        for i in range(40)
    ]
    asked = root / "examples.jsonl"
    asked.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    store = Store(root / "home")
    data = read([texts, asked], store=store, name="items", seed=1)
    small = {"parameters": 500_000, "context": 128, "rows_per_step": 4, "control": "none"}
    first = train(
        Recipe.model_validate(small | {"start": "scratch", "method": "full", "tokens": 60_000}), data.id, store=store
    )
    second = train(
        Recipe.model_validate(small | {"start": f"run:{first.id}", "tokens": 6_000, "rank": 4}), data.id, store=store
    )
    return store, second, data


def answers(model: Any, requests: list[Request]) -> list[tuple[str, str]]:
    try:
        return [(answer.text, answer.finish) for answer in model.complete(requests)]
    finally:
        model.close()


@pytest.mark.parametrize("to", ["hf", "gguf-f16", "gguf-q8_0", "openvino", "openvino-q8_0"])
def test_an_adapted_model_is_exported_and_says_the_same(trained: Any, tmp_path: Path, to: str) -> None:
    store, run, _ = trained
    out = tmp_path / "made"
    # Rounding to 8 bits costs a network this small 0.4 to 0.6 %, by the processor's own kernels.
    bounds = Bounds(0.97, 0.01) if to.endswith("q8_0") else None
    stored = export(run.id, to, out, store=store, prompts=12, bounds=bounds)
    record = stored.record
    readers = {one.reader.split()[0] for one in record.parity}
    assert readers >= ({"openvino-genai"} if to.startswith("openvino") else {"transformers"})
    if to.startswith("gguf") and llamacpp.is_installed():
        assert "llama.cpp" in readers
    for one in record.parity:
        assert one.agreement.value is not None
        assert one.agreement.value >= one.min_agreement
        assert one.agreement.ci_low is not None
        assert one.same_text
        assert one.agreement.n == 12
    assert set(record.files) == {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert store.get(type(record), stored.id).record == record
    if to == "openvino-q8_0":
        opened = open_model(str(out), store=store, precision="fp32")
        assert opened.describe().precision == "q8_0 weights, fp32"  # another speed and memory than fp32's
        opened.close()
    if to == "hf":
        assert (out / "adapter" / "adapter_model.safetensors").is_file()
        assert "README.md" in record.files
    request = Request(id="a", messages=ASKED, max_tokens=16)
    made = f"gguf:{out / 'model.gguf'}" if to.startswith("gguf") else str(out)
    own = answers(open_model(f"run:{run.id}", store=store, precision="fp32"), [request])
    assert answers(open_model(made, store=store, precision="fp32"), [request]) == own


def test_a_wrong_template_is_refused(trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, run, _ = trained

    def wrong(network: Any, tokenizer: Any, *rest: Any) -> None:
        tokenizer.chat_template = tokenizer.chat_template.replace("<|im_end|>\n", "<|im_end|>")
        write_gguf(network, tokenizer, *rest)

    monkeypatch.setattr(gguf_writing, "write_gguf", wrong)
    with pytest.raises(SizewiseError, match="template or tokenizer encodes 6 of 6 prompts differently"):
        export(run.id, "gguf-f16", tmp_path / "made", store=store, prompts=6)
    assert not (tmp_path / "made").exists()
    assert not list(tmp_path.glob(".made*"))


def test_a_broken_quantisation_is_refused(trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, run, _ = trained
    right = gguf.quants.quantize

    def broken(values: Any, kind: Any) -> Any:
        packed = right(values, kind)
        if kind == gguf.GGMLQuantizationType.Q8_0:
            packed = packed.copy()
            packed[..., 2::34] ^= 0x40  # one weight of each block
        return packed

    monkeypatch.setattr(gguf.quants, "quantize", broken)
    with pytest.raises(SizewiseError, match=r"greedy tokens are the same or as likely; the minimum is 97\.0%"):
        export(run.id, "gguf-q8_0", tmp_path / "made", store=store, prompts=6)
    assert not (tmp_path / "made").exists()


def test_bounds_may_be_set(trained: Any, tmp_path: Path) -> None:
    store, run, _ = trained
    with pytest.raises(SizewiseError, match="bits per byte on the same texts"):
        export(run.id, "gguf-q4_0", tmp_path / "made", store=store, prompts=6, bounds=Bounds(0.0, 0.0))


def test_openvino_scores_and_stops_as_transformers_do(trained: Any) -> None:
    store, run, _ = trained
    uri = f"run:{run.id}"
    fast = open_model(uri, store=store, precision="fp32", engine="openvino")
    slow = open_model(uri, store=store, precision="fp32")
    assert isinstance(fast, OpenvinoModel)
    assert fast.describe().parameters == slow.describe().parameters
    assert fast.describe().engine.startswith("openvino-genai")
    assert fast.describe().revision != slow.describe().revision
    texts = ["Item 3 of the plan names the record 8 of the patient. " * 20, "One.", "naïve café, 12 34"]
    for one, other in zip(fast.score(texts), slow.score(texts), strict=True):
        assert (one.starts == other.starts).all()
        np.testing.assert_allclose(one.nats, other.nats, atol=2e-4)
    requests = [Request(id=f"r{i}", text=f"Item {i} of", max_tokens=24, stop=("record",)) for i in range(5)]
    requests.append(Request(id="long", text="Item", max_tokens=500))
    found = list(fast.complete(requests))
    expected = {answer.id: answer for answer in slow.complete(requests)}
    assert {answer.id: (answer.text, answer.finish) for answer in found} == {
        name: (answer.text, answer.finish) for name, answer in expected.items()
    }
    assert "more than the context of 128" in str(expected["long"].error)
    fast.close()
    slow.close()


def test_a_signal_after_the_engine_was_closed_is_an_ordinary_one(trained: Any) -> None:
    store, run, _ = trained
    open_model(f"run:{run.id}", store=store, engine="openvino").close()
    gc.collect()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


@LLAMA
def test_llama_cpp_cuts_text_as_the_model_does(trained: Any, tmp_path: Path) -> None:
    store, run, _ = trained
    record = export(run.id, "gguf-f16", tmp_path / "made", store=store, prompts=8).record
    (last,) = (one for one in record.parity if one.reader.startswith("llama.cpp"))
    assert last.same_text
    assert last.bits.missing_reason is not None


@LLAMA
def test_a_model_without_a_chat_template_is_asked_in_plain_text(
    tiny_folder: Path, tmp_path: Path, store: Store
) -> None:
    (tiny_folder / "chat_template.jinja").unlink()  # llama.cpp would take ChatML in its place
    record = export(str(tiny_folder), "gguf-f16", tmp_path / "made", store=store, prompts=2).record
    assert [one.same_text for one in record.parity] == [True, True]


@pytest.mark.parametrize("attention", ["window:32", "pattern:SL:32"])
def test_a_window_that_gguf_would_lose_is_refused(
    tmp_path: Path, text_folder: Path, store: Store, attention: str
) -> None:
    folder = make_tiny(tmp_path / "windowed", text_folder, attention)
    with pytest.raises(SizewiseError, match="GGUF"):
        export(str(folder), "gguf-f16", tmp_path / "made", store=store)


def test_other_folders_and_formats_are_refused(tiny_folder: Path, tmp_path: Path, store: Store) -> None:
    with pytest.raises(UsageError, match="A language model can't be exported as onnx"):
        export(str(tiny_folder), "onnx", tmp_path / "made", store=store)
    with pytest.raises(UsageError, match="Unknown export format 'coreml'"):
        export(str(tiny_folder), "coreml", tmp_path / "made", store=store)
    with pytest.raises(UsageError, match="already exists"):
        export(str(tiny_folder), "hf", tiny_folder, store=store)
    with pytest.raises(SizewiseError, match="openvino-genai can't open"):
        Engine(tiny_folder, "fp32")


def test_a_damaged_gguf_is_named(trained: Any, tmp_path: Path, store: Store) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF" + b"\0" * 40)
    with pytest.raises(SizewiseError, match="can't be read as GGUF"):
        open_model(f"gguf:{path}", store=store)
    with pytest.raises(UsageError, match="does not exist"):
        open_model(f"gguf:{tmp_path / 'none.gguf'}", store=store)


@pytest.mark.parametrize("kind", ["qwen2", "qwen3", "gemma3_text", "mistral"])
def test_other_families_are_read_back_alike(kind: str, trained: Any, tmp_path: Path) -> None:
    store, run, _ = trained
    import torch

    from sizewise.lm.gguf import read_gguf

    tokenizer = folders.load_tokenizer(store.folder("checkpoint", run.id) / "model")
    config = AutoConfig.for_model(
        kind, vocab_size=len(tokenizer), hidden_size=64, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim={"qwen3": 128, "gemma3_text": 256}.get(kind, 16),
        max_position_embeddings=64, sliding_window=64, tie_word_embeddings=kind == "gemma3_text",
        bos_token_id=0, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    network = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if "norm" in name:
                weight.add_(torch.rand_like(weight) * 0.1)
    path = tmp_path / "one.gguf"
    write_gguf(network, tokenizer, path, "f16", kind, "Apache-2.0")
    back, _ = read_gguf(path)
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        torch.testing.assert_close(back(ids).logits, network(ids).logits, atol=5e-3, rtol=1e-2)


PLAIN = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
DEFAULTED = "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}" + PLAIN
ASKS = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
MERGED = (
    "<s>{% for m in messages %}{% if m['role'] == 'system' %}{% set s = m['content'] %}{% elif m['role'] == 'user' %}"
    "[INST] {{ m['content'] }} [/INST]{% else %} {{ m['content'] }}</s>{% endif %}{% endfor %}"
)


@pytest.mark.parametrize(
    ("template", "known"), [(PLAIN + ASKS, True), (DEFAULTED + ASKS, True), (PLAIN, True), (MERGED, False)]
)
def test_ollama_gets_a_template_that_writes_the_same_or_none(template: str, known: bool, tiny_folder: Path) -> None:
    tokenizer = folders.load_tokenizer(tiny_folder)
    tokenizer.chat_template = template
    turns = ollama.learn_turns(tokenizer)
    assert (turns is not None) == known
    if turns is None:
        return
    talk = [
        Message(role=role, content=f'say "{i}" \\ and\nmore')
        for i, role in enumerate(("user", "assistant", "user", "assistant"))
    ]
    for messages in (talk, [Message(role="system", content="Be short."), *talk]):
        plain = [message.model_dump() for message in messages]
        assert ollama.write(turns, messages) == tokenizer.apply_chat_template(plain, tokenize=False)
    written = ollama.modelfile("model.gguf", turns, tokenizer, False, {0, 2})
    assert written.startswith("FROM ./model.gguf\n")
    assert ("Be kind." in written) == ("Be kind." in template)
    for end in ("<|endoftext|>", "<|im_end|>"):  # all tokens that end an answer
        assert f'PARAMETER stop "{end}"' in written


def test_the_command_prints_parity(
    trained: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, run, _ = trained
    monkeypatch.setenv("SIZEWISE_HOME", str(store.home))
    monkeypatch.setattr(writing.llamacpp, "is_installed", lambda: False)
    command = ["export", run.id, "--to", "gguf-f16", "--out", str(tmp_path / "made"), "--prompts", "5"]
    app(command, standalone_mode=False)
    said = capsys.readouterr().out
    assert "same greedy tokens" in said
    assert "ollama create" in said
    assert "transformers" in said


def test_an_export_without_any_difference_is_printed(
    tiny_folder: Path, tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An interval needs some difference between texts."""
    app(["export", str(tiny_folder), "--to", "hf", "--out", str(tmp_path / "made"), "--prompts", "4", "--wide"],
        standalone_mode=False)  # fmt: skip
    assert "+0.00000" in capsys.readouterr().out


def test_an_export_fills_the_working_directory(
    tiny_folder: Path, tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "made").mkdir()
    monkeypatch.chdir(tmp_path / "made")
    stored = export(str(tiny_folder), "hf", ".", store=store, prompts=2)
    assert set(stored.record.files) == {path.name for path in (tmp_path / "made").iterdir()}
    assert Path("model.safetensors").is_file()
    with pytest.raises(UsageError, match="already exists"):
        export(str(tiny_folder), "hf", ".", store=store, prompts=2)


def test_a_folder_that_cannot_be_written_is_refused_before_the_work(
    tiny_folder: Path, tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setattr(writing, "_load", lambda source: pytest.fail("it was loaded"))
    with pytest.raises(SizewiseError, match="can't be written"):
        export(str(tiny_folder), "hf", tmp_path / "file" / "out", store=store)
