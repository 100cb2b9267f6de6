"""Waiting for a condition."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(met: Callable[[], bool], timeout_s: float = 120.0) -> None:
    """AssertionError after the timeout."""
    deadline = time.monotonic() + timeout_s
    while not met():
        assert time.monotonic() < deadline, f"waited {timeout_s} s in vain"
        time.sleep(0.01)
