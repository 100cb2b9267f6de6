"""A pseudo-terminal with a person at it."""

from __future__ import annotations

import os
import pty
import select
import sys
import time

from tests.cli.conftest import Laptop


class Terminal:
    """A program at a terminal: type at it, wait for what it says."""

    def __init__(self, words: list[str], laptop: Laptop, **environ: str) -> None:
        pid, self._fd = pty.fork()
        if pid == 0:
            os.chdir(laptop.folder)
            os.execve(words[0], words, {**laptop.environ, "TERM": "xterm", **environ})
        self._pid, self.said = pid, ""

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def until(self, text: str, timeout_s: float = 60) -> None:
        end = time.monotonic() + timeout_s
        while text not in self.said:
            assert time.monotonic() < end, self.said
            assert self._read(1.0) or text in self.said, self.said

    def end(self, timeout_s: float = 60) -> int:
        end = time.monotonic() + timeout_s
        while self._read(1.0):
            assert time.monotonic() < end, self.said
        _, status = os.waitpid(self._pid, 0)
        os.close(self._fd)
        return os.waitstatus_to_exitcode(status)

    def _read(self, wait_s: float) -> bool:
        """False at the end."""
        if not select.select([self._fd], [], [], wait_s)[0]:
            return True
        try:
            data = os.read(self._fd, 65536)
        except OSError:
            return False
        self.said += data.decode(errors="replace")
        return bool(data)


def at_terminal(laptop: Laptop, *words: str, **environ: str) -> Terminal:
    return Terminal([sys.executable, "-m", "launcher", *words], laptop, **environ)
