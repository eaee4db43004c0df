"""LongRoPE: above a switch, all positions of a text are rotated otherwise, so texts of both kinds can't share a pass.

Reports: transformers #33129 (garbled answers that cross the switch), llama.cpp #24823 and unsloth #10681.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Phi3Config, Phi3ForCausalLM

from sizewise.lm.execution import execution_of
from sizewise.lm.generate import Wanted, generate_together
from sizewise.lm.option_scores import Continuation, OptionReader
from sizewise.lm.score import score_ends, score_ids
from tests.lm.test_architectures import COMMON, VOCABULARY, plain_nats

SWITCH = 32


@pytest.fixture(scope="module")
def network() -> Any:
    torch.manual_seed(5)
    rope = {
        "rope_type": "longrope",
        "rope_theta": 10_000.0,
        "short_factor": [1.0] * 4,
        "long_factor": [1.0, 3.0, 9.0, 30.0],
        "original_max_position_embeddings": SWITCH,
    }
    found = Phi3ForCausalLM(
        Phi3Config(**COMMON, rope_parameters=rope, original_max_position_embeddings=SWITCH, sliding_window=None)
    )
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return found.eval()


def sequences(*lengths: int) -> list[list[int]]:
    generator = np.random.default_rng(3)
    return [generator.integers(3, VOCABULARY, length).tolist() for length in lengths]


def same(found: Sequence[Any], expected: Sequence[Any]) -> bool:
    return all(np.abs(a - b).max() < 1e-4 for a, b in zip(found, expected, strict=True))


def test_scores_are_those_of_each_text_alone(network: Any) -> None:
    assert execution_of(network).position_switch == SWITCH
    texts = sequences(70, 20, 33, 34, 31, 60)
    expected = [plain_nats(network, ids[:-1]).numpy() for ids in texts]  # the last token is predicted, not read
    found = [nats[:-1] for nats in score_ids(network, texts, 128)]
    assert same(found, expected)


def test_scores_with_common_beginnings_and_of_options_are_those_of_each_text_alone(network: Any) -> None:
    (beginning,) = sequences(24)
    texts = [beginning + ids for ids in sequences(4, 30, 6, 40)]
    with torch.no_grad():
        logits = [torch.log_softmax(network(torch.tensor([ids[:-1]])).logits[0].double(), -1) for ids in texts]
    expected = [
        -one[23:].gather(1, torch.tensor(ids[24:])[:, None])[:, 0].numpy()
        for one, ids in zip(logits, texts, strict=True)
    ]
    assert same([one.nats for one in score_ends(network, texts, [24] * 4, 128)], expected)
    sums = np.concatenate(OptionReader(network, 128).nats([[Continuation(ids, 24) for ids in texts]]))
    assert sums == pytest.approx([one.sum() for one in expected], abs=1e-3)


@pytest.mark.parametrize("shared", [0, 20])
def test_answers_that_cross_the_switch_are_those_of_each_prompt_alone(network: Any, shared: int) -> None:
    (beginning,) = sequences(shared)
    prompts = [beginning + ids for ids in sequences(28 - shared, 31 - shared, 60 - shared, 22 - shared)]
    told: dict[int, list[int]] = {}

    def wanted(place: int) -> Wanted:
        def take(token: int, likely: float) -> bool:
            told.setdefault(place, []).append(token)
            return len(told[place]) >= 12

        return Wanted(prompts[place], 0.0, 1.0, None, take)

    generate_together(network, SimpleNamespace(pad_token_id=0), [wanted(place) for place in range(4)])
    for place, prompt in enumerate(prompts):
        ids = list(prompt)
        for token in told[place]:
            with torch.no_grad():
                assert token == int(network(torch.tensor([ids])).logits[0, -1].argmax())
            ids.append(token)
