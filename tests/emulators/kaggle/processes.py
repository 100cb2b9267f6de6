"""The processes below a process, read from /proc."""

from __future__ import annotations

import contextlib
from pathlib import Path


def descendants(pid: int) -> list[tuple[int, str]]:
    """Pid and command line of all processes below this one; parents come before their children."""
    found = []
    for child in _children(pid):
        with contextlib.suppress(OSError):
            command = (
                Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            )
            found.append((child, command.strip()))
            found += descendants(child)
    return found


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += [int(one) for one in (task / "children").read_text().split()]
    return found
