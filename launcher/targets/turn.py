"""One builder of a thing at a time on a machine: the others wait, and find it made."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator, Iterator
from typing import Any

from launcher.events import Progress

PATIENCE_S = 1.0  # before one is told
SAYS_S = 10.0


class Turn:
    """A lock on a file of the machine behind a steward; freed when the connection ends, too."""

    def __init__(self, steward: Any, path: str) -> None:
        self._done = threading.Event()
        self._mine = threading.Event()
        self._error: BaseException | None = None
        words = ["sh", "-c", "echo mine; exec cat"]
        self._frames = steward.stream("run_script", self._until_done(), argv=words, env={}, lock=path)
        self._thread = threading.Thread(target=self._hold, daemon=True)
        self._thread.start()

    def taken(self, phase: str) -> Generator[Progress, None, None]:
        """Waits for it, and says so when that takes long."""
        if not self._mine.wait(PATIENCE_S):
            while True:
                yield Progress(phase, "wait: another launcher is making the same")
                if self._mine.wait(SAYS_S):
                    break
        if self._error:
            raise self._error

    def free(self) -> None:
        self._done.set()
        self._thread.join(PATIENCE_S)

    def _hold(self) -> None:
        try:
            for _ in self._frames:
                self._mine.set()
        except BaseException as error:  # raised again where the caller waits
            self._error = error
        self._mine.set()

    def _until_done(self) -> Iterator[bytes]:
        self._done.wait()
        yield from ()


@contextlib.contextmanager
def turn(steward: Any, path: str) -> Iterator[Turn]:
    """`yield from it.taken(phase)` inside; freed at the end."""
    made = Turn(steward, path)
    try:
        yield made
    finally:
        made.free()
