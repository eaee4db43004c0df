"""Losses of a sentence encoder that is fine-tuned with a head over its vectors."""

from __future__ import annotations

import torch
from torch.nn import functional


def contrastive_loss(vectors: torch.Tensor, labels: torch.Tensor, temperature: float) -> torch.Tensor:
    """Compute the supervised contrastive loss of Khosla et al. (2020), equation 2.

    Args:
        vectors: (texts, width) unit vectors.
        labels: (texts,) index of the option of each text.
        temperature: temperature of the similarities.

    Returns:
        Mean over the texts that share their option with another one; 0 without such texts.
    """
    itself = torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
    logits = (vectors @ vectors.T / temperature).masked_fill(itself, -torch.inf)
    same = (labels[:, None] == labels[None, :]) & ~itself
    likelihoods = functional.log_softmax(logits, dim=1).masked_fill(~same, 0.0)
    counts = same.sum(dim=1)
    paired = counts > 0
    if not bool(paired.any()):
        return vectors.sum() * 0.0
    return -(likelihoods.sum(dim=1)[paired] / counts[paired]).mean()


def option_loss(logits: torch.Tensor, targets: torch.Tensor, smoothing: float, independent: bool) -> torch.Tensor:
    """Compute the cross-entropy over the options, with smoothed labels (Szegedy et al., 2016).

    Args:
        logits: (texts, options).
        targets: (texts, options) shares.
        smoothing: share of each label that is spread over all options.
        independent: whether each option is a decision of its own.
    """
    if independent:
        return functional.binary_cross_entropy_with_logits(logits, targets * (1 - smoothing) + smoothing / 2)
    spread = targets * (1 - smoothing) + smoothing / targets.shape[1]
    return -(spread * functional.log_softmax(logits, dim=1)).sum(dim=1).mean()
