"""AdamW on fp32 copies of bf16 weights, so that small updates aren't lost to rounding."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

BETAS = (0.9, 0.95)


class MasterAdamW:
    """AdamW (Loshchilov and Hutter, 2019) with fp32 state and weights for a network in bf16.

    Args:
        named: names and parameters; those that require gradients are trained.
        weight_decay: weight decay of matrices; vectors have none.
    """

    def __init__(self, named: Iterator[tuple[str, torch.nn.Parameter]], weight_decay: float) -> None:
        self.parameters = {name: parameter for name, parameter in named if parameter.requires_grad}
        self.masters = {name: p.detach().float().clone() for name, p in self.parameters.items()}
        groups: list[dict[str, Any]] = [
            {"params": [m for m in self.masters.values() if m.dim() >= 2], "weight_decay": weight_decay},
            {"params": [m for m in self.masters.values() if m.dim() < 2], "weight_decay": 0.0},
        ]
        self._adamw = torch.optim.AdamW([g for g in groups if g["params"]], betas=BETAS, fused=True)

    @torch.no_grad()
    def step(self, learning_rate: float, clip: float = 1.0) -> float:
        """Apply the gradients in the network and clear them.

        Returns:
            Norm of the gradient before clipping.
        """
        for name, parameter in self.parameters.items():
            gradient = parameter.grad
            self.masters[name].grad = None if gradient is None else gradient.float()
            parameter.grad = None
        norm = float(torch.nn.utils.clip_grad_norm_(list(self.masters.values()), clip))
        for group in self._adamw.param_groups:
            group["lr"] = learning_rate
        self._adamw.step()
        self.copy_to_network()
        return norm

    @torch.no_grad()
    def copy_to_network(self) -> None:
        """Copy the fp32 weights into the network, rounded to its precision."""
        for name, parameter in self.parameters.items():
            parameter.copy_(self.masters[name])

    @torch.no_grad()
    def restart(self, weights: dict[str, torch.Tensor]) -> None:
        """Continue from other weights with a cleared optimizer state."""
        for name, master in self.masters.items():
            master.copy_(weights[name])
            self.parameters[name].grad = None
        self._adamw.state.clear()
        self.copy_to_network()

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return all state as named tensors, for a checkpoint."""
        named = {f"master.{name}": master for name, master in self.masters.items()}
        for name, master in self.masters.items():
            for key, value in self._adamw.state.get(master, {}).items():
                named[f"adam.{key}.{name}"] = torch.as_tensor(value)
        return named

    @torch.no_grad()
    def load(self, named: dict[str, torch.Tensor]) -> None:
        """Restore the state from `tensors`."""
        for name, master in self.masters.items():
            master.copy_(named[f"master.{name}"])
            state = {
                key: named[f"adam.{key}.{name}"].clone()
                for key in ("step", "exp_avg", "exp_avg_sq")
                if f"adam.{key}.{name}" in named
            }
            if state:
                self._adamw.state[master] = state
        self.copy_to_network()
