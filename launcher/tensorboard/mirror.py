"""Copies a living run's event files into a scratch folder as they grow; what the other side says is not believed.

The files are read where they lie, from where the last look ended. A file that became shorter, or begins
otherwise than before, is copied anew under another name, because TensorBoard goes on in what it has opened.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from launcher.agent import records
from launcher.errors import IntegrityError, LauncherError
from launcher.target import Folder, Range

EVENTS = "*tfevents*"
MAX_FILES = 1000  # of one segment
MAX_BYTES = 2 << 30  # of one segment
PIECE_BYTES = 4 << 20  # of one file in one look
LOOK_BYTES = 64 << 20
HEAD_BYTES = 64  # an event file begins with the time of its creation
MAX_NAME_BYTES = 200
MAX_DEPTH = 16
APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC

Seen = tuple[int, float]  # size and time of change of a file there


@dataclass
class _Copy:
    """What is here of one file there; `seen` is how that was at the last look."""

    place: Path
    number: int = 0  # of names that it has had before
    size: int = 0
    head: bytes = b""
    seen: Seen = (0, 0.0)


@dataclass(frozen=True)
class Look:
    """What one look found: something new; more of it, to be brought at once; too much, left out for good."""

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
        pieces = self._pieces(wanted)
        heads = [Range(f"{records.OUT}/{path}", 0, len(self._copies[path].head)) for path in pieces]
        bodies = [Range(f"{records.OUT}/{path}", self._copies[path].size, n) for path, n in pieces.items()]
        got = _collect(source, [*heads, *bodies]) if pieces else []
        moved = [self._take(*one) for one in zip(pieces, got, got[len(heads) :], strict=False)]
        for path, seen in wanted.items():
            self._copies[path].seen = seen
        more = any(self._copies[path].size < seen[0] for path, seen in wanted.items())
        return Look(bool(pieces), more and any(moved), full)

    def metrics_now(self) -> Path | None:
        """Where metrics.jsonl is here, if the segment wrote one."""
        copy = self._copies.get(records.METRICS)
        return copy.place if copy and copy.size else None

    def _wanted(self, found: Iterable[tuple[str, int, float]]) -> tuple[dict[str, Seen], bool]:
        """The files that changed since the last look, and whether some are left out."""
        wanted, full = {}, self._total >= MAX_BYTES
        for path, size, time in found:
            if not _harmless(path) or (path not in self._copies and len(self._copies) >= MAX_FILES):
                full = True
                continue
            if path not in self._copies or size < self._copies[path].size:
                self._begin(path)
            copy = self._copies[path]
            if copy.size < size or copy.seen != (size, time):
                wanted[path] = (size, time)
        return wanted, full

    def _pieces(self, wanted: dict[str, Seen]) -> dict[str, int]:
        """How many bytes are read of each file this time; 0 for one whose beginning is looked at only."""
        room = min(LOOK_BYTES, MAX_BYTES - self._total)
        pieces = {}
        for path, (size, _) in wanted.items():
            piece = max(0, min(size - self._copies[path].size, PIECE_BYTES, room))
            if piece or self._copies[path].size:
                pieces[path] = piece
                room -= piece
        return pieces

    def _take(self, path: str, head: bytes, body: bytes) -> bool:
        """Whether there is something more to expect at once."""
        copy = self._copies[path]
        if head != copy.head:
            self._begin(path)
            return True
        if not body or not _append(copy.place, body):
            return False
        copy.head = (copy.head + body)[:HEAD_BYTES]
        copy.size += len(body)
        self._total += len(body)
        return True

    def _begin(self, path: str) -> None:
        """From its first byte, under a name that nothing had; what had the path until now goes."""
        before = self._copies.get(path)
        base = self.metrics if path == records.METRICS else self.folder / path
        place, number = base, 0
        if before:
            before.place.unlink(missing_ok=True)
            self._total -= before.size
            number = before.number + 1
            place = base.with_name(f"{base.name}.{number}")
        while os.path.lexists(place):  # of an earlier segment; never written to, it may be a link
            place.unlink()
            number += 1
            place = base.with_name(f"{base.name}.{number}")
        self._copies[path] = _Copy(place, number)


def _append(place: Path, data: bytes) -> bool:
    """False where a file that is here has become a folder there, or the other way round."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(os.open(place, APPEND, 0o600), "ab") as file:
            file.write(data)
        return True
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        return False
    except OSError as error:
        raise LauncherError(
            f"cannot write to {place.parent}: {error.strerror}", "free some space there, or set TMPDIR"
        ) from error


def _harmless(path: str) -> bool:
    """A path that stays below the folder, with names that any disk can hold; of metrics only the job's own."""
    parts = path.split("/")
    if len(parts) > MAX_DEPTH or (parts[-1] == records.METRICS and len(parts) > 1):
        return False
    return all(
        part not in ("", ".", "..") and part.isprintable() and len(os.fsencode(part)) <= MAX_NAME_BYTES
        for part in parts
    )


def _collect(source: Folder, ranges: Sequence[Range]) -> list[bytes]:
    """The bytes of each range; never more than were asked for."""
    got = [bytearray() for _ in ranges]
    for index, data in source.read(ranges):
        if not 0 <= index < len(ranges) or len(got[index]) + len(data) > (ranges[index].length or 0):
            raise IntegrityError("the machine sent more than it was asked for", "is this server yours?")
        got[index] += data
    return [bytes(one) for one in got]
