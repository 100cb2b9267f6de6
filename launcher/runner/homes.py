"""The home folder of a recorded run, with the retention that its spec asks for, and the right to write it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from launcher.errors import Refused
from launcher.run import Run
from launcher.vault import Home

LOOK_S = 0.1


def home_of(run: Run) -> Home:
    """Not locked; who writes takes the lock."""
    keep = run.spec.get("checkpoints", {}).get("keep", "all")
    return Home(run.home, keep)


@contextlib.contextmanager
def claimed(run: Run, patience_s: float = 5.0) -> Iterator[Home]:
    """The home, locked. Refused when another process still has it after `patience_s`."""
    home, end = home_of(run), time.monotonic() + patience_s
    while not home.try_lock():
        if time.monotonic() > end:
            raise Refused(
                f"another launcher process is working on {run.id}", "end it, or wait until it is done"
            )
        time.sleep(LOOK_S)
    try:
        yield home
    finally:
        home.unlock()
