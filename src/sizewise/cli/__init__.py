"""The command line: arguments, progress and exit codes; one file a command."""

from sizewise.cli.main import main

__all__ = ["main"]
