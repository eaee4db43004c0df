"""The command line: arguments, progress and exit codes; one file per command."""

import sys
from typing import NoReturn

from sizewise.cli.failing import INTERRUPTED, interrupted

__all__ = ["main"]


def main() -> NoReturn:
    """Run the command line; Ctrl-C ends it cleanly even while commands are being imported."""
    try:
        from sizewise.cli.main import main as run
    except KeyboardInterrupt:
        interrupted("--json" in sys.argv[1:])
        sys.exit(INTERRUPTED)
    run()
