"""Our numbers against plain PyTorch and transformers, in fp32 on tiny random networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sizewise.lm import loop
from sizewise.lm.generate import generate
from sizewise.lm.hf_format import load_network, load_tokenizer
from sizewise.lm.loss import cross_entropy
from sizewise.lm.packing import Unit, pack
from sizewise.lm.score import bits_by_position, bits_per_byte, score_ids, score_texts, windows
from sizewise.lm.tokenizer import prefix_ids, text_ids
from tests.conftest import make_tiny

TEXT = "Each patient names the record of the code 12. A plan holds the device of the claim 7. " * 12


@pytest.fixture(params=["full", "window:16", "pattern:SL:16"])
def tiny(request: pytest.FixtureRequest, tmp_path: Path, text_folder: Path) -> tuple[Any, Any]:
    folder = make_tiny(tmp_path / "net", text_folder, request.param)
    return load_network(folder, "fp32"), load_tokenizer(folder)


def plain_nats(network: Any, ids: list[int]) -> torch.Tensor:
    """-log p of every token but the first, by transformers' own forward pass and log-softmax."""
    with torch.no_grad():
        logits = network(torch.tensor([ids])).logits[0, :-1].double()
    return -torch.log_softmax(logits, -1).gather(1, torch.tensor(ids[1:])[:, None])[:, 0]


def test_each_token_is_predicted_exactly_once() -> None:
    for tokens in range(1, 60):
        for size in (2, 3, 8, 16):
            found = windows(tokens, size)
            assert [t for w in found for t in range(w.first, w.end)] == list(range(1, tokens))
            assert all(w.end - w.start - 1 <= size for w in found)
            assert all(w.first - w.start >= size // 2 for w in found[1:])


def test_scores_equal_plain_transformers(tiny: tuple[Any, Any]) -> None:
    network, tokenizer = tiny
    ids = prefix_ids(tokenizer) + text_ids(tokenizer, TEXT)[:120]
    (ours,) = score_ids(network, [ids], 128)
    assert np.abs(ours - plain_nats(network, ids).numpy()).max() < 1e-4


def test_bits_per_byte_equals_plain_code(tiny: tuple[Any, Any]) -> None:
    network, tokenizer = tiny
    texts = [TEXT[:300], TEXT[40:200]]
    nats = sum(
        float(plain_nats(network, [tokenizer.bos_token_id, *tokenizer(t, add_special_tokens=False).input_ids]).sum())
        for t in texts
    )
    plain = nats / np.log(2) / sum(len(t.encode()) for t in texts)
    assert bits_per_byte(network, tokenizer, texts, 128) == pytest.approx(plain, abs=1e-4)


def test_bits_by_position_cover_each_token_once(tiny: tuple[Any, Any]) -> None:
    network, tokenizer = tiny
    texts = ["the patient names the record of the plan " * 20, "a device holds the order"]
    sequences = [(prefix_ids(tokenizer) + text_ids(tokenizer, text))[:101] for text in texts]
    nats = [plain_nats(network, ids).numpy() for ids in sequences]
    places = bits_by_position(network, tokenizer, texts, 100, nearest=16)
    assert [(some.first, some.last) for some in places] == [(0, 15), (16, 31), (32, 63), (64, 99)]
    assert sum(some.tokens for some in places) == sum(map(len, nats))
    for some in places:
        wanted = np.concatenate([one[some.first : some.last + 1] for one in nats]).mean() / np.log(2)
        assert some.bits == pytest.approx(wanted, abs=1e-4)


def test_a_long_text_is_scored_window_by_window(tiny: tuple[Any, Any]) -> None:
    network, tokenizer = tiny
    (scores,) = score_texts(network, tokenizer, [TEXT], 32)
    ids = prefix_ids(tokenizer) + text_ids(tokenizer, TEXT)
    assert len(scores.nats) == len(ids) - 1
    for w in windows(len(ids), 32)[:4]:
        plain = plain_nats(network, ids[w.start : w.end])[w.first - w.start - 1 :]
        assert np.abs(scores.nats[w.first - 1 : w.end - 1] - plain.numpy()).max() < 1e-4


def test_a_uniform_model_has_the_vocabulary_as_perplexity(tiny: tuple[Any, Any]) -> None:
    network, tokenizer = tiny
    with torch.no_grad():
        network.get_output_embeddings().weight.zero_()
    (scores,) = score_texts(network, tokenizer, [TEXT[:200]], 128)
    assert np.exp(scores.nats.mean()) == pytest.approx(len(tokenizer), rel=1e-5)


def test_answers_equal_those_of_transformers(tiny: tuple[Any, Any]) -> None:
    network, tokenizer = tiny
    prompts = [text_ids(tokenizer, TEXT[i : i + 20 + 7 * i]) for i in range(6)]
    ours = {answer.prompt: answer for answer in generate(network, tokenizer, prompts, max_tokens=12, batch=4)}
    for i, prompt in enumerate(prompts):
        plain = network.generate(torch.tensor([prompt]), max_new_tokens=12, do_sample=False)[0, len(prompt) :]
        text = tokenizer.decode(plain, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert ours[i].text == text.strip()


def test_a_shared_beginning_is_read_once_and_changes_nothing(tiny: tuple[Any, Any]) -> None:
    network, tokenizer = tiny
    begin = text_ids(tokenizer, TEXT[:60])
    prompts = [begin + text_ids(tokenizer, TEXT[i : i + 5 + 9 * i]) for i in range(5)]
    together = {answer.prompt: answer.text for answer in generate(network, tokenizer, prompts, max_tokens=12)}
    for i, prompt in enumerate(prompts):
        (alone,) = generate(network, tokenizer, [prompt], max_tokens=12)
        assert together[i] == alone.text


def test_the_probability_of_an_answer_equals_plain_transformers(tiny: tuple[Any, Any]) -> None:
    network, tokenizer = tiny
    prompts = [text_ids(tokenizer, TEXT)[start : start + size] for start, size in ((0, 9), (5, 20), (30, 14))]
    plain = {answer.prompt: answer.ids for answer in generate(network, tokenizer, prompts, max_tokens=12)}
    for answer in generate(network, tokenizer, prompts, max_tokens=12, logprobs=True):
        prompt = prompts[answer.prompt]
        nats = plain_nats(network, [*prompt, *answer.ids])[len(prompt) - 1 :]
        assert answer.ids == plain[answer.prompt]
        assert answer.mean_logprob == pytest.approx(-float(nats.mean()), abs=1e-4)


def test_a_stop_text_ends_an_answer(tiny: tuple[Any, Any]) -> None:
    network, tokenizer = tiny
    prompts = [text_ids(tokenizer, TEXT[i : i + 30]) for i in range(3)]
    free = {a.prompt: a for a in generate(network, tokenizer, prompts, max_tokens=20)}
    letter = free[1].text[len(free[1].text) // 2]
    stopped = {a.prompt: a for a in generate(network, tokenizer, prompts, max_tokens=20, stop=(letter,))}
    assert stopped[1].finish == "stop"
    assert letter not in stopped[1].text
    assert free[1].text.startswith(stopped[1].text)


@pytest.mark.parametrize("train_head", [False, True])
def test_chunked_loss_equals_plain_loss(train_head: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(50, 8, generator=generator, requires_grad=True)
    head = torch.randn(30, 8, generator=generator, requires_grad=train_head)
    targets = torch.randint(0, 30, (50,), generator=generator)
    targets[::3] = -100
    plain = torch.nn.functional.cross_entropy(hidden @ head.T, targets)
    wanted = torch.autograd.grad(plain, [hidden, head] if train_head else [hidden])
    ours = cross_entropy(hidden, head, targets, chunk=7)
    found = torch.autograd.grad(ours, [hidden, head] if train_head else [hidden])
    assert float(ours.detach()) == pytest.approx(float(plain.detach()), abs=1e-6)
    for one, other in zip(found, wanted, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_packed_rows_give_the_loss_of_separate_texts(tiny: tuple[Any, Any]) -> None:
    network, tokenizer = tiny
    units = [Unit(text_ids(tokenizer, TEXT[i : i + 90]), 1 + i) for i in range(5)]
    rows = pack(units, 128, tokenizer.pad_token_id).all()
    assert len(rows) < len(units)
    nats = [plain_nats(network, unit.ids)[unit.first_target - 1 :] for unit in units]
    plain = float(torch.cat(nats).mean())
    loop.prepare(network, compiled=False)
    with torch.no_grad():
        assert float(loop.loss_of(network, rows)) == pytest.approx(plain, abs=1e-4)
