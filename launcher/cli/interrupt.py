"""Ctrl-C, SIGTERM and SIGHUP while a verb works: the first becomes KeyboardInterrupt, the second is counted,
so that nothing disturbs the clean-up that the first one started; the third gives up on that too."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import Any

AGAIN_S = 2.0


class Interrupts:
    """`with Interrupts() as interrupts:` around the work."""

    def __init__(self) -> None:
        self.count = 0
        self._first = 0.0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in _signals():
                before = signal.getsignal(number)
                if before is not signal.SIG_IGN:  # nohup, a shell's background job
                    self._before[number] = before
                    signal.signal(number, self._heard)
        return self

    def __exit__(self, *error: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def again(self) -> bool:
        """Wait for a second one within 2 s of the first."""
        while self.count < 2 and time.monotonic() < self._first + AGAIN_S:
            time.sleep(0.05)
        return self.count >= 2

    def _heard(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.count == 1:
            self._first = time.monotonic()
        if self.count in (1, 3):
            raise KeyboardInterrupt


def _signals() -> list[signal.Signals]:
    names = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP
    return [getattr(signal, name) for name in names if hasattr(signal, name)]
