"""Keeps a process of a training on a node of a cluster, and leaves it when whoever started both is gone.

    python -I keeper.py COMMAND...

Ray kills what a lost worker has started, at once. It kills this process; the training behind it notices, saves and ends
(`address.end_with_launcher`). The end of the standard input says the same where Ray itself is gone.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

LAUNCHED = "SIZEWISE_LAUNCHED"
"""See `address`; this file imports nothing, so that it starts at once and takes little memory."""


def main() -> int:
    """Run the command and return its exit code; 128 more than its number for a signal, as in a shell."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})  # Ray's processes inherit a blocked one
    environment = os.environ | {LAUNCHED: str(os.getpid())}
    process = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, env=environment)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: process.send_signal(number))

    def leave() -> None:
        os.read(0, 1)  # returns at the end of the standard input
        os._exit(1)

    threading.Thread(target=leave, daemon=True).start()
    code = process.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
