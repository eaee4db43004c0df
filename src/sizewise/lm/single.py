"""Answers one prompt at a time, for networks whose cache can't be shared by a batch.

The network's own `generate` manages its cache, whatever that consists of. Where even this differs from a forward pass
over all tokens, there is no cache, and each new token processes all tokens before it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from sizewise.lm.execution import Execution, Head
from sizewise.progress import pulse

MAX_NEW = 1 << 20  # tokens; the caller ends an answer
Choose = Callable[[torch.Tensor, Head, Sequence[int]], torch.Tensor]


def answer_singly(
    execution: Execution,
    prompts: Sequence[list[int]],
    is_done: Callable[[int, list[int]], bool],
    choose: Choose,
    before: Callable[[Sequence[int]], None] | None = None,
) -> list[list[int]]:
    """Generate tokens for one prompt after the other.

    Args:
        execution: how the network is run.
        prompts: token ids.
        is_done: called with a prompt's index and all its new tokens; returns whether the answer is complete.
        choose: called with (1, vocabulary) logits, a head that leaves them as they are, and the prompt's index.
        before: called with the prompt's index before its first forward pass.
    """
    run = _generate if execution.answers == "single" else _generate_uncached
    found = []
    for member, prompt in enumerate(prompts):
        if before:
            before([member])
        found.append(run(execution, prompt, _Answer(member, is_done, choose)))
    return found


class _Answer:
    """The tokens of one answer so far."""

    def __init__(self, member: int, is_done: Callable[[int, list[int]], bool], choose: Choose) -> None:
        self.member, self._is_done, self._choose = member, is_done, choose
        self.tokens: list[int] = []

    def extend(self, logits: torch.Tensor) -> int:
        """Choose the next token from logits, (1, vocabulary)."""
        pulse()
        (token,) = self._choose(logits, Head(None, logits.shape[-1]), [self.member]).tolist()
        self.tokens.append(int(token))
        return int(token)

    @property
    def is_done(self) -> bool:
        return self._is_done(self.member, self.tokens)


def _generate_uncached(execution: Execution, prompt: list[int], answer: _Answer) -> list[int]:
    while True:
        ids = torch.tensor([[*prompt, *answer.tokens]], device=execution.device)
        answer.extend(execution.own_logits(ids)[:, -1])
        if answer.is_done:
            return answer.tokens


class _Chosen(LogitsProcessor):
    """Leaves no token but the chosen one."""

    def __init__(self, answer: _Answer) -> None:
        self._answer = answer

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        token = self._answer.extend(scores)
        chosen = torch.full_like(scores, -torch.inf)
        chosen[:, token] = 0.0
        return chosen


class _Done(StoppingCriteria):
    def __init__(self, answer: _Answer) -> None:
        self._answer = answer

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
        return torch.full((len(input_ids),), self._answer.is_done, device=input_ids.device)


def _generate(execution: Execution, prompt: list[int], answer: _Answer) -> list[int]:
    ids = torch.tensor([prompt], device=execution.device)
    with _plain_generation(execution.network):
        execution.network.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            logits_processor=LogitsProcessorList([_Chosen(answer)]),
            stopping_criteria=StoppingCriteriaList([_Done(answer)]),
        )
    return answer.tokens


@contextmanager
def _plain_generation(network: Any) -> Iterator[None]:
    """Replace the network's own generation settings, such as a repetition penalty, by greedy search with a cache."""
    before, used_cache = network.generation_config, getattr(network.config, "use_cache", None)
    network.generation_config = GenerationConfig(
        do_sample=False, max_new_tokens=MAX_NEW, pad_token_id=0, use_cache=True
    )
    try:
        network.config.use_cache = True
        yield
    finally:
        network.generation_config, network.config.use_cache = before, used_cache
