"""Low-rank adapters on all linear layers (LoRA), in the format that every server loads."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from safetensors import SafetensorError
from transformers import BitsAndBytesConfig

from sizewise.errors import SizewiseError, install_command
from sizewise.lm.architecture import with_attention
from sizewise.lm.device import PRECISIONS, placed, release_memory
from sizewise.lm.execution import execution_of
from sizewise.lm.hf_format import cannot_save, load_network
from sizewise.lm.weight_checks import check_numbers

MODEL_TYPES_WITHOUT_OUT_PROJ = ("falcon_h1", "mamba", "mamba2", "falcon_mamba", "nemotron_h")
"""Architectures whose `out_proj` peft doesn't adapt."""
PACKED = 32
"""Outputs of a layer that bitsandbytes rearranges together."""
BASE = "__base__"
"""peft's name for rows that use no adapter."""


@contextmanager
def _quiet_peft() -> Iterator[None]:
    """Suppress harmless warnings: of a name that transformers will remove, and of what `merge_lora` takes care of."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, message=".*is_gradient_checkpointing.*")
        warnings.filterwarnings("ignore", message=".*tied layer is part of the adapter.*")
        warnings.filterwarnings("ignore", message="Model with `tie_word_embeddings=True`.*")
        warnings.filterwarnings("ignore", message="Found missing adapter keys.*")  # `_check_complete` refuses them
        warnings.filterwarnings("ignore", message="Input and output embeddings are no longer tied.*")
        warnings.filterwarnings("ignore", message="(Already following|All) adapters (were|are already) merged.*")
        yield


def add_lora(network: Any, rank: int, seed: int, dora: bool = False) -> Any:
    """Add trainable low-rank adapters to all linear layers but the head.

    Source: Hu et al. (2021), LoRA. alpha / rank is 2. Fresh adapters leave the network's output unchanged.

    Args:
        network: a causal language model.
        rank: rank of the adapters.
        seed: seed of the initial adapter weights.
        dora: learn the magnitude of each weight row separately from its direction (Liu et al., 2024, DoRA).

    Returns:
        The network wrapped by peft.
    """
    config = LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules=_targets(network), task_type="CAUSAL_LM", use_dora=dora
    )
    with torch.random.fork_rng(devices=[]), _quiet_peft():
        torch.manual_seed(seed)
        wrapped = get_peft_model(network, config, autocast_adapter_dtype=False)
    if getattr(network, "is_loaded_in_4bit", False):  # else peft takes the precision from the weights below
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.to(network.dtype)
    return wrapped


def _targets(network: Any) -> str | list[str]:
    """Return what gets adapters: all linear layers of the text part, except those of Mamba that its kernel reads."""
    is_text, head = execution_of(network).text_filter(), network.get_output_embeddings()
    linear = {name: part for name, part in network.named_modules() if isinstance(part, torch.nn.Linear)}
    text = [
        name for name, part in linear.items() if part is not head and is_text(f"{name}.weight") and _is_linear(part)
    ]
    if network.config.model_type in MODEL_TYPES_WITHOUT_OUT_PROJ:
        return sorted({name.rpartition(".")[2] for name in text} - {"out_proj"})
    others = len(linear) - len(text) - any(part is head for part in linear.values())
    return text if others else "all-linear"  # full names leave out vision parts, and routers that return more


@torch.no_grad()
def _is_linear(layer: Any) -> bool:
    """Check that an architecture's own subclass of a linear layer computes nothing else, unlike Llama 4's router."""
    own = type(layer).__module__.startswith("transformers.models.")
    if not own or type(layer).forward is torch.nn.Linear.forward:
        return True
    weight = layer.weight
    states = torch.linspace(-1, 1, layer.in_features, dtype=weight.dtype, device=weight.device)[None]
    expected = torch.nn.functional.linear(states, weight, layer.bias)
    try:
        found = layer(states)
    except Exception:  # it takes other input
        return False
    return isinstance(found, torch.Tensor) and (weight.is_meta or torch.allclose(found, expected, rtol=0.02, atol=1e-3))


def load_in_4_bits(folder: Path, device: str, precision: str, packed: bool = False) -> Any:
    """Load a network whose linear layers have 4-bit weights (NF4; Dettmers et al., 2023, QLoRA).

    Args:
        folder: a Hugging Face folder.
        device: `cuda` or `cpu`.
        precision: precision of everything else, and of matrix products.
        packed: permit bitsandbytes to rearrange the weights for a faster product without a gradient, where the
            processor has bf16 instructions: for answers only, and for layers with a multiple of `PACKED` outputs.

    Raises:
        SizewiseError: bitsandbytes has no kernels for the device, or is not installed.
    """
    if device not in ("cuda", "cpu") or importlib.util.find_spec("bitsandbytes") is None:
        raise SizewiseError(
            f"4-bit weights need the package bitsandbytes, which runs on CUDA and on the CPU, not on {device}."
            if device not in ("cuda", "cpu")
            else "4-bit weights need the package bitsandbytes, which is not installed.",
            "bitsandbytes and a CUDA device, or --method lora",
            install_command("qlora"),
        )
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=PRECISIONS[precision],
    )
    with nullcontext() if packed else _trainable_kernels():
        network = load_network(folder, precision, quantization_config=config, device_map={"": device})
    release_memory(device)  # of the weights as they were read
    return network


@contextmanager
def _trainable_kernels() -> Iterator[None]:
    """Keep bitsandbytes' layers from their kernel for processors with bf16 instructions.

    They would rearrange their weights for it at the first forward pass in evaluation, which validation makes. It has no
    gradient, so that adapters would then learn without what later blocks pass back.
    """
    from bitsandbytes.nn import modules

    original = getattr(modules, "has_avx512bf16", None)
    if original is None:  # an earlier version
        yield
        return
    modules.has_avx512bf16 = lambda: False
    try:
        yield
    finally:
        modules.has_avx512bf16 = original


@torch.no_grad()
def set_weights(network: Any, weights: Mapping[str, torch.Tensor]) -> None:
    """Copy weights into a network by their names."""
    parameters = dict(network.named_parameters())
    for name, weight in weights.items():
        parameters[name].copy_(weight)


def merge_lora(wrapped: Any) -> Any:
    """Merge the adapters into the weights and return the plain network.

    Each layer is merged in fp32 and rounded to its former precision once, so only one layer at a time is in fp32.
    """
    _part_tied(wrapped)
    for layer in wrapped.modules():
        if isinstance(layer, LoraLayer):
            precision = layer.get_base_layer().weight.dtype
            layer.float()
            layer.merge()
            layer.get_base_layer().to(precision)
    with _quiet_peft():
        network = wrapped.merge_and_unload()  # takes over what was trained whole, too
    head, embedding = network.get_output_embeddings(), network.get_input_embeddings()
    if head is not None and head.weight is not embedding.weight:  # one of them was trained whole
        for config in (network.config, network.config.get_text_config()):
            config.tie_word_embeddings = False
    return network


def _part_tied(wrapped: Any) -> None:
    """Copy the weights of adapted embeddings and heads that are tied, so that merging leaves the other one as it is."""
    for layer in wrapped.modules():
        if isinstance(layer, LoraLayer):
            base = layer.get_base_layer()
            shared = sum(getattr(part, "weight", None) is base.weight for part in _whole_layers(wrapped))
            if shared > 1:
                base.weight = torch.nn.Parameter(base.weight.detach().clone(), requires_grad=False)


def _whole_layers(wrapped: Any) -> Iterator[Any]:
    """List layers with weights, and not the adapters around them, which show the same weights."""
    return (part for part in wrapped.modules() if isinstance(part, torch.nn.Linear | torch.nn.Embedding))


def _check_complete(wrapped: Any, folder: Path, name: str = "default") -> None:
    """Check that saved adapters were loaded whole; peft leaves out what has another name, and only warns.

    Raises:
        SizewiseError: weights are missing, or belong to another network.
    """
    found = wrapped.load_adapter(folder, adapter_name=name)
    absent, unknown = list(found.missing_keys), list(found.unexpected_keys)
    if not absent and not unknown:
        return
    what = f"{len(absent)} of their weights are missing" if absent else f"{len(unknown)} have no place in it"
    raise SizewiseError(
        f"The adapters in {folder} don't fit the model: {what}, for example {(absent or unknown)[0]}.",
        "adapters that were trained on this model, with all their weights",
        f"correct base_model_name_or_path in {folder / 'adapter_config.json'}, or save the adapters again",
    )


def load_adapted(base: Path, adapter: Path, attention: str = "full", context: int = 0, precision: str = "fp32") -> Any:
    """Load a network with saved adapters, unmerged.

    Args:
        base: folder of the network.
        adapter: folder of the adapters.
        attention: attention that the adapters were trained with; see `with_attention`.
        context: tokens in a training row.
        precision: `bf16` or `fp32`.
    """
    network = with_attention(load_network(base, precision), attention, context)
    with _quiet_peft():
        wrapped = PeftModel.from_pretrained(network, adapter)
        _check_complete(wrapped, adapter)
    return wrapped.eval()


def save_adapters(wrapped: Any, folder: Path) -> None:
    """Save the adapters of a network from `add_lora`.

    Raises:
        SizewiseError: the folder can't be written, for example because the disk is full.
    """
    try:
        wrapped.save_pretrained(folder)
    except (OSError, SafetensorError) as error:
        raise cannot_save(folder, error) from error


class Adapted(NamedTuple):
    """A network with several unmerged adapters."""

    network: Any
    """The causal language model; its linear layers contain the adapters."""
    parameters: dict[str, int]
    """Adapter -> number of parameters; the base has the key ""."""
    choose: Callable[[Sequence[str]], None]
    """Selects the adapter of each row for the next forward pass; "" selects the base."""


def load_adapters(base: Path, adapters: Mapping[str, Path], precision: str, device: str = "cpu") -> Adapted:
    """Load a network with several saved adapters. Rows of one batch may use different ones (peft's mixed batches).

    Args:
        base: folder of the network.
        adapters: name -> folder of the adapter.
        precision: `bf16`, `fp16` or `fp32`.
        device: `cpu`, `cuda` or `mps`.
    """
    network = load_network(base, precision, **placed(device))
    base_size = sum(parameter.numel() for parameter in network.parameters())
    peft_names = {name: f"adapter_{number}" for number, name in enumerate(adapters)}  # peft allows no dots
    wrapped: Any = None
    with _quiet_peft():
        for name, folder in adapters.items():
            if wrapped is None:
                wrapped = PeftModel.from_pretrained(network, folder, adapter_name=peft_names[name])
            else:
                wrapped.load_adapter(folder, adapter_name=peft_names[name])
            _check_complete(wrapped, folder, peft_names[name])
    wrapped = wrapped.eval()
    rows: list[str] = []

    def with_rows(module: Any, inputs: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return inputs, {**named, "adapter_names": rows}

    layers = [layer for layer in wrapped.modules() if isinstance(layer, LoraLayer)]
    for layer in layers:
        layer.register_forward_pre_hook(with_rows, with_kwargs=True)

    def choose(names: Sequence[str]) -> None:
        rows[:] = [peft_names.get(name, BASE) for name in names]

    parameters = {
        name: sum(parameter.numel() for part, parameter in wrapped.named_parameters() if f".{peft_name}." in part)
        for name, peft_name in peft_names.items()
    }
    return Adapted(base_of(wrapped), {"": base_size, **parameters}, choose)


def merge_saved(base: Path, adapter: Path, attention: str = "full", context: int = 0) -> Any:
    """Merge saved adapters into a folder's own weights, even if they were trained over 4-bit weights.

    The network is in bf16 on the CPU: the result is saved in bf16, and fp32 would need twice the memory.
    """
    merged = merge_lora(load_adapted(base, adapter, attention, context, "bf16"))
    check_numbers(merged, adapter)
    return merged


def base_of(network: Any) -> Any:
    """Return the causal language model without peft's wrapper."""
    return network.get_base_model() if hasattr(network, "get_base_model") else network
