"""Convert PDF, DOCX and HTML to Markdown in a separate process with limits on time, memory and output.

Documents are untrusted input to large parsers; a crash or a leak there must not affect the main process.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

from sizewise.errors import install_command

KINDS = (".pdf", ".docx", ".html", ".htm")
SECONDS = 60.0
MEMORY_BYTES = 4 * 2**30
MAX_CHARACTERS = 20_000_000


class CannotConvert(Exception):
    """A file that could not be converted; the message is the reason."""


class Converter:
    """Converts files one at a time; the worker process starts with the first file and restarts after a failure.

    Args:
        seconds: Time limit per file.
        memory_bytes: Limit on the worker's address space, where the operating system supports it.
    """

    def __init__(self, seconds: float = SECONDS, memory_bytes: int = MEMORY_BYTES) -> None:
        self._seconds, self._memory = seconds, memory_bytes
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Converter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def text_of(self, path: Path) -> str:
        """Convert a file to Markdown.

        Raises:
            CannotConvert: The extra isn't installed, the file is damaged or protected, or a limit was exceeded.
        """
        if find_spec("markitdown") is None:
            raise CannotConvert(f"needs {install_command('documents')}")
        process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        timer = threading.Timer(self._seconds, process.kill)
        timer.start()
        try:
            process.stdin.write(json.dumps(str(path.resolve())) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except (BrokenPipeError, OSError):
            line = ""
        finally:
            timed_out = not timer.is_alive()
            timer.cancel()
        if not line:
            self._stop()
            raise CannotConvert(f"took longer than {self._seconds:.0f} s" if timed_out else "ran out of memory")
        answer = json.loads(line)
        if "error" in answer:
            raise CannotConvert(str(answer["error"]))
        return str(answer["text"])

    def _start(self) -> subprocess.Popen[str]:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "sizewise.documents.converting", str(self._memory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
        )
        return self._process

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()


def work(memory_bytes: int) -> None:
    """Run the worker process: read a path per line from stdin, write a JSON answer per line to stdout."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # keep what parsers print out of the answers
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    from markitdown import MarkItDown
    from markitdown.converters import DocxConverter, HtmlConverter, PdfConverter

    converter = MarkItDown(
        enable_builtins=False, enable_plugins=False
    )  # the built-in ones would read damaged files as plain text
    for kind in (PdfConverter, DocxConverter, HtmlConverter):
        converter.register_converter(kind())
    for line in sys.stdin:
        try:
            text = converter.convert_local(json.loads(line)).text_content or ""
            answer = {"text": text} if len(text) <= MAX_CHARACTERS else {"error": "contains too much text"}
        except MemoryError:
            answer = {"error": "ran out of memory"}
        except Exception as error:  # a parser failure affects this file only
            answer = {"error": f"cannot be read ({type(error).__name__})"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    work(int(sys.argv[1]))
