"""One request to the steward under way: its arguments, what the client still sends, and the way back."""

import collections
import threading

from launcher.agent import frames

SPARE = 2 << 20  # the request itself may bring bytes that it did not have to ask for


class Failure(Exception):
    """The request cannot be done: code is missing, exists, denied, full, bad, docker or failed."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


class Cancelled(Exception):
    """The client does not want the answer any more, or is gone."""


class Operation:
    """What the function of one request is given. Its thread calls send and uploads; the server the rest."""

    def __init__(self, server, number, args):
        self.id = number
        self.args = args
        self.root = server.root
        self._server = server
        self._changed = threading.Condition()
        self._credit = min(int(args.pop("window", frames.WINDOW)), frames.WINDOW)
        self._inbox = collections.deque()
        self._inbox_cost = 0
        self._uploaded = not args.pop("more", False)
        self._cancelled = False
        self._on_cancel = None

    # For the function of the request.

    def send(self, payload=b"", **keys):
        """One data frame; waits while the client has too much unread."""
        self.send_frames(frames.encode(dict(keys, id=self.id), payload), len(payload) + frames.FRAME_COST)

    def send_frames(self, buffers, cost):
        """Frames already encoded, in one write."""
        self._spend(cost)
        self._server.write(buffers)

    def send_file(self, fd, offset, size, **keys):
        """One data frame with bytes of a file, without carrying them through Python where the system can.

        False when the file was shorter: the frame is then filled up with zeros.
        """
        self._spend(size + frames.FRAME_COST)
        return self._server.write_file(frames.encode(dict(keys, id=self.id, n=size)), (fd, offset, size))

    def uploads(self):
        """The bytes that the client sends for this request, until it says that these are all."""
        while True:
            with self._changed:
                while not (self._inbox or self._uploaded or self._cancelled):
                    self._changed.wait()
                if self._cancelled:
                    raise Cancelled()
                if not self._inbox:
                    return
                piece = self._inbox.popleft()
                self._inbox_cost -= len(piece) + frames.FRAME_COST
            self._server.write(frames.encode({"id": self.id, "window": len(piece) + frames.FRAME_COST}))
            yield piece

    def payload(self):
        """All that the client sends, for small things."""
        return b"".join(self.uploads())

    def on_cancel(self, act):
        """Have `act()` called (from another thread) when the client cancels; at once if it has."""
        with self._changed:
            self._on_cancel = act
            if not self._cancelled:
                return
        act()

    def linger(self, work):
        """Have `work()` done after the answer; the server, when it ends, gives it a little time."""
        self._server.linger(work)

    @property
    def cancelled(self):
        return self._cancelled

    def check(self):
        if self._cancelled:
            raise Cancelled()

    # For the server.

    def granted(self, count):
        with self._changed:
            self._credit += count
            self._changed.notify_all()

    def received(self, payload, last):
        with self._changed:
            if payload:
                self._inbox.append(payload)
                self._inbox_cost += len(payload) + frames.FRAME_COST
            if self._inbox_cost > frames.WINDOW + SPARE:
                raise frames.BadFrame("more bytes than were asked for")
            self._uploaded = self._uploaded or last
            self._changed.notify_all()

    def cancel(self):
        with self._changed:
            self._cancelled = True
            self._changed.notify_all()
            act = self._on_cancel
        if act is not None:
            act()

    def _spend(self, count):
        with self._changed:
            while self._credit < count and not self._cancelled:
                self._changed.wait()
            self.check()
            self._credit -= count
