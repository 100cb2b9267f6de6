"""The job's two streams, and the agent's own words, as numbered lines of log.jsonl.

An event ends at a newline, at 64 KiB, or after half a second of silence; the joined texts of a stream are its
bytes.
"""

import base64
import hashlib
import os
from json.encoder import encode_basestring as _quote

from launcher.agent import masking, records

LAUNCHER, STDOUT, STDERR = "launcher", "stdout", "stderr"


def log_name(rank):
    """Rank 0 writes log.jsonl, rank n log.<n>.jsonl."""
    return records.LOG if rank == 0 else "log.%d.jsonl" % rank


class Log:
    """The numbered log of one segment and rank: written by one thread, appended only."""

    def __init__(self, path, order):
        self.fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        self.size = 0
        self.last_seq = order["first_seq"] - 1
        self.error = None  # why it can no longer be written; lines that come then are lost and counted
        self.lost = None  # the first such reason: the log is not complete
        self.lost_bytes = 0
        self.written_at = None  # monotonic seconds of the last line of the job
        self._digest = hashlib.sha256()
        self._order = order
        self.forms = ()  # of secrets, for the agent's own words

    def say(self, text):
        """One line of the agent itself."""
        event = masking.mask(self.forms, text).encode("utf-8", "replace") + b"\n"
        self.append(LAUNCHER, [event])

    def append(self, stream, events):
        """Number these events (bytes each) and write them as lines."""
        lines = []
        when = records.utc()
        order = self._order
        for seq, event in enumerate(events, self.last_seq + 1):
            text, b64 = _readable(event)
            lines.append(records.log_line(seq, when, order["segment"], order["rank"], stream, text, b64))
        self._write(b"".join(lines), len(lines))

    def append_text(self, stream, lines):
        """The same for texts whose newline was taken off: the fast way (records.log_line, inlined)."""
        order = self._order
        head = ',"time":"%s","segment":%d,"rank":%d,"stream":"%s","text":' % (
            records.utc(),
            order["segment"],
            order["rank"],
            stream,
        )
        quote = _quote
        first = self.last_seq + 1
        data = "".join(
            [
                '{"v":1,"seq":%d%s%s\\n"}\n' % (seq, head, quote(line)[:-1])
                for seq, line in enumerate(lines, first)
            ]
        )
        self._write(data.encode("utf-8"), len(lines))

    def recover(self):
        """Room was made on the disk: write again, so that the log can say what happened."""
        self.error = None

    def digest(self):
        """{"size", "sha256"} of all that was written."""
        return {"size": self.size, "sha256": self._digest.hexdigest()}

    def sync(self):
        try:
            os.fsync(self.fd)
        except OSError as error:
            self._lose(error)

    def close(self):
        os.close(self.fd)

    def _write(self, data, count):
        """All of `data` or nothing: a log never ends in the middle of a line because the disk is full."""
        if self.error is None and count:
            try:
                _write_all(self.fd, data)
            except OSError as error:
                self._lose(error)
                os.ftruncate(self.fd, self.size)
            else:
                self._digest.update(data)
                self.size += len(data)
                self.last_seq += count
        if self.error is not None:
            self.lost_bytes += len(data)

    def _lose(self, error):
        self.error = error
        self.lost = self.lost or error


class Stream:
    """Cuts one stream of the job into events."""

    def __init__(self, log, name, forms=()):
        self.name = name
        self.silent_at = None  # monotonic time at which what waits becomes an event
        self._log = log
        self._masker = masking.Masker(forms)
        self._rest = b""  # of an event that has not ended
        self._waited = False  # half a character, for one silence

    def feed(self, data, now):
        """Bytes that just arrived."""
        self._log.written_at = now
        data = self._rest + self._masker.feed(data)
        end = data.rfind(b"\n") + 1
        self._rest = data[end:]
        if end:
            self._log_lines(data[:end])
        if len(self._rest) >= records.MAX_TEXT_BYTES:
            events, self._rest = _cut(self._rest)
            self._log.append(self.name, events)
        self._waited = False
        self.silent_at = now + records.SILENCE_S if self._rest else None

    def tick(self, now):
        """End the event that waits, if its stream has been silent; half a character waits once more."""
        if self.silent_at is None or now < self.silent_at:
            return
        tail = 0 if self._waited else _incomplete_tail(self._rest)
        event, self._rest = self._rest[: len(self._rest) - tail], self._rest[len(self._rest) - tail :]
        if event:
            self._log.append(self.name, [event])
        self._waited = True
        self.silent_at = now + records.SILENCE_S if self._rest else None

    def end(self):
        """The stream is over: what is left is its last event."""
        events, rest = _cut(self._rest + self._masker.flush())
        self._log.append(self.name, [*events, rest] if rest else events)
        self._rest = b""
        self.silent_at = None

    def _log_lines(self, data):
        """Whole lines; the fast way when all is short, valid text."""
        try:
            lines = data.decode("utf-8").split("\n")
        except UnicodeDecodeError:
            lines = None
        if lines is None or (
            len(data) > records.MAX_TEXT_BYTES and max(map(len, lines)) >= records.MAX_TEXT_BYTES // 4
        ):
            self._log.append(self.name, _cut(data)[0])
        else:
            lines.pop()
            self._log.append_text(self.name, lines)


def _cut(data):
    """(events, rest): `data` cut behind each newline and at 64 KiB, there not within a character."""
    events = []
    at = 0
    limit = records.MAX_TEXT_BYTES
    while at < len(data):
        end = data.find(b"\n", at, at + limit) + 1
        if not end:
            if len(data) - at < limit:
                break
            end = at + limit - _incomplete_tail(data[at + limit - 4 : at + limit])
        events.append(data[at:end])
        at = end
    return events, data[at:]


def _incomplete_tail(data):
    """How many bytes at the end of `data` begin a character that could still become whole."""
    for back in range(1, min(3, len(data)) + 1):
        if data[-back] & 0xC0 != 0x80:
            try:
                data[-back:].decode("utf-8")
            except UnicodeDecodeError as error:
                return back if error.reason == "unexpected end of data" else 0
            return 0
    return 0


def _readable(event):
    """(text, None), or (text with U+FFFD, base64 of the exact bytes) when they are not UTF-8."""
    try:
        return event.decode("utf-8"), None
    except UnicodeDecodeError:
        return event.decode("utf-8", "replace"), base64.b64encode(event).decode("ascii")


def _write_all(fd, data):
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
