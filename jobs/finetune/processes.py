"""This script several times on one machine, a process for each GPU, as torchrun would start it.

Unlike torchrun it ends with the status of the process that failed, so that 75 ("resume me") gets through.
"""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time

GRACE_S = 60.0  # for the others to save and end by themselves


def one_of_several() -> bool:
    """Whether somebody, torchrun perhaps, has already made us one of several."""
    return "WORLD_SIZE" in os.environ


def run_several(n: int) -> int:
    """The exit status of all. SIGTERM goes to each; where one fails the others are ended."""
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": str(n)}
    started: list[subprocess.Popen] = []
    signal.signal(signal.SIGTERM, lambda *_: [process.terminate() for process in started])
    try:
        for rank in range(n):
            place = common | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            argv = [sys.executable, *sys.argv]
            started.append(subprocess.Popen(argv, env=os.environ | place, preexec_fn=_die_with_parent))
        return _failure(started)
    finally:
        for process in started:
            process.kill()
            process.wait()


def _failure(started: list[subprocess.Popen]) -> int:
    deadline = float("inf")
    while any(process.poll() is None for process in started) and time.monotonic() < deadline:
        failed = _status(started)
        if failed and deadline == float("inf"):
            # the others wait for one that is gone, and a wait in C hears no SIGTERM
            deadline = time.monotonic() + (GRACE_S if failed == 75 else 0)
        time.sleep(0.05)
    return _status(started)


def _status(started: list[subprocess.Popen]) -> int:
    """Who was killed is the cause, who failed comes before who only wants to be resumed."""
    status = min((process.returncode for process in started if process.returncode), default=0)
    return 128 - status if status < 0 else status


def _die_with_parent() -> None:
    with contextlib.suppress(OSError, AttributeError):  # Linux only
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
