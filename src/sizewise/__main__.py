"""Run the command line with `python -m sizewise`."""

from sizewise.cli import main

main()
