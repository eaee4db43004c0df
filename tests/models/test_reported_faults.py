"""Faults that people report of the tools around open models: each kind is right here, or refused with what to do.

The reports are named by project and number.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from sizewise.errors import SizewiseError
from sizewise.lm import adapt, hf_format
from sizewise.lm.chat_templates import learned_spans, render_chat
from sizewise.lm.packing import pack
from sizewise.lm.tokenizer import CHAT_TEMPLATE, chat_sequence, encoded_text, end_ids, prefix_ids, text_ids
from sizewise.models import model_size, open_model
from sizewise.models.opening import resolve_folder
from sizewise.records import Message, Request
from sizewise.store import Store

ASKED = (Message(role="user", content="What does item 7 say?"),)


def llama(rows: int, tied: bool = False, **settings: Any) -> Any:
    torch.manual_seed(2)
    config = LlamaConfig(
        vocab_size=rows,
        hidden_size=48,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=tied,
        pad_token_id=None,
        **settings,
    )
    return LlamaForCausalLM(config).eval()


def saved(network: Any, tokenizer: Any, folder: Path) -> Path:
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def tokenizer(tiny_folder: Path) -> Any:
    return hf_format.load_tokenizer(tiny_folder)


def adapters(base: Path, folder: Path, **settings: Any) -> Any:
    """Save adapters with random weights; return the network that they belong to."""
    network = hf_format.load_network(base, "fp32")
    settings = {"target_modules": ["q_proj", "down_proj"]} | settings
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of peft: a deprecated name, and a tied head that is trained
        wrapped = get_peft_model(network, LoraConfig(r=4, **settings))
        with torch.no_grad():
            for parameter in wrapped.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.2 * torch.randn_like(parameter))
        wrapped.save_pretrained(folder)
    return wrapped.eval()


@pytest.mark.parametrize("more", [{}, {"modules_to_save": ["lm_head"]}], ids=["adapters", "tied head trained, too"])
def test_a_folder_of_adapters_is_opened_with_its_base(
    more: dict[str, Any], tokenizer: Any, tmp_path: Path, store: Store
) -> None:
    """peft #298 and #523: no config.json; transformers #45127: a trained head that the config ties is lost."""
    base = saved(llama(len(tokenizer), tied=True), tokenizer, tmp_path / "base")
    wrapped = adapters(base, tmp_path / "adapters", **more)
    ids = torch.tensor([text_ids(tokenizer, "The patient names the plan of the record.")])
    with torch.no_grad():
        expected = torch.log_softmax(wrapped(ids).logits[0, :-1], -1).gather(1, ids[0, 1:, None])[:, 0]
    model = open_model(str(tmp_path / "adapters"), store=store, precision="fp32")
    (found,) = model.score_runs([SimpleNamespace(ids=ids[0].tolist(), first=1)])
    model.close()
    assert found.nats == pytest.approx(-float(expected.sum()), rel=0.01)
    assert model_size(str(tmp_path / "adapters"), store=store)[0].parameters > 0


@pytest.mark.parametrize("layer", ["lm_head", "embed_tokens"])
def test_adapters_on_one_of_two_tied_layers_leave_the_other_as_it_is(
    layer: str, tokenizer: Any, tmp_path: Path
) -> None:
    """mergekit #447: the head and the embedding of small models are the same weights."""
    base = saved(llama(len(tokenizer), tied=True), tokenizer, tmp_path / "base")
    wrapped = adapters(base, tmp_path / "adapters", target_modules=["q_proj", layer])
    merged = adapt.merge_saved(base, tmp_path / "adapters").float()
    ids = torch.arange(40)[None]
    with torch.no_grad():
        expected, found = wrapped(ids).logits, merged(ids).logits
    assert float((found - expected).std()) < 0.05 * float(expected.std())


def test_adapters_without_their_base_say_what_is_missing(tokenizer: Any, tmp_path: Path, store: Store) -> None:
    base = saved(llama(len(tokenizer)), tokenizer, tmp_path / "base")
    folder = tmp_path / "adapters"
    adapters(base, folder)
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    for name, said in (
        ("/gone/base", "isn't on this machine"),
        ("", "doesn't name the model"),
        ("org/gone", "OFFLINE"),
    ):
        written = json.dumps(config | {"base_model_name_or_path": name})
        (folder / "adapter_config.json").write_text(written, encoding="utf-8")
        with pytest.raises(SizewiseError, match=said) as refused:
            open_model(str(folder), store=store)
        assert refused.value.next_step
    other = saved(LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), hidden_size=32, intermediate_size=32,
        num_hidden_layers=1, num_attention_heads=2)), tokenizer, tmp_path / "other")  # fmt: skip
    written = json.dumps(config | {"base_model_name_or_path": str(other)})
    (folder / "adapter_config.json").write_text(written, encoding="utf-8")
    with pytest.raises(SizewiseError, match="don't fit the model"):
        open_model(str(folder), store=store)


def rewrite(path: Path, **settings: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | settings), encoding="utf-8")


def test_adapters_that_were_loaded_in_part_only_are_refused(tokenizer: Any, tmp_path: Path, store: Store) -> None:
    """peft #1932 and #2115, transformers #46766: weights under other names are left out, and the base answers."""
    base = saved(llama(len(tokenizer)), tokenizer, tmp_path / "base")
    folder = tmp_path / "adapters"
    adapters(base, folder)
    weights = load_file(folder / "adapter_model.safetensors")
    for broken in (
        {name: value for name, value in weights.items() if ".layers.1." not in name},
        {name.replace(".layers.", ".language_model.layers."): value for name, value in weights.items()},
    ):
        save_file(broken, folder / "adapter_model.safetensors")
        with pytest.raises(SizewiseError, match="of their weights are missing"):
            resolve_folder(str(folder), store)
    save_file(weights | {"base_model.model.score.weight": torch.ones(2, 48)}, folder / "adapter_model.safetensors")
    with pytest.raises(SizewiseError, match="have no place in it"):
        resolve_folder(str(folder), store)


def test_adapters_beside_a_config_or_a_model(tokenizer: Any, tmp_path: Path, store: Store) -> None:
    """unsloth #2080: trainers save the config beside adapters. Beside a model, adapters may be merged already."""
    base = saved(llama(len(tokenizer)), tokenizer, tmp_path / "base")
    first, second = tmp_path / "first", tmp_path / "second"
    adapters(base, first)
    (first / "config.json").write_text((base / "config.json").read_text(encoding="utf-8"), encoding="utf-8")
    assert resolve_folder(str(first), store)[0].name.startswith("merged-")
    (first / "model.safetensors").write_bytes((base / "model.safetensors").read_bytes())
    with pytest.raises(SizewiseError, match="contains a model and adapters"):
        hf_format.load_config(first)
    (first / "model.safetensors").unlink()
    adapters(base, second)
    rewrite(first / "adapter_config.json", base_model_name_or_path=str(second))
    rewrite(second / "adapter_config.json", base_model_name_or_path=str(first))
    with pytest.raises(SizewiseError, match="adapters of themselves"):
        resolve_folder(str(second), store)
    rewrite(second / "adapter_config.json", task_type="SEQ_CLS")
    with pytest.raises(SizewiseError, match="adapters for the task SEQ_CLS"):
        resolve_folder(str(second), store)


def test_a_token_that_ends_texts_is_no_part_of_a_prompt(tokenizer: Any) -> None:
    """vllm #7491: `add_eos_token` ends every prompt, and answers are empty."""
    end, begin = tokenizer.eos_token, tokenizer.bos_token
    ids = [(token, tokenizer.convert_tokens_to_ids(token)) for token in (begin, end)]
    plain = text_ids(tokenizer, "The patient.")
    for form, before in ((f"$A {end}", []), (f"{begin} $A {end}", [ids[0][1]])):
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=form, pair=None, special_tokens=ids)
        assert text_ids(tokenizer, "The patient.", begin=True) == [*before, *plain]
        assert prefix_ids(tokenizer) == [ids[0][1]]
        assert encoded_text(tokenizer, "The patient.").ids == [ids[0][1], *plain]


PARTS = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for part in m['content'] %}{% if part['type'] == 'text' %}"
    "{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def test_templates_of_models_that_see_get_texts_as_parts(tokenizer: Any) -> None:
    """vllm #9358, LiteRT-LM #3688: a template that reads parts drops a plain text, and so the question."""
    conversation = (Message(role="system", content="Be brief."), *ASKED)
    plain = render_chat(tokenizer, conversation), chat_sequence(tokenizer, ASKED, "Yes <|im_end|> no")
    tokenizer.chat_template = PARTS
    assert render_chat(tokenizer, conversation) == plain[0]
    assert chat_sequence(tokenizer, ASKED, "Yes <|im_end|> no") == plain[1]
    tokenizer.chat_template = PARTS.replace("part['text']", "part['words']")
    with pytest.raises(SizewiseError, match="doesn't write the user's message"):
        render_chat(tokenizer, ASKED)


@pytest.mark.parametrize(
    "template",
    ["{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}", "{{ 1 / 0 }}", "{% for i in range(10 ** 9) %}{% endfor %}"],
)
def test_a_template_that_fails_in_any_way_is_named(template: str, tokenizer: Any) -> None:
    tokenizer.chat_template = template
    with pytest.raises(SizewiseError, match="chat template rejects"):
        render_chat(tokenizer, ASKED)


def test_an_index_reads_no_files_of_other_folders(tiny_folder: Path) -> None:
    (tiny_folder / "model.safetensors").rename(tiny_folder.parent / "other.safetensors")
    index = {"metadata": {}, "weight_map": {"model.norm.weight": "../other.safetensors"}}
    (tiny_folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    (tiny_folder / "part.safetensors").write_bytes(b"")
    with pytest.raises(SizewiseError, match="isn't a file of this folder"):
        hf_format.load_config(tiny_folder)


def test_tokens_without_embeddings_are_refused_if_prompts_contain_them(
    tokenizer: Any, tmp_path: Path, store: Store
) -> None:
    """llama.cpp #5838, LlamaFactory #4195: tokens were added, and the embeddings weren't resized."""
    rows = len(tokenizer)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})  # never written, so it does no harm
    folder = saved(llama(rows), tokenizer, tmp_path / "padded")
    model = open_model(str(folder), store=store)
    requests = [Request(id=str(i), messages=ASKED, text=None, max_tokens=2) for i in range(2)]
    requests[1] = requests[1].model_copy(update={"messages": (Message(role="user", content="And item 8, again?"),)})
    assert [answer.error for answer in model.complete(requests)] == [None, None]
    for ask in (model.complete, model.score_prompts, model.embed):  # as token ids, it could still be asked for
        with pytest.raises(SizewiseError, match=f"the unknown token {rows}"):
            list(ask([Request(id="0", ids=(5, rows, 6), max_tokens=2)]))
    model.close()
    tokenizer.add_tokens([AddedToken("<|turn|>", special=True)])
    tokenizer.chat_template = CHAT_TEMPLATE.replace("<|im_start|>", "<|turn|>")
    folder = saved(llama(rows), tokenizer, tmp_path / "unresized")
    with pytest.raises(SizewiseError, match=r"<\|turn\|> \(token \d+\), but the network has embeddings") as refused:
        open_model(str(folder), store=store, engine="auto")
    assert str(folder) in refused.value.next_step


def test_added_tokens_of_a_resized_network_reach_the_gguf_file(tokenizer: Any, tmp_path: Path) -> None:
    from sizewise.lm.gguf import read_gguf
    from sizewise.lm.gguf_writing import write_gguf

    tokenizer.add_tokens([AddedToken("<|turn|>", special=True), AddedToken("Kniegelenk")])
    tokenizer.chat_template = CHAT_TEMPLATE.replace("<|im_start|>", "<|turn|>")
    network = llama(len(tokenizer))
    write_gguf(network, tokenizer, tmp_path / "one.gguf", "f16", "one", "MIT")
    back, other = read_gguf(tmp_path / "one.gguf")
    prompt = render_chat(tokenizer, (Message(role="user", content="The Kniegelenk holds."),))
    ids = text_ids(tokenizer, prompt)
    assert {len(tokenizer) - 1, len(tokenizer) - 2} < set(ids)
    assert text_ids(other, render_chat(other, (Message(role="user", content="The Kniegelenk holds."),))) == ids
    with torch.no_grad():
        expected = network(torch.tensor([ids])).logits
        torch.testing.assert_close(back(torch.tensor([ids])).logits, expected, atol=5e-3, rtol=1e-2)


@pytest.mark.parametrize("biased", ["attention_bias", "mlp_bias"])
def test_biases_of_llama_are_read_from_gguf(tokenizer: Any, tmp_path: Path, biased: str) -> None:
    from sizewise.lm.gguf import read_gguf
    from sizewise.lm.gguf_writing import write_gguf

    network = llama(len(tokenizer), **{biased: True})
    for name, weight in network.named_parameters():
        if name.endswith(".bias"):
            torch.nn.init.normal_(weight, std=0.5)
    write_gguf(network, tokenizer, tmp_path / "biased.gguf", "f16", "biased", "MIT")
    back, _ = read_gguf(tmp_path / "biased.gguf")
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        torch.testing.assert_close(back(ids).logits, network(ids).logits, atol=5e-3, rtol=1e-2)


def test_a_gguf_file_that_is_not_read_whole_is_refused(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts of split files: transformers begins absent weights at random, and skips biases of Llama."""
    from sizewise.lm import gguf_writing
    from sizewise.lm.gguf import read_gguf

    network, all_tensors = llama(len(tokenizer)), gguf_writing._tensors
    for layer in network.model.layers:
        layer.self_attn.q_proj.bias = torch.nn.Parameter(torch.ones(48))
    gguf_writing.write_gguf(network, tokenizer, tmp_path / "biased.gguf", "f16", "x", "")
    with pytest.raises(SizewiseError, match="2 biases aren't read"):
        read_gguf(tmp_path / "biased.gguf")
    monkeypatch.setattr(
        gguf_writing, "_tensors", lambda *named: [one for one in all_tensors(*named) if "blk.1" not in one[0]]
    )
    gguf_writing.write_gguf(llama(len(tokenizer)), tokenizer, tmp_path / "half.gguf", "f16", "x", "")
    with pytest.raises(SizewiseError, match="9 weights are missing"):
        read_gguf(tmp_path / "half.gguf")


def test_all_tokens_that_end_an_answer_count(tokenizer: Any) -> None:
    """lighteval #1279, Qwen3 #927: a list in the generation config, and a tokenizer that names another token."""
    network = llama(len(tokenizer))
    network.generation_config.eos_token_id = [5, 9]
    assert end_ids(network, tokenizer) == {5, 9, tokenizer.eos_token_id}


def test_the_end_of_an_answer_is_learned_where_padding_is_the_same_token(tokenizer: Any) -> None:
    """trl #976, alignment-handbook #127, unsloth #416: padding is masked, and so was the end of each answer."""
    tokenizer.pad_token = tokenizer.eos_token
    unit = chat_sequence(tokenizer, ASKED, "The plan.")
    rows = pack([unit], 64, 0).all()
    assert tokenizer.eos_token_id in rows.targets[rows.targets >= 0]


def test_a_prompt_begins_once(tokenizer: Any) -> None:
    """Soup #781, sglang #888: the template writes the beginning of a text, and the tokenizer adds another."""
    from tokenizers import processors

    begin = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", begin)]
    )
    tokenizer.chat_template = "{{ bos_token }}" + CHAT_TEMPLATE
    assert tokenizer("a").input_ids[0] == begin
    unit = chat_sequence(tokenizer, ASKED, "The plan.")
    assert unit.ids.count(begin) == 1
    assert unit.ids[0] == begin


def test_tokenizers_that_gguf_has_no_form_for_are_named(tokenizer: Any) -> None:
    """llama.cpp #9927: an unknown split pattern."""
    from sizewise.lm.gguf_writing import check_writable

    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("-", "isolated"), pre_tokenizers.ByteLevel(use_regex=False)]
    )
    with pytest.raises(SizewiseError, match="split pattern") as refused:
        check_writable(llama(len(tokenizer)).config, tokenizer)
    assert "--to hf" in refused.value.next_step


def test_several_chat_templates_are_kept_and_chosen_by_tools(tokenizer: Any, tmp_path: Path, store: Store) -> None:
    """text-generation-inference #3247: templates in files of their own; Command R has one for tools, too."""
    with_tools = "Tools: {% for tool in tools %}{{ tool | tojson }}{% endfor %}" + CHAT_TEMPLATE
    tokenizer.chat_template = {"default": CHAT_TEMPLATE, "tool_use": with_tools}
    network = llama(len(tokenizer))
    hf_format.save_model(network, tokenizer, tmp_path / "model")
    assert (tmp_path / "model" / "additional_chat_templates").stat().st_mode & 0o111
    loaded = hf_format.load_tokenizer(tmp_path / "model")
    assert set(loaded.chat_template) == {"default", "tool_use"}
    assert "Tools:" not in render_chat(loaded, ASKED)
    assert learned_spans(loaded, (*ASKED, Message(role="assistant", content="b")))[1] is None
    model = open_model(str(tmp_path / "model"), store=store)
    (answer,) = model.complete([Request(id="a", messages=ASKED, max_tokens=2)])
    assert answer.error is None
    assert model.describe().template
    model.close()
    from sizewise.lm.gguf import read_gguf
    from sizewise.lm.gguf_writing import write_gguf

    write_gguf(network, tokenizer, tmp_path / "one.gguf", "f16", "one", "MIT")
    template = read_gguf(tmp_path / "one.gguf")[1].chat_template
    assert (template if isinstance(template, str) else template["default"]) == CHAT_TEMPLATE


def test_a_missing_shard_is_named(tiny_folder: Path, store: Store) -> None:
    weights = {"model.norm.weight": "model-00002-of-00002.safetensors", "lm_head.weight": "model-1.safetensors"}
    index = {"metadata": {}, "weight_map": weights}
    (tiny_folder / "model.safetensors").rename(tiny_folder / "model-1.safetensors")
    (tiny_folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    for open_it in (lambda: open_model(str(tiny_folder), store=store), lambda: model_size(str(tiny_folder))):
        with pytest.raises(SizewiseError, match=r"model-00002-of-00002\.safetensors") as refused:
            open_it()
        assert refused.value.next_step


def test_a_folder_without_a_tokenizer_says_so(tiny_folder: Path, store: Store) -> None:
    for path in tiny_folder.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(SizewiseError, match="tokenizer") as refused:
        open_model(str(tiny_folder), store=store, engine="auto")
    assert refused.value.next_step


def big_tokenizer(pattern: str, words: tuple[str, ...]) -> PreTrainedTokenizerFast:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {word: i for i, word in enumerate([*letters, *(f"filler{i}" for i in range(100_100))])}
    inner = Tokenizer(models.BPE(vocabulary, []))
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(pattern, "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    inner.add_special_tokens([AddedToken(word, special=True) for word in ("<s>", "</s>", *words)])
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>")


@pytest.mark.parametrize(("words", "changed"), [(("[INST]", "[/INST]"), True), (("<|im_start|>",), False)])
def test_mistral_tokenizers_with_a_wrong_split_pattern_are_corrected(
    words: tuple[str, ...], changed: bool, tmp_path: Path
) -> None:
    """transformers #42591: only a warning says that the split pattern is wrong; other tokenizers get it, too."""
    big_tokenizer("-", words).save_pretrained(tmp_path)
    config = {"model_type": "mistral", "architectures": ["MistralForCausalLM"], "transformers_version": "4.50.0"}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    loaded = hf_format.load_tokenizer(tmp_path)
    splits = loaded.backend_tokenizer.pre_tokenizer.pre_tokenize_str("eBay mL")
    assert ("".join(text for text, _ in splits[:1]) == "e") == changed
    assert AutoTokenizer.from_pretrained(tmp_path) is not None
