"""metrics.jsonl at home: what the segments wrote, joined; a resumed one replaces the steps it takes again.

Each segment's own lines are kept in a hidden file, which says how much of it is home; metrics.jsonl is made
of them and can be made anew at any time, so a crash between the two costs nothing.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

from launcher.agent import records
from launcher.errors import IntegrityError
from launcher.vault import disk
from launcher.vault.appender import Appender

MAX_LINE_BYTES = 1 << 20
RAW = re.compile(r"metrics\.([0-9]+)\.jsonl")
STEP = re.compile(rb'\{"step": ?(-?[0-9]{1,15})[,}]')


def join(segments: Iterable[Sequence[bytes]]) -> list[bytes]:
    """Lines of earlier segments at or above a new one's first step are dropped; lines without a step stay."""
    joined: list[bytes] = []
    for lines in segments:
        first = next((found for line in lines if (found := step(line)) is not None), None)
        if first is not None:
            joined = [line for line in joined if (found := step(line)) is None or found < first]
        joined += lines
    return joined


def step(line: bytes) -> float | None:
    """The step of a metrics line, if it has one."""
    if match := STEP.match(line):
        return int(match[1])
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    found = value.get("step") if isinstance(value, dict) else None
    number = isinstance(found, int | float) and not isinstance(found, bool) and found == found
    return found if number else None


def raw_files(home: Path) -> dict[int, Path]:
    """The files of a home folder that hold each segment's own lines."""
    try:
        names = os.listdir(home / disk.HIDDEN)
    except OSError:
        return {}
    found = (RAW.fullmatch(name) for name in names)
    return {int(match[1]): home / disk.HIDDEN / match[0] for match in found if match}


class Metrics:
    """The metrics files of the one process that may write them: `hidden` and `folder` are open folders."""

    def __init__(self, hidden: int, folder: int, path: Path) -> None:
        self._hidden, self._folder, self._path = hidden, folder, path
        self._lock = threading.Lock()
        self._raw: dict[int, Appender] = {}
        self._stepped: dict[int, bool] = {}  # segment -> a line with a step has come
        self._joined: Appender | None = None
        if self._numbers():
            self._rebuild()

    def append(self, raw: bytes, segment: int) -> int:
        """Take the complete lines of `raw` and say how many bytes they were."""
        with self._lock:
            size = raw.rfind(b"\n") + 1
            if len(raw) - size > MAX_LINE_BYTES:
                hint = "write one JSON object a line"
                raise IntegrityError("metrics.jsonl has a line of more than 1 MiB", hint)
            if size:
                self._take(raw[:size], segment)
            return size

    def replace(self, data: bytes, segment: int) -> None:
        """The whole file of a segment, as it was at its end."""
        with self._lock:
            self._close(segment)
            with disk.trouble(self._path):
                ended = data if data.endswith(b"\n") or not data else data + b"\n"
                disk.write_file(self._hidden, _raw_name(segment), ended, self._hidden)
            self._rebuild()

    def position(self, segment: int) -> int:
        """How many bytes of this segment's metrics are home."""
        with self._lock:
            return self._open(segment).size if segment in self._numbers() else 0

    def sync(self) -> None:
        for file in [*self._raw.values(), *([self._joined] if self._joined else [])]:
            file.sync()

    def close(self) -> None:
        with self._lock:
            for segment in list(self._raw):
                self._close(segment)
            if self._joined:
                self._joined.close()
            self._joined = None

    def _take(self, lines: bytes, segment: int) -> None:
        self._open(segment).append(lines)
        first_step = not self._stepped[segment] and _has_step(_split(lines))
        self._stepped[segment] |= first_step
        if self._joined is None or first_step:  # it may replace steps of earlier segments
            self._rebuild()
        else:
            self._joined.append(lines)

    def _rebuild(self) -> None:
        """metrics.jsonl anew from the segments' files, replaced whole."""
        pieces = [self._lines(segment) for segment in self._numbers()]
        data = b"".join(join(pieces))
        if self._joined:
            self._joined.close()
            self._joined = None
        with disk.trouble(self._path):
            if not (self._path.is_file() and not self._path.is_symlink() and self._path.read_bytes() == data):
                disk.write_file(self._folder, records.METRICS, data, self._hidden)
        self._joined = Appender(self._folder, records.METRICS, self._path)

    def _lines(self, segment: int) -> list[bytes]:
        file = self._open(segment)
        with disk.trouble(self._path), open(file.fd, "rb", closefd=False) as raw:
            raw.seek(0)
            lines = _split(raw.read())
        self._stepped[segment] = _has_step(lines)
        return lines

    def _open(self, segment: int) -> Appender:
        if segment not in self._raw:
            file = self._raw[segment] = Appender(self._hidden, _raw_name(segment), self._path)
            self._stepped.setdefault(segment, False)
            file.truncate(_whole_lines(file))
        return self._raw[segment]

    def _close(self, segment: int) -> None:
        if segment in self._raw:
            self._raw.pop(segment).close()

    def _numbers(self) -> list[int]:
        """The segments that wrote metrics."""
        found = (RAW.fullmatch(name) for name in os.listdir(self._hidden))
        return sorted(int(match[1]) for match in found if match)


def _has_step(lines: Iterable[bytes]) -> bool:
    return any(step(line) is not None for line in lines)


def _split(data: bytes) -> list[bytes]:
    """Lines with their ends; at nothing but line feeds."""
    return [line + b"\n" for line in data.split(b"\n")[:-1]]


def _whole_lines(file: Appender) -> int:
    """How many bytes are complete lines: a crash may have torn the last one."""
    end = file.size
    while end:
        start = max(0, end - MAX_LINE_BYTES)
        found = os.pread(file.fd, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def _raw_name(segment: int) -> str:
    return f"metrics.{segment}.jsonl"
