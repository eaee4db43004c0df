"""Chunked cross-entropy that never holds the logits of all tokens in memory.

The gradient is computed in the forward pass, chunk by chunk, as in Liger Kernel (Hsu et al., 2024).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch.utils.checkpoint import checkpoint

from sizewise.lm.device_kernels import liger_loss
from sizewise.lm.execution import Head
from sizewise.lm.kernels import fused

CHUNK = 512
STEP = 32


@fused
def _to_probabilities(logits: torch.Tensor) -> torch.Tensor:
    """Replace logits by their softmax in place and return the log normalizer, (tokens, 1)."""
    exact = logits.float()
    highest = exact.amax(-1, keepdim=True)
    raised = torch.exp(exact - highest)
    total = raised.sum(-1, keepdim=True)
    logits.copy_(raised / total)
    return highest + total.log()


class SoftTargets(NamedTuple):
    """A teacher's distribution at each predicted position.

    Attributes:
        ids: (tokens, k) most likely tokens, all different.
        weights: (tokens, k) their probabilities, which sum to 1.
        share: weight of the teacher's distribution in the loss; the rest is the text itself.
    """

    ids: torch.Tensor
    weights: torch.Tensor
    share: float


def _targets(targets: torch.Tensor, soft: SoftTargets | None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return ids (tokens, k), their target probabilities, and their weights in the loss.

    A token that is both the text's and the teacher's appears twice with its total probability, but counts once.
    """
    ids = targets[:, None]
    if soft is None:
        certain = torch.ones(ids.shape, device=ids.device)
        return ids, certain, certain
    twice = soft.ids == ids
    text = 1 - soft.share + soft.share * (soft.weights * twice).sum(1, keepdim=True)
    others = torch.where(twice, text, soft.share * soft.weights)
    return (
        torch.cat([ids, soft.ids], 1),
        torch.cat([text, others], 1),
        torch.cat([text, others.masked_fill(twice, 0.0)], 1),
    )


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, head: torch.Tensor, targets: torch.Tensor, soft: SoftTargets | None, chunk: int
    ) -> torch.Tensor:
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        hidden_gradient = torch.empty_like(hidden)
        wants_head = ctx.needs_input_grad[1]
        head_gradient = torch.zeros_like(head, dtype=torch.float32) if wants_head else None
        count = max(1, len(targets))
        ids, expected, counted = _targets(targets, soft)
        # One buffer for all chunks, with sizes in steps: every new matrix shape costs time and memory.
        padded = torch.nn.functional.pad(hidden, (0, 0, 0, -len(targets) % STEP))
        buffer = hidden.new_empty(min(chunk + -chunk % STEP, len(padded)), head.shape[0])
        for start in range(0, len(targets), chunk):
            part, aims = hidden[start : start + chunk], ids[start : start + chunk]
            wide = padded[start : start + len(part) + -len(part) % STEP]
            logits = torch.mm(wide, head.T, out=buffer[: len(wide)])
            gradient = logits[: len(part)]
            chosen = gradient.gather(1, aims).float()
            normalizer = _to_probabilities(gradient)
            total += (counted[start : start + chunk] * (normalizer - chosen)).sum()
            # The gradient is softmax minus target. At the target tokens, subtract in full precision.
            off = torch.exp(chosen - normalizer) - expected[start : start + chunk]
            gradient[torch.arange(len(part), device=aims.device)[:, None], aims] = off.to(gradient.dtype)
            hidden_gradient[start : start + chunk] = (logits @ head)[: len(part)].div_(count)
            if head_gradient is not None:
                head_gradient += (gradient.T @ part).float().div_(count)
        ctx.save_for_backward(hidden_gradient, head_gradient)
        ctx.head_dtype = head.dtype
        return total / count

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        hidden_gradient, head_gradient = ctx.saved_tensors
        factor = gradients[0]
        of_head = None if head_gradient is None else (head_gradient * factor).to(ctx.head_dtype)
        return hidden_gradient * factor, of_head, None, None, None


def cross_entropy(
    hidden: torch.Tensor,
    head: torch.Tensor | Head,
    targets: torch.Tensor,
    soft: SoftTargets | None = None,
    chunk: int = CHUNK,
) -> torch.Tensor:
    """Compute the mean cross-entropy in nats per predicted token.

    Args:
        hidden: (tokens, width) hidden states before the head.
        head: the head, or its weights (vocabulary, width).
        targets: (tokens,) ids to predict; positions with -100 are skipped.
        soft: a teacher's distribution at the predicted positions, in order (Hinton et al., 2015).
        chunk: tokens whose logits are in memory at a time.
    """
    predicted, head = targets != -100, Head.of(head)
    if not head.is_linear:
        return _plain_cross_entropy(hidden[predicted], head, targets[predicted], soft, chunk)
    hidden, targets = hidden[predicted], targets[predicted]
    if hidden.device.type == "cuda" and soft is None and len(targets) and (liger := liger_loss()) is not None:
        return liger(hidden, head.weight, targets)
    result: torch.Tensor = _ChunkedCrossEntropy.apply(hidden, head.weight, targets, soft, chunk)
    return result


def _plain_cross_entropy(
    hidden: torch.Tensor, head: Head, targets: torch.Tensor, soft: SoftTargets | None, chunk: int
) -> torch.Tensor:
    """Compute the cross-entropy with autograd, for heads that are more than a matrix product."""
    ids, _, counted = _targets(targets, soft)

    def nats(states: torch.Tensor, aims: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        logits = head.logits(states).float()
        return (weights * (torch.logsumexp(logits, -1, keepdim=True) - logits.gather(1, aims))).sum()

    total = torch.zeros((), dtype=torch.float32, device=hidden.device)
    for part in zip(hidden.split(chunk), ids.split(chunk), counted.split(chunk), strict=True):
        total = total + (nats(*part) if head.weight is None else checkpoint(nats, *part, use_reentrant=False))
    return total / max(1, len(targets))


@torch.no_grad()
def token_nats(
    hidden: torch.Tensor, head: torch.Tensor | Head, targets: torch.Tensor, chunk: int = CHUNK
) -> torch.Tensor:
    """Compute the negative log-likelihood of each target in nats: (tokens, width), (tokens,) -> (tokens,) in fp32.

    Args:
        hidden: (tokens, width) states that the head maps to logits.
        head: the head, or the (vocabulary, width) weights of a linear one.
        targets: (tokens,) ids to predict.
        chunk: tokens whose logits are in memory at a time.
    """
    head, found = Head.of(head), []
    for states, aims in zip(hidden.split(chunk), targets.split(chunk), strict=True):
        logits = head.logits(states)
        if head.weight is None:
            logits = logits.clone()  # the normalizer is computed in place
        chosen = logits.gather(1, aims[:, None]).float()
        found.append((_to_probabilities(logits) - chosen)[:, 0])
    return torch.cat(found) if found else torch.zeros(0, device=hidden.device)


@torch.inference_mode()
def likeliest(
    hidden: torch.Tensor, head: torch.Tensor | Head, k: int, chunk: int = CHUNK, size: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the k most likely tokens at each position and their probabilities, renormalized over the k.

    Args:
        hidden: (tokens, width).
        head: the head, or its weights (vocabulary, width).
        k: number of tokens to keep.
        chunk: tokens whose logits are in memory at a time.
        size: tokens of the vocabulary to choose from, the first ones; by default all.

    Returns:
        (tokens, k) ids and (tokens, k) fp32 probabilities.
    """
    ids, weights, head = list[torch.Tensor](), list[torch.Tensor](), Head.of(head)
    for start in range(0, len(hidden), chunk):
        best = head.logits(hidden[start : start + chunk], 0, size).topk(k, dim=-1)
        ids.append(best.indices)
        weights.append(torch.softmax(best.values.float(), -1))
    return torch.cat(ids), torch.cat(weights)
