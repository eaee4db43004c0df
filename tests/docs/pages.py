"""Code fences of README and docs, and how each of their commands is run in a test."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]

# Commands that no test runs, each with its reason. Keep this list short.
NOT_RUN = {
    "sizewise evaluate MODEL --data DATA --metrics token_f1,embedding_similarity": "fetches a sentence encoder",
    "sizewise index my-documents/ --out my-index": "fetches a sentence encoder",
    "sizewise index my-documents/ asked.jsonl --out my-index": "fetches a sentence encoder",
    "sizewise serve fake:echo --agent support --docs my-index --port 8000": "serves the index above",
    "sizewise train scratch --data DATA --tokens 200000 --rows-per-step 8 --launch torchrun:2": (
        "starts processes; tests/launch/test_scale.py does"
    ),
    "sizewise train pkg:smollm2-135m --data DATA --method full --tokens 200000 --rows-per-step 8 --launch torchrun:2 "
    "--fsdp": "starts processes; tests/launch/test_scale.py does",
    "torchrun --nnodes 2 --nproc-per-node 4 --rdzv-backend c10d --rdzv-endpoint HOST:29400 --max-restarts 3 "
    "-m sizewise train pkg:smollm2-135m --data DATA --tokens 200000": "needs two machines",
    "pip install -c constraints.txt -e '.[study,scale]'": "installs from PyPI",
    "sizewise evaluate pkg:smollm2-135m --data DATA --launch ray:local": "needs Ray; tests/launch/test_scale.py has it",
    "sizewise study my-study.toml --launch ray:HOST:6379": "needs a Ray cluster",
    "sizewise train pkg:smollm2-135m --data DATA --tokens 200000 --rows-per-step 8 --launch ray:HOST:6379": (
        "needs a Ray cluster; tests/launch/test_scale.py has one"
    ),
    "pip install -c constraints.txt -e '.[s3]'": "installs from PyPI",
    "export SIZEWISE_ARTIFACTS_URL=s3://my-bucket/sizewise": "needs object storage; tests/store/test_artifacts.py",
    "sizewise push": "needs object storage; tests/store/test_artifacts.py",
    "sizewise pull": "needs object storage; tests/store/test_artifacts.py",
    "source .venv/bin/activate": "the test runs in its own environment",
    "sizewise models hf:mistralai/Mistral-7B-v0.1": "downloads a config",
    "sizewise models --refresh": "needs a network; tests/models/test_price_updates.py has a service for it",
    "sizewise study --log export.jsonl --pays 4200/month": "trains a pretrained model for minutes",
    "sizewise serve RUN_A RUN_B pkg:smollm2-135m --share-base": "needs two models fine-tuned from one base",
    "sizewise read https://docs.example.org/guide/ --allow-host docs.example.org --max-pages 100": "needs a network",
    "pip install -c constraints.txt -e '.[harness]'": "installs from PyPI",
    'sizewise evaluate recorded:today.jsonl --data DATA --name "today\'s system"': "needs two files of graded answers",
    "sizewise compare EVAL_TODAY EVAL_NEW": "compares the two above",
    'sizewise evaluate recorded:new.jsonl --data DATA --name "the new one"': "needs two files of graded answers",
    "make lock": "resolves packages over the network",
    'uv tool install --torch-backend cpu "dist/sizewise-0.1.0-py3-none-any.whl[study]"': "installs a gigabyte",
    'pipx install --pip-args="--extra-index-url https://download.pytorch.org/whl/cpu" '
    '"dist/sizewise-0.1.0-py3-none-any.whl[study]"': "installs a gigabyte",
    "pip install --extra-index-url https://download.pytorch.org/whl/cpu "
    '"dist/sizewise-0.1.0-py3-none-any.whl[study]"': "installs a gigabyte",
    "docker build -t sizewise .": "needs a Docker daemon; tests/test_distribution.py reads the Dockerfile",
    "docker run --rm -v sizewise:/data sizewise": "needs a Docker daemon",
    "docker run --rm -v sizewise:/data -v ./my-documents:/documents:ro sizewise study /documents": "needs Docker",
    "sizewise bundle --extras study,documents --models pkg:smollm2-135m,pkg:minilm --out sizewise-bundle": (
        "downloads half a gigabyte; tests/bundling writes and installs a small one"
    ),
    "sha256sum SHA256SUMS": "inside a bundle",
    "sh install.sh --prefix ~/sizewise --home ~/sizewise-records": "inside a bundle",
    "export SIZEWISE_OFFLINE=1 SIZEWISE_HOME=~/sizewise-records": "the test has a home of its own",
    "sizewise read demo:fhir": "needs a network",
}
# Commands that end with another code than 0 in a test.
ENDS_WITH = {
    "sizewise deploy STUDY --to compose --out deployment": (2, "the study of the test picks recorded answers"),
    "sizewise deploy STUDY --to kubernetes --out manifests": (2, "tests/service/test_deployment.py has others"),
    "sizewise deploy STUDY --to helm --out chart": (2, "the same"),
    "sizewise deploy STUDY --to kuberay --out ray": (2, "the same"),
    "sizewise deploy STUDY --to skypilot --out sky": (2, "the same"),
    "sizewise judge report STUDY": (1, "no rater has voted yet"),
    "sizewise loadtest EVAL --concurrency 1,2": (1, "a stand-in has no engine on this machine"),
    "sizewise judge ask STUDY openai:gpt-4o --max-usd 5": (1, "a stand-in writes no verdict that can be read"),
    "sizewise judge ask STUDY openai:gpt-4o --more 300 --max-usd 10": (1, "a stand-in writes no verdict"),
    "sizewise judge report STUDY --close": (1, "no rater has voted yet"),
    "sizewise evaluate MODEL --data DATA --metrics field_f1,json_valid --engine openvino --constrained": (
        2,
        "a stand-in follows no schema",
    ),
}
# What stands for real models in a test: nothing is downloaded, nothing is trained for minutes.
STAND_INS = {
    "pkg:smollm2-135m": "fake:echo",
    "openai:gpt-4o": "fake:echo",
    "MODEL": "fake:echo",
    "--max-false-signals=0.01": "--max-false-signals=0.3",  # few texts to choose a threshold on
}


class Fence(NamedTuple):
    """A block of code on a page."""

    language: str
    code: str


def pages() -> list[Path]:
    """Find every page with code that readers will run."""
    docs = ROOT / "docs"
    found = [ROOT / "README.md", *docs.rglob("*.md")]
    return sorted(page for page in found if any(one.language in ("bash", "python") for one in fences(page)))


def fences(page: Path) -> Iterator[Fence]:
    """Yield the blocks of code of a page, in order."""
    text = page.read_text(encoding="utf-8")
    for block in re.finditer(r"^```(\w+)[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        yield Fence(block[1], block[2])


def commands(code: str) -> Iterator[str]:
    """Yield the commands of a shell block; a backslash continues a line."""
    for line in code.replace("\\\n", " ").splitlines():
        command = re.sub(r"(^|\s+)# .*", "", line).strip()
        if command:
            yield command


def words(command: str, ids: dict[str, str], port: int, tiny: Path) -> list[str]:
    """Split a command and put stand-ins, ids and sizes of a test into it.

    Args:
        command: as a reader would type it.
        ids: placeholder -> id.
        port: where this page's service listens, instead of 8000.
        tiny: folder of a small random network, to train from.
    """
    stand_ins = STAND_INS | ids
    found = shlex.split(command)
    if found[1:2] == ["train"]:
        stand_ins["pkg:smollm2-135m"] = str(tiny)
    place = 0
    while place < len(found):
        prefix, colon, rest = found[place].partition(":")
        if found[place] in stand_ins:
            found[place] = stand_ins[found[place]]
        elif prefix == "rag":
            found[place] = ":".join(stand_ins.get(part, part) for part in found[place].split(":"))
        elif colon and rest in ids:
            found[place] = f"{prefix}:{ids[rest]}"
        elif found[place] == "--minutes":
            found[place : place + 2] = ["--tokens", "5000"] if "--dry-run" in found else ["--tokens", "600"]
        elif found[place] == "--max-usd":  # a stand-in costs nothing
            del found[place : place + 2]
            continue
        found[place] = found[place].replace("127.0.0.1:8000", f"127.0.0.1:{port}")
        if found[place - 1] == "--port":
            found[place] = str(port)
        place += 1
    if found[1:2] == ["train"] and "tfidf" not in found:
        found += ["--parameters", "500000", "--context", "256"] if "scratch" in found else ["--context", "64"]
        found += [] if "--control" in found else ["--control", "none"]
    if found[1:2] == ["serve"] and ids["RUN"] in found:
        found += ["--engine", "transformers"]
    if found[1:3] in (["judge", "open"], ["judge", "converse"]):
        found.append("--no-serve")
    return found


def small_study(text: str) -> str:
    """Turn a study file into one that takes seconds: stand-ins for models, and few items."""
    text = re.sub(r"^(train|retrieve) = .*\n", "", text, flags=re.MULTILINE)
    text = re.sub(r'^model = "(pkg:.*|scratch)"', 'model = "fake:echo"', text, flags=re.MULTILINE)
    text = re.sub(r"^(limit|metrics|quality|min_quality|max_latency_s) = .*\n", "", text, flags=re.MULTILINE)
    blocks = re.split(r"(?=^\[\[candidates\]\])|(?=^\[needs\])", text, flags=re.MULTILINE)
    candidates = [block for block in blocks if block.startswith("[[")]
    kept = [block for block in blocks if block not in candidates[1:]]
    small = "".join(kept).replace("[data]\n", '[data]\nlimit = 6\nmetrics = ["token_f1"]\n')
    small = small if "[needs]\n" in small else f"{small}\n[needs]\n"
    return small.replace("[needs]\n", '[needs]\nquality = "token_f1"\n')
