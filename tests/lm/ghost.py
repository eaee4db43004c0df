"""A second device for machines without a graphics card. It computes on the CPU and refuses to mix with CPU tensors.

PyTorch lets Python code take the place of a device (PrivateUse1). Tensors on the device `ghost` hold a CPU tensor;
each operation checks that all its tensors are on one device, as CUDA does, and computes with what they hold. The
device can't be removed from a process again, so tests use it in a process of its own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

NAME = "ghost"
COPIES = (torch.ops.aten.copy_.default, torch.ops.aten._to_copy.default)


class GhostTensor(torch.Tensor):
    """A tensor on the ghost device."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls: type[GhostTensor], held: torch.Tensor) -> GhostTensor:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=f"{NAME}:0",
        )
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.tolist:  # not defined for subclasses
            return args[0].held.tolist()
        if func is torch.Tensor.__getitem__ and isinstance(args[1], tuple):  # PyTorch converts lists below the dispatch
            args = (args[0], tuple(_index(part) for part in args[1]))
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))


def _run(func: Any, args: Any, kwargs: Any) -> Any:
    if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"):
        found = func.decompose(*args, **kwargs)
        if found is not NotImplemented:
            return found
    flat, spec = tree_flatten((args, kwargs))
    ghosts = [value for value in flat if isinstance(value, GhostTensor)]
    others = [value for value in flat if isinstance(value, torch.Tensor) and not isinstance(value, GhostTensor)]
    if func not in COPIES and ghosts and any(value.dim() for value in others):
        raise RuntimeError(f"{func}: tensors on {NAME} and cpu")
    device = next((value for value in flat if isinstance(value, torch.device)), None)
    if func is torch.ops.aten.copy_.default:
        on_ghost = isinstance(args[0], GhostTensor)
    else:
        on_ghost = bool(ghosts) if device is None else device.type == NAME
    plain = [_plain(value) for value in flat]
    plain_args, plain_kwargs = tree_unflatten(plain, spec)
    plain_kwargs.pop("pin_memory", None)
    with torch.inference_mode(False):
        result = func(*plain_args, **plain_kwargs)
        known = {id(value.held): value for value in ghosts}

        def wrapped(value: Any) -> Any:
            if not isinstance(value, torch.Tensor) or not on_ghost:
                return value
            return known.get(id(value)) if id(value) in known else GhostTensor(value)

        return tree_map(wrapped, result)


def _index(part: Any) -> Any:
    return torch.tensor(list(part), device=NAME) if isinstance(part, list | range) else part


def _plain(value: Any) -> Any:
    if isinstance(value, GhostTensor):
        return value.held
    return torch.device("cpu") if isinstance(value, torch.device) else value


class _Backend(_DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


_library: Any = None  # its kernels exist as long as this object


def install() -> None:
    """Add the ghost device to this process."""
    global _library
    _setup_privateuseone_for_python_backend(NAME, backend_module=_Backend())
    _library = torch.library.Library("_", "IMPL")
    _library.fallback(lambda func, *args, **kwargs: _run(func, args, kwargs), "PrivateUse1")
    make_tensor, make_generator = torch.tensor, torch.Generator

    def tensor(data: Any, *, device: Any = None, **others: Any) -> torch.Tensor:
        """Create a tensor on the CPU first: PyTorch copies Python numbers below Python's dispatch."""
        wanted = torch.empty(0).device if device is None else torch.device(device)
        with torch.device("cpu"):
            made = make_tensor(data, **others)
        return made if wanted.type == "cpu" else made.to(wanted)

    def generator(device: Any = "cpu") -> torch.Generator:
        return make_generator("cpu" if torch.device(device).type == NAME else device)

    torch.tensor, torch.Generator = tensor, generator
