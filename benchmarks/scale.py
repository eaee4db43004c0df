"""Training on several processes against one: make bench-scale.

- workers: 1, 2 and 4 processes, DDP and FSDP2, take 50 steps of the same run; batches, losses and weights are compared.
- reshard: the run is stopped three times and goes on with 1, 2 (FSDP2) and 1 processes.
- fsdp: bytes of parameters, gradients and optimizer state that each of two processes holds, against one process.
- kills: a random process is killed at a random moment, 20 times in one run, which must end in the same weights.
- ray_training: the same on two Ray nodes; then a worker is killed and a node is removed.
- study: a study on two Ray nodes, one of whose trainings is killed, against one process.
- ray: an evaluation over two local nodes against one process; the service that answers is a stand-in with a latency.
- lost_node: the same, with one node removed midway.

Each part that is done is kept in results/scale.json; --again measures it again.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks import scale_ray, scale_study
from safetensors.torch import load_file

from sizewise.launch.torchrun import run_processes
from sizewise.lm.checkpointing import last_step
from sizewise.models.machine import describe_machine

HERE = Path(__file__).parent
RESULT, STEPS = HERE / "results" / "scale.json", HERE / "scale_steps.py"
KILLS = int(os.environ.get("KILLS", "20"))
INTERRUPTED = 130
NEED_RAY = ("ray_training", "study", "ray", "lost_node")


def launched(folder: Path, processes: int | str, *options: str) -> subprocess.Popen[bytes]:
    """Start a run of scale_steps.py under a launcher of `sizewise train`: so many processes, or ray:ADDRESS."""
    command = [sys.executable, "-m", "benchmarks.scale", "--launch", str(processes), str(folder), *options]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=HERE.parent)


def launch(place: str, folder: str, options: list[str]) -> int:
    """Run scale_steps.py in several processes; start again when one is killed."""
    from sizewise.launch.ray_training import ClusterRun

    def steps_done() -> int:
        return last_step(Path(folder) / "state")

    arguments = [str(STEPS), folder, *options]
    if place.isdecimal():
        return run_processes(arguments, int(place), steps_done)
    say = functools.partial(print, file=sys.stderr)
    run = ClusterRun(place.removeprefix("ray:"), arguments, Path(folder), 9, say=say)
    return run.run(steps_done, lambda: None)


def run(folder: Path, processes: int | str, *options: str) -> dict[str, Any]:
    """Run to the end, undisturbed."""
    shutil.rmtree(folder, ignore_errors=True)
    if launched(folder, processes, *options).wait():
        raise RuntimeError(f"{processes} processes with {options} failed")
    found: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    return found


def differences(one: Path, other: Path) -> dict[str, Any]:
    """Compare two runs: losses relative to the first one's, weights absolutely."""
    runs = [json.loads((folder / "run.json").read_text(encoding="utf-8")) for folder in (one, other)]
    weights = [load_file(folder / "weights.safetensors") for folder in (one, other)]
    pairs = list(zip(runs[0]["losses"], runs[1]["losses"], strict=True))
    return {
        "steps": len(pairs),
        "loss": max(abs(a - b) / abs(a) for a, b in pairs),
        "weights": max(float((weights[0][name] - weights[1][name]).abs().max()) for name in weights[0]),
        "same_batches": runs[0]["batches"][-len(runs[1]["batches"]) :] == runs[1]["batches"],  # of the last session
        "sessions": runs[1]["sessions"],
    }


def compare_workers(folder: Path) -> dict[str, Any]:
    """Compare 2 and 4 processes, DDP and FSDP2, with one."""
    found = []
    for method in ("full", "lora"):
        run(folder / "one", 1, "--method", method)
        for processes in (2, 4):
            for options in ([], ["--micro-rows", "1"], ["--fsdp"]):
                run(folder / "several", processes, "--method", method, *options)
                row = {"method": method, "processes": processes, "options": " ".join(options) or "ddp"}
                found.append(row | differences(folder / "one", folder / "several"))
                print(json.dumps(found[-1]), file=sys.stderr, flush=True)
    return {"cases": found, "loss": max(row["loss"] for row in found), "weights": max(row["weights"] for row in found)}


def reshard(folder: Path) -> dict[str, Any]:
    """Compare a run that goes on with 2, 1, 2 (FSDP2) and 1 processes with one that one process takes alone."""
    rows = []
    for method in ("full", "lora"):
        run(folder / "one", 1, "--method", method)
        shutil.rmtree(folder / "several", ignore_errors=True)
        for processes, options in (
            (2, ("--stop-at", "15")),
            (1, ("--stop-at", "28")),
            (2, ("--stop-at", "41", "--fsdp")),
        ):
            code = launched(folder / "several", processes, "--method", method, *options).wait()
            if code != INTERRUPTED:
                raise RuntimeError(f"{processes} processes ended with {code} where they were stopped")
        launched(folder / "several", 1, "--method", method).wait()
        rows.append({"method": method} | differences(folder / "one", folder / "several"))
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return {"cases": rows, "loss": max(row["loss"] for row in rows), "weights": max(row["weights"] for row in rows)}


def measure_fsdp(folder: Path) -> dict[str, Any]:
    """Compare the bytes that two processes hold with those of one."""
    found = {}
    for method in ("full", "lora"):
        whole = run(folder / "one", 1, "--method", method, "--steps", "4")["bytes"][0]
        parts = run(folder / "two", 2, "--method", method, "--steps", "4", "--fsdp")["bytes"]
        found[method] = {"one": whole, "each_of_two": parts, "share": max(parts) / whole}
    return found | {"share": max(row["share"] for row in found.values())}


def kill_some(folder: Path, kills: int, processes: int = 2, seed: int = 0) -> int:
    """Start a run, kill a random process at random moments, and let it end; return how often it was killed."""
    shutil.rmtree(folder, ignore_errors=True)
    probability, done = random.Random(seed), 0
    options, known = ("--step-s", "0.15"), dict[Path, str]()
    job = launched(folder, processes, *options)
    while done < kills and not (folder / "run.json").is_file():
        if job.poll() is not None:
            job = launched(folder, processes, *options)  # as the error said: run it again
        if _newly_started(folder, known) < processes:
            time.sleep(0.05)
            continue
        known = {path: path.read_text(encoding="ascii") for path in (folder / "pids").glob("*")}
        time.sleep(probability.uniform(0, 9))  # from the start of the libraries to the middle of the steps
        process = int((folder / "pids" / str(probability.randrange(processes))).read_text(encoding="ascii"))
        if _is_ours(process):
            os.kill(process, signal.SIGKILL)
            done += 1
    for _ in range(kills):
        if not job.wait():
            return done
        job = launched(folder, processes, *options)
    raise RuntimeError(f"{folder} still fails after {kills} more starts")


def _newly_started(folder: Path, known: dict[Path, str]) -> int:
    """Count the processes that have started since."""
    return sum(1 for path in (folder / "pids").glob("*") if known.get(path) != path.read_text(encoding="ascii"))


def _is_ours(process: int) -> bool:
    """Whether a process still runs and is one of a training; its number may belong to another one by now."""
    try:
        return STEPS.name.encode() in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return False


def kill_and_compare(folder: Path, kills: int = KILLS) -> dict[str, Any]:
    """Compare the weights of runs that were killed with those of one that wasn't."""
    run(folder / "undisturbed", 2)
    done, runs, rows = 0, 0, []
    while done < kills:
        disturbed = folder / f"killed-{runs}"
        done += kill_some(disturbed, kills - done, seed=runs)
        runs += 1
        rows.append(differences(folder / "undisturbed", disturbed) | {"killed": done})
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return {"kills": done, "runs": rows, "weights": max(row["weights"] for row in rows)}


def train_on_nodes(folder: Path) -> dict[str, Any]:
    """Compare a training on two Ray nodes with torchrun's; then kill a worker and remove a node in another one."""
    run(folder / "one", 1)
    run(folder / "torchrun", 2)
    with scale_ray.helper("nodes") as (nodes, address):
        place = f"ray:{address}"
        run(folder / "nodes", place)
        same = differences(folder / "torchrun", folder / "nodes")
        shutil.rmtree(folder / "lost", ignore_errors=True)
        job, reached = launched(folder / "lost", place, "--step-s", "0.3"), 0
        for disturb in ("kill", "remove"):
            while (saved := last_step(folder / "lost" / "state")) <= reached:
                if job.poll() is not None:
                    raise RuntimeError("the training on nodes ended too early")
                time.sleep(0.05)
            reached = saved + 1  # the next one is of the processes that start now
            if disturb == "kill":
                os.kill(int((folder / "lost" / "pids" / "1").read_text(encoding="ascii")), signal.SIGKILL)
            else:
                scale_ray.tell(nodes, "remove")
        if job.wait():
            raise RuntimeError("the training on nodes that lost one failed")
        lost = differences(folder / "one", folder / "lost")
    return {"torchrun_weights": same["weights"], "torchrun_loss": same["loss"], "lost": lost}


def study_on_nodes(folder: Path, tokens: int = 20_000) -> dict[str, Any]:
    """Compare a study on two nodes, one of whose trainings is killed midway, with the same study in one process."""
    path = scale_study.write_study(folder / "data", tokens)
    begun = time.monotonic()
    here = scale_study.outcome(folder / "one", scale_study.result(scale_study.start(folder / "one", path)))
    seconds = [time.monotonic() - begun]
    with scale_ray.helper("nodes") as (_, address):
        begun = time.monotonic()
        job = scale_study.start(folder / "two", path, "--launch", f"ray:{address}")
        killed = scale_study.kill_one_training(folder / "two", job)
        there = scale_study.outcome(folder / "two", scale_study.result(job))
        seconds.append(time.monotonic() - begun)
    lost = (folder / "two.log").read_text(encoding="utf-8").count("is lost; the training goes on elsewhere")
    return {"same": here == there, "killed": killed, "lost": lost, "one_process_s": seconds[0],
            "two_nodes_s": seconds[1], "different": {name: [here[name], there.get(name)] for name in here
            if here[name] != there.get(name)}}  # fmt: skip


def _count(port: str) -> dict[str, int]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/count", data=b"{}", method="POST")
    with urllib.request.urlopen(request) as answer:
        found: dict[str, int] = json.load(answer)
    return found


def time_on_ray(folder: Path, examples: int = 4_000, latency_s: float = 3.0) -> dict[str, Any]:
    """Compare two nodes that answer all examples with one process that answers half of them.

    The service takes the same time for each request, so both take the same time but for what Ray costs. Starting the
    cluster isn't counted; what `evaluate` prints as its seconds is.
    """
    scale_ray.write_examples(folder / "all.jsonl", examples)
    lines = (folder / "all.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "half.jsonl").write_text("".join(lines[: examples // 2]), encoding="utf-8")
    with scale_ray.helper("nodes") as (_, address), scale_ray.helper("server", str(latency_s)) as (_, port):
        model, place = f"http://127.0.0.1:{port}/v1#stand-in", ("--launch", f"ray:{address}")
        one = scale_ray.result(scale_ray.evaluate(folder / "one", model, folder / "half.jsonl"))
        spread = scale_ray.result(scale_ray.evaluate(folder / "two", model, folder / "all.jsonl", *place))
    seconds = one["record"]["seconds"], spread["record"]["seconds"]
    return {"examples": examples, "one_process_half_s": seconds[0], "two_nodes_s": seconds[1],
            "overhead": seconds[1] / seconds[0] - 1}  # fmt: skip


def lose_a_node(folder: Path, examples: int = 400) -> dict[str, Any]:
    """Compare the items of an evaluation that loses one of two nodes midway with those of one process."""
    scale_ray.write_examples(folder / "all.jsonl", examples)
    with scale_ray.helper("nodes") as (nodes, address), scale_ray.helper("server", "0.5") as (_, port):
        model = f"http://127.0.0.1:{port}/v1#stand-in"
        one = scale_ray.result(scale_ray.evaluate(folder / "one", model, folder / "all.jsonl"))
        before = _count(port)["requests"]
        place = ("--launch", f"ray:{address}")
        job = scale_ray.evaluate(folder / "two", model, folder / "all.jsonl", *place)
        while job.poll() is None and _count(port)["requests"] < before + examples // 3:
            time.sleep(0.1)
        scale_ray.tell(nodes, "remove")
        two = scale_ray.result(job)
        asked = _count(port)["requests"] - before
    return {
        "examples": examples,
        "asked": asked,
        "same_items": scale_ray.items(folder / "one") == scale_ray.items(folder / "two"),
        "same_scores": scale_ray.scores(one) == scale_ray.scores(two),
    }


PARTS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "workers": compare_workers,
    "reshard": reshard,
    "fsdp": measure_fsdp,
    "kills": kill_and_compare,
    "ray_training": train_on_nodes,
    "study": study_on_nodes,
    "ray": time_on_ray,
    "lost_node": lose_a_node,
}


def main() -> None:
    """Run the parts that aren't done, save each, and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="parts to run, separated by commas")
    parser.add_argument("--again", action="store_true", help="measure parts again that are done")
    args = parser.parse_args()
    result: dict[str, Any] = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.is_file() else {}
    parts = result.get("parts", {})
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True, check=False
    ).stdout.strip()
    for name in args.only.split(",") if args.only else PARTS:
        if name in parts and not args.again:
            continue
        if name in NEED_RAY and find_spec("ray") is None:
            print(f"left out, because ray is not installed: {name}", file=sys.stderr)
            continue
        with tempfile.TemporaryDirectory() as folder:
            parts[name] = PARTS[name](Path(folder))
        result = {
            "name": "scale",
            "value": parts.get("workers", {}).get("loss"),
            "unit": "maximum relative difference of a step's loss, 1 process against 2 and 4",
            "machine": describe_machine(),
            "commit": commit,
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "parts": parts,
        }
        RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({key: part for key, part in result.items() if key != "parts"}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--launch"]:
        sys.exit(launch(sys.argv[2], sys.argv[3], sys.argv[4:]))
    main()
