"""Contents of a data source to a machine: large ones alone and resumable, small ones together in one stream."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Generator, Iterator, Sequence
from typing import Any

from launcher.agent import datastore
from launcher.data.source import Entry, Source
from launcher.data.take import changed
from launcher.errors import RemoteError
from launcher.job.units import shown
from launcher.run import State
from launcher.target import Step
from launcher.targets.later import Later

SMALL_BYTES = 1 << 20
FRAME_BYTES = 1 << 20
STREAM_BYTES, STREAM_FILES = 64 << 20, 20_000  # after each stream the machine syncs its disk
TELL_S = 0.2
TRIES = 5


class _Changed(Exception):
    """A file is not what was recorded; its path is the argument."""


def send(steward: Any, source: Source, missing: Sequence[Entry]) -> Generator[Step, None, list[str]]:
    """Yields how far it is; the paths of files that turned out to be other than recorded."""
    total, done = sum(size for _, size, _ in missing), 0
    phase = f"data {source.key}"
    try:
        for group in _streams([entry for entry in missing if entry[1] <= SMALL_BYTES]):
            for sent in _send_small(steward, source, group):
                yield Step(
                    State.SYNCING, phase, count(len(missing)), done + min(sent, total - done), total + 1
                )
            done += sum(size for _, size, _ in group)
        for entry in missing:
            if entry[1] > SMALL_BYTES:
                large = Large(source.path_of(entry[0]), entry[1], entry[2])
                for sent in send_large(steward, large):
                    yield Step(State.SYNCING, phase, shown_path(entry[0]), done + sent, total + 1)
                done += entry[1]
    except _Changed as error:
        return list(error.args)
    except RemoteError as error:
        if error.code == "bad" and (wrong := changed(source, missing)):
            return wrong
        raise
    return []


class Large:
    """A file that travels alone."""

    def __init__(self, path: str, size: int, sha256: str) -> None:
        self.path, self.size, self.sha256 = path, size, sha256
        self.sent = 0

    def chunks(self, offset: int) -> Iterator[bytes]:
        self.sent = offset
        try:
            with open(self.path, "rb") as file:
                file.seek(offset)
                while (data := file.read(FRAME_BYTES)) and self.sent < self.size:
                    yield data
                    self.sent += len(data)
        except OSError as error:
            raise _Changed(self.path) from error


def send_large(steward: Any, large: Large) -> Iterator[int]:
    """The blob stands there; yields how many bytes went out. Goes on where a cut upload stopped."""
    for tries in range(1, TRIES + 1):
        offset = steward.call("partial", sha256=large.sha256)["offset"]
        offset = offset if type(offset) is int and 0 <= offset <= large.size else 0
        try:
            yield from _watched(steward, large, offset)
            return
        except RemoteError as error:  # another client sends the same, or the part there was harmed
            if error.code not in ("bad", "exists") or tries == TRIES or (error.code == "bad" and tries > 1):
                raise


def _watched(steward: Any, large: Large, offset: int) -> Iterator[int]:
    blob = {
        "path": f"data/blobs/{large.sha256}",
        "size": large.size,
        "sha256": large.sha256,
        "offset": offset,
    }
    modes = {"mode": datastore.FILE_MODE, "mtime_ns": datastore.WRITTEN_NS}
    work = Later(lambda: steward.call("put", large.chunks(offset), **blob, **modes))
    while not work.done(TELL_S):
        yield min(large.sent, large.size)
    work.result()


def _send_small(steward: Any, source: Source, group: Sequence[Entry]) -> Iterator[int]:
    announced = [[sha256, size] for _, size, sha256 in group]
    stream = steward.stream("data_put", _frames(source, group), files=announced)
    last = 0.0
    while True:
        try:
            header, _ = next(stream)
        except StopIteration as end:
            wrong = end.value.get("wrong")
            break
        if time.monotonic() - last >= TELL_S and type(header.get("done")) is int:
            last = time.monotonic()
            yield max(0, header["done"])
    if wrong:
        raise RemoteError(
            f"{steward.name} says that data {source.key} arrived as something else", "try again"
        )


def _frames(source: Source, group: Sequence[Entry]) -> Iterator[bytes]:
    """The contents one behind the other, in large pieces."""
    pieces: list[bytes] = []
    size = 0
    for entry in group:
        data = _read(source.path_of(entry[0]), entry)
        pieces.append(data)
        size += len(data)
        if size >= FRAME_BYTES:
            yield b"".join(pieces)
            pieces, size = [], 0
    if pieces:
        yield b"".join(pieces)


def _read(path: str, entry: Entry) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(fd, "rb") as file:
            data = file.read(SMALL_BYTES + 1)
    except OSError as error:
        raise _Changed(entry[0]) from error
    if len(data) != entry[1] or hashlib.sha256(data).hexdigest() != entry[2]:
        raise _Changed(entry[0])
    return data


def _streams(small: Sequence[Entry]) -> Iterator[list[Entry]]:
    group: list[Entry] = []
    size = 0
    for entry in small:
        group.append(entry)
        size += entry[1]
        if size >= STREAM_BYTES or len(group) >= STREAM_FILES:
            yield group
            group, size = [], 0
    if group:
        yield group


def figure(steward: Any, answer: Any, *keys: str | int) -> int:
    """A count in what the machine answered; a machine that says something else is told so."""
    for key in keys:
        good = isinstance(answer, list) if isinstance(key, int) else isinstance(answer, dict)
        answer = (
            answer[key] if good and (key in answer if isinstance(key, str) else len(answer) > key) else None
        )
    if type(answer) is not int or answer < 0:
        raise RemoteError(f"{steward.name} answers about data as no agent does")
    return answer


def shown_path(path: str) -> str:
    """A path for a message: one line whatever its name."""
    return path if path.isprintable() else shown(path)


def count(files: int) -> str:
    return f"{files:,} file{'' if files == 1 else 's'}"
