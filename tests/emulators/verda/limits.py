"""Requests: all are counted, and too many in a minute are refused as the API's documentation says."""

from __future__ import annotations

import collections
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

WINDOW_S = 60.0
PROJECT = 500
ENDPOINT = 60
LISTINGS = 120  # GET /instances and GET /volumes


@dataclass(frozen=True)
class Asked:
    """One request as it came; `path` is what follows `/v1`, without its query."""

    method: str
    path: str
    query: str
    body: object
    moment: float  # of the clock by which requests are limited
    status: int = 0  # of the answer, 0 if it was lost


class Limits:
    """Sliding windows of a minute, for the project and for each method and path."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.asked: list[Asked] = []
        self._windows: dict[str, collections.deque[float]] = collections.defaultdict(collections.deque)
        self._peaks: dict[str, int] = collections.defaultdict(int)
        self._lock = threading.Lock()

    def note(self, one: Asked) -> None:
        with self._lock:
            self.asked.append(one)

    def enter(self, method: str, path: str) -> tuple[dict[str, str], float]:
        """The headers of the answer, and the seconds to wait if this request is one too many."""
        most = most_of(method, path)
        with self._lock:
            now = self.clock()
            project, endpoint = self._used("", now), self._used(f"{method} {path}", now)
            wait_s = max(self._wait("", PROJECT, now), self._wait(f"{method} {path}", most, now))
            if wait_s:
                self._forget("", f"{method} {path}")  # what is refused does not count for later ones
        reset = math.ceil(wait_s or WINDOW_S)
        left = f'"project";r={max(0, PROJECT - project)};t={reset}'
        headers = {
            "RateLimit-Policy": f'"project";q={PROJECT};w=60, "endpoint";q={most};w=60',
            "RateLimit": f'{left}, "endpoint";r={max(0, most - endpoint)};t={reset}',
        }
        return headers, wait_s

    def peak(self, method: str = "", path: str = "") -> int:
        """The most requests within a minute: of the project, or of one method and path."""
        return self._peaks[f"{method} {path}" if method else ""]

    def _used(self, name: str, now: float) -> int:
        window = self._windows[name]
        while window and window[0] <= now - WINDOW_S:
            window.popleft()
        window.append(now)
        self._peaks[name] = max(self._peaks[name], len(window))
        return len(window)

    def _forget(self, *names: str) -> None:
        for name in names:
            self._windows[name].pop()

    def _wait(self, name: str, most: int, now: float) -> float:
        window = self._windows[name]
        return window[len(window) - most] + WINDOW_S - now if len(window) > most else 0.0


def most_of(method: str, path: str) -> int:
    """How many requests a minute this method and path may have."""
    return LISTINGS if (method, path) in (("GET", "/instances"), ("GET", "/volumes")) else ENDPOINT
