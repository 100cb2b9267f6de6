"""A file sent to a runtime in chunks: each arrives once, over connections that break and tokens that expire."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from launcher.errors import IntegrityError, Unreachable
from launcher.targets.colab.runtime import PEER, Ask, RuntimeLine, good
from launcher.targets.colab.wire import AGAIN, DELAYS_S, json_object

CHUNK, SMALLEST_CHUNK = 8 << 20, 16 << 10
BEGINNINGS = 3


@dataclass(frozen=True)
class Place:
    """Where a file goes: its name for people, its address, and how to ask how much of it is there."""

    name: str
    address: str
    size: Callable[[], int | None]


def upload(line: RuntimeLine, place: Place, source: Path, resume: bool) -> Iterator[int]:
    """Yields the bytes there, until all are."""
    total = source.stat().st_size
    for _ in range(BEGINNINGS):
        there = (place.size() or 0) if resume else 0
        try:
            with source.open("rb") as file:
                yield from _sent(line, place, file, _Part(there if there < total else 0, b"", total))
        except _Doubled:
            resume = False
            continue
        return
    raise IntegrityError(
        f"{place.name} did not arrive with its {total} bytes, {BEGINNINGS} times",
        "check the network, then try again",
    )


def model(data: bytes, chunk: int | None = None) -> bytes:
    """A file as Jupyter takes it. Built by hand: base64 needs no quoting, and looking through megabytes takes time."""
    head = b'{"type":"file","format":"base64",' + (b'"chunk":%d,' % chunk if chunk is not None else b"")
    return head + b'"content":"' + base64.b64encode(data) + b'"}'


@dataclass(frozen=True)
class _Part:
    """Bytes of a file of `total`."""

    offset: int
    data: bytes
    total: int

    @property
    def end(self) -> int:
        return self.offset + len(self.data)

    @property
    def number(self) -> int | None:
        """For Jupyter: 1 begins a file, -1 ends it, any other goes on with it; None: the file is whole."""
        if self.offset == 0:
            return None if self.end == self.total else 1
        return -1 if self.end == self.total else 2


class _Doubled(Exception):
    """The file there has another size than what was sent: begin again."""


def _sent(line: RuntimeLine, place: Place, file: BinaryIO, begun: _Part) -> Iterator[int]:
    there, failures, size = begun.offset, 0, CHUNK
    yield there
    while True:
        part = _next(file, there, size, begun.total)
        if _arrived(line, place, part):
            there, failures = part.end, 0
            yield there
            if there == part.total:
                return
            continue
        if failures == len(DELAYS_S):
            raise Unreachable(f"{PEER} takes no more of {place.name}", "check the network, then try again")
        time.sleep(DELAYS_S[failures])
        failures += 1
        size = max(SMALLEST_CHUNK, size // 4)  # where connections are short, chunks must be, too


def _next(file: BinaryIO, there: int, size: int, total: int) -> _Part:
    file.seek(there)
    data = file.read(min(size, total - there))
    if not data and total:
        raise IntegrityError("a file became shorter while it was sent", "try again")
    return _Part(there, data, total)


def _arrived(line: RuntimeLine, place: Place, part: _Part) -> bool:
    """Jupyter appends a chunk each time it gets it: after a lost answer the size there decides."""
    try:
        answer = line.once(Ask("PUT", place.address, model(part.data, part.number), read_s=120.0))
    except Unreachable:
        answer = None
    if answer is not None and answer.status not in AGAIN:
        size = json_object(good(answer, f"uploading {place.name}"), PEER).get("size")
        if isinstance(size, int) and size != part.end:
            raise _Doubled
        return True
    line.must_live()
    if part.offset == 0:
        return False  # it replaces what is there, however often it comes
    size = place.size()
    if size not in (part.offset, part.end):
        raise _Doubled
    return size == part.end
