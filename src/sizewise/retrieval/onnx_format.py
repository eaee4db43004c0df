"""Write ONNX files: the part of the format that a network needs, in the wire encoding of protocol buffers.

The field numbers are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto (IR version 10).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

IR_VERSION, OPSET = 10, 20
_FLOAT, _INT64, _STRING = 1, 7, 8  # TensorProto.DataType
_TYPE_CODES = {np.dtype(np.float32): _FLOAT, np.dtype(np.int64): _INT64}
_EXTERNAL = 1  # TensorProto.DataLocation
INLINE_BYTES = 1_024
"""Tensors up to this size are always part of the graph: shapes, axes and scalars."""

Attribute = int | float | str | Sequence[int] | Sequence[str]


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1  # negative numbers are written in two's complement
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes | str) -> bytes:
    data = value.encode("utf-8") if isinstance(value, str) else value
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _joined(field: int, values: Iterable[bytes | str]) -> bytes:
    return b"".join(_bytes(field, value) for value in values)


def _attribute(name: str, value: Attribute) -> bytes:
    if isinstance(value, float):
        return _bytes(1, name) + _varint(2 << 3 | 5) + struct.pack("<f", value) + _number(20, 1)
    if isinstance(value, int):
        return _bytes(1, name) + _number(3, value) + _number(20, 2)
    if isinstance(value, str):
        return _bytes(1, name) + _bytes(4, value) + _number(20, 3)
    if value and isinstance(value[0], str):
        return _bytes(1, name) + b"".join(_bytes(9, str(item)) for item in value) + _number(20, 8)
    return _bytes(1, name) + b"".join(_number(8, int(item)) for item in value) + _number(20, 7)


def _tensor(name: str, values: npt.NDArray[Any], inline: bool) -> bytes:
    head = b"".join(_number(1, size) for size in values.shape) + _number(2, _TYPE_CODES[values.dtype]) + _bytes(8, name)
    if inline:
        return head + _bytes(9, np.ascontiguousarray(values).tobytes())
    return head + _bytes(13, _bytes(1, "location") + _bytes(2, "weights")) + _number(14, _EXTERNAL)


def _value(name: str, code: int, shape: Sequence[int | str]) -> bytes:
    sizes = _joined(1, (_bytes(2, size) if isinstance(size, str) else _number(1, size) for size in shape))
    return _bytes(1, name) + _bytes(2, _bytes(1, _number(1, code) + _bytes(2, sizes)))


class Graph:
    """A network as a list of operations and constants."""

    def __init__(self) -> None:
        self.tensors: dict[str, npt.NDArray[Any]] = {}
        """Constants by name: float32 or int64."""
        self._nodes: list[bytes] = []
        self._inputs: list[bytes] = []
        self._outputs: list[bytes] = []

    def input(self, name: str, shape: Sequence[int | str], *, strings: bool = False) -> str:
        """Add an input of integers, or of strings; a size that varies has a name instead of a number."""
        self._inputs.append(_value(name, _STRING if strings else _INT64, shape))
        return name

    def output(self, name: str, source: str, shape: Sequence[int | str]) -> None:
        """Add an output of floats with the value of another name."""
        self._nodes.append(_joined(1, [source]) + _joined(2, [name]) + _bytes(3, name) + _bytes(4, "Identity"))
        self._outputs.append(_value(name, _FLOAT, shape))

    def constant(self, values: npt.ArrayLike, name: str = "") -> str:
        """Add a constant. Integers become int64, everything else float32."""
        array = np.asarray(values)
        array = np.ascontiguousarray(array, dtype=np.int64 if array.dtype.kind in "iu" else np.float32)
        name = name or f"constant_{len(self.tensors)}"
        self.tensors[name] = array.reshape(np.shape(values))  # ascontiguousarray turns a scalar into a vector
        return name

    def add(self, operation: str, *inputs: str, **attributes: Attribute) -> str:
        """Add an operation with one output and return the name of the output."""
        name = f"{operation}_{len(self._nodes)}"
        settings = (_attribute(key, value) for key, value in attributes.items())
        self._nodes.append(
            _joined(1, inputs) + _joined(2, [name]) + _bytes(3, name) + _bytes(4, operation) + _joined(5, settings)
        )
        return name

    def weights(self) -> dict[str, npt.NDArray[Any]]:
        """Return the constants that `serialize(inline=False)` leaves out."""
        return {name: values for name, values in self.tensors.items() if values.nbytes > INLINE_BYTES}

    def serialize(self, *, inline: bool) -> bytes:
        """Serialize the graph as an ONNX model.

        Args:
            inline: include all constants. Otherwise the large ones are declared as external, and the session
                receives them from `weights()`, which copies nothing and has no limit of 2 GB.
        """
        external = {} if inline else self.weights()
        tensors = (_tensor(name, values, name not in external) for name, values in self.tensors.items())
        graph = (
            _joined(1, self._nodes)
            + _bytes(2, "encoder")
            + _joined(5, tensors)
            + _joined(11, self._inputs)
            + _joined(12, self._outputs)
        )
        return _number(1, IR_VERSION) + _bytes(2, "sizewise") + _bytes(7, graph) + _bytes(8, _number(2, OPSET))
