"""A segment's folder on this disk, as somebody downloaded it: read like a stranger's, never through a link."""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from launcher.errors import IntegrityError, LauncherError, Refused, RemoteError
from launcher.target import Range
from launcher.vault import disk

BLOCK_BYTES = 1 << 20
FIND_DEPTH = 16
FIND_MOST = 100_000
NO_FILE = (errno.ELOOP, errno.ENOTDIR, errno.ENXIO, errno.EISDIR)


class DiskFolder:
    """`launcher.target.Folder` over a folder here in which nothing happens any more."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, wanted: Sequence[Range]) -> Iterator[tuple[int, bytes]]:
        for index, one in enumerate(wanted):
            yield from ((index, block) for block in self._blocks(one))

    def find(self, path: str, patterns: Sequence[str]) -> list[tuple[str, int, float]]:
        found: list[tuple[str, int, float]] = []
        with self._root() as root, contextlib.suppress(FileNotFoundError, NotADirectoryError):
            with disk.folder(root, _parts(path)) as top:
                for where, names, files, fd in os.fwalk(".", dir_fd=top, follow_symlinks=False):
                    if where.count("/") >= FIND_DEPTH:
                        names.clear()
                    for name in files:
                        if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns):
                            found += _entry(fd, f"{where}/{name}"[2:], name)
                    if len(found) > FIND_MOST:
                        raise IntegrityError(f"{self.path} has more files than any job writes")
        return found

    def follow(self, offsets: Mapping[str, int]) -> Iterator[tuple[str, bytes]]:
        """What is there from the offsets on, and then the end."""
        paths = list(offsets)
        for index, data in self.read([Range(path, offsets[path]) for path in paths]):
            yield paths[index], data

    def put(self, path: str, data: bytes) -> None:
        raise Refused(f"{self.path} is what was downloaded: nothing runs there")

    def size(self, path: str) -> int | None:
        """Bytes of a regular file; None when there is no such file."""
        try:
            with self._opened(path) as fd:
                return os.fstat(fd).st_size
        except FileNotFoundError:
            return None

    def _blocks(self, wanted: Range) -> Iterator[bytes]:
        try:
            with self._opened(wanted.path) as fd:
                at, left = wanted.offset, wanted.length
                while left is None or left > 0:
                    block = os.pread(fd, min(BLOCK_BYTES, left or BLOCK_BYTES), at)
                    if not block:
                        return
                    at, left = at + len(block), None if left is None else left - len(block)
                    yield block
        except FileNotFoundError:
            return

    @contextlib.contextmanager
    def _opened(self, path: str) -> Iterator[int]:
        """A regular file below the folder. FileNotFoundError when it is not there."""
        *parents, name = _parts(path)
        with self._root() as root:
            try:
                with disk.folder(root, parents) as parent:
                    fd = disk.open_file(parent, name, os.O_RDONLY)
            except FileNotFoundError:
                raise
            except OSError as e:
                raise self._trouble(path, e) from e
            try:
                yield fd
            finally:
                os.close(fd)

    @contextlib.contextmanager
    def _root(self) -> Iterator[int]:
        try:
            root = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        except (FileNotFoundError, NotADirectoryError) as e:
            gone = RemoteError(f"{self.path} is gone", "name the folder again with --from-folder")
            gone.code = "missing"
            raise gone from e
        except OSError as e:
            raise self._trouble("", e) from e
        try:
            yield root
        finally:
            os.close(root)

    def _trouble(self, path: str, error: OSError) -> LauncherError:
        where = self.path / path
        if error.errno in NO_FILE:
            return IntegrityError(f"{where} is no regular file, or lies behind a link", "download it again")
        return LauncherError(f"cannot read {where}: {error.strerror}", "is it yours to read?")


def _parts(path: str) -> tuple[str, ...]:
    parts = tuple(path.split("/"))
    if "\0" in path or any(part in ("", ".", "..") for part in parts):
        raise IntegrityError(f"{path!r} is not a path below the folder")
    return parts


def _entry(fd: int, path: str, name: str) -> list[tuple[str, int, float]]:
    if disk.kind_of(fd, name) != "file":
        return []
    found = os.stat(name, dir_fd=fd, follow_symlinks=False)
    return [(path, found.st_size, found.st_mtime)]
