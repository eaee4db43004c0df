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
