"""Convert a causal language model to an OpenVINO graph that keeps keys and values in its state.

openvino-genai turns the graph's attention into paged attention, so that many requests share one cache. It expects the
inputs `input_ids`, `attention_mask`, `position_ids` and `beam_idx`, and the output `logits`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from sizewise.errors import SizewiseError

WEIGHTS = ("f16", "q8_0")
"""Formats of matrices: 16-bit floats, or 8 bits per weight and one scale per 32 weights."""
GROUP = 32
"""Weights that share a scale in `q8_0`."""
LARGEST_F16 = float(np.finfo(np.float16).max)
TRACED = (2, 4, 3)  # rows, new tokens and cached tokens of the inputs that the conversion follows
_FIXED_ROPE = ("default", "linear", "llama3", "yarn", "proportional")
_EXPERTS = ("num_local_experts", "n_routed_experts", "num_experts")
NEXT = "run the same command with --engine transformers, or export with --to hf"


class _Stateless(torch.nn.Module):
    """A network as a function of tokens and the cache, which returns logits and the longer cache."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, position_ids: torch.Tensor, *past: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        new, total = input_ids.shape[1], attention_mask.shape[1]
        keys, queries = torch.arange(total), torch.arange(new) + (total - new)
        allowed = (keys[None, :] <= queries[:, None])[None, None] & attention_mask[:, None, None, :].to(torch.bool)
        cache = DynamicCache()
        cache.layers = [_cached(*past[i : i + 2]) for i in range(0, len(past), 2)]
        out = self.network(
            input_ids=input_ids,
            attention_mask=allowed,
            position_ids=position_ids,
            past_key_values=cache,
            use_cache=True,
        )
        return out.logits, *(tensor for layer in cache.layers for tensor in (layer.keys, layer.values))


def _cached(keys: torch.Tensor, values: torch.Tensor) -> DynamicLayer:
    layer = DynamicLayer()
    layer.dtype, layer.device = keys.dtype, keys.device
    layer.keys, layer.values, layer.is_initialized = keys, values, True
    return layer


def check_convertible(config: Any) -> None:
    """Check a config, without loading weights, for parts of a network that the graph would compute wrongly.

    Raises:
        SizewiseError: there is such a part.
    """
    kinds = set(getattr(config, "layer_types", None) or ())
    window = getattr(config, "sliding_window", None) if not kinds or "sliding_attention" in kinds else None
    if not getattr(config, "use_sliding_window", True):
        window = None
    context = getattr(config, "max_position_embeddings", None) or 0
    if (window and window < context) or kinds - {"full_attention", "sliding_attention"}:
        raise _unsupported(f"its blocks don't all attend to the whole text ({config.model_type})")
    if getattr(config, "attn_logit_softcapping", None):
        raise _unsupported(f"its attention caps its scores ({config.model_type})")
    if any(getattr(config, name, None) for name in _EXPERTS):
        raise _unsupported(f"it is a mixture of experts ({config.model_type})")
    rope = getattr(config, "rope_parameters", None) or {}
    for part in [rope, *(value for value in rope.values() if isinstance(value, dict))]:
        kind = part.get("rope_type", "default")
        if kind not in _FIXED_ROPE:
            raise _unsupported(f"its rotary positions of the kind '{kind}' depend on the length of the text")


def _unsupported(reason: str) -> SizewiseError:
    return SizewiseError(
        f"openvino-genai doesn't support this model: {reason}.", "a dense network with full attention", NEXT
    )


def stateful_graph(network: Any, weights: str = "f16") -> Any:
    """Convert a network to a graph for openvino-genai.

    Args:
        network: a causal language model in fp32.
        weights: one of WEIGHTS. Vectors stay in fp32, because rounded rotary frequencies are wrong in long texts.

    Raises:
        SizewiseError: OpenVINO can't convert the network, or would compute it wrongly.
    """
    import openvino
    from openvino._offline_transformations import apply_make_stateful_transformation

    check_convertible(network.config)
    shapes = _cache_shapes(network)
    names = [f"{i}.{part}" for i in range(len(shapes) // 2) for part in ("key", "value")]
    try:
        graph = _convert(network, shapes)
    except Exception as error:  # the frontend may raise anything for an unknown architecture
        raise _unsupported(f"{type(error).__name__}: {(str(error).strip() or 'no reason').splitlines()[0]}") from error
    for part, name in zip(graph.inputs, ["input_ids", "attention_mask", "position_ids", *names], strict=True):
        part.get_tensor().set_names({name})
        part.get_node().set_friendly_name(name)
    for part, name in zip(graph.outputs, ["logits", *(f"next.{name}" for name in names)], strict=True):
        part.get_tensor().set_names({name})
    graph.validate_nodes_and_infer_types()
    _add_beams(graph, graph.inputs[3:])
    apply_make_stateful_transformation(graph, {name: f"next.{name}" for name in names})
    _start_empty(graph)
    _pack_weights(graph, weights)
    graph.set_rt_info(openvino.__version__, "openvino_version")
    return graph


def _cache_shapes(network: Any) -> list[tuple[int, int]]:
    """Return heads and width of each block's keys and values, in turn.

    Raises:
        SizewiseError: a block keeps something other than keys and values.
    """
    with torch.inference_mode():
        cache = network(input_ids=torch.zeros(1, 2, dtype=torch.long), use_cache=True).past_key_values
    layers = getattr(cache, "layers", ())
    if not layers or any(not hasattr(layer, "keys") or layer.keys is None or layer.keys.ndim != 4 for layer in layers):
        raise _unsupported("its blocks keep something other than keys and values")
    return [(tensor.shape[1], tensor.shape[3]) for layer in layers for tensor in (layer.keys, layer.values)]


def _convert(network: Any, shapes: Sequence[tuple[int, int]]) -> Any:
    """Trace a network and convert it to a graph without state."""
    import openvino

    rows, new, cached = TRACED
    example = (
        torch.ones(rows, new, dtype=torch.long),
        torch.ones(rows, cached + new, dtype=torch.long),
        torch.arange(cached, cached + new)[None].expand(rows, new),
        *(torch.zeros(rows, heads, cached, width) for heads, width in shapes),
    )
    inputs = [(openvino.PartialShape([-1, -1]), openvino.Type.i64)] * 3
    inputs += [(openvino.PartialShape([-1, heads, -1, width]), openvino.Type.f32) for heads, width in shapes]
    with _sdpa(network), torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer warns of every number that becomes a constant
        traced = torch.jit.trace(_Stateless(network).eval(), example, check_trace=False, strict=False)
        return openvino.convert_model(traced, example_input=example, input=inputs)


@contextmanager
def _sdpa(network: Any) -> Iterator[None]:
    """Run a network with PyTorch's scaled dot-product attention, the only one that becomes paged attention."""
    before = network.config._attn_implementation
    network.set_attn_implementation("sdpa")
    try:
        yield
    finally:
        network.set_attn_implementation(before)


def _add_beams(graph: Any, past: Sequence[Any]) -> None:
    """Add the input `beam_idx`, which chooses the row of the cache that each row of the input continues."""
    import openvino
    from openvino import opset13 as ops

    beams = ops.parameter(openvino.PartialShape([-1]), np.int32, name="beam_idx")
    beams.output(0).get_tensor().add_names({"beam_idx"})
    graph.add_parameters([beams])
    for part in past:
        readers = part.get_target_inputs()
        chosen = ops.gather(part, beams, ops.constant(0))
        for reader in readers:
            reader.replace_source_output(chosen.output(0))
    graph.validate_nodes_and_infer_types()


def _start_empty(graph: Any) -> None:
    """Start the state with keys and values of no tokens, one row for each row of the input."""
    from openvino import opset13 as ops

    rows = ops.gather(ops.shape_of(graph.input("input_ids"), "i64"), ops.constant([0]), ops.constant(0))
    for node in graph.get_ops():
        if node.get_type_name() != "ReadValue":
            continue
        _, heads, _, width = node.get_output_partial_shape(0)
        rest = np.array([heads.get_length(), 0, width.get_length()], dtype=np.int64)
        empty = ops.broadcast(
            ops.constant(0.0, dtype=node.get_output_element_type(0)), ops.concat([rows, ops.constant(rest)], axis=0)
        )
        node.set_arguments([empty])
    graph.validate_nodes_and_infer_types()


def _pack_weights(graph: Any, weights: str) -> None:
    """Store matrices in 16 or 8 bits. A matrix that several nodes use, like a tied embedding, is stored once."""
    packed: dict[int, Any] = {}
    for node in graph.get_ordered_ops():
        shape = node.get_output_shape(0) if node.get_type_name() == "Constant" else ()
        if len(shape) != 2 or min(shape) < 2 or node.get_element_type().get_type_name() != "f32":
            continue
        place = node.data.ctypes.data
        if place not in packed:
            packed[place] = _packed(node.data, weights)
        for reader in node.output(0).get_target_inputs():
            if packed[place] is not None:
                reader.replace_source_output(packed[place].output(0))


def _packed(values: npt.NDArray[np.float32], weights: str) -> Any:
    """Return the node of a packed matrix; None if its values don't fit into the format."""
    import openvino
    from openvino import opset13 as ops

    if weights == "q8_0" and values.shape[1] % GROUP == 0:
        blocks = values.reshape(values.shape[0], -1, GROUP)
        scale = (np.abs(blocks).max(-1, keepdims=True) / 127).astype(np.float16)
        wide = scale.astype(np.float32)
        rounded = np.rint(np.divide(blocks, wide, out=np.zeros_like(blocks), where=wide > 0)).clip(-127, 127)
        scaled = ops.multiply(
            ops.convert(ops.constant(rounded.astype(np.int8)), openvino.Type.f16), ops.constant(scale)
        )
        flat = ops.reshape(scaled, ops.constant(np.array(values.shape, dtype=np.int64)), special_zero=False)
        return ops.convert(flat, openvino.Type.f32)
    if np.abs(values).max() > LARGEST_F16:
        return None
    return ops.convert(ops.constant(values.astype(np.float16)), openvino.Type.f32)
