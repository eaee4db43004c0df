"""A teacher's likeliest tokens as tokens of a student with another tokenizer."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sizewise.errors import SizewiseError
from sizewise.lm.hf_format import load_network, load_tokenizer
from sizewise.lm.loop import loss_of, prepare
from sizewise.lm.other_vocabulary import MIN_MASS, K, OtherVocabulary
from sizewise.lm.packing import NO_TARGET, Rows, Unit, pack
from sizewise.lm.token_bytes import token_bytes
from sizewise.lm.tokenizer import prefix_ids, text_ids, train_tokenizer
from sizewise.records import Dataset, Recipe
from sizewise.store import Saved, Store
from sizewise.training import train
from tests.training.test_training import TINY

TEXT = "Each patient names the record of the code 12. A plan holds the device of the claim 7."


@pytest.fixture
def teacher(tiny_folder: Path) -> tuple[Any, Any]:
    network = load_network(tiny_folder, "fp32")
    with torch.no_grad():  # an untrained network finds all tokens about equally likely, after its padding even exactly
        network.model.norm.weight.mul_(4)
        network.model.embed_tokens.weight[0].normal_(generator=torch.Generator().manual_seed(0))
    return network, load_tokenizer(tiny_folder)


def student(text_folder: Path, size: int = 300) -> Any:
    return train_tokenizer([path.read_text(encoding="utf-8") for path in sorted(text_folder.glob("*"))], size, 128)


def rows_of(tokenizer: Any, *texts: str) -> Rows:
    prefix = prefix_ids(tokenizer)
    return pack([Unit(prefix + text_ids(tokenizer, text), len(prefix)) for text in texts], 256, 0).all()


def chances(network: Any, tokenizer: Any, text: str) -> np.ndarray[Any, Any]:
    """The teacher's probability of each token at each place of a text, (tokens, vocabulary)."""
    ids = prefix_ids(tokenizer) + text_ids(tokenizer, text)
    with torch.no_grad():
        return torch.softmax(network(torch.tensor([ids])).logits[0, :-1].double(), -1).numpy()


@pytest.mark.parametrize("text", [TEXT, "Für 20 €: naïve 患者 Ωμέγα", ""])
def test_the_bytes_of_tokens_are_those_of_the_text(teacher: tuple[Any, Any], text: str) -> None:
    pieces = token_bytes(teacher[1])
    assert b"".join(pieces[token] or b"?" for token in text_ids(teacher[1], text)) == text.encode()
    assert pieces[teacher[1].bos_token_id] is None


def test_with_the_same_tokenizer_they_are_its_likeliest_tokens(teacher: tuple[Any, Any]) -> None:
    network, tokenizer = teacher
    rows = rows_of(tokenizer, TEXT)
    ids, weights, share = OtherVocabulary(network, tokenizer, tokenizer, 0.5)(rows)
    assert share == 0.5
    pieces, wanted = token_bytes(tokenizer), chances(network, tokenizer, TEXT)
    for place, token in enumerate(text_ids(tokenizer, TEXT)):
        best = np.argsort(-wanted[place])[:K]
        best = [one for one in best if pieces[one] is not None]
        mass = {one: wanted[place, one] for one in best}
        if sum(mass.values()) < MIN_MASS:  # control tokens are likelier
            continue
        known = {int(one): float(weight) for one, weight in zip(ids[place], weights[place], strict=True) if weight}
        for one in best:
            if one != token and not (pieces[token] or b"").startswith(pieces[one] or b"?"):
                assert known.get(int(one), 0.0) == pytest.approx(mass[one] / sum(mass.values()), abs=1e-4)
        assert sum(known.values()) == pytest.approx(1, abs=1e-5)


def test_another_tokenizer_gets_the_tokens_that_begin_them(teacher: tuple[Any, Any], text_folder: Path) -> None:
    network, tokenizer = teacher
    own = student(text_folder)
    assert own.get_vocab() != tokenizer.get_vocab()
    ids, weights, _ = OtherVocabulary(network, tokenizer, own, 0.5)(rows_of(own, TEXT))
    read, mine = text_ids(tokenizer, TEXT), text_ids(own, TEXT)
    assert len(ids) == len(mine) != len(read)
    assert weights.sum(1).numpy() == pytest.approx(np.ones(len(mine)), abs=1e-5)
    assert all(len(set(row)) == K for row in ids.tolist())
    pieces, own_pieces, wanted = token_bytes(tokenizer), token_bytes(own), chances(network, tokenizer, TEXT)
    starts = np.cumsum([0, *(len(pieces[token] or b"") for token in read)]).tolist()
    at = checked = 0
    for place, token in enumerate(mine):
        if at in starts:  # both begin a token here: each kept one begins a likely one of the teacher, or is the text's
            best = [pieces[one] or b"" for one in np.argsort(-wanted[starts.index(at)])[:K]]
            for one, weight in zip(ids[place].tolist(), weights[place].tolist(), strict=True):
                assert not weight or one == token or any(piece.startswith(own_pieces[one] or b"?") for piece in best)
            checked += 1
        at += len(own_pieces[token] or b"")
    assert checked > len(mine) // 3


def test_what_it_cannot_read_is_learned_from_the_text(teacher: tuple[Any, Any], text_folder: Path) -> None:
    network, tokenizer = teacher
    own = student(text_folder)
    cut = text_ids(own, "naïve")[: [len(own.decode(text_ids(own, "naïve")[:n])) for n in range(9)].index(3)]
    cut_letter = text_ids(own, "患")[1:]
    control = [own.eos_token_id, *text_ids(own, "names the record")]
    units = [Unit([*prefix_ids(own), *ids], 1) for ids in (cut, cut_letter, control)]
    rows = pack(units, 256, 0).all()
    ids, weights, _ = OtherVocabulary(network, tokenizer, own, 0.5)(rows)
    targets = rows.targets[rows.targets != NO_TARGET]
    assert len(ids) == len(targets)
    known = dict(zip(targets.tolist(), zip(ids.tolist(), weights.tolist(), strict=True), strict=True))
    assert known[own.eos_token_id][1][0] == 1.0
    assert all(ids[n, 0] == targets[n] for n in range(len(targets)) if weights[n, 0] == 1.0)


def test_rows_without_targets_and_masked_ones_have_none(teacher: tuple[Any, Any], text_folder: Path) -> None:
    network, tokenizer = teacher
    own = student(text_folder)
    ids = prefix_ids(own) + text_ids(own, TEXT)
    rows = pack([Unit(ids, len(ids) - 3)], 256, 0).all()
    assert OtherVocabulary(network, tokenizer, own, 0.5)(rows).ids.shape == (3, K)
    learner = load_network_with(own)
    prepare(learner, compiled=False)
    loss = loss_of(learner, rows, OtherVocabulary(network, tokenizer, own, 0.5))
    loss.backward()
    assert float(loss.detach()) > 0


def load_network_with(tokenizer: Any) -> Any:
    from sizewise.lm.architecture import Shape, build_network

    ids = {"bos": tokenizer.bos_token_id, "eos": tokenizer.eos_token_id, "pad": tokenizer.pad_token_id}
    return build_network(Shape(1, 64, len(tokenizer)), "full", 256, ids, seed=0)


def test_a_teacher_of_documents_may_have_any_vocabulary(
    dataset: Saved[Dataset], store: Store, tiny_folder: Path
) -> None:
    recipe = Recipe.model_validate(
        TINY | {"tokens": 2_000, "teacher": str(tiny_folder), "teacher_share": 0.5, "example_share": 0.0}
    )
    record = train(recipe, dataset.id, store=store).record
    assert any("vocabulary is another one" in note for note in record.notes)
    assert any(re.match(r"the teacher taught (100|9\d)\.\d% of the tokens", note) for note in record.notes)
    assert all(np.isfinite(point.loss) for point in record.curve)


def spaced(text_folder: Path, prepend: str, **normal: Any) -> Any:
    """A SentencePiece-like tokenizer, which may put a space before a text."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(prepend_scheme=prepend), decoders.Metaspace()
    if normal:
        made.normalizer = normalizers.Lowercase()
    bytes_of = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=["<s>", "</s>", "<unk>"], show_progress=False)
    made.train([str(path) for path in sorted(text_folder.glob("*"))], trainer)
    vocabulary = made.get_vocab()
    merges = json.loads(made.to_str())["model"]["merges"]
    for one in bytes_of:
        vocabulary[one] = len(vocabulary)
    made.model = models.BPE(vocabulary, [tuple(merge) for merge in merges], byte_fallback=True, unk_token="<unk>")
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


@pytest.mark.parametrize("prepend", ["always", "never"])
def test_a_teacher_that_puts_a_space_before_a_text_teaches_it(text_folder: Path, prepend: str) -> None:
    theirs, own = spaced(text_folder, prepend), student(text_folder)
    network = load_network_with(theirs)
    ids, weights, _ = OtherVocabulary(network, theirs, own, 0.5)(rows_of(own, TEXT))
    assert (weights[:, 0] < 1).float().mean() > 0.3  # an untrained teacher has no certain token
    assert ids.shape == (len(text_ids(own, TEXT)), K)


def test_tokenizers_that_change_the_text_are_refused(text_folder: Path, teacher: tuple[Any, Any]) -> None:
    lower = spaced(text_folder, "never", lower=True)
    with pytest.raises(SizewiseError, match="don't spell the text"):
        OtherVocabulary(teacher[0], lower, teacher[1], 0.5)


def test_what_lies_behind_the_teachers_context_is_learned_from_the_text(
    teacher: tuple[Any, Any], text_folder: Path
) -> None:
    network, tokenizer = teacher
    own = student(text_folder)
    network.config.max_position_embeddings = 8
    taught = OtherVocabulary(network, tokenizer, own, 0.5)
    _, weights, _ = taught(rows_of(own, TEXT))
    assert taught.taught == pytest.approx(float((weights[:, 0] < 1).float().mean()), abs=0.05)
    assert (weights[-20:, 0] == 1).all()
    assert (weights[:4, 0] < 1).any()
