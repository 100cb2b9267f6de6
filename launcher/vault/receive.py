"""Bytes from a stranger to a hidden file: no more than announced, hashed on the way, gone on with later."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path

from launcher.errors import IntegrityError
from launcher.run import File
from launcher.vault import disk

BLOCK_BYTES = 1 << 20
SMALL_BYTES = 1 << 20  # such files are synced together, before they get their names
MANY = 8  # so many that the whole file system is synced instead
FLUSH_BYTES = 8 << 20

# Asked for (path in $LAUNCHER_OUT, first byte) of files, it yields (index into these, bytes), in their order.
Reader = Callable[[Sequence[tuple[str, int]]], Iterable[tuple[int, bytes]]]


class Inbox:
    """The folder of partial files, each named by the SHA-256 that it should have."""

    def __init__(self, fd: int, path: Path) -> None:
        self.fd, self._path = fd, path
        self._unsynced: list[str] = []

    def size(self, file: File) -> int:
        """How much of `file` is here from an earlier try."""
        try:
            found = os.stat(file.sha256, dir_fd=self.fd, follow_symlinks=False).st_size
        except FileNotFoundError:
            return 0
        return found if found <= file.size_bytes else 0

    def receive(self, files: Sequence[File], reader: Reader) -> Iterator[File]:
        """Yield each file (of different content) once it lies here whole and verified.

        One that was gone on with and turns out wrong is fetched once more from its start: the earlier bytes
        may be the wrong ones.
        """
        resumed = {file.sha256 for file in files if self.size(file)}
        wrong = yield from self._round(files, reader)
        for file in wrong:
            self.discard(file)
        if stubborn := [file for file in wrong if file.sha256 not in resumed]:
            raise _not_it(stubborn[0], "its SHA-256 is another")
        if wrong and (still := (yield from self._round(wrong, reader))):
            self.discard(still[0])
            raise _not_it(still[0], "its SHA-256 is another")

    def adopt(self, file: File, source: Path) -> bool:
        """Copy from what is home already; False (and nothing here) if that turns out not to be it."""
        self.discard(file)
        try:
            with source.open("rb") as there, _Partial(self, file) as partial:
                while block := there.read(BLOCK_BYTES):
                    partial.take(block)
                same = partial.right()
        except (IntegrityError, FileNotFoundError):
            same = False
        if not same:
            self.discard(file)
        return same

    def take(self, file: File) -> bytes:
        """The bytes of a verified small file, which is gone from here then."""
        with self.trouble():
            fd = disk.open_file(self.fd, file.sha256, os.O_RDONLY)
            with os.fdopen(fd, "rb") as verified:
                data = verified.read()
        self.discard(file)
        return data

    def discard(self, file: File) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(file.sha256, dir_fd=self.fd)

    def _round(self, files: Sequence[File], reader: Reader) -> Generator[File, None, list[File]]:
        """Yields the files that came right, returns those whose bytes are all here and wrong."""
        wanted = [file for file in files if self.size(file) < file.size_bytes]
        offsets = [self.size(file) for file in wanted]
        self._check_room(sum(file.size_bytes for file in wanted) - sum(offsets))
        asked = [(file.path, offset) for file, offset in zip(wanted, offsets, strict=True)]
        places = {file.sha256: index for index, file in enumerate(wanted)}
        wrong: list[File] = []
        with contextlib.closing(_Stream(reader(asked) if asked else ())) as stream:
            for file in files:
                with _Partial(self, file) as partial:
                    if file.sha256 in places:
                        for block in stream.blocks_of(places[file.sha256]):
                            partial.take(block)
                    right = partial.right()
                if right:
                    yield file
                else:
                    wrong.append(file)
        return wrong

    def sync_later(self, file: File) -> None:
        self._unsynced.append(file.sha256)

    def settle(self) -> None:
        """Small files that came: onto the disk, many of them with one call."""
        names, self._unsynced = self._unsynced, []
        with self.trouble():
            if len(names) >= MANY and disk.sync_file_system(self.fd):
                return
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    fd = disk.open_file(self.fd, name, os.O_RDONLY)
                    try:
                        os.fsync(fd)
                    finally:
                        os.close(fd)

    def _check_room(self, needed_bytes: int) -> None:
        if needed_bytes > 0 and needed_bytes > disk.free_bytes(self.fd):
            raise disk.full(self._path, needed_bytes)

    def trouble(self) -> contextlib.AbstractContextManager[None]:
        return disk.trouble(self._path)


class _Partial:
    """One partial file while bytes are added to it."""

    def __init__(self, inbox: Inbox, file: File) -> None:
        self._inbox, self._file = inbox, file
        self._size = 0
        self._digest = hashlib.sha256()
        if not inbox.size(file):
            inbox.discard(file)  # longer than it may be
        with inbox.trouble():
            self._fd = disk.open_file(inbox.fd, file.sha256, os.O_RDWR | os.O_CREAT)
            while block := os.read(self._fd, BLOCK_BYTES):
                self._digest.update(block)
                self._size += len(block)

    def take(self, block: bytes) -> None:
        if self._size + len(block) > self._file.size_bytes:
            self._inbox.discard(self._file)
            raise _not_it(self._file, f"more than {self._file.size_bytes} bytes came")
        with self._inbox.trouble():
            disk.write_all(self._fd, block)
            self._start_writing(len(block))
        self._digest.update(block)
        self._size += len(block)

    def right(self) -> bool:
        """All bytes are here, and on the disk: are they the announced ones?"""
        if self._size < self._file.size_bytes:
            raise _not_it(self._file, f"it ended after {self._size} of {self._file.size_bytes} bytes")
        if self._size < SMALL_BYTES:
            self._inbox.sync_later(self._file)
        else:
            with self._inbox.trouble():
                os.fsync(self._fd)
        return self._digest.hexdigest() == self._file.sha256

    def _start_writing(self, size: int) -> None:
        """Have the system write to the disk while more comes: the sync at the end then has little left to do."""
        before, now = self._size // FLUSH_BYTES, (self._size + size) // FLUSH_BYTES
        if now > before and hasattr(os, "posix_fadvise"):  # on Linux this advice begins to write dirty pages
            length = (now - before) * FLUSH_BYTES
            os.posix_fadvise(self._fd, before * FLUSH_BYTES, length, os.POSIX_FADV_DONTNEED)

    def __enter__(self) -> _Partial:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


class _Stream:
    """The reader's answer, taken apart file by file."""

    def __init__(self, blocks: Iterable[tuple[int, bytes]]) -> None:
        self._blocks = iter(blocks)
        self._next: tuple[int, bytes] | None = next(self._blocks, None)

    def blocks_of(self, index: int) -> Iterator[bytes]:
        while self._next is not None and self._next[0] <= index:
            if self._next[0] != index:
                raise IntegrityError("files came in another order than they were asked for")
            yield self._next[1]
            self._next = next(self._blocks, None)

    def close(self) -> None:
        close = getattr(self._blocks, "close", None)
        if close:
            close()


def _not_it(file: File, why: str) -> IntegrityError:
    hint = "it was replaced or deleted there meanwhile, or damaged on the way: run the command again"
    return IntegrityError(f"{file.path} is not the announced file: {why}", hint)
