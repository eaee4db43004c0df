"""Cross-entropy in chunks: the logits of all tokens never exist at once.

The gradient is worked out in the forward pass, chunk by chunk, as in Liger Kernel (Hsu et al., 2024).
"""

from __future__ import annotations

from typing import Any

import torch

from sizewise.lm.kernels import fused

CHUNK = 512


@fused
def _probabilities(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Give softmax, in the type of the logits, and (tokens, 1) the logarithm of what it was divided by."""
    exact = logits.float()
    highest = exact.amax(-1, keepdim=True)
    raised = torch.exp(exact - highest)
    total = raised.sum(-1, keepdim=True)
    return (raised / total).to(logits.dtype), highest + total.log()


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, head: torch.Tensor, targets: torch.Tensor, chunk: int) -> torch.Tensor:
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        hidden_gradient = torch.empty_like(hidden)
        wants_head = ctx.needs_input_grad[1]
        head_gradient = torch.zeros_like(head, dtype=torch.float32) if wants_head else None
        count = max(1, len(targets))
        for start in range(0, len(targets), chunk):
            part, wanted = hidden[start : start + chunk], targets[start : start + chunk]
            logits = part @ head.T
            chosen = logits.gather(1, wanted[:, None]).float()
            gradient, normaliser = _probabilities(logits)
            total += (normaliser - chosen).sum()
            # The probabilities are the gradient but for the wanted token.
            gradient.scatter_(1, wanted[:, None], torch.expm1(chosen - normaliser).to(gradient.dtype))
            hidden_gradient[start : start + chunk] = (gradient @ head).div_(count)
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
        return hidden_gradient * factor, of_head, None, None


def cross_entropy(hidden: torch.Tensor, head: torch.Tensor, targets: torch.Tensor, chunk: int = CHUNK) -> torch.Tensor:
    """Give the mean negative log-likelihood of targets, nats a token.

    Args:
        hidden: (tokens, width) hidden states before the head.
        head: (vocabulary, width) weights of the head.
        targets: (tokens,) ids to predict; -100 where nothing is predicted (those cost nothing).
        chunk: tokens whose logits exist at once.
    """
    wanted = targets != -100
    result: torch.Tensor = _ChunkedCrossEntropy.apply(hidden[wanted], head, targets[wanted], chunk)
    return result
