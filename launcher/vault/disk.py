"""Every touch of a home folder, from one open folder downwards: no link in it can lead outside."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from launcher.errors import LauncherError

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
HIDDEN = ".launcher"  # ours in every run's folder: lock, index, partial files


@contextlib.contextmanager
def trouble(path: str | Path) -> Iterator[None]:
    """What the system says about `path`, as one clear error."""
    try:
        yield
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT):
            raise full(path) from e
        if e.errno in (errno.ELOOP, errno.ENOTDIR):
            hint = "remove it: launcher writes nothing through links in a run's folder"
            raise LauncherError(f"a link or a file is in the way in {path}", hint) from e
        raise LauncherError(
            f"cannot write {path}: {e.strerror}", "is the disk there and yours to write?"
        ) from e


def full(path: str | Path, needed_bytes: int = 0) -> LauncherError:
    """The disk that holds `path` has no room."""
    place = _nearest(path)
    found = os.statvfs(place)
    while not place.is_mount():
        place = place.parent
    free_mb = found.f_bavail * found.f_frsize / 1e6
    what = (
        "has no room for more files" if found.f_files and not found.f_favail else f"has {free_mb:.1f} MB left"
    )
    wants = f", {needed_bytes / 1e6:.1f} MB are needed" if needed_bytes else ""
    return LauncherError(
        f"the disk at {place} is full: it {what}{wants}",
        "free some space and run the command again: what has come is kept and not fetched twice",
    )


def check_room(path: Path, needed_bytes: int) -> None:
    """Raise `full` unless the disk on which `path` is or would be has room."""
    with trouble(path):
        found = os.statvfs(_nearest(path))
    if found.f_bavail * found.f_frsize < needed_bytes:
        raise full(path, needed_bytes)


def _nearest(path: str | Path) -> Path:
    """`path`, or the first folder above it that is there."""
    place = Path(path).absolute()
    while not place.exists():
        place = place.parent
    return place


def free_bytes(fd: int) -> int:
    found = os.fstatvfs(fd)
    return found.f_bavail * found.f_frsize


def sync_file_system(fd: int) -> bool:
    """Everything written to the disk of `fd` is on it now; False where a system has no call for that."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "syncfs"):
        return False
    if libc.syncfs(fd) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return True


@contextlib.contextmanager
def folder(root: int, parts: Sequence[str], create: bool = False) -> Iterator[int]:
    """The folder `parts` below the open folder `root`, opened step by step and never through a link."""
    fd = os.dup(root)
    try:
        for part in parts:
            if create:
                make_folder(fd, part)
            below = os.open(part, FOLDER, dir_fd=fd)
            os.close(fd)
            fd = below
        yield fd
    finally:
        os.close(fd)


def make_folder(fd: int, name: str) -> None:
    """`name` in the open folder, durably; no error when it is there."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=fd)
        os.fsync(fd)


def open_file(fd: int, name: str, flags: int) -> int:
    """A regular file in the open folder; ELOOP for a link, and a FIFO or device never blocks or opens."""
    opened = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600, dir_fd=fd)
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        raise OSError(errno.ENOTDIR, "not a regular file", name)
    return opened


def kind_of(fd: int, name: str) -> str:
    """`file`, `folder`, `other` or nothing."""
    try:
        mode = os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return ""
    return "file" if stat.S_ISREG(mode) else "folder" if stat.S_ISDIR(mode) else "other"


def write_file(fd: int, name: str, data: bytes, hidden: int) -> None:
    """Replace a small file whole and durably; it is written in the open folder `hidden` first."""
    temporary = f"{name}.{os.getpid()}.tmp"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary, dir_fd=hidden)
    opened = open_file(hidden, temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        write_all(opened, data)
        os.fsync(opened)
    finally:
        os.close(opened)
    os.rename(temporary, name, src_dir_fd=hidden, dst_dir_fd=fd)
    os.fsync(fd)


def write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def copy(source: int, name: str, target: int, new_name: str) -> None:
    """Copy a file from one open folder to another, durably."""
    read = open_file(source, name, os.O_RDONLY)
    try:
        write = open_file(target, new_name, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            while block := os.read(read, 1 << 20):
                write_all(write, block)
            os.fsync(write)
        finally:
            os.close(write)
    finally:
        os.close(read)


def remove_tree(fd: int, name: str) -> None:
    """Remove a file or a folder with all that is in it; links are removed, never followed."""
    if kind_of(fd, name) != "folder":
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=fd)
        return
    below = os.open(name, FOLDER, dir_fd=fd)
    try:
        for entry in os.listdir(below):
            remove_tree(below, entry)
    finally:
        os.close(below)
    os.rmdir(name, dir_fd=fd)
