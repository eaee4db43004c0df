"""Run the command line with `python -m sizewise.cli`."""

from sizewise.cli import main

main()
