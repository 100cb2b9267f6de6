"""What a channel has received and nobody has read yet, as a queue of pieces.

paramiko keeps it in one array, from whose front each read deletes: with a backlog of megabytes every read moves
them all, the reader falls behind, and the backlog stays. Here reading costs the same whatever waits.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from paramiko.buffered_pipe import BufferedPipe


class PieceBuffer(BufferedPipe):  # type: ignore[type-arg]
    """Set as `channel.in_buffer` before the first byte can arrive."""

    def __init__(self) -> None:
        super().__init__()
        self._buffer: Any = _Pieces()

    def _buffer_frombytes(self, data: bytes) -> None:
        self._buffer.append(data)

    def _buffer_tobytes(self, limit: int | None = None) -> bytes:
        return self._buffer.take(limit)  # type: ignore[no-any-return]


class _Pieces:
    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __delitem__(self, part: slice) -> None:
        """BufferedPipe deletes what it has just taken: that is done already."""

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
