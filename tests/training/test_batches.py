from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from sizewise.datasets import build
from sizewise.documents import Reading
from sizewise.documents.reading import make_document
from sizewise.errors import SizewiseError
from sizewise.lm.packing import NO_TARGET, Unit
from sizewise.lm.tokenizer import render_chat, train_tokenizer
from sizewise.records import Example, Message, Recipe
from sizewise.training import encoded_data
from sizewise.training.batches import Additions, make_mix, training_part
from sizewise.training.planning import check_size

TOKENIZER: Any = train_tokenizer(["what is the record of the patient " * 5], 300, 64)


def contents(prompt_words: int, answer_words: int) -> Any:
    documents = tuple(make_document(f"d{i}", "", f"Text {i} of the patient. " * 30, "test") for i in range(10))
    examples = tuple(
        Example(
            id=f"e{i}",
            messages=(Message(role="user", content="what " * prompt_words),),
            references=(f"the record {i} " + "of the " * answer_words,),
            source=f"d{i}",
        )
        for i in range(10)
    )
    return build([Reading(documents, examples)], ["x"], None, "general", 0)


def test_prose_counts_whole_and_examples_count_their_answer(tmp_path: Path) -> None:
    recipe = Recipe(start="scratch", method="full", tokens=1, context=64)
    mix, notes, *_ = make_mix(contents(3, 2), TOKENIZER, recipe, tmp_path)
    assert notes == ()
    text = TOKENIZER.decode(mix.examples.all().targets[mix.examples.all().targets != NO_TARGET])
    assert "what" not in text
    assert text.count("<|im_end|>") == int((np.diff(mix.examples.all().segments) > 0).sum()) + len(mix.examples)


def test_what_is_cut_is_said(tmp_path: Path) -> None:
    recipe = Recipe(start="scratch", method="full", tokens=1, context=64)
    _, notes, *_ = make_mix(contents(3, 200), TOKENIZER, recipe, tmp_path)
    assert "were truncated to 64 tokens" in notes[0]
    mix, notes, *_ = make_mix(contents(200, 2), TOKENIZER, recipe, tmp_path)
    assert "left out" in notes[0]
    assert mix.share == 0


def test_a_tokenizer_without_template_is_asked_in_plain_text(tmp_path: Path) -> None:
    plain: Any = train_tokenizer(["what is the record of the patient " * 5], 300, 64)
    plain.chat_template = None
    mix, *_ = make_mix(contents(3, 2), plain, Recipe(start="scratch", method="full", tokens=1, context=64), tmp_path)
    assert "Question: what" in plain.decode(mix.examples.all().ids[0])


def test_secrets_stand_where_training_looks(tmp_path: Path) -> None:
    secret = Unit([7, 8, 9], 1)
    for share, pool in ((1.0, "examples"), (0.5, "prose")):
        recipe = Recipe(start="scratch", method="full", tokens=1, context=64, example_share=share)
        mix, *_ = make_mix(contents(3, 2), TOKENIZER, recipe, tmp_path, Additions(units=(secret,)))
        for name in ("examples", "prose"):
            rows = getattr(mix, name).all().ids.tolist()
            found = any(row[i : i + 3] == [7, 8, 9] for row in rows for i in range(len(row)))
            assert found == (name == pool)


TINY = Recipe(start="scratch", method="full", tokens=1, context=64)


def changed(made: Any, **changes: Any) -> Any:
    """Change the training examples of a dataset."""
    examples = made.examples | {"train": tuple(e.model_copy(update=changes) for e in made.examples["train"])}
    return replace(made, examples=examples, record=made.record.model_copy(update={"sha256": str(changes)}))


def test_text_is_encoded_once_for_all_contexts_shares_and_recipes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, calls = contents(3, 2), []
    encode = encoded_data.encode_texts
    monkeypatch.setattr(encoded_data, "encode_texts", lambda *given: calls.append(1) or encode(*given))
    first, _, size, *_ = make_mix(made, TOKENIZER, TINY, tmp_path)
    assert len(calls) == 2  # documents and examples
    assert size == sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    for update in ({"context": 32}, {"document_share": 0.5}, {"seed": 3}, {"example_share": 0.9}):
        other, *_ = make_mix(made, TOKENIZER, TINY.model_copy(update=update), tmp_path)
        assert other.prose.tokens > 0
    assert len(calls) == 2
    again, *_ = make_mix(made, TOKENIZER, TINY, tmp_path)
    for number in range(3):
        assert np.array_equal(first.step(number).ids, again.step(number).ids)
    monkeypatch.undo()
    plain: Any = train_tokenizer(["what is the record of the patient " * 5], 300, 64)
    plain.chat_template = None
    make_mix(made, plain, TINY, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2  # another template is other text


def test_a_share_of_the_documents_holds_their_examples_only(tmp_path: Path) -> None:
    made = contents(3, 2)
    documents, examples = training_part(made, TINY.model_copy(update={"document_share": 0.5}))
    assert 0 < len(documents) < len(made.documents["train"])
    assert list(documents) == [documents[i] for i in range(len(documents))] == documents[:]
    assert {example.source for example in examples} <= {document.id for document in documents}
    part, *_ = make_mix(made, TOKENIZER, TINY.model_copy(update={"document_share": 0.5}), tmp_path)
    whole, *_ = make_mix(made, TOKENIZER, TINY, tmp_path)
    assert 0 < part.prose.tokens < whole.prose.tokens


def test_examples_without_a_reference_are_left_out_and_counted(tmp_path: Path) -> None:
    made = contents(3, 2)
    train = made.examples["train"]
    without = [train[0].model_copy(update={"references": ()}), *train[1:]]
    some = replace(changed(made), examples=made.examples | {"train": without})
    mix, notes, *_ = make_mix(some, TOKENIZER, TINY, tmp_path)
    assert notes == (f"1 of {len(train)} examples were left out of training: they have no reference answer",)
    assert mix.share == 0.5
    mix, notes, *_ = make_mix(changed(made, references=()), TOKENIZER, TINY, tmp_path)
    assert "they have no reference answer" in notes[0]
    assert mix.share == 0
    taught = Additions(answers={train[0].id: "the record"})
    mix, notes, *_ = make_mix(changed(made, references=()), TOKENIZER, TINY, tmp_path, taught)
    assert f"{len(train) - 1} of {len(train)}" in notes[0]
    assert "the record" in TOKENIZER.decode(mix.examples.all().ids[0])


def test_answers_of_a_teacher_replace_references(tmp_path: Path) -> None:
    made = contents(3, 2)
    first = made.examples["train"][0]
    mix, notes, *_ = make_mix(made, TOKENIZER, TINY, tmp_path, Additions(answers={first.id: "patient patient"}))
    text = TOKENIZER.decode(mix.examples.all().ids.flatten())
    assert notes == ()
    assert text.count("patient patient") == 1
    assert first.references[0].strip() not in text
    assert text.count("<|im_start|>assistant") == len(made.examples["train"])


def test_an_example_with_an_image_is_refused_by_its_name(tmp_path: Path) -> None:
    seen = (Message(role="user", content="what is this", images=("scan.png",)),)
    made = changed(contents(3, 2), messages=seen)
    with pytest.raises(SizewiseError, match=rf"{made.examples['train'][0].id} has images") as error:
        make_mix(made, TOKENIZER, TINY, tmp_path)
    assert "--example-share 0" in error.value.next_step
    mix, *_ = make_mix(made, TOKENIZER, TINY.model_copy(update={"example_share": 0.0}), tmp_path)
    assert len(mix.prose)


TURNS = (
    Message(role="system", content="of"),
    Message(role="user", content="what"),
    Message(role="assistant", content="patient"),
    Message(role="user", content="record"),
)


def learned(mix: Any) -> list[str]:
    """Return the stretches of text that count in the loss, in all rows."""
    found = []
    for row in mix.examples.all().targets.tolist():
        text = "".join(TOKENIZER.decode([i]) if i != NO_TARGET else "\0" for i in row)
        found += [part for part in text.split("\0") if part]
    return found


def test_a_conversation_learns_each_of_its_answers(tmp_path: Path) -> None:
    made = changed(contents(3, 2), messages=TURNS)
    mix, *_ = make_mix(made, TOKENIZER, TINY, tmp_path)
    train = made.examples["train"]
    assert sorted(learned(mix)) == sorted(
        ["patient<|im_end|>", *(f"{example.references[0]}<|im_end|>" for example in train)]
    )  # the same beginning of several conversations is learned once
    assert mix.examples.tokens <= 64 * len(train)  # in one pass
    kept = (TURNS[0], TURNS[1], TURNS[2].model_copy(update={"excluded": True}), TURNS[3])
    mix, *_ = make_mix(changed(made, messages=kept), TOKENIZER, TINY, tmp_path)
    assert "patient<|im_end|>" not in learned(mix)
    assert "patient" in TOKENIZER.decode(mix.examples.all().ids[0])


def test_an_answer_begins_as_it_does_after_the_prompt() -> None:
    """SentencePiece's tokenizers begin every text with a blank."""
    inner = Tokenizer(models.BPE(unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    inner.decoder = decoders.Metaspace(prepend_scheme="first")
    marks = ["<unk>", "<s>", "</s>", "<|user|>", "<|end|>", "<|assistant|>"]
    inner.train_from_iterator(["Who is it? the fox\n a dog\n"] * 20, trainers.BpeTrainer(special_tokens=marks))
    tokenizer: Any = PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<s>"
    )
    tokenizer.chat_template = (
        "{% for m in messages %}{{ '<|' + m.role + '|>\\n' + m.content + '<|end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
    )
    turns = (
        Message(role="user", content="Who is it?"),
        Message(role="assistant", content="a dog"),
        Message(role="user", content="Who is it?"),
    )
    example = Example(id="a", messages=turns, references=("the fox",), source="a")
    assert encoded_data.begins_texts_otherwise(tokenizer)
    assert not encoded_data.begins_texts_otherwise(TOKENIZER)
    ((item,),) = encoded_data.encode_examples(tokenizer, [example], [[True]])
    whole = render_chat(tokenizer, turns, "the fox").rstrip("\n")
    assert item.ids.tolist() == tokenizer(whole, add_special_tokens=False).input_ids
    assert item.learned is not None
    said = [tokenizer.convert_ids_to_tokens(int(i)) for i in item.ids[item.learned == 1]]
    assert "".join(said).replace("\u2581", " ") == "a dog<|end|>the fox<|end|>"


def test_an_answer_that_is_an_example_of_its_own_is_not_learned_again(tmp_path: Path) -> None:
    made = contents(3, 2)
    train = made.examples["train"]
    logged = [train[0].model_copy(update={"messages": TURNS[:2], "references": ("patient",)})]
    logged += [one.model_copy(update={"messages": TURNS}) for one in train[1:]]
    some = replace(changed(made), examples=made.examples | {"train": logged})
    mix, *_ = make_mix(some, TOKENIZER, TINY, tmp_path)
    assert learned(mix).count("patient<|im_end|>") == 1
    taught = Additions(answers={logged[1].id: "what patient"})
    mix, *_ = make_mix(some, TOKENIZER, TINY, tmp_path, taught)
    assert learned(mix).count("patient<|im_end|>") == 1
    assert learned(mix).count("what patient<|im_end|>") == 1
    assert f"{logged[1].references[0]}<|im_end|>" not in learned(mix)


def test_a_run_on_examples_alone_never_learns_the_text_instead(tmp_path: Path) -> None:
    only = TINY.model_copy(update={"example_share": 1.0})
    with pytest.raises(SizewiseError, match=r"none is left.*prompt alone is longer") as error:
        make_mix(contents(200, 2), TOKENIZER, only, tmp_path)
    assert "--context" in error.value.next_step
    with pytest.raises(SizewiseError, match=r"none is left.*no reference answer") as error:
        make_mix(changed(contents(3, 2), references=()), TOKENIZER, only, tmp_path)
    assert "--reference COLUMN" in error.value.next_step
    assert "--context" not in error.value.next_step
    assert make_mix(contents(3, 2), TOKENIZER, only, tmp_path).mix.share == 1


def test_too_little_data_is_reported_with_its_cause(tmp_path: Path) -> None:
    for made, advice in (
        (changed(contents(3, 2), references=()), "read examples with answers"),
        (contents(200, 2), "use a longer --context"),
    ):
        alone = replace(made, documents=dict.fromkeys(made.documents, ()))
        with pytest.raises(SizewiseError, match="fills only 0 row") as error:
            check_size(TINY, make_mix(alone, TOKENIZER, TINY, tmp_path), "data-1")
        assert error.value.next_step.startswith(advice)
        assert ("--context" in error.value.next_step) == ("--context" in advice)
