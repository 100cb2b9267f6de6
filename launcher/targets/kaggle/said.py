"""What a session prints, put back together: lines of log and metrics byte for byte, and the notebook's words (pure).

The events of a live log end anywhere; lines count. `launcher.agent.notebook` says what they look like.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from launcher.agent import records

METRICS = f"{records.OUT}/{records.METRICS}"
SEQ = re.compile(r'\{"v":\d+,"seq":(\d+),')
METRICS_MARK = "launcher:metrics "
SESSION_MARK = "launcher: session "
ENDED_MARK = "launcher: ended "
OURS = "launcher: "
MAX_LINE = 1 << 20  # beyond what any event of ours needs


class Said:
    """`take` gives (path, whole lines) for records.LOG, METRICS and records.SAID.

    A log line that was there before is left out; after a missing one no further is given: the outputs have
    them all. `session` is the number by which the session can be cancelled, `words` the last own words.
    """

    def __init__(self, first_seq: int = 1) -> None:
        self.session = ""
        self.words = ""
        self.began = False  # anything at all was said
        self._next = first_seq
        self._first = first_seq
        self._rest = {"stdout": "", "stderr": ""}

    @property
    def ran(self) -> bool:
        """The agent wrote a first line."""
        return self._next > self._first

    def take(self, stream: str, text: str) -> Iterator[tuple[str, bytes]]:
        """What these further characters complete, neighbours of one kind together."""
        self.began = True
        stream = stream or "stdout"
        stream = stream if stream in self._rest else "stderr"
        *lines, rest = (self._rest[stream] + text).split("\n")
        self._rest[stream] = rest[-MAX_LINE:]
        path, found = "", list[bytes]()
        for line in lines:
            kind, data = self._sort(line, stream)
            if kind != path and found:
                yield path, b"".join(found)
                found = []
            path = kind
            if data:
                found.append(data)
        if found:
            yield path, b"".join(found)

    def _sort(self, line: str, stream: str) -> tuple[str, bytes]:
        if stream == "stdout" and (match := SEQ.match(line)):
            return records.LOG, self._numbered(int(match[1]), line)
        if stream == "stdout" and line.startswith(METRICS_MARK):
            return METRICS, _bytes(line[len(METRICS_MARK) :])
        if line.startswith(SESSION_MARK):
            number = line[len(SESSION_MARK) :].strip()
            self.session = number if number.isdecimal() else ""
            return records.SAID, b""
        if line.startswith(ENDED_MARK):
            return records.SAID, b""
        if line.startswith(OURS):
            line = self.words = line[len(OURS) :].strip()
        return records.SAID, _bytes(line)

    def _numbered(self, seq: int, line: str) -> bytes:
        if seq != self._next:
            return b""
        self._next += 1
        return _bytes(line)


def _bytes(line: str) -> bytes:
    return line.encode("utf-8", "replace") + b"\n"
