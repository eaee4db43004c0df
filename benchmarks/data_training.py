"""Encode a saved dataset, pack every row, and train a tiny network for 50 steps, killed and resumed once.

    python benchmarks/data_training.py DATASET_ID

The last line of stdout is one JSON object: seconds and peak memory of encoding, of all batches and of training. The
memory counts the processes that do the work, in bytes beyond those of an idle process with the libraries loaded.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from sizewise.store import Store

STEPS = 50
RECIPE = {
    "start": "scratch",
    "method": "full",
    "parameters": 1_000_000,
    "context": 512,
    "rows_per_step": 2,
    "control": "none",
    "patience": 0,
}
ENCODE = """
import json, sys, time
from data_training import RECIPE, peak_bytes
from sizewise import datasets
from sizewise.progress import Silent
from sizewise.records import Recipe
from sizewise.store import Store
from sizewise.training.batches import make_mix
from sizewise.training.starts import open_start
store, data = Store(), sys.argv[1]
idle = peak_bytes()
recipe = Recipe.model_validate(RECIPE | {"tokens": 1})
begun = time.monotonic()
contents = datasets.load(store, data)
start = open_start(recipe, contents, store, Silent())
opened = time.monotonic()
print("opened", flush=True)
material = make_mix(contents, start.tokenizer, recipe, store.encoded_folder())
encoded = time.monotonic()
mix = material.mix
rows = {name: len(pool) for name, pool in (("prose", mix.prose), ("examples", mix.examples))}
tokens = {"prose": mix.prose.tokens, "examples": mix.examples.tokens}
seen = 0
for pool in (mix.prose, mix.examples):
    for first in range(0, len(pool), 256):
        seen += int((pool.take(range(first, min(first + 256, len(pool)))).segments > 0).sum())
assert seen == sum(tokens.values()), (seen, tokens)
print(json.dumps({
    "open_s": opened - begun, "encode_s": encoded - opened, "batches_s": time.monotonic() - encoded,
    "rows": rows, "tokens": tokens, "encoded_bytes": material.encoded_bytes, "notes": list(material.notes),
    "peak_bytes": peak_bytes(), "beyond_idle_bytes": peak_bytes() - idle,
}), flush=True)
"""
TRAIN = """
import json, sys, time
from data_training import RECIPE, STEPS, peak_bytes
from sizewise.lm import loop
from sizewise.progress import Silent
from sizewise.records import Recipe
from sizewise.store import Store
from sizewise.training.run import Run
loop.SAVE_EVERY_S = 0.0
from pathlib import Path
store, data, folder = Store(), sys.argv[1], Path(sys.argv[2])
idle = peak_bytes()
begun = time.monotonic()
def tell(progress):
    print("step", progress.step, flush=True)
tokens = STEPS * RECIPE["context"] * RECIPE["rows_per_step"]
run = Run(Recipe.model_validate(RECIPE | {"tokens": tokens}), data, store, folder, Silent(), tell)
run.prepare()
prepared = time.monotonic()
run.fit()
print(json.dumps({
    "prepare_s": prepared - begun, "train_s": time.monotonic() - prepared, "steps": run.result.steps,
    "sessions": run.result.sessions, "loss": run.result.points[-1].loss,
    "peak_bytes": peak_bytes(), "beyond_idle_bytes": peak_bytes() - idle,
}), flush=True)
"""


def peak_bytes() -> int:
    """Return the peak of this process's resident memory."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def run(code: str, *arguments: str, kill_after: str | None = None, wait_s: float = 0.0) -> dict[str, Any] | None:
    """Run code in a process of its own, and return the object that it prints last.

    Args:
        code: the code.
        arguments: its arguments.
        kill_after: kill it some time after a line that starts like this; the result is then None.
        wait_s: seconds between this line and the kill.
    """
    command = [sys.executable, "-c", code, *arguments]
    here = str(Path(__file__).resolve().parent)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([here, *sys.path])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        last = ""
        for line in process.stdout:
            last = line
            if kill_after is not None and line.startswith(kill_after):
                time.sleep(wait_s)
                os.kill(process.pid, signal.SIGKILL)
                break
    if kill_after is not None:
        assert process.returncode in (-signal.SIGKILL, 0), last  # little data is encoded before the kill
        return None
    assert process.returncode == 0, f"exit code {process.returncode}"
    found: dict[str, Any] = json.loads(last)
    return found


def measure(data: str, *, kill: bool = True) -> dict[str, Any]:
    """Encode a dataset, make all batches and train for 50 steps; by default killed once in each of the two.

    Args:
        data: id of a saved dataset.
        kill: kill the encoding two seconds after it begins, and the training after its tenth step, and resume both.
    """
    if kill:
        run(ENCODE, data, kill_after="opened", wait_s=2.0)
    encoding = run(ENCODE, data)
    folder = Store().home / "bench" / data
    if kill:
        run(TRAIN, data, str(folder), kill_after="step 10")
    training = run(TRAIN, data, str(folder))
    assert encoding is not None
    assert training is not None
    if kill:
        assert training["sessions"] == 2, training
    return {"dataset": data, "encoding": encoding, "training": training}


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure the dataset that is named on the command line and print the result."""
    (data,) = arguments if arguments is not None else sys.argv[1:]
    found = measure(data)
    print(json.dumps(found))
    return found


if __name__ == "__main__":
    main()
