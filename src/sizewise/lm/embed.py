"""Embed texts: the normalized mean of a token sequence's last hidden states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sizewise.lm.execution import execution_of


@torch.inference_mode()
def embed_ids(network: Any, sequences: Sequence[Sequence[int]]) -> npt.NDArray[np.float32]:
    """Compute an embedding of each token sequence.

    Causal models aren't trained for this. Texts on one topic get similar vectors, but a retrieval model is better
    (Muennighoff, 2022, SGPT).

    Args:
        network: a causal language model.
        sequences: each with at least one token.

    Returns:
        (sequences, width) unit vectors.
    """
    found = []
    for ids in sequences:
        states = execution_of(network).last_states(torch.tensor([list(ids)], device=network.device))[0].float()
        mean = states.mean(dim=0)
        found.append((mean / mean.norm().clamp_min(1e-12)).cpu().numpy())
    return np.stack(found)
