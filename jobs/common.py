"""The job's side of the contract with `launcher`, in plain Python: copy it into a job of your own.

A job is any program and needs nothing of this. What it gains: settings from $LAUNCHER_PARAMS, checkpoints
that are whole or not there, metrics that survive a resume, and an end in time from which one can go on.
"""

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

RESUME_ME = 75  # exit status
MARGIN_S = 10.0  # stop this long before the deadline: time for a step and a checkpoint


def arguments() -> list[str]:
    """$LAUNCHER_PARAMS as flags, then those that were typed, which win."""
    params = json.loads(os.environ.get("LAUNCHER_PARAMS", "{}"))
    return [f"--{name.replace('_', '-')}={value}" for name, value in params.items()] + sys.argv[1:]


def given(key: str) -> Path | None:
    """The data source `key` of the job's `data:`, where there is one."""
    path = Path(os.environ.get("LAUNCHER_DATA", "/nowhere")) / key
    return path if path.exists() else None


def at_home(out: Path, name: str) -> str:
    """Where the user will find a result: under `launcher` it comes home into the run's folder."""
    return name if "LAUNCHER_OUT" in os.environ else str(out / name)


def refuse(message: str) -> NoReturn:
    """Bad input: one line that says what, where, and what to do."""
    if os.environ.get("RANK", "0") == "0":  # of several processes one says it
        print(" ".join(message.split()), file=sys.stderr, flush=True)
    raise SystemExit(2)


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
    try:
        write(unfinished)
        _to_disk(unfinished)
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    _to_disk(path.parent)


def write_folder(path: Path, fill: Callable[[Path], object]) -> None:
    """The same for a folder of files. Where `fill` fails (a full disk), an older one stays as it was."""
    unfinished, older = (path.with_name(path.name + end) for end in (".tmp", ".old.tmp"))
    mend(path)
    unfinished.mkdir(parents=True)
    try:
        fill(unfinished)
        for inside in unfinished.rglob("*"):
            _to_disk(inside)
        _to_disk(unfinished)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    if path.exists():  # no rename replaces a folder that holds something
        os.rename(path, older)
    os.rename(unfinished, path)
    _to_disk(path.parent)
    shutil.rmtree(older, ignore_errors=True)


def mend(path: Path) -> None:
    """Undo what a kill left of an unfinished `write_folder`."""
    unfinished, older = (path.with_name(path.name + end) for end in (".tmp", ".old.tmp"))
    if older.exists() and not path.exists():
        os.rename(older, path)
    for leftover in (older, unfinished):
        shutil.rmtree(leftover, ignore_errors=True)


def keep_newest(folder: Path, pattern: str, n: int) -> None:
    """Of the files or folders that match, the `n` that were written last. A kill leaves no half under a name."""
    for leftover in folder.glob(pattern + ".gone.tmp"):
        shutil.rmtree(leftover, ignore_errors=True)
    for old in sorted(folder.glob(pattern), key=lambda f: f.stat().st_mtime_ns)[:-n]:
        if old.is_dir():
            shutil.rmtree(old.rename(old.with_name(old.name + ".gone.tmp")))
        else:
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


def _to_disk(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
