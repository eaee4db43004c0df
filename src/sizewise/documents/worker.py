"""The process that converts documents: a path per line on stdin, a JSON answer per line on stdout."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType

from sizewise.documents.parts import MAX_CHARACTERS, PAGES, CannotConvert, Conversion
from sizewise.documents.pdf_pages import count_pages

CONVERTERS = {
    ".pdf": "sizewise.documents.pdf_pages:convert_pdf",
    ".html": "sizewise.documents.html_pages:convert_html",
    ".htm": "sizewise.documents.html_pages:convert_html",
    ".xhtml": "sizewise.documents.html_pages:convert_html",
    ".docx": "sizewise.documents.office:convert_docx",
    ".pptx": "sizewise.documents.office:convert_pptx",
    ".xlsx": "sizewise.documents.office:convert_xlsx",
    ".xlsm": "sizewise.documents.office:convert_xlsx",
    ".odt": "sizewise.documents.office:convert_odt",
    ".rtf": "sizewise.documents.office:convert_rtf",
    ".epub": "sizewise.documents.office:convert_epub",
    ".ipynb": "sizewise.documents.office:convert_ipynb",
    ".eml": "sizewise.documents.mail:convert_eml",
    ".mbox": "sizewise.documents.mail:convert_mbox",
}
"""File type -> function that converts the bytes of a file; its module is imported when a file needs it."""
PASSWORD = "protected by a password"
_REASONS = {
    "PDFPasswordIncorrect": PASSWORD,
    "PDFEncryptionError": PASSWORD,
    "BadZipFile": "not a valid file of its type (damaged ZIP container)",
    "RecursionError": "nested too deeply",
    "EntitiesForbidden": "defines XML entities, which could expand without limit",
    "DTDForbidden": "defines XML entities, which could expand without limit",
    "ExternalReferenceForbidden": "refers to files outside of itself",
}


def convert_bytes(data: bytes, kind: str) -> Conversion:
    """Convert the content of a file.

    Args:
        data: The bytes.
        kind: Lower-case file extension with its period.

    Raises:
        CannotConvert: The type is unsupported, or the file is damaged, protected or too large.
    """
    if kind not in CONVERTERS:
        raise CannotConvert(f"unsupported type {kind}")
    module, _, function = CONVERTERS[kind].partition(":")
    convert: Callable[[bytes], Conversion] = getattr(import_module(module), function)
    try:
        found = convert(data)
    except (CannotConvert, MemoryError):
        raise
    except ModuleNotFoundError as error:
        raise CannotConvert(f"needs the package {error.name}; install the extra [documents]") from error
    except Exception as error:  # a parser failure affects this file only
        chain = [error, error.__cause__, *error.args]
        names = [type(one).__name__ for one in chain]
        reason = next((_REASONS[name] for name in names if name in _REASONS), None)
        raise CannotConvert(reason or f"damaged or not a valid {kind} file ({names[0]})") from error
    if sum(len(part.text) for part in found.parts) > MAX_CHARACTERS:
        raise CannotConvert(f"contains more than {MAX_CHARACTERS // 10**6} million characters; split it")
    return found


def work(memory_bytes: int) -> None:
    """Run the worker process until its input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="surrogatepass")
    os.dup2(2, 1)  # keep what parsers print out of the answers
    warnings.simplefilter("ignore")
    # markitdown imports magika to guess file types, which is never called here; it takes a second and 100 MB to load.
    sys.modules.setdefault("magika", ModuleType("magika"))
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin:
        path = Path(json.loads(line))
        try:
            data = path.read_bytes()
            if path.suffix.lower() == ".pdf":
                answers.write(f"{PAGES}{count_pages(data)}\n")
                answers.flush()
            answer = json.dumps(convert_bytes(data, path.suffix.lower()).to_json())
        except CannotConvert as error:
            answer = json.dumps({"error": str(error)})
        except MemoryError:
            answer = json.dumps({"error": "ran out of memory", "restart": True})
        except OSError as error:
            answer = json.dumps({"error": f"unreadable ({error.strerror})"})
        answers.write(answer + "\n")
        answers.flush()


if __name__ == "__main__":
    work(int(sys.argv[1]))
