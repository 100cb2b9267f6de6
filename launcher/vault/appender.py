"""A file that only grows, on the disk within a second of each write."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from launcher.vault import disk

SYNC_S = 1.0


class Appender:
    """`name` in the open folder `fd`. Whole or not at all: what does not fit on the disk is taken back."""

    def __init__(self, fd: int, name: str, shown: Path) -> None:
        self._shown = shown
        with disk.trouble(shown):
            self.fd = disk.open_file(fd, name, os.O_RDWR | os.O_CREAT | os.O_APPEND)
            self.size = os.fstat(self.fd).st_size
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._failed: OSError | None = None

    def append(self, data: bytes) -> None:
        with self._lock, disk.trouble(self._shown):
            self._raise_failed()
            try:
                disk.write_all(self.fd, data)
            except OSError:
                os.ftruncate(self.fd, self.size)
                raise
            self.size += len(data)
            if self._timer is None:
                self._timer = threading.Timer(SYNC_S, self._sync_later)
                self._timer.daemon = True
                self._timer.start()

    def truncate(self, size: int) -> None:
        """Drop what is behind `size`: the torn end that a crash left."""
        if size < self.size:
            with self._lock, disk.trouble(self._shown):
                os.ftruncate(self.fd, size)
                os.fsync(self.fd)
                self.size = size

    def sync(self) -> None:
        with self._lock, disk.trouble(self._shown):
            self._raise_failed()
            if self._timer:
                self._timer.cancel()
                self._timer = None
                os.fsync(self.fd)

    def close(self) -> None:
        try:
            self.sync()
        finally:
            os.close(self.fd)
            self.fd = -1

    def _sync_later(self) -> None:
        with self._lock:
            if self._timer is None:
                return
            self._timer = None
            try:
                os.fsync(self.fd)
            except OSError as e:  # there is nobody here to tell: the next call will
                self._failed = e

    def _raise_failed(self) -> None:
        if self._failed:
            failed, self._failed = self._failed, None
            raise failed
