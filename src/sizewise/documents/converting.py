"""PDF, DOCX and HTML become Markdown, in a process of its own with limits of time, memory and output.

A document is somebody else's input to a large parser: whatever it does there, it cannot take this process along.
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
    """A file that could not be converted; the message says why."""


class Converter:
    """Converts one file after the other; its process starts with the first and starts again after a failure.

    Args:
        seconds: most for one file.
        memory_bytes: most address space of the process, where the system can limit it.
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
        """Give the text of a file as Markdown.

        Raises:
            CannotConvert: the extra is absent, the file is damaged or protected, or it needed more than it may.
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
            late = not timer.is_alive()
            timer.cancel()
        if not line:
            self._stop()
            raise CannotConvert(f"took longer than {self._seconds:.0f} s" if late else "needed too much memory")
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
    """Convert the files that stdin names, one answer a line on stdout; in the process of its own."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a parser prints must not stand between the answers
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    from markitdown import MarkItDown
    from markitdown.converters import DocxConverter, HtmlConverter, PdfConverter

    converter = MarkItDown(enable_builtins=False, enable_plugins=False)  # else what is damaged is read as plain text
    for kind in (PdfConverter, DocxConverter, HtmlConverter):
        converter.register_converter(kind())
    for line in sys.stdin:
        try:
            text = converter.convert_local(json.loads(line)).text_content or ""
            answer = {"text": text} if len(text) <= MAX_CHARACTERS else {"error": "holds too much text"}
        except MemoryError:
            answer = {"error": "needed too much memory"}
        except Exception as error:  # any parser's failure is one file's
            answer = {"error": f"cannot be read ({type(error).__name__})"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    work(int(sys.argv[1]))
