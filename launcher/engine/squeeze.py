"""Compresses on all cores: gzip members one behind the other, which every reader takes for one file."""

from __future__ import annotations

import gzip
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

MEMBER_BYTES = 4 << 20
LEVEL = 1  # a link has to be faster than 50 MB/s a core before this costs time
COMPRESSED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ")


class Squeezer:
    """A file to write to, as a context; `sink` gets the compressed bytes."""

    def __init__(self, sink: Callable[[bytes], object]) -> None:
        self._sink = sink
        self._pending = bytearray()
        self._members: deque[Future[bytes]] = deque()
        self._cores = os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(self._cores)

    def __enter__(self) -> Squeezer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._begin(bytes(self._pending))
                self._drain(0)
        finally:
            self._pool.shutdown(cancel_futures=True)

    def write(self, data: bytes) -> int:
        self._pending += data
        while len(self._pending) >= MEMBER_BYTES:
            self._begin(bytes(self._pending[:MEMBER_BYTES]))
            del self._pending[:MEMBER_BYTES]
        return len(data)

    def _begin(self, block: bytes) -> None:
        self._members.append(self._pool.submit(gzip.compress, block, LEVEL, mtime=0))
        self._drain(2 * self._cores)

    def _drain(self, most: int) -> None:
        while len(self._members) > most:
            self._sink(self._members.popleft().result())
