"""Files on this machine, for the client: look, list, read many at once, link, remove (not: write)."""

import os
import shutil
import stat as modes

from launcher.agent import frames
from launcher.agent.operation import Failure

SMALL_BYTES = 128 << 10
FRAME_BYTES = 256 << 10  # what a cut connection loses is at most one frame
BATCH_BYTES = 256 << 10
MAX_ENTRIES = 500000
NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


def have(operation):
    """Which of the files are there, regular and of that size."""
    return {"have": [_has(operation.root, path, size) for path, size in operation.args["files"]]}


def stat(operation):
    """What a path is; the error `missing` if it is nothing."""
    info = os.lstat(within(operation.root, operation.args["path"]))
    return {
        "kind": _kind(info.st_mode),
        "size": info.st_size,
        "mode": modes.S_IMODE(info.st_mode),
        "mtime": info.st_mtime,
        "uid": info.st_uid,
    }


def list(operation):
    """[path, kind, size, mtime] of all below a folder, `depth` levels deep; links are not followed.

    `match`: patterns as of a shell, only for what has a last name that fits one.
    """
    folder = within(operation.root, operation.args["path"])
    patterns = operation.args.get("match")
    found, truncated = [], False
    for entry in _walk(folder, "", int(operation.args.get("depth", 1))):
        operation.check()
        if patterns is not None and not _fits(entry[0], patterns):
            continue
        if len(found) >= MAX_ENTRIES:
            truncated = True
            break
        found.append(entry)
    return {"entries": found, "truncated": truncated}


def mkdir(operation):
    os.makedirs(below(operation.root, operation.args["path"]), mode=0o700, exist_ok=True)


def remove(operation):
    """A file or a whole folder below the root; nothing there is no error."""
    path = below(operation.root, operation.args["path"])
    if not os.path.lexists(path) or (operation.args.get("only_empty") and os.listdir(path)):
        return {"removed": False}
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, onerror=_unlock_and_retry)
    else:
        os.unlink(path)
    return {"removed": True}


def link(operation):
    """The same file under a second name (a hard link where possible, else a copy); replaces what is there."""
    source = within(operation.root, operation.args["from"])
    target = below(operation.root, operation.args["to"])
    if not modes.S_ISREG(os.lstat(source).st_mode):
        raise Failure("bad", "not a regular file: %s" % source)
    os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
    temporary = "%s.%d-%d.tmp" % (target, os.getpid(), operation.id)
    try:
        os.link(source, temporary)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, temporary)
    os.replace(temporary, target)
    if os.path.lexists(temporary):
        os.unlink(temporary)  # rename of two links to the same file does nothing


def read(operation):
    """Bytes of many ranges, in order; a file that is not there, or is not regular, yields nothing."""
    batch = _Batch(operation)
    sizes = [_read_range(batch, index, wanted) for index, wanted in enumerate(operation.args["ranges"])]
    batch.flush()
    return {"sizes": sizes}


def within(root, path):
    """The absolute path that a client's path means."""
    if not isinstance(path, str) or not path or "\0" in path:
        raise Failure("bad", "not a path: %.80r" % (path,))
    return os.path.join(root, path)


def below(root, path):
    """As `within`, but only for what really lies below the root: no `..`, no link that leads out."""
    full = os.path.normpath(within(root, path))
    home = os.path.realpath(root)
    real = os.path.join(os.path.realpath(os.path.dirname(full)), os.path.basename(full))
    if not real.startswith(home.rstrip("/") + "/"):
        raise Failure("denied", "outside %s: %.200s" % (root, path))
    return real


class _Batch:
    """Small pieces go out together: one write for many files."""

    def __init__(self, operation):
        self.operation = operation
        self._buffers = []
        self._cost = 0

    def add(self, index, data):
        self._buffers += frames.encode({"id": self.operation.id, "i": index}, data)
        self._cost += len(data) + frames.FRAME_COST
        if self._cost >= BATCH_BYTES or len(self._buffers) >= 500:
            self.flush()

    def flush(self):
        if self._buffers:
            self.operation.send_frames(self._buffers, self._cost)
        self._buffers, self._cost = [], 0


def _read_range(batch, index, wanted):
    path, offset, length = wanted
    try:
        fd = os.open(within(batch.operation.root, path), os.O_RDONLY | NO_FOLLOW)
    except OSError as error:
        if _gone(error):
            return None
        raise
    try:
        info = os.fstat(fd)
        if not modes.S_ISREG(info.st_mode):
            return None
        stop = info.st_size if length is None else min(info.st_size, offset + length)
        _send_range(batch, index, (fd, max(0, offset), stop))
        return info.st_size
    finally:
        os.close(fd)


def _send_range(batch, index, part):
    fd, offset, stop = part
    if 0 < stop - offset <= SMALL_BYTES:
        data = os.pread(fd, stop - offset, offset)
        if data:
            batch.add(index, data)
        return
    batch.flush()
    while offset < stop:
        size = min(FRAME_BYTES, stop - offset)
        if not batch.operation.send_file(fd, offset, size, i=index):
            raise Failure("failed", "a file became shorter while it was read")
        offset += size


def _gone(error):
    import errno

    return error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.EISDIR)


def _has(root, path, size):
    try:
        info = os.lstat(within(root, path))
    except OSError:
        return False
    return modes.S_ISREG(info.st_mode) and (size is None or info.st_size == size)


def _walk(folder, prefix, depth):
    with os.scandir(folder) as entries:
        entries = sorted(entries, key=lambda entry: entry.name)
    for entry in entries:
        try:
            info = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        path = prefix + entry.name
        yield [path, _kind(info.st_mode), info.st_size, info.st_mtime]
        if depth > 1 and modes.S_ISDIR(info.st_mode):
            for deeper in _walk(entry.path, path + "/", depth - 1):
                yield deeper


def _fits(path, patterns):
    import fnmatch

    name = path.rpartition("/")[2]
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _kind(mode):
    if modes.S_ISREG(mode):
        return "file"
    if modes.S_ISDIR(mode):
        return "folder"
    return "link" if modes.S_ISLNK(mode) else "other"


def _unlock_and_retry(act, path, error):
    """A job may leave folders without the write bit; they are ours all the same."""
    if isinstance(error[1], FileNotFoundError):
        return
    for where in (os.path.dirname(path), path):
        if os.path.isdir(where) and not os.path.islink(where):
            os.chmod(where, 0o700)
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)
