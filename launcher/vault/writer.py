"""The one process that may write a run's home: what it holds open while it has the lock."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from pathlib import Path

from launcher.errors import LauncherError
from launcher.vault import disk
from launcher.vault.appender import Appender
from launcher.vault.disk import HIDDEN
from launcher.vault.index import INDEX, Index, line_closed
from launcher.vault.keep import Keep
from launcher.vault.log import Log
from launcher.vault.metrics import Metrics
from launcher.vault.names import Names
from launcher.vault.place import Shelf
from launcher.vault.publish import Publisher
from launcher.vault.receive import Inbox

STALE_PARTIAL_S = 14 * 86400.0
UNFIT = (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.ENOENT, errno.ENOTSUP, errno.EACCES)


def make(path: Path) -> None:
    """The run's folder and our hidden one in it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
        with contextlib.suppress(FileExistsError):
            (path / HIDDEN).mkdir(mode=0o700)
    except FileExistsError as e:
        raise LauncherError(f"{e.filename} is not a folder", "choose another --out") from e
    except OSError as e:
        raise LauncherError(f"cannot make the folder {path}: {e.strerror}", "choose another --out") from e


def lock(path: Path, wait: bool) -> Writer | None:
    """The writer of this home; None when another has it and we do not `wait`."""
    make(path)
    stack = contextlib.ExitStack()
    with contextlib.ExitStack() as opened, disk.trouble(path):
        root = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        opened.callback(os.close, root)
        hidden = opened.enter_context(disk.folder(root, (HIDDEN,)))
        held = disk.open_file(hidden, "lock", os.O_RDWR | os.O_CREAT)
        opened.callback(os.close, held)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return None
        stack = opened.pop_all()
    try:
        return Writer(path, root, hidden, stack)
    except BaseException:
        stack.close()
        raise


class Writer:
    """Everything open; made only by `lock`. Mends on opening what a crash left half done."""

    def __init__(self, path: Path, root: int, hidden: int, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self._hidden = hidden
        with disk.trouble(path):
            verified = stack.enter_context(disk.folder(hidden, ("partial",), create=True))
            staging = stack.enter_context(disk.folder(hidden, ("staging",), create=True))
        self._lines = Appender(hidden, INDEX, path / HIDDEN / INDEX)
        stack.callback(self._lines.close)
        self._lines.truncate(_complete(self._lines))
        index = Index(path).load()
        self.log = Log(root, path, index.closed)
        stack.callback(self.log.close)
        self.metrics = Metrics(hidden, root, path / "metrics.jsonl")
        stack.callback(self.metrics.close)
        self.inbox = Inbox(verified, path)
        shelf = Shelf(root, verified, staging, path)
        shelf.recover(index.ever())
        for artifact in index.let_go():
            shelf.remove(artifact)
        paths = [(file.path, file.at) for artifact in index.ever() for file in artifact.files]
        names = Names(paths, lambda name: _holds(staging, name))
        self.publisher = Publisher(path, index, names, shelf, self.inbox, self._lines, self.metrics, "all")
        self._clear(STALE_PARTIAL_S)

    def close_segments(self, below: int) -> int:
        """Fence off all segments below: the log goes on with the next number. Returns the size of the log."""
        self.log.close_below(below)
        self._lines.append(line_closed(below))
        self._lines.sync()
        self.publisher.index.load()
        self._clear(0.0)
        return self.log.size

    def sync(self) -> None:
        self.log.sync()
        self.metrics.sync()

    def keep(self, keep: Keep) -> None:
        """Which checkpoints stay from now on."""
        self.publisher.keep = keep
        if keep != "all":
            self.publisher.let_go()

    def close(self) -> None:
        self._stack.close()

    def _clear(self, older_s: float) -> None:
        """Partial files that nobody went on with, and what an interrupted write left."""
        before = time.time() - older_s
        for name in os.listdir(self.inbox.fd):
            with contextlib.suppress(OSError):
                if os.stat(name, dir_fd=self.inbox.fd, follow_symlinks=False).st_mtime <= before:
                    os.unlink(name, dir_fd=self.inbox.fd)
        for name in os.listdir(self._hidden):
            if name.endswith(".tmp"):
                with contextlib.suppress(OSError):
                    os.unlink(name, dir_fd=self._hidden)


def _complete(lines: Appender) -> int:
    data = os.pread(lines.fd, lines.size, 0)
    return data.rfind(b"\n") + 1


def _holds(folder: int, name: str) -> bool:
    """Can this disk have a file of that name?"""
    try:
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600, dir_fd=folder))
        found = name in os.listdir(folder)
        os.unlink(name, dir_fd=folder)
        return found
    except (OSError, ValueError) as e:
        if isinstance(e, OSError) and e.errno not in UNFIT:
            raise
        return False
