"""Killing a program at each of its system calls, as the kernel sees them: no hooks in the code."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

WRITES = (
    "write,pwrite64,fsync,fdatasync,ftruncate,mkdir,mkdirat,link,linkat,unlink,unlinkat,rmdir,"
    "rename,renameat,renameat2"
)


@dataclass(frozen=True)
class Point:
    """The `number`th time that the program's first thread makes this call."""

    call: str
    number: int


def points(program: str, arguments: Sequence[str], trace: Path, failing: str = "") -> list[Point]:
    """Every system call that writes, of one undisturbed run; in their order. `failing`: see `kill_at`."""
    command = ["strace", "-f", "-o", str(trace), "-e", f"trace={WRITES}", *_failing(failing)]
    subprocess.run([*command, *_python(program, arguments)], check=True, stdout=subprocess.DEVNULL)
    found: Counter[str] = Counter()
    result = []
    lines = [line.split(maxsplit=1) for line in trace.read_text().splitlines()]
    for thread, rest in lines:
        match = re.match(r"(\w+)\(", rest)
        if thread == lines[0][0] and match:
            found[match[1]] += 1
            result.append(Point(match[1], found[match[1]]))
    return result


def some(all_points: Sequence[Point], count: int) -> Iterator[Point]:
    """About `count` points: every one that gives or takes a name, the others spread evenly."""
    naming = [point for point in all_points if point.call.startswith(("rename", "link"))]
    others = [point for point in all_points if point not in naming]
    wanted = max(1, min(count - len(naming), len(others)))
    yield from naming
    yield from (others[n * len(others) // wanted] for n in range(wanted))


def kill_at(point: Point, program: str, arguments: Sequence[str], failing: str = "") -> bytes:
    """Run the program, killed at `point`; what it printed until then.

    `failing` (`renameat2:error=EINVAL`) is a call that this system does not have, as far as the program can tell.
    """
    inject = f"inject={point.call}:signal=KILL:when={point.number}"
    command = ["strace", "-f", "-o", os.devnull, "-e", f"trace={WRITES}", "-e", inject, *_failing(failing)]
    done = subprocess.run([*command, *_python(program, arguments)], stdout=subprocess.PIPE, check=False)
    assert done.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL), f"{point} did not fire"
    return done.stdout


def _failing(failing: str) -> list[str]:
    return ["-e", f"inject={failing}"] if failing else []


def _python(program: str, arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-B", "-c", program, *arguments]
