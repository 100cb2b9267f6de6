"""Emulated time: faster than the wall clock, or moved by hand; and what is due at which moment."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

Due = Callable[[], None]


class Clock:
    """Seconds since 1970 that pass `scale` times faster than real ones; with scale 0 only by advance()."""

    def __init__(self, scale: float = 1.0, start: float | None = None) -> None:
        self.scale = scale
        self._base, self._since = time.time() if start is None else start, time.monotonic()
        self._lock = threading.Lock()

    def now(self) -> float:
        with self._lock:
            return self._base + (time.monotonic() - self._since) * self.scale

    def advance(self, seconds: float) -> None:
        """Jump forward."""
        with self._lock:
            self._base += seconds


class Agenda:
    """What is due when, earliest first."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Due]] = []
        self._numbers = itertools.count()

    def add(self, moment: float, due: Due) -> None:
        heapq.heappush(self._due, (moment, next(self._numbers), due))

    @property
    def next_moment(self) -> float:
        return self._due[0][0] if self._due else float("inf")

    def take(self) -> Due:
        return heapq.heappop(self._due)[2]


def iso(moment: float) -> str:
    """As the API writes times."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
