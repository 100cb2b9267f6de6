"""The run's log at home: appended line by checked line, closed segment by segment, never with a gap."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from pathlib import Path

from launcher.agent import records
from launcher.errors import IntegrityError
from launcher.vault import logsearch
from launcher.vault.appender import Appender
from launcher.vault.loglines import check


class Log:
    """log.jsonl and late.<k>.jsonl in the folder `fd`, for the one process that may write them.

    Lines of a segment below `closed` came too late for the log: they go to that segment's late file.
    """

    def __init__(self, fd: int, path: Path, closed: int) -> None:
        self._folder, self._path, self.closed = fd, path, closed
        self._lock = threading.Lock()
        self._files: dict[str, Appender] = {}
        self._last: dict[str, tuple[int, int]] = {}  # name -> (seq, segment) of the last line
        self._open(records.LOG)

    @property
    def size(self) -> int:
        return self._files[records.LOG].size

    @property
    def last_seq(self) -> int:
        return self._last[records.LOG][0]

    def append(self, raw: bytes, segment: int) -> int:
        """Take the complete lines of `raw`; says how many bytes they were: the rest is the caller's to keep.

        IntegrityError for a line that is not the next one of this segment; those before it are home by then.
        """
        with self._lock:
            name = self._name(segment)
            file = self._open(name)
            first = self._next_seq(name, segment)
            good = check(raw, segment, first)
            if good.count:
                file.append(raw[: good.size])
                self._last[name] = (first + good.count - 1, segment)
            if good.wrong:
                raise IntegrityError(
                    f"the log of segment {segment} goes wrong at line {first + good.count}: {good.wrong}",
                    f"what came before is in {self._path}; look at the log on the server",
                )
            return good.size

    def position(self, segment: int) -> int:
        """How many bytes of this segment's log are home: where to read on in its own log.jsonl."""
        with self._lock:
            start, end = self._bounds(segment)
            return end - start + self._late_size(segment)

    def digest(self, segment: int) -> tuple[int, str]:
        """Bytes and SHA-256 of what is home of this segment's log."""
        with self._lock:
            start, end = self._bounds(segment)
            digest = hashlib.sha256()
            _hash(digest, self._files[records.LOG].fd, start, end)
            late = self._late_size(segment)
            if late:
                _hash(digest, self._open(_late(segment)).fd, 0, late)
            return end - start + late, digest.hexdigest()

    def close_below(self, segment: int) -> None:
        with self._lock:
            self.closed = max(self.closed, segment)
            self._files[records.LOG].sync()

    def sync(self) -> None:
        for file in list(self._files.values()):
            file.sync()

    def close(self) -> None:
        with self._lock, contextlib.ExitStack() as stack:
            for file in self._files.values():
                stack.callback(file.close)

    def _name(self, segment: int) -> str:
        late = segment < self.closed or segment < self._last[records.LOG][1]
        return _late(segment) if late else records.LOG

    def _next_seq(self, name: str, segment: int) -> int:
        if name == records.LOG or self._last[name][0]:
            return self._last[name][0] + 1
        _, end = self._bounds(segment)
        return logsearch.last_seq_before(self._files[records.LOG].fd, end) + 1

    def _bounds(self, segment: int) -> tuple[int, int]:
        """Where this segment's lines begin and end in log.jsonl."""
        fd, end = self._files[records.LOG].fd, self.size
        return logsearch.start_of(fd, end, segment), logsearch.start_of(fd, end, segment + 1)

    def _late_size(self, segment: int) -> int:
        there = (self._path / _late(segment)).exists()
        return self._open(_late(segment)).size if there else 0

    def _open(self, name: str) -> Appender:
        if name not in self._files:
            file = self._files[name] = Appender(self._folder, name, self._path / name)
            end, seq, segment = logsearch.end_of(file.fd)
            file.truncate(end)
            self._last[name] = (seq, segment)
        return self._files[name]


def tail(path: Path, position: int, limit: int = 1 << 20) -> tuple[int, bytes]:
    """The position behind, and complete lines from `position` on, about `limit` bytes; for onlookers."""
    try:
        with path.open("rb") as file:
            file.seek(position)
            block = file.read(limit)
            block += file.readline() if len(block) == limit else b""
    except FileNotFoundError:
        return position, b""
    block = block[: block.rfind(b"\n") + 1]
    return position + len(block), block


def last_seq(path: Path) -> int:
    """The number of the last complete line of a log; 0 when there is none."""
    try:
        with path.open("rb") as file:
            return logsearch.end_of(file.fileno())[1]
    except FileNotFoundError:
        return 0


def times(path: Path, segment: int) -> tuple[str | None, str | None]:
    """When the first and the last line that is home of a segment were written; None for none."""
    try:
        with path.open("rb") as file:
            return logsearch.times(file.fileno(), segment)
    except FileNotFoundError:
        return None, None


def _late(segment: int) -> str:
    return f"late.{segment}.jsonl"


def _hash(digest: hashlib._Hash, fd: int, start: int, end: int) -> None:
    while start < end:
        block = os.pread(fd, min(1 << 20, end - start), start)
        if not block:
            raise IntegrityError("the log at home became shorter while it was read")
        digest.update(block)
        start += len(block)
