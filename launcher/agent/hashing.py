"""Hash files and folders as they stand: regular files only, and never a file that changes under the hash."""

import errno
import hashlib
import os
import stat

CHUNK = 1024 * 1024
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0) | os.O_NONBLOCK  # a FIFO must not stop us


class Changed(Exception):
    """It was written, replaced or removed meanwhile."""


def look(path):
    """(what kind of thing, its signature): kind is file, folder, or the reason why it cannot travel."""
    entry = os.lstat(path)
    kind = kind_of(entry.st_mode)
    if kind != "folder":
        return kind, (entry.st_ino, entry.st_size, entry.st_mtime_ns)
    return kind, (
        entry.st_ino,
        *tuple((inner, look(os.path.join(path, inner))[1]) for inner, _ in walk(path)),
    )


def same_or_less(old, new):
    """Whether a signature is the old one, or that of the same folder with files gone and nothing else changed."""
    if old is None or old[0] != new[0]:
        return False
    return old == new or (isinstance(old[-1], tuple) and set(new) < set(old))


def kind_of(mode):
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "folder"
    return "a link" if stat.S_ISLNK(mode) else "a FIFO" if stat.S_ISFIFO(mode) else "a device or socket"


def walk(folder):
    """(path relative to it, kind) of all below `folder` but folders, sorted; links are never followed."""
    found = []
    layer = [""]
    while layer:
        below = layer.pop()
        with os.scandir(os.path.join(folder, below) if below else folder) as entries:
            for entry in entries:
                inner = os.path.join(below, entry.name) if below else entry.name
                kind = kind_of(entry.stat(follow_symlinks=False).st_mode)
                if kind == "folder":
                    layer.append(inner)
                else:
                    found.append((inner, kind))
    return sorted(found)


def hash_file(path, told=None):
    """(size, hex SHA-256) of a regular file; raises Changed when it did not hold still. `told(count)`: so much more."""
    try:
        fd = os.open(path, _FLAGS)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO):  # gone, or now a link or a socket
            raise Changed(path) from None
        raise
    with os.fdopen(fd, "rb", buffering=0) as file:
        before = os.fstat(fd)
        if not stat.S_ISREG(before.st_mode):
            raise Changed(path)
        digest = hashlib.sha256()
        size = 0
        buffer = memoryview(bytearray(min(CHUNK, before.st_size + 1)))
        for count in iter(lambda: file.readinto(buffer), 0):
            digest.update(buffer[:count])
            size += count
            if told is not None:
                told(count)
            if size > before.st_size:
                break
        if _identity(os.fstat(fd)) != _identity(before) or size != before.st_size:
            raise Changed(path)
    return size, digest.hexdigest()


def _identity(entry):
    return entry.st_ino, entry.st_size, entry.st_mtime_ns
