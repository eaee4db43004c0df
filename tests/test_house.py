"""The house itself: what importing costs, what the verbs are, what every module may do."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

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


# A few are longer than a page for a reason: they are one sequence of steps, or the options of a command.
LONG = {"lm/loop.py:train_network", "service/running.py:serve"}
MANY_PARAMETERS = {"service/running.py:serve"}


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    root = Path(sizewise.__file__).parent
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if not name.startswith("cli/"):  # there a parameter is an option, and its help stands beside it
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    yield f"{name}:{node.name}", node


def test_functions_fit_on_a_page() -> None:
    long = {name for name, node in functions() if (node.end_lineno or 0) - node.lineno >= 60}
    assert long == LONG


def test_public_functions_have_few_parameters() -> None:
    many = set()
    for name, node in functions():
        taken = [one for one in (*node.args.posonlyargs, *node.args.args) if one.arg not in ("self", "cls")]
        if len(taken) + len(node.args.kwonlyargs) > 8 and not node.name.startswith("_"):
            many.add(name)
    assert many == MANY_PARAMETERS
