"""One request to a steward, as the client holds it: what came, how much more may come, how it ended."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from launcher.agent.frames import FRAME_COST, WINDOW, BadFrame, Header

WAIT_S = 1.0


class Request:
    """Filled by the reader's thread, emptied by the caller's; never more than a window in memory."""

    def __init__(self, number: int, grant: Callable[[int, int], None], window: int = WINDOW) -> None:
        self.number = number
        self._window = window
        self._grant = grant
        self._changed = threading.Condition()
        self._frames: deque[tuple[Header, bytes]] = deque()
        self._unread = 0
        self._taken = 0
        self._credit = WINDOW
        self._end: Header | None = None
        self._error: Exception | None = None

    # For the reader.

    def arrived(self, header: Header, payload: bytes) -> None:
        with self._changed:
            if "window" in header:
                self._credit += _count(header["window"])
            elif header.get("end") is True:
                self._end = header
            else:
                self._unread += len(payload) + FRAME_COST
                if self._unread > self._window:
                    raise BadFrame("more bytes than were asked for")
                self._frames.append((header, payload))
            self._changed.notify_all()

    def fail(self, error: Exception) -> None:
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()

    # For the caller.

    def take(self, deadline: float | None = None) -> tuple[Header, bytes] | None:
        """The next data frame; None after the last, when `end` is there to be read."""
        with self._changed:
            while not self._frames:
                if self._error is not None:
                    raise self._error
                if self._end is not None:
                    return None
                self._wait(deadline)
            header, payload = self._frames.popleft()
            self._unread -= len(payload) + FRAME_COST
            self._taken += len(payload) + FRAME_COST
            taken = self._taken
            if taken >= self._window // 4:
                self._taken = 0
        if taken >= self._window // 4:
            self._grant(self.number, taken)
        return header, payload

    def spend(self, count: int) -> bool:
        """Wait until `count` more bytes may be sent; False when the answer is there already."""
        with self._changed:
            while self._credit < count:
                if self._error is not None or self._end is not None:
                    return False
                self._wait(None)
            self._credit -= count
            return self._error is None and self._end is None

    @property
    def end(self) -> Header | None:
        return self._end

    def _wait(self, deadline: float | None) -> None:
        if deadline is not None and time.monotonic() > deadline:
            raise TimeoutError
        self._changed.wait(WAIT_S)


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise BadFrame(f"a window of {value!r:.40}")
    return value
