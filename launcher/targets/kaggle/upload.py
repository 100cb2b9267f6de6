"""A file's way into Kaggle's storage: in one piece, or on from where the last try ended."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

import requests

from launcher.errors import IntegrityError, LauncherError, RemoteError, Unreachable
from launcher.targets.kaggle.rpc import busy, denied
from launcher.targets.kaggle.wire import BUSY, Ask, Waits, Wire, retry_after
from launcher.targets.later import Later

TELL_S = 0.3
ANSWER_S = 300.0  # the storage may think about a large file
MOST_STARTS = 5
RECEIVED = re.compile(r"(?:bytes=)?0-(\d{1,18})")


@dataclass(frozen=True)
class Source:
    """The file as it was when its upload began."""

    path: Path
    size: int
    changed_s: int


def source_of(path: Path) -> Source:
    try:
        found = path.stat()
    except OSError as error:
        raise LauncherError(f"cannot read {path}: {error.strerror}", "is it still there?") from error
    return Source(path, found.st_size, int(found.st_mtime))


def send(
    wire: Wire, source: Source, start: Callable[[], tuple[str, str]]
) -> Generator[tuple[int, int], None, str]:
    """Yields (done, total); the token that `start` gave, with an address, for the upload that was finished."""
    for _ in range(MOST_STARTS):
        token, url = start()
        if (yield from _sent(wire, source, url)):
            return token
    raise RemoteError(f"Kaggle lost the upload of {source.path.name} {MOST_STARTS} times", "try again later")


def _sent(wire: Wire, source: Source, url: str) -> Generator[tuple[int, int], None, bool]:
    """Whether it arrived whole; False when this upload has expired."""
    waits, best, asked = wire.patience.waits(), 0, False
    yield 0, source.size
    answer = yield from _put(wire, source, url, 0)
    while answer is None or answer.status_code not in (200, 201):
        if answer is not None and answer.status_code in (404, 410):
            return False
        there = _received(answer)
        goes_on = answer is not None and answer.status_code == 308 and there < source.size
        if there > best:
            best = there
            waits.progress()
        elif not (asked and goes_on):
            _wait(waits, source, answer)
        asked = not goes_on
        if goes_on:
            answer = yield from _put(wire, source, url, there)
        else:
            answer = _probe(wire, source, url)
    yield source.size, source.size
    return True


def _put(
    wire: Wire, source: Source, url: str, at: int
) -> Generator[tuple[int, int], None, requests.Response | None]:
    """The answer to all bytes from `at` on; None when there was none."""
    span = {"Content-Range": f"bytes {at}-{source.size - 1}/{source.size}"} if at else {}
    body = Body(source, at)
    ask = Ask("PUT", url, body if len(body) else b"", span, read_s=ANSWER_S, fresh=True)
    try:
        work = Later(lambda: _closed(wire.send(ask)))
        while not work.done(TELL_S):
            yield body.at, source.size
        answer: requests.Response = work.result()
        return answer
    except Unreachable:
        if body.trouble:
            raise body.trouble from None
        return None
    finally:
        body.close()


def _probe(wire: Wire, source: Source, url: str) -> requests.Response | None:
    """How far the upload came."""
    try:
        return _closed(wire.send(Ask("PUT", url, b"", {"Content-Range": f"bytes */{source.size}"})))
    except Unreachable:
        return None


def _closed(answer: requests.Response) -> requests.Response:
    """Its status and headers say all; the words of an error are read first."""
    if answer.status_code not in (200, 201, 308, 404, 410, *BUSY):
        raise denied("the upload to Kaggle", answer)
    answer.close()
    return answer


def _received(answer: requests.Response | None) -> int:
    """How many bytes have arrived, as far as the answer says."""
    found = RECEIVED.fullmatch(answer.headers.get("Range", "")) if answer is not None else None
    return int(found[1]) + 1 if found else 0


def _wait(waits: Waits, source: Source, answer: requests.Response | None) -> None:
    asked_s = retry_after(answer) if answer is not None else None
    if waits.again(asked_s):
        return
    if answer is not None and answer.status_code in BUSY:
        raise busy(answer)
    raise Unreachable(f"the upload of {source.path.name} to Kaggle is cut again and again", "try again later")


class Body:
    """A file from a place on, as a request's body; it knows how far it was read, and can be stopped."""

    def __init__(self, source: Source, at: int) -> None:
        self.at = at
        self.trouble: LauncherError | None = None
        self._source = source
        self._start = at
        try:
            self._file = open(source.path, "rb")  # noqa: SIM115 - closed by close()
        except OSError as error:
            raise LauncherError(f"cannot read {source.path}: {error.strerror}") from error
        if os.fstat(self._file.fileno()).st_size != source.size:
            self.close()
            raise self._changed()
        self._file.seek(at)

    def __len__(self) -> int:
        return self._source.size - self._start

    def read(self, size: int = -1) -> bytes:
        left = self._source.size - self.at
        wanted = left if size is None or size < 0 else min(size, left)
        try:
            data = self._file.read(wanted)
        except (OSError, ValueError) as error:  # ValueError: stopped
            self.trouble = LauncherError(f"cannot read {self._source.path}: {error}")
            raise OSError(str(error)) from error
        if len(data) < wanted:
            self.trouble = self._changed()
            raise OSError("the file has become shorter")
        self.at += len(data)
        return data

    def close(self) -> None:
        self._file.close()

    def _changed(self) -> IntegrityError:
        return IntegrityError(f"{self._source.path} changed while it was sent", "try again")
