"""Finding one's way in a log of any length, by reading a few blocks of it."""

from __future__ import annotations

import json
import os

from launcher.errors import IntegrityError
from launcher.vault.loglines import numbers

BLOCK_BYTES = 64 << 10


def end_of(fd: int) -> tuple[int, int, int]:
    """(bytes, seq, segment) up to the last line that is complete and makes sense; zeros when there is none.

    After a power cut the last blocks may be missing or zeros: nothing counts but what ends in such a line.
    """
    end = _line_start(fd, os.fstat(fd).st_size)
    while end:
        start = _line_start(fd, end - 1)
        try:
            seq, segment = numbers(os.pread(fd, end - start, start))
            return end, seq, segment
        except IntegrityError:
            end = start
    return 0, 0, 0


def start_of(fd: int, end: int, segment: int) -> int:
    """Where the lines of `segment` or of a later one begin: segments follow each other, so by halving."""
    low, high = 0, end
    while low < high:
        middle = (low + high) // 2
        start = _next_start(fd, middle, end)
        if start >= end or _segment_at(fd, start, end) >= segment:
            high = middle
        else:
            low = middle + 1
    return _next_start(fd, low, end)


def last_seq_before(fd: int, end: int) -> int:
    """The number of the line that ends at `end`; 0 at the start of the file."""
    if not end:
        return 0
    start = _line_start(fd, end - 1)
    return numbers(os.pread(fd, end - start, start))[0]


def times(fd: int, segment: int) -> tuple[str | None, str | None]:
    """The times of the first and the last line of a segment; None when it has none."""
    whole = end_of(fd)[0]
    start, end = start_of(fd, whole, segment), start_of(fd, whole, segment + 1)
    if start >= end:
        return None, None
    last = _line_start(fd, end - 1)
    return _time_at(fd, start, end), _time_at(fd, last, end)


def _time_at(fd: int, start: int, end: int) -> str:
    return str(json.loads(os.pread(fd, _line_end(fd, start, end) - start, start))["time"])


def _segment_at(fd: int, start: int, end: int) -> int:
    return numbers(os.pread(fd, _line_end(fd, start, end) - start, start))[1]


def _next_start(fd: int, at: int, end: int) -> int:
    """Where the first line at or behind `at` begins."""
    return _line_end(fd, at - 1, end) if at else 0


def _line_start(fd: int, before: int) -> int:
    """Just behind the last line end among the first `before` bytes."""
    end = before
    while end > 0:
        start = max(0, end - BLOCK_BYTES)
        found = os.pread(fd, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def _line_end(fd: int, start: int, limit: int) -> int:
    """Just behind the first line end from `start` on."""
    at = start
    while at < limit:
        found = os.pread(fd, min(BLOCK_BYTES, limit - at), at).find(b"\n")
        if found >= 0:
            return at + found + 1
        at += BLOCK_BYTES
    return limit
