"""AdamW on fp32 copies of bf16 weights, so that small updates aren't lost to rounding."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

import torch

from sizewise.errors import SizewiseError, install_command
from sizewise.lm.distributed import plain_norm

BETAS = (0.9, 0.95)


class MasterAdamW:
    """AdamW (Loshchilov and Hutter, 2019) with fp32 weights for a network in bf16, and moments in fp32 or 8 bits.

    Args:
        named: names and parameters; those that require gradients are trained.
        weight_decay: weight decay of matrices; vectors have none.
        kind: `adamw`, or `adamw8bit` for moments in 8 bits with a scale per block (Dettmers et al., 2022), which needs
            the package bitsandbytes.

    Raises:
        SizewiseError: bitsandbytes is not installed.
    """

    def __init__(
        self, named: Iterator[tuple[str, torch.nn.Parameter]], weight_decay: float, kind: str = "adamw"
    ) -> None:
        self.parameters = {name: parameter for name, parameter in named if parameter.requires_grad}
        self.masters = {name: p.detach().float().clone() for name, p in self.parameters.items()}
        groups: list[dict[str, Any]] = [
            {"params": [m for m in self.masters.values() if m.dim() >= 2], "weight_decay": weight_decay},
            {"params": [m for m in self.masters.values() if m.dim() < 2], "weight_decay": 0.0},
        ]
        self._adamw = _adamw(kind, [g for g in groups if g["params"]])

    @torch.no_grad()
    def collect(self) -> None:
        """Add the network's gradients to those of the fp32 weights and clear them, between parts of a step."""
        for name, parameter in self.parameters.items():
            gradient, master = parameter.grad, self.masters[name]
            if gradient is not None:
                master.grad = gradient.float() if master.grad is None else master.grad.add_(gradient)
                parameter.grad = None

    @torch.no_grad()
    def step(self, learning_rate: float, clip: float = 1.0) -> float:
        """Apply the gradients in the network, with those collected before, and clear them.

        Returns:
            Norm of the gradient before clipping.
        """
        self.collect()
        norm = plain_norm(torch.nn.utils.clip_grad_norm_(list(self.masters.values()), clip))
        for group in self._adamw.param_groups:
            group["lr"] = learning_rate
        self._adamw.step()
        self.clear()
        self.copy_to_network()
        return norm

    def clear(self) -> None:
        """Drop all gradients."""
        for name, master in self.masters.items():
            master.grad = self.parameters[name].grad = None

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
        self.clear()
        self._adamw.state.clear()
        self.copy_to_network()

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return all state as named tensors, for a checkpoint."""
        named = {f"master.{name}": master for name, master in self.masters.items()}
        for name, master in self.masters.items():
            for key, value in self._adamw.state.get(master, {}).items():
                # Optimizers of bitsandbytes share their code books between parameters; safetensors saves no shared one.
                named[f"adam.{key}.{name}"] = (
                    torch.as_tensor(value).clone() if "qmap" in key else torch.as_tensor(value)
                )
        return named

    @torch.no_grad()
    def load(self, named: dict[str, torch.Tensor]) -> None:
        """Restore the state from `tensors`. The optimizer moves it to the device of its weights."""
        for name, master in self.masters.items():
            master.copy_(named[f"master.{name}"])
        masters = [master for group in self._adamw.param_groups for master in group["params"]]
        names = {id(master): name for name, master in self.masters.items()}
        saved = {}
        for number, master in enumerate(masters):
            name = names[id(master)]
            keys = [key.split(".")[1] for key in named if key.startswith("adam.") and key.split(".", 2)[2] == name]
            if keys:
                saved[number] = {key: _value(named[f"adam.{key}.{name}"]) for key in keys}
        groups = self._adamw.state_dict()["param_groups"]
        self._adamw.load_state_dict({"state": saved, "param_groups": groups})
        self.copy_to_network()


def _adamw(kind: str, groups: list[dict[str, Any]]) -> Any:
    if kind == "adamw":
        return torch.optim.AdamW(groups, betas=BETAS, fused=True)
    if importlib.util.find_spec("bitsandbytes") is None:
        raise SizewiseError(
            "The optimizer adamw8bit needs the package bitsandbytes, which is not installed.",
            "bitsandbytes, or --optimizer adamw",
            install_command("qlora"),
        )
    import bitsandbytes

    return bitsandbytes.optim.AdamW8bit(groups, betas=BETAS)


def _value(saved: torch.Tensor) -> Any:
    """Return a saved value of the optimizer; bitsandbytes counts steps in a plain int."""
    return saved.clone() if saved.dim() or saved.is_floating_point() else int(saved)
