"""A linear layer fused with its low-rank adapter, forward and backward.

Adding the adapter's output in a separate operation costs another pass over all outputs. Here the addition is part of
the matrix product, and frozen weights get no gradient.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch


@torch.library.custom_op("sizewise::adapted_linear", mutates_args=())
def _adapted(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    down: torch.Tensor,
    up: torch.Tensor,
    scaling: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    flat = x.reshape(-1, x.shape[-1])
    output = torch.nn.functional.linear(flat, weight, bias)
    inner = flat @ down.T
    output.addmm_(inner, up.T, alpha=scaling)
    return output.view(*x.shape[:-1], weight.shape[0]), inner


@_adapted.register_fake
def _(
    x: torch.Tensor, weight: torch.Tensor, _bias: torch.Tensor | None, down: torch.Tensor, *_others: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    tokens = x.numel() // x.shape[-1]
    return x.new_empty(*x.shape[:-1], weight.shape[0]), x.new_empty(tokens, down.shape[0])


@torch.library.custom_op("sizewise::adapted_linear_back", mutates_args=())
def _adapted_back(
    gradient: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    down: torch.Tensor,
    up: torch.Tensor,
    inner: torch.Tensor,
    scaling: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    flat, of_output = x.reshape(-1, x.shape[-1]), gradient.reshape(-1, gradient.shape[-1])
    of_inner = (of_output @ up).mul_(scaling)
    of_x = of_output @ weight
    of_x.addmm_(of_inner, down)
    return of_x.view(x.shape), of_inner.T @ flat, (of_output.T @ inner).mul_(scaling)


@_adapted_back.register_fake
def _(
    _gradient: torch.Tensor,
    x: torch.Tensor,
    _weight: torch.Tensor,
    down: torch.Tensor,
    up: torch.Tensor,
    *_others: Any,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return x.new_empty(x.shape), down.new_empty(down.shape), up.new_empty(up.shape)


def _save_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, torch.Tensor]) -> None:
    x, weight, _bias, down, up, ctx.scaling = inputs
    ctx.save_for_backward(x, weight, down, up, output[1])


def _backward(ctx: Any, gradient: torch.Tensor, _unused: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
    of_x, of_down, of_up = _adapted_back(gradient, *ctx.saved_tensors, ctx.scaling)
    return of_x, None, None, of_down, of_up, None


_adapted.register_autograd(_backward, setup_context=_save_context)


class _AdaptedFourBits(torch.autograd.Function):
    """The same over weights in 4 bits, which are expanded for one product at a time and never kept."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, base: Any, down: torch.Tensor, up: torch.Tensor, scaling: float
    ) -> torch.Tensor:
        output, inner = _adapted(x, _expanded(base, x.dtype), base.bias, down, up, scaling)
        ctx.base, ctx.scaling = base, scaling
        ctx.save_for_backward(x, down, up, inner)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, down, up, inner = ctx.saved_tensors
        weight = _expanded(ctx.base, x.dtype)
        of_x, of_down, of_up = _adapted_back(gradients[0], x, weight, down, up, inner, ctx.scaling)
        return of_x, None, of_down, of_up, None


def _expanded(base: Any, dtype: torch.dtype) -> torch.Tensor:
    """Expand a layer's 4-bit weights, (outputs, inputs)."""
    from bitsandbytes.functional import dequantize_4bit

    weight: torch.Tensor = dequantize_4bit(base.weight.data, base.weight.quant_state).to(dtype)
    return weight


def _forward(layer: Any, x: torch.Tensor, *_args: Any, **_unused: Any) -> torch.Tensor:
    (name,) = layer.active_adapters
    base = layer.get_base_layer()
    if _is_in_four_bits(base):
        down, up = layer.lora_A[name].weight, layer.lora_B[name].weight
        result: torch.Tensor = _AdaptedFourBits.apply(x.to(down.dtype), base, down, up, layer.scaling[name])
        return result.to(x.dtype)
    output, _ = _adapted(
        x, base.weight, base.bias, layer.lora_A[name].weight, layer.lora_B[name].weight, layer.scaling[name]
    )
    return output


def fuse_adapters(network: Any) -> None:
    """Fuse a network's plain LoRA adapters with their linear layers."""
    for layer in network.modules():
        if _is_plain_adapter(layer):
            layer.forward = MethodType(_forward, layer)


def unfuse_adapters(network: Any) -> None:
    """Undo `fuse_adapters`."""
    for layer in network.modules():
        if _is_plain_adapter(layer):
            layer.__dict__.pop("forward", None)


def _is_plain_adapter(layer: Any) -> bool:
    """Check for LoRA on a linear layer, its weights in full or, on the CPU, in 4 bits: no DoRA and no dropout."""
    adapters = getattr(layer, "lora_A", None)
    return (
        bool(adapters)
        and (type(layer.get_base_layer()) is torch.nn.Linear or _is_in_four_bits(layer.get_base_layer()))
        and not any(layer.use_dora.values())
        and all(isinstance(dropout, torch.nn.Identity) for dropout in layer.lora_dropout.values())
    )


def _is_in_four_bits(base: Any) -> bool:
    """Check for bitsandbytes' 4-bit weights on the CPU; on a card, its own products read them directly."""
    return type(base).__name__ == "Linear4bit" and bool(base.weight.device.type == "cpu")
