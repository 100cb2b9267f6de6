"""A segment's log in a notebook's cell, line by line as the agent writes it, until the agent has ended."""

import json
import os
import sys
import time

from launcher.agent import events, records
from launcher.agent.segment import alive, record

POLL_S = 0.1
CHUNK = 1 << 20
SIGN_OF_LIFE_S = 30.0
NO_RECORD = 125


def follow(folder, show):
    """Print until the end; (state, exit code)."""
    tails = [
        _Tail(os.path.join(folder, events.log_name(0)), show.log),
        _Tail(os.path.join(folder, records.OUT, records.METRICS), show.metrics),
    ]
    while True:
        over = not alive(folder)
        moved = [tail.forward() for tail in tails]  # a list: each of them
        if over:
            end = record(folder, records.EXIT)
            return ("lost", NO_RECORD) if end is None else (str(end.get("state")), exit_code(end))
        show.tick()
        if not any(moved):
            time.sleep(POLL_S)


def exit_code(end):
    """The job's own, or what launcher ends with when there is none."""
    if isinstance(end.get("exit_code"), int):
        return end["exit_code"] & 0xFF
    return {"timed_out": 124, "preempted": 124, "cancelled": 137}.get(end.get("state"), NO_RECORD)


class Exact:
    """For a program: the lines as they are."""

    def log(self, lines):
        _write(lines)

    def metrics(self, lines):
        _write(b"".join(b"launcher:metrics %s\n" % line for line in lines.split(b"\n")[:-1]))

    def tick(self):
        pass


class Readable:
    """For a person: the text of the job and of the agent."""

    def log(self, lines):
        sys.stdout.write("".join(_text(line) for line in lines.split(b"\n")[:-1]))
        sys.stdout.flush()

    def metrics(self, lines):
        pass

    def tick(self):
        pass


class Quiet:
    """For a program that reads the files itself: how far the log is, and a sign of life."""

    def __init__(self):
        self._bytes = 0
        self._next = 0.0

    def log(self, lines):
        self._bytes += len(lines)
        self._tell()

    def metrics(self, lines):
        self._tell()

    def tick(self):
        if time.monotonic() >= self._next:
            self._tell()

    def _tell(self):
        self._next = time.monotonic() + SIGN_OF_LIFE_S
        _write(b"launcher:log %d\n" % self._bytes)


class _Tail:
    """The whole lines of a file that grows; it may not exist yet."""

    def __init__(self, path, show):
        self._path, self._show = path, show
        self._fd, self._rest = None, b""

    def forward(self):
        """Show what is new; whether there was any."""
        if self._fd is None:
            try:
                self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                return False
        moved = False
        while True:
            data = os.read(self._fd, CHUNK)
            if not data:
                return moved
            moved = True
            whole, newline, self._rest = (self._rest + data).rpartition(b"\n")
            if newline:
                self._show(whole + newline)


def _text(line):
    """What an event says; its bytes as far as they are text."""
    try:
        event = json.loads(line.decode("utf-8"))
        text = event["text"]
    except (ValueError, KeyError, TypeError):
        return ""
    if event.get("stream") == events.LAUNCHER:
        return "launcher: " + text
    return text


def _write(data):
    sys.stdout.write(data.decode("utf-8", "replace"))
    sys.stdout.flush()
