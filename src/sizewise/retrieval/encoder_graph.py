"""Build the ONNX graph of a sentence encoder from its weights.

The networks are those of BERT (Devlin et al., 2019) and its relatives RoBERTa, XLM-R, MPNet and DistilBERT. Outputs
are unit vectors, one for each text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from sizewise.errors import SizewiseError
from sizewise.retrieval.encoder_folder import ACTIVATIONS, EncoderSettings
from sizewise.retrieval.onnx_format import Graph

IDS, MASK, OUTPUT = "input_ids", "attention_mask", "sentence_embedding"
_MASKED = -1e9  # added to attention scores of padding
_MAX_DISTANCE = 128  # of MPNet's relative positions; not part of its config

Tensors = Mapping[str, npt.NDArray[np.float32]]

# Role of a tensor -> its name, by family; {} is the number of the layer.
_BERT = {
    "query": "encoder.layer.{}.attention.self.query",
    "key": "encoder.layer.{}.attention.self.key",
    "value": "encoder.layer.{}.attention.self.value",
    "attended": "encoder.layer.{}.attention.output.dense",
    "attended_norm": "encoder.layer.{}.attention.output.LayerNorm",
    "wide": "encoder.layer.{}.intermediate.dense",
    "narrow": "encoder.layer.{}.output.dense",
    "norm": "encoder.layer.{}.output.LayerNorm",
}
_NAMES = {
    "mpnet": _BERT
    | {
        "query": "encoder.layer.{}.attention.attn.q",
        "key": "encoder.layer.{}.attention.attn.k",
        "value": "encoder.layer.{}.attention.attn.v",
        "attended": "encoder.layer.{}.attention.attn.o",
        "attended_norm": "encoder.layer.{}.attention.LayerNorm",
    },
    "distilbert": {
        "query": "transformer.layer.{}.attention.q_lin",
        "key": "transformer.layer.{}.attention.k_lin",
        "value": "transformer.layer.{}.attention.v_lin",
        "attended": "transformer.layer.{}.attention.out_lin",
        "attended_norm": "transformer.layer.{}.sa_layer_norm",
        "wide": "transformer.layer.{}.ffn.lin1",
        "narrow": "transformer.layer.{}.ffn.lin2",
        "norm": "transformer.layer.{}.output_layer_norm",
    },
}


def build_graph(settings: EncoderSettings, tensors: Tensors) -> Graph:
    """Build the graph: token ids and mask in, unit vectors out.

    Args:
        settings: settings of the network.
        tensors: weights by name, without the prefix of the model class.

    Raises:
        SizewiseError: a tensor is missing or has the wrong shape.
    """
    try:
        return _Builder(settings, tensors).build()
    except (LookupError, ValueError) as error:
        raise SizewiseError(
            f"The weights of the encoder don't match its config.json: {error}",
            f"all tensors of a {settings.family} network with {settings.layers} layers of width {settings.width}",
            "copy or download the encoder again",
        ) from error


class _Builder:
    def __init__(self, settings: EncoderSettings, tensors: Tensors) -> None:
        self._settings = settings
        self._tensors = tensors
        self._names = _NAMES.get(settings.family, _BERT)
        self._graph = graph = Graph()
        self._epsilon = settings.epsilon
        self._ids = graph.input(IDS, ["texts", "tokens"])
        self._mask = graph.input(MASK, ["texts", "tokens"])
        self._kept = graph.add("Cast", self._mask, to=1)  # 1 for a token, 0 for padding
        self._length = graph.add("Shape", self._ids, start=1, end=2)
        heads, width = settings.heads, settings.width
        self._split = graph.constant([0, 0, heads, width // heads])
        self._joined = graph.constant([0, 0, width])

    def build(self) -> Graph:
        hidden = self._embeddings()
        bias = self._attention_bias()
        for layer in range(self._settings.layers):
            hidden = self._layer(layer, hidden, bias)
        pooled = self._pooled(hidden)
        norm = self._graph.add("ReduceL2", pooled, self._graph.constant([1]), keepdims=1)
        norm = self._graph.add("Max", norm, self._graph.constant(1e-12))
        self._graph.output(OUTPUT, self._graph.add("Div", pooled, norm), ["texts", self._settings.width])
        return self._graph

    def _embeddings(self) -> str:
        graph, settings = self._graph, self._settings
        words = graph.add("Gather", self._weight("embeddings.word_embeddings.weight"), self._ids)
        first = settings.first_position
        table = self._tensors["embeddings.position_embeddings.weight"][first : first + settings.max_tokens]
        if (types := self._tensors.get("embeddings.token_type_embeddings.weight")) is not None:
            table = table + types[0]  # every token is of the first type
        positions = graph.constant(table, "positions")
        zero = graph.constant([0])
        summed = graph.add("Add", words, graph.add("Slice", positions, zero, self._length, zero))
        return self._normalized(summed, "embeddings.LayerNorm")

    def _attention_bias(self) -> str:
        """Add to attention scores: a large negative number for padding, and MPNet's relative positions."""
        graph = self._graph
        masked = graph.add("Mul", graph.add("Sub", graph.constant(1.0), self._kept), graph.constant(_MASKED))
        bias = graph.add("Unsqueeze", masked, graph.constant([1, 2]))
        if self._settings.family != "mpnet":
            return bias
        buckets = _relative_buckets(self._settings.max_tokens, *self._tensors[_RELATIVE].shape[:1])
        table = graph.constant(self._tensors[_RELATIVE][buckets].transpose(2, 0, 1), "relative_positions")
        ends = graph.add("Concat", self._length, self._length, axis=0)
        return graph.add("Add", bias, graph.add("Slice", table, graph.constant([0, 0]), ends, graph.constant([1, 2])))

    def _layer(self, layer: int, hidden: str, bias: str) -> str:
        graph = self._graph
        scale = 1 / math.sqrt(self._settings.width // self._settings.heads)
        query = self._by_head(self._linear("query", layer, hidden, scale), [0, 2, 1, 3])
        key = self._by_head(self._linear("key", layer, hidden), [0, 2, 3, 1])
        value = self._by_head(self._linear("value", layer, hidden), [0, 2, 1, 3])
        scores = graph.add("Add", graph.add("MatMul", query, key), bias)
        attended = graph.add("MatMul", graph.add("Softmax", scores, axis=-1), value)
        attended = graph.add("Reshape", graph.add("Transpose", attended, perm=[0, 2, 1, 3]), self._joined)
        attended = graph.add("Add", self._linear("attended", layer, attended), hidden)
        hidden = self._normalized(attended, self._names["attended_norm"].format(layer))
        approximation = ACTIVATIONS[self._settings.activation]
        wide = self._linear("wide", layer, hidden)
        active = graph.add("Gelu", wide, approximate=approximation) if approximation else graph.add("Relu", wide)
        summed = graph.add("Add", self._linear("narrow", layer, active), hidden)
        return self._normalized(summed, self._names["norm"].format(layer))

    def _pooled(self, hidden: str) -> str:
        graph = self._graph
        if self._settings.pooling == "cls":
            return graph.add("Gather", hidden, graph.constant(0), axis=1)
        kept = graph.add("Unsqueeze", self._kept, graph.constant([2]))
        if self._settings.pooling == "max":
            masked = graph.add("Mul", graph.add("Sub", graph.constant(1.0), kept), graph.constant(_MASKED))
            return graph.add("ReduceMax", graph.add("Add", hidden, masked), graph.constant([1]), keepdims=0)
        axis = graph.constant([1])
        total = graph.add("ReduceSum", graph.add("Mul", hidden, kept), axis, keepdims=0)
        return graph.add("Div", total, graph.add("ReduceSum", kept, axis, keepdims=0))

    def _by_head(self, states: str, order: list[int]) -> str:
        return self._graph.add("Transpose", self._graph.add("Reshape", states, self._split), perm=order)

    def _linear(self, role: str, layer: int, states: str, scale: float = 1.0) -> str:
        name = self._names[role].format(layer)
        weight, bias = self._tensors[f"{name}.weight"], self._tensors[f"{name}.bias"]
        product = self._graph.add(
            "MatMul", states, self._graph.constant(weight.T * np.float32(scale), f"{name}.weight")
        )
        return self._graph.add("Add", product, self._graph.constant(bias * np.float32(scale), f"{name}.bias"))

    def _normalized(self, states: str, name: str) -> str:
        weight, bias = self._weight(f"{name}.weight"), self._weight(f"{name}.bias")
        return self._graph.add("LayerNormalization", states, weight, bias, axis=-1, epsilon=self._epsilon)

    def _weight(self, name: str) -> str:
        return self._graph.constant(self._tensors[name], name)


_RELATIVE = "encoder.relative_attention_bias.weight"


def _relative_buckets(tokens: int, buckets: int) -> npt.NDArray[np.int64]:
    """Return MPNet's bucket of each pair of positions: near distances singly, far ones on a logarithmic scale.

    Source: Raffel et al. (2020), section 2.1, whose relative positions MPNet (Song et al., 2020) uses.
    """
    positions = np.arange(tokens)
    distance = positions[:, None] - positions[None, :]  # query minus key
    half = buckets // 2
    found = np.where(distance < 0, half, 0)
    distance = np.abs(distance)
    exact = half // 2
    far = exact + np.log(np.maximum(distance, 1) / exact) / math.log(_MAX_DISTANCE / exact) * (half - exact)
    return np.asarray(found + np.where(distance < exact, distance, np.minimum(far.astype(np.int64), half - 1)))
