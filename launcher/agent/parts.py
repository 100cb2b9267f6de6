"""What works together while a segment lives, and the room it needs on the disk."""

import contextlib
import hashlib
import os

from launcher.agent import events, inotify, process, publish, records, samples, watch

RESERVE_BYTES = 256 * 1024  # given back when the disk is full, so that the end can still be told
_RESERVE = ".reserve"


class Parts:
    """The job, its log and manifest, and all that watches them."""

    def __init__(self, segment, order):
        self.segment = segment
        self.order = order
        self.began = watch.clock()
        self.job = process.Job()  # first of all: it forks, and that must be before any thread
        self.mailbox = watch.Mailbox()
        self.control = watch.Control(segment)
        self.signalled = False
        self.forms = ()  # of secrets, longest first
        self.log = self.manifest = self.publisher = None
        self.started_at = records.utc()
        self.heartbeat = samples.Heartbeat(segment, self._first_state(), self._live)
        self.heartbeat.write()

    def open(self):
        """Everything that is written from now on."""
        self._reserve()
        name = events.log_name(self.order["rank"])
        self.log = events.Log(os.path.join(self.segment, name), self.order)
        self.manifest = publish.Manifest(os.path.join(self.segment, records.MANIFEST))
        out = os.path.join(self.segment, records.OUT)
        os.makedirs(out, 0o755, exist_ok=True)
        self.publisher = publish.Publisher(out, self.manifest, self.mailbox.say, inotify.open_watch())
        self.heartbeat.start()

    def hide(self, forms):
        """From now on these byte strings appear nowhere in the log."""
        self.forms = self.log.forms = forms

    def on_signal(self, *_):
        self.signalled = True

    def failure(self):
        """What kept the log or the manifest from being complete, or None."""
        log = None if self.log is None else self.log.lost
        return log or (None if self.publisher is None else self.publisher.error)

    def make_room(self):
        """Give the reserve back and try to write again."""
        self._give_back()
        if self.log is not None:
            self.log.recover()

    def close(self):
        """What exit.json says of the log and the manifest."""
        self._give_back()
        empty = {"size": 0, "sha256": hashlib.sha256().hexdigest()}
        last_seq = self.order["first_seq"] - 1
        if self.log is not None:
            self.log.close()
            last_seq = self.log.last_seq
        return {
            "last_seq": last_seq,
            "log": empty if self.log is None else self.log.digest(),
            "manifest": empty if self.manifest is None else self.manifest.digest(),
        }

    def _give_back(self):
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(self.segment, _RESERVE))

    def _reserve(self):
        fd = os.open(os.path.join(self.segment, _RESERVE), os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.posix_fallocate(fd, 0, RESERVE_BYTES)
        except (AttributeError, OSError):  # not on macOS, nor on every file system
            os.write(fd, b"\0" * RESERVE_BYTES)
        finally:
            os.close(fd)

    def _first_state(self):
        return {
            "v": records.VERSION,
            "run": self.order["run"],
            "segment": self.order["segment"],
            "phase": "starting",
            "pid": None,
            "session": None,
            "agent_pid": os.getpid(),
            "started_at": self.started_at,
            "heartbeat_at": None,
            "deadline": None,
            "last_seq": self.order["first_seq"] - 1,
            "log_bytes": 0,
            "gpu": [],
            "cpu_pct": 0.0,
            "rss_bytes": 0,
            "disk_free_bytes": samples.free_bytes(self.segment),
            "checkpoints": 0,
        }

    def _live(self):
        live = {} if self.log is None else {"last_seq": self.log.last_seq, "log_bytes": self.log.size}
        if self.publisher is not None:
            live["checkpoints"] = self.publisher.published
        return live
