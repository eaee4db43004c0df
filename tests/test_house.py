"""The house itself: what importing costs, what the verbs are, what every module may do."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import sizewise

VERBS = ["read", "train", "evaluate", "compare", "choose", "study", "open_model"]


def test_importing_sizewise_loads_no_torch() -> None:
    code = "import sys, sizewise, sizewise.cli; print(sorted({'torch', 'transformers', 'scipy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_deciding_loads_no_torch() -> None:
    code = "import sys, sizewise.choice, sizewise.comparison, sizewise.report; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_verbs_stay_functions_after_every_module_was_imported() -> None:
    for module in pkgutil.walk_packages(sizewise.__path__, "sizewise."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for verb in VERBS:
        assert callable(getattr(sizewise, verb)), verb
    assert set(VERBS) <= set(dir(sizewise))


def test_unknown_names_are_refused() -> None:
    assert not hasattr(sizewise, "no_such_verb")
