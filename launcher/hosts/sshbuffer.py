"""What a channel has received and nobody has read yet, as a queue of pieces.

paramiko keeps it in one array, from whose front each read deletes: with a backlog of megabytes every read moves
them all, the reader falls behind, and the backlog stays. Here reading costs the same whatever waits; and a reader
that needs many bytes anyway is not woken for each packet.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from paramiko.buffered_pipe import BufferedPipe, PipeTimeout

_Base: Any = BufferedPipe  # its stubs leave out what a subclass needs


class PieceBuffer(_Base):  # type: ignore[misc]
    """Set as `channel.in_buffer` before the first byte can arrive. `least`: how many bytes the next read awaits."""

    def __init__(self) -> None:
        super().__init__()
        self._buffer: Any = _Pieces()
        self.least = 1

    def feed(self, data: bytes) -> None:
        with self._lock:
            if self._event is not None:
                self._event.set()
            self._buffer.append(data)
            if len(self._buffer) >= self.least:
                self._cv.notify_all()

    def read(self, nbytes: int, timeout: float | None = None) -> bytes:
        """What is there, if not all of `least` comes in time; PipeTimeout if nothing does."""
        with self._lock:
            deadline = None if timeout is None else time.monotonic() + timeout
            while len(self._buffer) < self.least and not self._closed:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    break
                self._cv.wait(left)
            self.least = 1
            if not (len(self._buffer) or self._closed):
                raise PipeTimeout
            return self._take(nbytes)

    def empty(self) -> bytes:
        with self._lock:
            return self._take(None)

    def _take(self, limit: int | None) -> bytes:
        data: bytes = self._buffer.take(limit)
        if self._event is not None and not self._closed and not len(self._buffer):
            self._event.clear()
        return data


class _Pieces:
    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def append(self, data: bytes) -> None:
        self._pieces.append(data)
        self._size += len(data)

    def take(self, limit: int | None) -> bytes:
        """The first `limit` bytes, at most (None: all)."""
        wanted = self._size if limit is None else min(limit, self._size)
        self._size -= wanted
        taken = []
        while wanted:
            piece = self._pieces.popleft()
            if len(piece) > wanted:
                self._pieces.appendleft(piece[wanted:])
                piece = piece[:wanted]
            taken.append(piece)
            wanted -= len(piece)
        return taken[0] if len(taken) == 1 else b"".join(taken)
