"""The job's side of the contract with `launcher`, in plain Python: copy it into a job of your own.

A job is any program and needs nothing of this. What it gains: settings from $LAUNCHER_PARAMS, checkpoints
that are whole or not there, metrics that survive a resume, and an end in time from which one can go on.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

RESUME_ME = 75  # exit status
MARGIN_S = 10.0  # stop this long before the deadline: time for a step and a checkpoint


def arguments() -> list[str]:
    """$LAUNCHER_PARAMS as flags, then those that were typed, which win."""
    params = json.loads(os.environ.get("LAUNCHER_PARAMS", "{}"))
    return [f"--{name.replace('_', '-')}={value}" for name, value in params.items()] + sys.argv[1:]


class Stop:
    """SIGTERM and $LAUNCHER_DEADLINE end the job: at once or, while `held`, when it has saved its work."""

    def __init__(self) -> None:
        self.asked = self.busy = False
        signal.signal(signal.SIGTERM, self._ask)
        if deadline := os.environ.get("LAUNCHER_DEADLINE"):
            signal.signal(signal.SIGALRM, self._ask)
            signal.setitimer(signal.ITIMER_REAL, max(float(deadline) - MARGIN_S - time.time(), 0.001))

    def _ask(self, number: int, frame: object) -> None:
        self.asked = True
        if not self.busy:
            sys.exit(RESUME_ME)

    @contextmanager
    def held(self) -> Iterator[None]:
        self.busy = True
        yield
        self.busy = False
        if self.asked:
            sys.exit(RESUME_ME)


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """`write` fills a file of another name, which gets its own when it is complete and on the disk."""
    unfinished = path.with_name(path.name + ".tmp")
    write(unfinished)
    with open(unfinished, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(unfinished, path)


def keep_newest(folder: Path, pattern: str, n: int) -> None:
    for old in sorted(folder.glob(pattern), key=lambda f: f.stat().st_mtime_ns)[:-n]:
        old.unlink()


def log(out: Path, step: int, **values: float) -> None:
    """One line of metrics."""
    with open(out / "metrics.jsonl", "a") as file:
        file.write(json.dumps({"step": step, **values}) + "\n")


def forget_after(out: Path, step: int) -> None:
    """A run that goes on from `step` in its old folder writes those lines again; the last may be torn."""
    path = out / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    path.write_text("".join(x for x in lines if x.endswith("\n") and json.loads(x)["step"] < step))
