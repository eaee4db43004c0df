"""Run the command line with `python -m sizewise.cli`."""

from sizewise.cli.main import main

main()
