"""Runs beside launcher: starts a program, ends it when our end of its stdin closes, and removes the scratch folder.

So neither a process nor a file stays behind, however launcher ends. Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading

GRACE_S = 5.0


def main(scratch: str, argv: list[str]) -> int:
    """The program's exit code."""
    program = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
    ending = threading.Event()
    end = threading.Thread(target=_wait_for_end, args=(program, scratch, ending), daemon=True)
    end.start()
    code = program.wait()
    if ending.is_set():
        end.join()
    return code


def _wait_for_end(program: subprocess.Popen[bytes], scratch: str, ending: threading.Event) -> None:
    while os.read(0, 1024):
        pass
    ending.set()
    program.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        program.wait(GRACE_S)
    shutil.rmtree(scratch, ignore_errors=True)
    os.killpg(0, signal.SIGKILL)  # and whatever it had started; launcher gave us a group of our own


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
