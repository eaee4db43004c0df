"""GGUF files are read in little memory, with the values that gguf gives."""

from __future__ import annotations

import gguf
import numpy as np
import pytest

from sizewise.lm import gguf as reading


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "F16"])
@pytest.mark.parametrize("rows", [1, 7, 8, 21])
def test_a_tensor_in_parts_has_the_values_of_the_whole(kind: str, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "ROWS_AT_ONCE", 7)
    quantization = gguf.GGMLQuantizationType[kind]
    values = np.random.default_rng(0).normal(size=(rows, 64)).astype(np.float32)
    data = gguf.quantize(values, quantization)
    whole = gguf.dequantize(data, quantization)
    sizes: list[int] = []

    def dequantize(part: object, kind: object) -> object:
        sizes.append(len(part))  # type: ignore[arg-type]
        return gguf.dequantize(part, kind)

    found = reading.dequantize_in_parts(data, quantization, dequantize)
    assert np.array_equal(found, whole)
    assert found.dtype == whole.dtype
    assert max(sizes) <= 7
    assert sum(sizes) == rows


def test_what_is_replaced_while_reading_is_put_back() -> None:
    before = (gguf.GGUFReader, gguf.dequantize, gguf.gguf_reader.np)
    with reading._patched_transformers():
        assert gguf.gguf_reader.np is not np
    assert (gguf.GGUFReader, gguf.dequantize, gguf.gguf_reader.np) == before


def test_only_arrays_of_their_own_are_not_copied() -> None:
    thrifty = reading._ThriftyNumpy()
    own = np.zeros(4)
    assert thrifty.copy(own) is own
    shown = own[1:]
    copied = thrifty.copy(shown)
    own[:] = 1
    assert copied.tolist() == [0, 0, 0]
    own.flags.writeable = False
    assert thrifty.copy(own) is not own
