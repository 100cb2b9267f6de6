"""Copies a living run's event files into a scratch folder as they grow; what the other side says is not believed.

The files are read where they lie, from where the last look ended. A file that became shorter, or begins
otherwise than before, is copied anew under another name, because TensorBoard goes on in what it has opened.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from launcher.agent import records
from launcher.errors import IntegrityError, LauncherError
from launcher.target import Folder, Range

EVENTS = "*tfevents*"
MAX_FILES = 1000  # of one run
MAX_BYTES = 2 << 30  # of one run
PIECE_BYTES = 4 << 20  # of one file in one look
LOOK_BYTES = 64 << 20
HEAD_BYTES = 64  # an event file begins with the time of its creation
MAX_NAME_BYTES = 200
MAX_DEPTH = 16


@dataclass
class _Copy:
    """What is here of one file there. `seen`: its size and time when it was looked at last."""

    path: Path
    size: int = 0
    head: bytes = b""
    seen: tuple[int, float] = (0, 0.0)
    number: int = 0  # how often it began anew


@dataclass(frozen=True)
class Look:
    """What one look brought: `more`: there is more already; `full`: something was left out for good."""

    changed: bool
    more: bool
    full: bool


@dataclass
class Mirror:
    """One segment. Event files go below `folder` by their path in $LAUNCHER_OUT, metrics.jsonl to `metrics`."""

    folder: Path
    metrics: Path
    _copies: dict[str, _Copy] = field(default_factory=dict)
    _total: int = 0

    def look(self, source: Folder) -> Look:
        """One look at the folder there; at most LOOK_BYTES are brought."""
        found = source.find(records.OUT, [EVENTS, records.METRICS])
        wanted, full = self._wanted(found)
        pieces = list(self._pieces(wanted))
        heads = [Range(f"{records.OUT}/{path}", 0, len(self._copies[path].head)) for path, _ in pieces]
        bodies = [Range(f"{records.OUT}/{path}", self._copies[path].size, n) for path, n in pieces]
        got = _collect(source, [*heads, *bodies]) if pieces else []
        for (path, _), head, body in zip(pieces, got, got[len(heads) :], strict=False):
            self._take(self._copies[path], head, body)
        for path, seen in wanted:
            self._copies[path].seen = seen
        more = any(self._copies[path].size < seen[0] for path, seen in wanted)
        return Look(bool(pieces), more and not full, full)

    def paths(self) -> set[str]:
        """The event files that are here, by their path in $LAUNCHER_OUT."""
        return {path for path, copy in self._copies.items() if copy.size and path != records.METRICS}

    def metrics_now(self) -> Path | None:
        """Where the newest copy of metrics.jsonl is."""
        copy = self._copies.get(records.METRICS)
        return copy.path if copy and copy.size else None

    def _wanted(
        self, found: Iterable[tuple[str, int, float]]
    ) -> tuple[list[tuple[str, tuple[int, float]]], bool]:
        """Files that changed since the last look, and whether some are left out."""
        wanted, full = [], False
        for path, size, time in found:
            if not _harmless(path) or (path not in self._copies and len(self._copies) >= MAX_FILES):
                full = True
                continue
            copy = self._copies.setdefault(path, _Copy(self._place(path, 0)))
            if size < copy.size:
                self._anew(path, copy)
            if copy.size < size or copy.seen != (size, time):
                wanted.append((path, (size, time)))
        return wanted, full or self._total >= MAX_BYTES

    def _pieces(self, wanted: Iterable[tuple[str, tuple[int, float]]]) -> Iterator[tuple[str, int]]:
        """(path, bytes to read) of what is read this time."""
        room = min(LOOK_BYTES, MAX_BYTES - self._total)
        for path, (size, _) in wanted:
            piece = min(size - self._copies[path].size, PIECE_BYTES, room)
            if piece or self._copies[path].size:
                room -= piece
                yield path, piece

    def _take(self, copy: _Copy, head: bytes, body: bytes) -> None:
        path = next(path for path, one in self._copies.items() if one is copy)
        if head != copy.head:
            self._anew(path, copy)
            return
        try:
            copy.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with open(copy.path, "ab") as file:
                file.write(body)
        except (FileExistsError, NotADirectoryError):  # a file there became a folder
            return
        except OSError as error:
            raise LauncherError(f"cannot write to {copy.path.parent}: {error.strerror}") from error
        copy.head = (copy.head + body)[:HEAD_BYTES]
        copy.size += len(body)
        self._total += len(body)

    def _anew(self, path: str, copy: _Copy) -> None:
        copy.path.unlink(missing_ok=True)
        self._total -= copy.size
        self._copies[path] = _Copy(self._place(path, copy.number + 1), number=copy.number + 1)

    def _place(self, path: str, number: int) -> Path:
        place = self.metrics if path == records.METRICS else self.folder / path
        return place.with_name(f"{place.name}.{number}") if number else place


def _harmless(path: str) -> bool:
    """A path that stays below the folder, with names that any disk can hold."""
    parts = path.split("/")
    if len(parts) > MAX_DEPTH or (parts[-1] == records.METRICS and len(parts) > 1):
        return False
    return all(
        part not in ("", ".", "..") and part.isprintable() and len(os.fsencode(part)) <= MAX_NAME_BYTES
        for part in parts
    )


def _collect(source: Folder, ranges: list[Range]) -> list[bytes]:
    """The bytes of each range; never more than were asked for."""
    got = [bytearray() for _ in ranges]
    for index, data in source.read(ranges):
        if not 0 <= index < len(ranges) or len(got[index]) + len(data) > (ranges[index].length or 0):
            raise IntegrityError("the machine sent more than it was asked for", "is this server yours?")
        got[index] += data
    return [bytes(one) for one in got]
