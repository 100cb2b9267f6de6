"""The loop beside a running job: its bytes into the log at once, and every reason to stop it."""

import collections
import contextlib
import json
import os
import select
import time

from launcher.agent import ending, events, inotify, records

READ_BYTES = 256 * 1024
LOOK_S = 0.25  # for control/stop, without inotify
SLOW_LOOK_S = 2.0  # with it: in case the folder is a kind that tells nothing
WORDS_S = 2.0  # after which an unreadable control/stop counts as a plain one
_WHY = {
    ending.CANCEL: "asked to stop",
    ending.TIME: "the time limit is reached",
    ending.SESSION: "the session here is about to end",
    ending.STALL: "no log line, metric or checkpoint for too long",
    ending.SIGNAL: "the agent got SIGTERM",
    ending.DISK: "the log or the manifest cannot be written",
}


class Mailbox:
    """Words for the log from other threads, and a descriptor that wakes the one that writes it."""

    def __init__(self):
        self.fd, self.writer = os.pipe()
        for fd in (self.fd, self.writer):
            os.set_blocking(fd, False)
        self._texts = collections.deque()

    def say(self, text):
        self._texts.append(text)
        self.wake()

    def wake(self):
        with contextlib.suppress(BlockingIOError):  # then it is awake already
            os.write(self.writer, b"\0")

    def empty_into(self, log):
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 4096)
        while self._texts:
            log.say(self._texts.popleft())


class Control:
    """Notices control/stop, and how much grace it grants."""

    def __init__(self, segment):
        self._path = os.path.join(segment, records.STOP)
        self._folder = os.path.dirname(self._path)
        os.makedirs(self._folder, 0o700, exist_ok=True)
        self._watch = inotify.open_watch()
        if self._watch is not None:
            self._watch.add(self._folder, inotify.MOVED_TO | inotify.CREATE | inotify.CLOSE_WRITE)
        self.fds = [] if self._watch is None else [self._watch.fd]
        self.every_s = LOOK_S if self._watch is None else SLOW_LOOK_S
        self._known = None
        self._unreadable_since = None

    def look(self, now):
        """A request that was not seen yet, as {"grace_s"?, "why"?}; else None."""
        if self._watch is not None:
            self._watch.read()
        try:
            with open(self._path, "rb") as file:
                entry = os.fstat(file.fileno())
                identity = (entry.st_ino, entry.st_size, entry.st_mtime_ns)
                if identity == self._known:
                    return None
                request = json.loads(file.read(65536).decode("utf-8"))
        except OSError:
            return None
        except ValueError:  # it may be half written
            self._unreadable_since = self._unreadable_since or now
            if now - self._unreadable_since < WORDS_S:
                return None
            request = {}
        self._known = identity
        self._unreadable_since = None
        return request if isinstance(request, dict) else {}


class Watch:
    """Follows one job until nothing of it is left."""

    def __init__(self, parts):
        self.order = parts.order
        self.parts = parts
        self.stopped = None  # the first reason, which names the end
        self.kill_at = None
        self._killed = False
        self._control_at = 0.0
        self._streams = {
            parts.job.stdout: events.Stream(parts.log, events.STDOUT, parts.forms),
            parts.job.stderr: events.Stream(parts.log, events.STDERR, parts.forms),
        }
        self._limits = {}  # why -> when
        self._metrics = None
        self._active_at = None

    def run(self):
        """From the command's start to the end of its last process and last byte."""
        self._active_at = now = time.monotonic()
        self._limits = limits(self.order, self.parts.began, clock())
        while not self.parts.job.gone:
            self._hear(self._timeout(now))
            now = time.monotonic()
            self._check(now)
        self._drain()

    def stop(self, why, grace_s=None):
        """SIGTERM now, SIGKILL when the grace is over; of several requests the earliest end counts."""
        grace_s = self.order["grace_s"] if grace_s is None else grace_s
        kill_at = clock() + grace_s
        if self.stopped is None:
            self.stopped = why
            self.kill_at = kill_at
            self.parts.log.say("%s: SIGTERM sent, %g s to save and stop" % (_WHY[why], grace_s))
            self.parts.job.terminate()
        elif kill_at < self.kill_at:
            self.kill_at = kill_at

    def _hear(self, timeout_s):
        parts = self.parts
        fds = [parts.mailbox.fd, parts.job.reports, *list(self._streams), *parts.control.fds]
        ready = select.select(fds, [], [], timeout_s)[0]
        for fd in ready:
            if fd in self._streams:
                self._read(fd)
            elif fd == parts.job.reports:
                parts.job.hear()
            elif fd in parts.control.fds:
                self._control_at = 0.0
            else:
                parts.mailbox.empty_into(parts.log)

    def _read(self, fd):
        """One helping of a stream; whether there may be more."""
        try:
            data = os.read(fd, READ_BYTES)
        except BlockingIOError:
            return False
        if data:
            self._streams[fd].feed(data, time.monotonic())
        else:
            self._streams.pop(fd).end()
        return bool(data)

    def _check(self, now):
        """Everything that time, other threads or other people may want of us."""
        parts = self.parts
        for stream in self._streams.values():
            stream.tick(now)
        if parts.signalled:
            self.stop(ending.SIGNAL)
        if now >= self._control_at:
            self._control_at = now + parts.control.every_s
            request = parts.control.look(now)
            if request is not None:
                self.stop(reason(request), _grace(request))
        for why, at in sorted(self._limits.items(), key=lambda limit: limit[1]):
            if clock() >= at:
                del self._limits[why]
                self.stop(why)
        if parts.log.error is not None or parts.publisher.error is not None:
            self.stop(ending.DISK)
        if self.order["stall_s"] is not None and self.stopped is None:
            self._look_for_stall(now)
        if self.kill_at is not None and not self._killed and clock() >= self.kill_at:
            self._killed = True
            parts.log.say("the grace time is over: SIGKILL")
            parts.job.kill()

    def _look_for_stall(self, now):
        size = _size(os.path.join(self.parts.segment, records.OUT, records.METRICS))
        if size != self._metrics:
            self._metrics = size
            self._active_at = now
        signs = (self._active_at, self.parts.log.written_at, self.parts.publisher.published_at)
        self._active_at = max(sign for sign in (*signs, self.parts.heartbeat.busy_at) if sign is not None)
        if now - self._active_at >= self.order["stall_s"]:
            self.stop(ending.STALL)

    def _timeout(self, now):
        """Seconds until something is due; a sleep of the machine must not make that late, so never long."""
        due = [records.HEARTBEAT_S, self._control_at - now]
        due += [stream.silent_at - now for stream in self._streams.values() if stream.silent_at is not None]
        due += [
            at - clock()
            for at in (*self._limits.values(), None if self._killed else self.kill_at)
            if at is not None
        ]
        if self.order["stall_s"] is not None and self.stopped is None:
            due.append(min(1.0, self.order["stall_s"] / 4.0))
        return max(0.0, min(due))

    def _drain(self):
        """The job is gone: what its pipes still hold."""
        for fd in list(self._streams):
            while fd in self._streams and self._read(fd):
                pass
        for stream in self._streams.values():
            stream.end()  # somebody unkillable still holds the pipe
        self.parts.mailbox.empty_into(self.parts.log)


def limits(order, began, now):
    """When a job that starts now must stop, by reason: the run's limit counts from now, the session's from `began`."""
    found = {}
    if order["time_s"] is not None:
        found[ending.TIME] = now + order["time_s"]
    if order.get("session_s") is not None:
        found[ending.SESSION] = max(now, began + order["session_s"])
    return found


def clock():
    """Seconds that go on while the machine sleeps and never jump."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


def reason(request):
    return ending.TIME if request.get("why") == ending.TIME else ending.CANCEL


def _grace(request):
    value = request.get("grace_s")
    return max(0.0, float(value)) if isinstance(value, (int, float)) else None


def _size(path):
    try:
        return os.stat(path).st_size
    except OSError:
        return None
