"""Runs functions that a model wrote in a process of their own, with as little around them as the machine allows.

The process gets no environment, no files, no network, no further processes and little memory and time. Several walls
stand behind each other, because each can be missing: Python's audit events (PEP 578), resource limits (POSIX), and on
Linux a network namespace and Landlock. They stop accidents and known tricks. Against an attacker, use a container.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any, NamedTuple

from sizewise.errors import SizewiseError

SECONDS, MEMORY_BYTES, OUTPUT_BYTES = 5.0, 512 * 2**20, 2**20
WAITING = 12
"""Time on the clock, as a multiple of processor time: a busy machine doesn't make code wrong."""
MODULES = (
    *("bisect", "calendar", "cmath", "collections", "copy", "dataclasses", "datetime", "decimal", "enum", "fractions"),
    *("functools", "heapq", "itertools", "json", "math", "numbers", "operator", "random", "re", "statistics"),
    *("string", "textwrap", "typing", "unicodedata", "collections.abc", "__future__"),
)
"""Modules that such a function may import."""


class Ran(NamedTuple):
    """What came out of the calls."""

    values: tuple[Any, ...] = ()
    """What each call returned, in the forms of JSON; empty if the code failed."""
    error: str = ""
    """Why the code failed; empty if all calls returned."""


def run_calls(code: str, name: str, calls: Sequence[Sequence[Any]], *, seconds: float = SECONDS) -> Ran:
    """Define a function by running code, and call it.

    Args:
        code: Python code that defines the function.
        name: name of the function.
        calls: arguments of each call.
        seconds: processor time for everything.

    Raises:
        SizewiseError: this system can't limit a process.
    """
    if os.name != "posix":
        raise SizewiseError(
            "Code of a model isn't run on this system, because its processes can't be limited.",
            "Linux or macOS",
            "run the same command in a container",
        )
    limits = {"seconds": seconds, "memory": MEMORY_BYTES, "modules": MODULES}
    task = json.dumps({"code": code, "name": name, "calls": list(map(list, calls)), "limits": limits})
    with tempfile.TemporaryDirectory(prefix="sizewise-code-") as folder, tempfile.TemporaryFile() as out:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", "-c", _RUNNER],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env={},
            start_new_session=True,
        )
        try:
            process.communicate(task.encode("utf-8"), timeout=WAITING * seconds)
        except subprocess.TimeoutExpired:
            return Ran(error=f"no result within {WAITING * seconds:g} s")
        finally:
            _end(process)
        if process.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
            return Ran(error=f"no result within {seconds:g} s of processor time")
        out.seek(0)
        return _read(out.read(OUTPUT_BYTES), len(calls), process.returncode)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process and all that it may have started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, 9)
    process.kill()
    process.wait()


def _read(output: bytes, count: int, code: int) -> Ran:
    """Read the last line; what the code printed stands before it."""
    try:
        found = json.loads(output.rstrip(b"\n").rsplit(b"\n", 1)[-1])
        values, error = found["values"], str(found["error"])
        if error or len(values) == count:
            return Ran(() if error else tuple(values), error)
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    return Ran(error=f"ended with exit code {code}")


_RUNNER = r'''
import json, sys
task = json.loads(sys.stdin.buffer.read())
limits = task["limits"]
for module in limits["modules"]:
    __import__(module)
import builtins, ctypes, os, resource
size, seconds = limits["memory"], max(1, round(limits["seconds"]))
for what, most in (("AS", size), ("DATA", size), ("CPU", seconds), ("FSIZE", 1 << 20), ("NOFILE", 16), ("CORE", 0)):
    try:
        resource.setrlimit(getattr(resource, "RLIMIT_" + what), (most, most))
    except (AttributeError, ValueError, OSError):
        pass
def close_in():
    """Leave the network, and lose the right to open files and to start processes, where the kernel allows that."""
    libc = ctypes.CDLL(None, use_errno=True)
    if sys.platform == "linux":
        libc.unshare(0x10000000 | 0x40000000)  # CLONE_NEWUSER, CLONE_NEWNET
        libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
        handled = ctypes.c_uint64((1 << 13) - 1)  # every right of Landlock's first version
        rules = libc.syscall(444, ctypes.byref(handled), ctypes.c_size_t(8), 0)
        if rules >= 0:
            libc.syscall(446, rules, 0)
            os.close(rules)
try:
    close_in()
except Exception:
    pass
try:
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
except (AttributeError, ValueError, OSError):
    pass
allowed, plain_import = set(limits["modules"]), builtins.__import__
def import_allowed(name, globals=None, locals=None, fromlist=(), level=0):
    if level or name not in allowed:
        raise ImportError(name + " isn't available here")
    return plain_import(name, globals, locals, fromlist, level)
FORBIDDEN = ("open", "import", "socket.", "subprocess.", "os.", "shutil.", "ctypes.", "pty.", "mmap.", "fcntl.",
             "tempfile.", "_thread.", "glob.", "pathlib.", "code.__new__", "sys.addaudithook", "resource.", "signal.")
closed = [False]
def watch(event, arguments):
    if closed[0] and event.startswith(FORBIDDEN):
        raise PermissionError(event + " isn't available here")
sys.addaudithook(watch)
write, dumps, calls, name, code = os.write, json.dumps, task["calls"], task["name"], task["code"]
for module in ("os", "ctypes", "resource", "posix", "sys", "subprocess", "_posixsubprocess", "socket", "_socket"):
    sys.modules.pop(module, None)
builtins.__import__ = import_allowed
scope = {"__name__": "answer"}
values, error = [], ""
closed[0] = True
try:
    exec(compile(code, "answer", "exec"), scope)
    for arguments in calls:
        values.append(scope[name](*arguments))
    text = dumps({"values": values, "error": ""}, allow_nan=False)
except BaseException as failure:
    text = dumps({"values": [], "error": type(failure).__name__ + ": " + str(failure)[:200]})
sys.stdout.flush()
write(1, ("\n" + text + "\n").encode("utf-8", "backslashreplace"))
'''
