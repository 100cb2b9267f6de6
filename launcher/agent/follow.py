"""Follow: send what files of a segment's folder grow by, the moment they grow, until the segment has ended.

On Linux the kernel tells of every write (inotify); elsewhere the files are looked at every 20 ms.
"""

import os
import select
import time

from launcher.agent import frames, inotify, records
from launcher.agent.operation import Failure
from launcher.agent.segment import alive, container
from launcher.agent.steward_files import NO_FOLLOW, within

LOOK_S = 1.0
ENGINE_LOOK_S = 1.0
ENDING_S = 0.02
POLL_S = 0.02
QUIET_S = 4.0
RUNNING = ("created", "running", "restarting", "paused", "removing")


def follow(operation):
    """{"ended":true,"exit":bool} when the segment is over and every byte was sent.

    An empty frame of path "" goes out first, and every few seconds: somebody watches.
    """
    folder = within(operation.root, operation.args["folder"])
    if not os.path.isdir(folder):
        raise Failure("missing", "no such folder: %s" % folder)
    tails = [_Tail(folder, path, int(offset)) for path, offset in operation.args["offsets"].items()]
    watch = _listen(folder)
    operation.on_cancel(watch.wake)
    end = _End(folder, operation.args.get("container"))
    quiet = time.monotonic() + QUIET_S
    try:
        operation.send(path="")
        while True:
            operation.check()
            watch.add(tails)
            _send(operation, tails)
            how = end.look(watch.stirred)
            if how is not None:
                watch.add(tails)
                _send(operation, tails)
                return {"ended": True, "exit": how}
            if time.monotonic() >= quiet:
                operation.send(path="")
                quiet = time.monotonic() + QUIET_S
            watch.wait(end.patience_s)
    finally:
        operation.on_cancel(lambda: None)
        watch.close()
        for tail in tails:
            tail.close()


def _listen(folder):
    watch = inotify.open_watch()
    return _Poll() if watch is None else _Told(watch, folder)


class _Tail:
    """One file and how far it was sent; it may not exist yet."""

    def __init__(self, folder, path, offset):
        self.path = path
        self.full = os.path.join(folder, path)
        self.offset = offset
        self.fd = None

    def open(self):
        """Whether the file is open now and was not before."""
        if self.fd is not None:
            return False
        try:
            self.fd = os.open(self.full, os.O_RDONLY | NO_FOLLOW)
        except OSError:
            return False
        return True

    def read(self):
        return os.pread(self.fd, frames.MAX_PAYLOAD, self.offset) if self.fd is not None else b""

    def close(self):
        if self.fd is not None:
            os.close(self.fd)


def _send(operation, tails):
    for tail in tails:
        data = tail.read()
        while data:
            operation.send(data, path=tail.path)
            tail.offset += len(data)
            data = tail.read() if len(data) == frames.MAX_PAYLOAD else b""


class _End:
    """Whether a segment is over: True with an exit record, False without one, None while it is not."""

    def __init__(self, folder, name):
        self._folder = folder
        self._name = name
        self._exit = os.path.join(folder, records.EXIT)
        self._state = os.path.join(folder, records.STATE)
        self._next = self._next_engine = 0.0
        self._running = False
        self.patience_s = LOOK_S

    def look(self, stirred):
        now = time.monotonic()
        if not stirred and now < self._next:
            return None
        self._next = now + self.patience_s
        leaving = os.path.exists(self._exit)
        self.patience_s = ENDING_S if leaving else LOOK_S
        if alive(self._folder):
            return None
        if not os.path.exists(self._exit) and self._contained(now):
            return None
        return os.path.exists(self._exit)

    def _contained(self, now):
        """Whether an agent may yet come to life in the container. One that has lived has left its state, and
        its free lock says all: then the engine, which may be what died, is not asked."""
        if not self._name or os.path.exists(self._state):
            return False
        if now >= self._next_engine:
            self._next_engine = now + ENGINE_LOOK_S
            state = container(self._name)
            self._running = state is not None and state["status"] in RUNNING
        return self._running


class _Wakeable:
    """A pipe that ends a wait from another thread."""

    stirred = True

    def __init__(self):
        self._woken, self._waker = os.pipe()

    def wake(self):
        os.write(self._waker, b"x")

    def close(self):
        os.close(self._woken)
        os.close(self._waker)


class _Poll(_Wakeable):
    """Where nobody tells us, look often."""

    def add(self, tails):
        for tail in tails:
            tail.open()

    def wait(self, timeout_s):
        select.select([self._woken], [], [], POLL_S)
        self.stirred = False


class _Told(_Wakeable):
    """Hears of the files themselves growing, and of new names in the folders that they (will) lie in."""

    def __init__(self, watch, folder):
        super().__init__()
        self._watch = watch
        self._folders = {}
        self._add_folder(folder)

    def add(self, tails):
        for tail in tails:
            if tail.fd is None:
                self._add_folder(os.path.dirname(tail.full))
                if tail.open():
                    self._watch.add_open_file(tail.fd)

    def wait(self, timeout_s):
        """Until something happened; `stirred` then says whether names changed (and not only files grew)."""
        ready = select.select([self._watch.fd, self._woken], [], [], timeout_s)[0]
        events = self._watch.read() if self._watch.fd in ready else ()
        self.stirred = any(mask & ~inotify.MODIFY for _, mask, _ in events)

    def close(self):
        self._watch.close()
        super().close()

    def _add_folder(self, path):
        if self._folders.get(path) is None:
            mask = inotify.CREATE | inotify.MOVED_TO | inotify.CLOSE_WRITE
            self._folders[path] = self._watch.add(path, mask)
