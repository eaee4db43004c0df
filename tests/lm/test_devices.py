"""Networks on a device other than the CPU, without a graphics card: see `ghost`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sizewise.errors import SizewiseError, UsageError
from sizewise.lm import device, device_kernels, placement

ROOT = Path(__file__).parents[2]
CHECKS = (
    "scores",
    "ends",
    "answers",
    "embeddings",
    "options",
    "checked",
    "gradients",
    "full",
    "lora",
    "lora in parts",
    "distilled",
    "best weights",
)


@pytest.fixture(scope="module")
def both() -> dict[str, dict[str, list[Any]]]:
    """Results on the CPU and on the ghost device, from one process of its own."""
    command = [sys.executable, "-m", "tests.lm.ghost_checks"]
    path = os.pathsep.join(filter(None, [str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, list[Any]]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("check", CHECKS)
def test_no_cpu_tensor_meets_the_device_and_the_results_are_the_same(
    both: dict[str, dict[str, list[Any]]], check: str
) -> None:
    assert set(both) == set(CHECKS)
    for kind, results in both[check].items():
        assert len(results) == 2, f"{kind}: {results[0]}"
        on_cpu, on_device = (_flat(result) for result in results)
        assert np.allclose(on_cpu, on_device, rtol=1e-3, atol=1e-5), (kind, on_cpu[:5], on_device[:5])


def _flat(nested: Any) -> list[float]:
    return [number for part in nested for number in _flat(part)] if isinstance(nested, list) else [float(nested)]


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("window", [None, 5])
def test_libraries_attend_to_what_our_own_kernel_attends_to(window: int | None) -> None:
    from torch.nn.attention.flex_attention import flex_attention

    from sizewise.lm.attention import packed_attention

    generator = torch.Generator().manual_seed(0)
    query = torch.randn((2, 4, 128, 16), generator=generator)
    key, value = (torch.randn((2, 2, 128, 16), generator=generator) for _ in range(2))
    segments = torch.tensor([[1] * 50 + [2] * 60 + [0] * 18, [1] * 128])
    with torch.no_grad():
        own, _ = packed_attention(None, query, key, value, segments[:, None, None], scaling=0.3, sliding_window=window)
        dense = device_kernels.masked_attention(query, key, value, device_kernels.dense_mask(segments, window), 0.3)
        blocks = device_kernels._block_mask(segments, window)
        flex = flex_attention(query, key, value, block_mask=blocks, scale=0.3, enable_gqa=True)
    for other in (dense, flex):
        assert torch.allclose(own.transpose(1, 2), other, atol=1e-5)


def test_a_library_that_does_not_work_here_is_not_used() -> None:
    assert not device_kernels.flex_works()  # this build of PyTorch has no CUDA
    assert device_kernels.liger_loss() is None


def test_the_device_comes_from_the_option_the_environment_or_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(placement.DEVICE, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert device.choose_device() == "cuda"
    with placement.use_device("cpu"):
        assert device.choose_device() == "cpu"
        assert device.choose_device("cuda") == "cuda"
        with placement.use_device("auto"):
            assert device.choose_device() == "cpu"
    assert placement.requested_device() == "auto"
    with pytest.raises(SizewiseError, match="no mps device") as error:
        device.choose_device("mps")
    assert error.value.expected == "cuda or cpu"
    with placement.use_device("tpu"), pytest.raises(SizewiseError, match="Unknown device 'tpu'"):
        device.choose_device()


@pytest.mark.parametrize(
    ("bf16", "capability", "answers", "trains"),
    [(True, (8, 0), "bf16", "bf16"), (False, (7, 5), "fp16", "fp32"), (False, (6, 1), "fp32", "fp32")],
)
def test_precision_follows_the_card(
    monkeypatch: pytest.MonkeyPatch, bf16: bool, capability: tuple[int, int], answers: str, trains: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bf16)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert device.inference_precision("cuda", "llama") == answers
    assert device.machine_precision("cuda", training=True) == trains
    assert device.inference_precision("cuda", "gemma3_text") == ("bf16" if bf16 else "fp32")


def test_full_memory_is_told_from_other_errors() -> None:
    assert device.is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert device.is_out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"))
    assert not device.is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_networks_that_overflow_in_fp16_refuse_it() -> None:
    assert device.chosen_precision("fp16", "cpu", "llama") == "fp16"
    assert device.chosen_precision("bf16", "cpu", "gemma3_text") == "bf16"
    assert device.chosen_precision(None, "cpu", "llama") == device.machine_precision("cpu")
    with pytest.raises(UsageError, match="gemma3_text can't run in fp16") as error:
        device.chosen_precision("fp16", "cpu", "gemma3_text")
    assert "--precision bf16" in error.value.next_step
